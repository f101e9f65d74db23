//! The journal: each change with its side, its device and the version before it. A line is written in the
//! commit that records the change, so neither exists without the other. Lines are never changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use obsync_protocol::{PushMessage, Uid, VaultPath};
use serde::Serialize;

/// Versions whose devices are kept at a time, at most.
const DEVICES: usize = 10_000;
/// Limit of a device's name, in bytes.
const NAME: usize = 200;

/// The side of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Side {
    /// In the destination.
    Here,
    /// In the vault.
    Vault,
}

/// The kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum JournalChange {
    /// A file is new or has new content.
    Write,
    /// A file was merged from both sides.
    Merge,
    /// A file was deleted.
    Delete,
    /// A folder was created.
    CreateFolder,
    /// A folder was deleted.
    DeleteFolder,
    /// A file was kept as a conflicted copy, because other content took its path.
    ConflictedCopy,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Time of recording, or of acceptance by the vault, in milliseconds since the epoch.
    pub at: i64,
    /// The side that was changed.
    pub side: Side,
    /// Kind of the change.
    pub change: JournalChange,
    /// The path.
    pub path: VaultPath,
    /// The previous path of a renamed file, or the original of a conflicted copy.
    pub from: Option<VaultPath>,
    /// The device that made the change, if known.
    pub device: Option<String>,
    /// The version recorded for the path before; 0: none. Filled in by the state.
    pub base: Uid,
    /// The version of the change in the vault; 0: none yet.
    pub uid: Uid,
    /// The size of the content in bytes.
    pub size: Option<u64>,
}

impl JournalEntry {
    /// A line dated now.
    pub(crate) fn new(side: Side, change: JournalChange, path: VaultPath, uid: Uid) -> Self {
        let at = jiff::Timestamp::now().as_millisecond();
        JournalEntry { at, side, change, path, from: None, device: None, base: Uid(0), uid, size: None }
    }

    /// A line for a content of `path` that was kept under another name here, by `device`. `uid` is its
    /// version in the vault, if it has one.
    pub(crate) fn conflicted_copy(
        path: &VaultPath,
        kept_as: &VaultPath,
        uid: Uid,
        device: Option<String>,
    ) -> Self {
        let line = JournalEntry::new(Side::Here, JournalChange::ConflictedCopy, kept_as.clone(), uid);
        JournalEntry { from: Some(path.clone()), device, ..line }
    }
}

/// The device of each version, according to the last listing.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    by_uid: HashMap<u64, Arc<str>>,
    names: HashSet<Arc<str>>,
}

impl Devices {
    /// Notes the device of an entry. A long listing is a first one; none of its devices are kept.
    pub(crate) fn note(&mut self, message: &PushMessage) {
        if message.device.is_empty() || message.device.len() > NAME || self.by_uid.len() >= DEVICES {
            return;
        }
        let name = match self.names.get(message.device.as_str()) {
            Some(name) => name.clone(),
            None => {
                let name: Arc<str> = message.device.as_str().into();
                self.names.insert(name.clone());
                name
            }
        };
        self.by_uid.insert(message.uid.0, name);
    }

    pub(crate) fn of(&self, uid: Uid) -> Option<String> {
        self.by_uid.get(&uid.0).map(|name| name.to_string())
    }
}
