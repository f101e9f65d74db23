//! The journal: what was changed on which side, by which device, and from which version. It is written in the commit that
//! records the change, so that neither is there without the other, and nothing in it is ever changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use obsync_protocol::{PushMessage, Uid, VaultPath};
use serde::Serialize;

/// How many versions the devices are remembered of at a time.
const DEVICES: usize = 10_000;
/// The longest name of a device that is kept, in bytes.
const NAME: usize = 200;

/// Where something was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Side {
    /// In the destination.
    Here,
    /// In the vault.
    Vault,
}

/// What was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum JournalChange {
    /// A file has another content, or is new.
    Write,
    /// A file has a content that both sides had a part in.
    Merge,
    /// A file is gone.
    Delete,
    /// A folder is new.
    CreateFolder,
    /// A folder is gone.
    DeleteFolder,
    /// A file was kept under another name, because its place was taken by another content.
    ConflictedCopy,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// When it was recorded, or taken by the vault, milliseconds since the epoch.
    pub at: i64,
    /// Where it was changed.
    pub side: Side,
    /// What was changed.
    pub change: JournalChange,
    /// The path.
    pub path: VaultPath,
    /// The path that the file had before, if it was renamed; that of which it is a conflicted copy.
    pub from: Option<VaultPath>,
    /// The device that made the change, as far as that is known.
    pub device: Option<String>,
    /// The version that was recorded of the path before; 0: none. The state fills it in.
    pub base: Uid,
    /// The version that the change has in the vault; 0: it has none yet.
    pub uid: Uid,
    /// The size of the content in bytes.
    pub size: Option<u64>,
}

impl JournalEntry {
    /// A line of this moment.
    pub(crate) fn new(side: Side, change: JournalChange, path: VaultPath, uid: Uid) -> Self {
        let at = jiff::Timestamp::now().as_millisecond();
        JournalEntry { at, side, change, path, from: None, device: None, base: Uid(0), uid, size: None }
    }

    /// That a content of `path` was kept under another name here, by `device`. `uid` is its version in the vault, if it has one.
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

/// Which device made which version, as far as the last listing says.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    by_uid: HashMap<u64, Arc<str>>,
    names: HashSet<Arc<str>>,
}

impl Devices {
    /// Takes note of an entry. Of a long listing nothing is kept: that is a first one.
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

    /// The device of a version.
    pub(crate) fn of(&self, uid: Uid) -> Option<String> {
        self.by_uid.get(&uid.0).map(|name| name.to_string())
    }
}
