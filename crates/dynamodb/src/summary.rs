//! A state at a glance, for `obsync status` and the function's `status`.

use obsync_core::{StateError, StateStore as _};
use obsync_protocol::VaultId;

use super::attributes::{Item, Reader};
use super::batch::Wanted;
use super::head::{Head, names};
use super::keys::{ItemKeys, StateKey};
use super::state::{DynamoState, head_of, read_head};
use super::table::DynamoTable;

/// The contents of a state's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamoSummary {
    /// The vault's name as of the last run.
    pub vault_name: String,
    /// The destination.
    pub destination: String,
    /// When the first run began, milliseconds since the epoch.
    pub created: i64,
    /// When something was last recorded, milliseconds since the epoch; `None` if the first run recorded
    /// nothing.
    pub committed: Option<i64>,
    /// Every change of the vault up to this version is applied or deferred.
    pub version: u64,
    /// A first listing was processed completely.
    pub listed: bool,
    /// Files in the destination.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders that are entries of the vault.
    pub folders: u64,
    /// Filtered changes, and files that were kept when the vault deleted them.
    pub filtered: u64,
    /// Changes that could not be applied.
    pub failed: u64,
    /// The present lease holder.
    pub holder: Option<LeaseHolder>,
}

/// The lease holder of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The owner's name.
    pub owner: String,
    /// Its lease's expiry unless renewed, milliseconds since the epoch.
    pub expires: i64,
}

/// A state that was found in a table.
#[derive(Debug)]
pub struct FoundState {
    /// The state's key.
    pub key: StateKey,
    /// Its contents; an error if it is damaged, or a newer obsync wrote it.
    pub summary: Result<DynamoSummary, StateError>,
}

impl FoundState {
    /// True if it is empty: it was reset, or its first run recorded nothing and is over.
    pub fn is_blank(&self) -> bool {
        self.summary.as_ref().is_ok_and(|summary| summary.committed.is_none() && summary.holder.is_none())
    }

    /// Parses an item as a head; `None` if it is none.
    pub(super) fn read(table: &DynamoTable, item: &Item) -> Option<Self> {
        let reader = Reader(item);
        let key = StateKey {
            vault_id: ItemKeys::vault_of_head(reader.key().ok()?)?,
            vault_name: reader.find_text(names::VAULT_NAME).ok()?.unwrap_or_default().to_owned(),
            destination: Head::destination(reader).ok()??.to_owned(),
        };
        let head = head_of(table, reader.key().unwrap_or_default(), item);
        Some(FoundState { key, summary: head.map(|head| DynamoSummary::of(head, table.now())) })
    }
}

impl DynamoSummary {
    /// The contents of a head at `now`, in milliseconds since the epoch.
    pub(super) fn of(head: Head, now: i64) -> Self {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        let holder = head.holder.filter(|holder| holder.expires > now);
        DynamoSummary {
            vault_name: head.vault_name,
            destination: head.destination,
            created: head.created,
            committed: head.last_sync,
            version: head.state.version,
            listed: head.state.listed,
            files: count(head.counts.files),
            bytes: count(head.counts.bytes),
            folders: count(head.counts.folders),
            filtered: count(head.counts.filtered),
            failed: count(head.counts.failed),
            holder: holder.map(|holder| LeaseHolder { owner: holder.owner, expires: holder.expires }),
        }
    }
}

impl DynamoTable {
    /// The state of a vault's first destination; `None` if the vault has none in this table. It names the
    /// destination. One request.
    ///
    /// # Errors
    ///
    /// As for [`DynamoState::read`].
    pub async fn summary(&self, vault: &VaultId) -> Result<Option<DynamoSummary>, StateError> {
        let head = read_head(self, &ItemKeys::of_vault(vault)).await?;
        Ok(head.map(|head| DynamoSummary::of(head, self.now())))
    }

    /// All states in the table, by destination and vault. Reads the whole table.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the table is unusable. A fault of one state is part of its result.
    pub async fn states(&self) -> Result<Vec<FoundState>, StateError> {
        let mut found = Vec::new();
        let take = |item: Item| {
            found.extend(FoundState::read(self, &item));
            Ok(())
        };
        self.scan(Wanted::Without("#"), take).await?;
        found.sort_by(|one, other| {
            (&one.key.destination, &one.key.vault_id).cmp(&(&other.key.destination, &other.key.vault_id))
        });
        Ok(found)
    }
}

impl DynamoState {
    /// The present contents of the state; `None` if there is none yet. One request.
    ///
    /// # Errors
    ///
    /// As for [`DynamoState::read`].
    pub async fn summary(&self) -> Result<Option<DynamoSummary>, StateError> {
        let head = read_head(self.table(), self.item_keys()).await?;
        Ok(head.map(|head| DynamoSummary::of(head, self.table().now())))
    }

    /// The contents of the state when it was opened for reading, or last read; `None` if there was none yet.
    /// No request.
    pub async fn seen(&self) -> Option<DynamoSummary> {
        let head = self.seen_head().await.filter(|head| !head.destination.is_empty())?;
        Some(DynamoSummary::of(head, self.table().now()))
    }

    /// Number of files kept when the vault deleted them, which a summary counts as filtered. No request if
    /// nothing is filtered, else one for each page of filtered changes.
    ///
    /// # Errors
    ///
    /// As for [`DynamoState::read`].
    pub async fn retained(&self, summary: &DynamoSummary) -> Result<u64, StateError> {
        if summary.filtered == 0 {
            return Ok(0);
        }
        let (mut count, mut from) = (0, None);
        loop {
            let part = self.retained_part(from).await?;
            count += part.changes.len() as u64;
            if part.next.is_none() {
                return Ok(count);
            }
            from = part.next;
        }
    }
}
