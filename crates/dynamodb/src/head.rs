//! The head of a state: the item that every commit updates, with version, counts and lease.

use aws_sdk_dynamodb::types::AttributeValue;
use obsync_core::{
    CursorEntry, DeferredKind, Deletions, DestinationIdentity, Direction, RandomId, VaultState,
};
use obsync_protocol::Uid;

use super::attributes::{Changes, Damage, Item, Reader, number, text};
use super::chain::Chain;
use super::pages::MOST_PAGES;
use super::rows::content_hash;

/// The newest format of states that this program supports. Earlier ones are read, and written in this one.
///
/// - 2: the table has pins: a release that does not know them refuses the state instead of ignoring them. The
///   destination has another attribute than in format 1, because older releases look for their own
///   destination under another head if this one names a different destination, and would begin a state
///   without pins there.
/// - 3: records have facts, changes have more causes, there are other intents than files put in place, and
///   the head has the newest listed entry and the destination's identity. Missing attributes mean unknown.
pub(super) const FORMAT: i64 = 3;

pub(super) mod names {
    //! The head's attributes.

    pub(crate) const FORMAT: &str = "format";
    pub(crate) const VAULT_NAME: &str = "vault_name";
    pub(crate) const PLACE: &str = "place";
    /// Format 1's counterpart of [`PLACE`].
    pub(crate) const DESTINATION: &str = "destination";
    pub(crate) const CREATED: &str = "created";
    pub(crate) const LAST_SYNC: &str = "last_sync";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const LISTED: &str = "listed";
    pub(crate) const FILTER: &str = "filter";
    pub(crate) const FULL_UP_TO: &str = "rechecking";
    pub(crate) const RECORDED: &str = "recorded";
    pub(crate) const FILES: &str = "files";
    pub(crate) const FOLDERS: &str = "folders";
    pub(crate) const BYTES: &str = "bytes";
    pub(crate) const FAILED: &str = "failed";
    pub(crate) const FAILED_PAGES: &str = "failed_pages";
    pub(crate) const FILTERED: &str = "filtered";
    pub(crate) const FILTERED_PAGES: &str = "filtered_pages";
    pub(crate) const ANNOUNCED_PAGES: &str = "announced_pages";
    pub(crate) const LEASE_OWNER: &str = "lease_owner";
    pub(crate) const LEASE_ID: &str = "lease_id";
    pub(crate) const LEASE_EXPIRES: &str = "lease_expires";
    pub(crate) const FENCING: &str = "fencing";
    pub(crate) const REVISION: &str = "revision";
    pub(crate) const RESETTING: &str = "resetting";
    pub(crate) const CURSOR_UID: &str = "cursor_uid";
    pub(crate) const CURSOR_PATH: &str = "cursor_path";
    pub(crate) const CURSOR_ENTRY: &str = "cursor_entry";
    pub(crate) const DIRECTION: &str = "direction";
    pub(crate) const DESTINATION_ID: &str = "destination_id";
    pub(crate) const GENERATION: &str = "generation";
    pub(crate) const NEXT_GENERATION: &str = "next_generation";
    pub(crate) const MARKER_TAG: &str = "marker_tag";
    pub(crate) const DELETIONS: &str = "deletions";
    pub(crate) const CHECKED: &str = "checked";
    pub(crate) const KEEPING: &str = "keeping";
    pub(crate) const FORGETTING: &str = "forgetting";
    pub(crate) const IN_STEP: &str = "in_step";
    pub(crate) const CHAIN_ID: &str = "chain_id";
    pub(crate) const CHAIN_STEP: &str = "chain_step";
    pub(crate) const CHAIN_OPEN: &str = "chain_open";
    pub(crate) const CHAIN_DUE: &str = "chain_due";
    pub(crate) const CHAIN_HANDED: &str = "chain_handed";
    pub(crate) const CHAIN_IDLE: &str = "chain_idle";
    pub(crate) const INVOCATIONS: &str = "invocations";
    pub(crate) const DAY: &str = "day";
    pub(crate) const DAY_BASE: &str = "day_base";

