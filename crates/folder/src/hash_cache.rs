//! Caches the facts of files whose content was compared: an edit that a user saves after that must not be
//! taken for that content.

use std::collections::HashMap;
use std::sync::Mutex;

use obsync_core::blocking::lock;
use obsync_protocol::{ContentHash, VaultPath};

use super::entry::Facts;

/// Limit of cached files. Others are read once more.
const MOST: usize = 8192;

/// Files with their content, until they are asked for.
#[derive(Debug, Default)]
pub(super) struct HashCache(Mutex<HashMap<VaultPath, (ContentHash, Facts)>>);

impl HashCache {
    /// Notes that the file at `path` had this content when it had these facts.
    pub(super) fn note(&self, path: &VaultPath, content: ContentHash, facts: Facts) {
        let mut files = lock(&self.0);
        if files.len() < MOST || files.contains_key(path) {
            files.insert(path.clone(), (content, facts));
        }
    }

    /// The facts with which the file at `path` had this content. Removes the entry.
    pub(super) fn take(&self, path: &VaultPath, content: ContentHash) -> Option<Facts> {
        let (found, facts) = lock(&self.0).remove(path)?;
        (found == content).then_some(facts)
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
