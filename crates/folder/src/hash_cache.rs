//! Caches the facts of files whose content was compared: an edit that somebody saves after that is not to be taken for that
//! content.

use std::collections::HashMap;
use std::sync::Mutex;

use obsync_core::blocking::lock;
use obsync_protocol::{ContentHash, VaultPath};

use super::entry::Facts;

/// How many files are remembered. What is not is read once more.
const MOST: usize = 8192;

/// Files with the content that was found in them, until somebody asks.
#[derive(Debug, Default)]
pub(super) struct HashCache(Mutex<HashMap<VaultPath, (ContentHash, Facts)>>);

impl HashCache {
    /// The file at `path` had this content when it had these facts.
    pub(super) fn note(&self, path: &VaultPath, content: ContentHash, facts: Facts) {
        let mut files = lock(&self.0);
        if files.len() < MOST || files.contains_key(path) {
            files.insert(path.clone(), (content, facts));
        }
    }

    /// The facts with which the file at `path` had this content. It is forgotten then.
    pub(super) fn take(&self, path: &VaultPath, content: ContentHash) -> Option<Facts> {
        let (found, facts) = lock(&self.0).remove(path)?;
        (found == content).then_some(facts)
    }

    /// Forgets all files.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