    /// The attributes of the lease.
    pub(crate) const LEASE: [&str; 3] = [LEASE_OWNER, LEASE_ID, LEASE_EXPIRES];
    /// The attributes of the chain of invocations.
    pub(crate) const CHAIN: [&str; 6] =
        [CHAIN_ID, CHAIN_STEP, CHAIN_OPEN, CHAIN_DUE, CHAIN_HANDED, CHAIN_IDLE];
    /// The attributes of the vault and its files.
    pub(crate) const STATE: [&str; 28] = [
        LAST_SYNC,
        VERSION,
        LISTED,
        FILTER,
        FULL_UP_TO,
        RECORDED,
        FILES,
        FOLDERS,
        BYTES,
        FAILED,
        FAILED_PAGES,
        FILTERED,
        FILTERED_PAGES,
        ANNOUNCED_PAGES,
        REVISION,
        RESETTING,
        CURSOR_UID,
        CURSOR_PATH,
        CURSOR_ENTRY,
        DIRECTION,
        DESTINATION_ID,
        GENERATION,
        NEXT_GENERATION,
        MARKER_TAG,
        DELETIONS,
        CHECKED,
        KEEPING,
        IN_STEP,
    ];
}

/// Counts of a state's contents; as a difference, their change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) files: i64,
    pub(super) folders: i64,
    /// Total size of the files in bytes.
    pub(super) bytes: i64,
    /// Changes that could not be applied.
    pub(super) failed: i64,
    /// Changes that the filter left out.
    pub(super) filtered: i64,
}

impl Counts {
    /// The sum.
    pub(super) fn plus(self, more: Counts) -> Counts {
        Counts {
            files: self.files.saturating_add(more.files),
            folders: self.folders.saturating_add(more.folders),
            bytes: self.bytes.saturating_add(more.bytes),
            failed: self.failed.saturating_add(more.failed),
            filtered: self.filtered.saturating_add(more.filtered),
        }
    }
}

/// The owner of a destination's lease, and its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// The owner's name, for people.
    pub(super) owner: String,
    /// Unique id of this lease.
    pub(super) id: String,
    /// Milliseconds since the epoch.
    pub(super) expires: i64,
}

/// Text that identifies the destination while it is in step with the records. It is valid only under the
/// lease after the one under which it was noted, because any run in between that did not note it again may
/// have changed records. Every release of obsync raises the number of the lease by one when it takes the
/// lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InStep {
    /// Number of the lease under which it was noted.
    pub(super) fencing: u64,
    pub(super) known_by: String,
}

impl InStep {
    /// Returns `None` for text that obsync did not write; nothing depends on it.
    fn parse(text: &str) -> Option<Self> {
        let (fencing, known_by) = text.split_once(' ')?;
        Some(InStep { fencing: fencing.parse().ok()?, known_by: known_by.to_owned() })
    }

    /// The form in the head.
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.fencing, self.known_by)
    }
}

/// The head of a state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) vault_name: String,
    pub(super) destination: String,
    /// When the state was begun, milliseconds since the epoch.
    pub(super) created: i64,
    /// When something was last committed, milliseconds since the epoch.
    pub(super) last_sync: Option<i64>,
    pub(super) state: VaultState,
    /// A record existed at some time. Without one, no look-ups are needed.
    pub(super) recorded: bool,
    pub(super) counts: Counts,
    /// Number of pages of the failed changes; 0 when there are none.
    pub(super) failed_pages: u32,
    /// Number of pages of the filtered changes; 0 when there are none.
    pub(super) filtered_pages: u32,
    /// Number of items with intents. (The attribute is named as in format 1.)
    pub(super) intent_pages: u32,
    /// When a run last found the destination up to date, milliseconds since the epoch.
    pub(super) checked: Option<i64>,
    /// Text that identified the destination when it was last in step with the records, with the number of the
    /// lease at that time.
    pub(super) in_step: Option<InStep>,
    /// The number of the last lease granted.
    pub(super) fencing: u64,
    /// The number of the last transaction under that lease.
    pub(super) revision: u64,
    /// A reset began and did not finish: some items are gone, and others may remain.
    pub(super) resetting: bool,
    pub(super) holder: Option<Holder>,
    /// The chain of invocations of a function.
    pub(super) chain: Chain,
}

impl Head {
    /// The number of pages of deferred changes of a kind.
    pub(super) fn pages_of(&mut self, kind: DeferredKind) -> &mut u32 {
        match kind {
            DeferredKind::Failed => &mut self.failed_pages,
            DeferredKind::Filtered => &mut self.filtered_pages,
        }
    }

