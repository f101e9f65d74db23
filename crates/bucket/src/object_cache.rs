//! Caches the objects that this run looked at or wrote, so that no request is made twice.
//!
//! The cache is never trusted for writing: a write that relies on it carries a condition that the cached
//! state still holds.

use std::collections::HashMap;
use std::sync::Mutex;

use obsync_protocol::VaultPath;

use super::metadata::Facts;
use obsync_core::blocking::lock;

/// Most cached paths; a few hundred bytes each.
const MOST: usize = 8192;

/// The occupant of a path.
#[derive(Clone, Debug)]
pub(super) enum Occupant {
    /// Nothing.
    Nothing,
    /// An object.
    Object(Box<Facts>),
}

impl Occupant {
    pub(super) fn facts(&self) -> Option<&Facts> {
        match self {
            Occupant::Nothing => None,
            Occupant::Object(facts) => Some(facts),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct ObjectCache(Mutex<HashMap<VaultPath, Occupant>>);

impl ObjectCache {
    pub(super) fn get(&self, path: &VaultPath) -> Option<Occupant> {
        lock(&self.0).get(path).cloned()
    }

    pub(super) fn put(&self, path: &VaultPath, occupant: Occupant) {
        let mut known = lock(&self.0);
        // Clearing the cache is as good as anything cleverer: the newest entries are the next ones used.
        if known.len() >= MOST && !known.contains_key(path) {
            known.clear();
        }
        known.insert(path.clone(), occupant);
    }

    pub(super) fn forget(&self, path: &VaultPath) {
        lock(&self.0).remove(path);
    }

    /// Removes an entry and returns it.
    pub(super) fn take(&self, path: &VaultPath) -> Option<Occupant> {
        lock(&self.0).remove(path)
    }

    /// True if there is room for another entry.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.0).len() < MOST
    }

    pub(super) fn clear(&self) {
        *lock(&self.0) = HashMap::new();
    }
}
