//! A state at a glance, for `obsync status` and the function's `status`.

use obsync_core::{DeferredCause, DeferredKind, StateError, StateStore as _};
use obsync_protocol::VaultId;

use super::attributes::{Item, Reader};
use super::batch::Wanted;
use super::head::{Head, names};
use super::keys::{ItemKeys, StateKey};
use super::state::{DynamoState, head_of, read_head};
use super::table::DynamoTable;

/// What the head of a state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamoSummary {
    /// The vault's name as of the last run.
    pub vault_name: String,
    /// The destination.
    pub destination: String,
    /// When the first run began, milliseconds since the epoch.
    pub created: i64,
    /// When something was last recorded, milliseconds since the epoch; never if the first run recorded nothing.
    pub committed: Option<i64>,
    /// Every change of the vault up to this version is applied or deferred.
    pub version: u64,
    /// Whether a first listing was handled to its end.
    pub listed: bool,
    /// Files in the destination.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders that the vault has as such.
    pub folders: u64,
    /// Changes that the filter left out, and files that were kept when the vault deleted them.
    pub filtered: u64,
    /// Changes that could not be applied.
    pub failed: u64,
    /// Who works on the destination now.
    pub holder: Option<LeaseHolder>,
}

/// Who works on a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The owner as it named itself.
    pub owner: String,
    /// When its lease runs out unless it is renewed, milliseconds since the epoch.
    pub expires: i64,
}

/// A state that was found in a table.
#[derive(Debug)]
pub struct FoundState {
    /// Whose state it is.
    pub key: StateKey,
    /// What it says; an error if it is damaged, or a newer obsync wrote it.
    pub summary: Result<DynamoSummary, StateError>,
}

impl FoundState {
    /// Whether there is nothing to be known from it: it was reset, or its first run recorded nothing and is over.
    pub fn is_blank(&self) -> bool {
        self.summary.as_ref().is_ok_and(|summary| summary.committed.is_none() && summary.holder.is_none())
    }

    /// Reads an item as a head; `None` if it is none of obsync's.
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
    /// What a head says at `now`, in milliseconds since the epoch.
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
    /// What the state of a vault's first destination says; `None` if the vault has none in this table. It tells the
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
    /// [`StateError::Unavailable`] if the table cannot be used. What is wrong with one state is told with it.
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
    /// What the state says now; `None` if there is none yet. One request.
    ///
    /// # Errors
    ///
    /// As for [`DynamoState::read`].
    pub async fn summary(&self) -> Result<Option<DynamoSummary>, StateError> {
        let head = read_head(self.table(), self.item_keys()).await?;
        Ok(head.map(|head| DynamoSummary::of(head, self.table().now())))
    }

    /// What the state said when it was opened to be looked at, or when it was last read; `None` if there was none yet. No
    /// request.
    pub async fn seen(&self) -> Option<DynamoSummary> {
        let head = self.seen_head().await.filter(|head| !head.destination.is_empty())?;
        Some(DynamoSummary::of(head, self.table().now()))
    }

    /// How many files were kept when the vault deleted them, of what a summary counts as left out by the filter. No request
    /// where nothing was left out, else one for each page of that.
    ///
    /// # Errors
    ///
    /// As for [`DynamoState::read`].
    pub async fn retained(&self, summary: &DynamoSummary) -> Result<u64, StateError> {
        if summary.filtered == 0 {
            return Ok(0);
        }
        let deferred = self.deferred(DeferredKind::Filtered).await?;
        Ok(deferred.iter().filter(|deferred| deferred.cause == DeferredCause::Retained).count() as u64)
    }
}