    /// The format of a head; every head that obsync wrote has one.
    pub(super) fn format(item: &Item) -> Result<i64, Damage> {
        Reader(item).number(names::FORMAT)
    }

    pub(super) fn destination<'a>(item: Reader<'a>) -> Result<Option<&'a str>, Damage> {
        match (item.find_text(names::PLACE)?, item.find_text(names::DESTINATION)?) {
            (Some(_), Some(_)) => Err(format!("it has both `{}` and `{}`", names::PLACE, names::DESTINATION)),
            (place, former) => Ok(place.or(former)),
        }
    }

    /// Parses a head.
    pub(super) fn read(item: &Item) -> Result<Self, Damage> {
        let item = Reader(item);
        let state = VaultState {
            version: item.find_number(names::VERSION)?.unwrap_or_default(),
            listed: item.flag(names::LISTED)?,
            filter: item.find_text(names::FILTER)?.map(str::to_owned),
            full_up_to: item.find_number(names::FULL_UP_TO)?,
            cursor: cursor(item)?,
            keeping: item.flag(names::KEEPING)?,
            forgetting: item.flag(names::FORGETTING)?,
            direction: direction(item)?,
            destination: identity(item)?,
            deletions: deletions(item)?,
        };
        let counts = Counts {
            files: item.find_number(names::FILES)?.unwrap_or_default(),
            folders: item.find_number(names::FOLDERS)?.unwrap_or_default(),
            bytes: item.find_number(names::BYTES)?.unwrap_or_default(),
            failed: item.find_number(names::FAILED)?.unwrap_or_default(),
            filtered: item.find_number(names::FILTERED)?.unwrap_or_default(),
        };
        Ok(Head {
            vault_name: item.text(names::VAULT_NAME)?.to_owned(),
            destination: Head::destination(item)?.ok_or("it has no `place`")?.to_owned(),
            created: item.number(names::CREATED)?,
            last_sync: item.find_number(names::LAST_SYNC)?,
            state,
            recorded: item.flag(names::RECORDED)?,
            counts,
            failed_pages: pages(item, names::FAILED_PAGES)?,
            filtered_pages: pages(item, names::FILTERED_PAGES)?,
            intent_pages: pages(item, names::ANNOUNCED_PAGES)?,
            checked: item.find_number(names::CHECKED)?,
            in_step: item.find_text(names::IN_STEP)?.and_then(InStep::parse),
            fencing: item.number(names::FENCING)?,
            revision: item.find_number(names::REVISION)?.unwrap_or_default(),
            resetting: item.flag(names::RESETTING)?,
            holder: Holder::read(item)?,
            chain: Chain::read(item)?,
        })
    }

    /// Why no run can use it, although it is readable.
    pub(super) fn obstacle(&self) -> Option<Damage> {
        self.resetting.then(|| "a reset of it did not finish".to_owned())
    }

    /// The update of a transaction: everything except the state's key and the lease.
    pub(super) fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut set = |name: &str, value: i64| changes.set(name, number(value));
        set(names::FILES, self.counts.files);
        set(names::FOLDERS, self.counts.folders);
        set(names::BYTES, self.counts.bytes);
        set(names::FAILED, self.counts.failed);
        set(names::FILTERED, self.counts.filtered);
        set(names::FAILED_PAGES, self.failed_pages.into());
        set(names::FILTERED_PAGES, self.filtered_pages.into());
        set(names::ANNOUNCED_PAGES, self.intent_pages.into());
        if let Some(last_sync) = self.last_sync {
            set(names::LAST_SYNC, last_sync);
        }
        changes.set(names::VERSION, number(self.state.version));
        let mut flag = |name: &str, value: bool| changes.set(name, AttributeValue::Bool(value));
        flag(names::LISTED, self.state.listed);
        flag(names::RECORDED, self.recorded);
        flag(names::KEEPING, self.state.keeping);
        flag(names::FORGETTING, self.state.forgetting);
        match self.state.full_up_to {
            Some(version) => changes.set(names::FULL_UP_TO, number(version)),
            None => changes.remove(names::FULL_UP_TO),
        }
        let VaultState { filter, cursor, direction, destination, deletions, .. } = &self.state;
        let mut put = |name: &str, value: Option<AttributeValue>| match value {
            Some(value) => changes.set(name, value),
            None => changes.remove(name),
        };
        put(names::FILTER, filter.as_ref().map(text));
        put(names::CURSOR_UID, cursor.map(|cursor| number(cursor.uid)));
        put(names::CURSOR_PATH, cursor.map(|cursor| text(cursor.path.to_string())));
        put(names::CURSOR_ENTRY, cursor.map(|cursor| text(cursor.entry.to_string())));
        put(names::DIRECTION, direction_name(*direction).map(text));
        let destination = destination.as_ref();
        put(names::DESTINATION_ID, destination.map(|destination| text(destination.id.to_string())));
        put(names::GENERATION, destination.map(|destination| text(destination.generation.to_string())));
        put(names::MARKER_TAG, destination.and_then(|destination| destination.tag.as_ref()).map(text));
        let next = destination.and_then(|destination| destination.next);
        put(names::NEXT_GENERATION, next.map(|next| text(next.to_string())));
        // It contains nothing that JSON cannot represent.
        let deletions = (!deletions.is_empty()).then(|| serde_json::to_string(deletions).unwrap_or_default());
        put(names::DELETIONS, deletions.map(text));
        changes
    }
}

