//! Names of staged files that were copied.

use std::collections::HashSet;
use std::sync::Mutex;

use obsync_core::blocking::lock;

/// Names of staged files that were copied: they have the times of the first path.
#[derive(Debug, Default)]
pub(super) struct Copied(Mutex<HashSet<String>>);

impl Copied {
    pub(super) fn add(&self, name: &str) {
        let mut names = lock(&self.0);
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        lock(&self.0).remove(name)
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