fn cursor(item: Reader<'_>) -> Result<Option<CursorEntry>, Damage> {
    let Some(uid) = item.find_number(names::CURSOR_UID)? else { return Ok(None) };
    let hash = |name| content_hash(item.text(name)?);
    let (path, entry) = (hash(names::CURSOR_PATH)?, hash(names::CURSOR_ENTRY)?);
    Ok(Some(CursorEntry { uid: Uid(uid), path, entry }))
}

/// The stored direction; a pull's is not stored.
fn direction_name(direction: Direction) -> Option<&'static str> {
    match direction {
        Direction::Pull => None,
        Direction::Push => Some("push"),
        Direction::Both => Some("both"),
    }
}

fn direction(item: Reader<'_>) -> Result<Direction, Damage> {
    match item.find_text(names::DIRECTION)? {
        None => Ok(Direction::Pull),
        Some("push") => Ok(Direction::Push),
        Some("both") => Ok(Direction::Both),
        Some(other) => Err(format!("there is no direction {other:?}")),
    }
}

fn identity(item: Reader<'_>) -> Result<Option<DestinationIdentity>, Damage> {
    let id = |name| -> Result<Option<RandomId>, Damage> {
        let parsed = item.find_text(name)?.map(str::parse).transpose();
        parsed.map_err(|error| format!("`{name}` is no id: {error}"))
    };
    match (id(names::DESTINATION_ID)?, id(names::GENERATION)?, id(names::NEXT_GENERATION)?) {
        (None, None, None) => Ok(None),
        (Some(id), Some(generation), next) => {
            let tag = item.find_text(names::MARKER_TAG)?.map(str::to_owned);
            Ok(Some(DestinationIdentity { id, generation, next, tag }))
        }
        _ => Err("the identity of its destination is incomplete".to_owned()),
    }
}

fn deletions(item: Reader<'_>) -> Result<Vec<Deletions>, Damage> {
    let Some(deletions) = item.find_text(names::DELETIONS)? else { return Ok(Vec::new()) };
    serde_json::from_str(deletions).map_err(|error| format!("`{}` cannot be read: {error}", names::DELETIONS))
}

/// A number of pages. It decides how much is requested, so implausible numbers are rejected.
fn pages(item: Reader<'_>, name: &str) -> Result<u32, Damage> {
    match item.find_number(name)?.unwrap_or_default() {
        pages if pages <= MOST_PAGES => Ok(pages),
        pages => Err(format!("`{name}` is {pages}, more than there ever are")),
    }
}

impl Holder {
    /// Parses the lease in a head; `None` after a release.
    pub(super) fn read(item: Reader<'_>) -> Result<Option<Self>, Damage> {
        let Some(expires) = item.find_number::<f64>(names::LEASE_EXPIRES)? else {
            return Ok(None);
        };
        Ok(Some(Holder {
            owner: item.text(names::LEASE_OWNER)?.to_owned(),
            id: item.text(names::LEASE_ID)?.to_owned(),
            expires: (expires * 1000.0).round() as i64,
        }))
    }
}
