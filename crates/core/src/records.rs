//! Records of the paths of a plan.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use obsync_protocol::VaultPath;

use crate::entry::RemoteEntry;
use crate::model::Record;
use crate::shrinking::Shrinking;

/// Records by path. A hash table has up to twice the slots that it needs, so the records are not stored in it
/// directly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(HashSet<ByPath>);

#[derive(Clone, Debug)]
struct ByPath(Box<Record>);

impl Borrow<VaultPath> for ByPath {
    fn borrow(&self) -> &VaultPath {
        &self.0.path
    }
}

impl Hash for ByPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.path.hash(state);
    }
}

impl PartialEq for ByPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for ByPath {}

impl Records {
    /// The record of a path.
    pub(crate) fn get(&self, path: &VaultPath) -> Option<&Record> {
        self.0.get(path).map(|record| &*record.0)
    }

    /// Removes and returns the record of a path.
    pub(crate) fn take(&mut self, path: &VaultPath) -> Option<Box<Record>> {
        self.0.take(path).map(|record| record.0)
    }

    /// Removes and returns the records for which `is_wanted` returns true.
    pub(crate) fn extract_if(
        &mut self,
        mut is_wanted: impl FnMut(&Record) -> bool,
    ) -> impl Iterator<Item = Box<Record>> {
        self.0.extract_if(move |record| is_wanted(&record.0)).map(|record| record.0)
    }

    /// All records, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().map(|record| &*record.0)
    }

    /// Lets entries share the path texts of the records, which were loaded separately.
    pub(crate) fn share_paths(&self, entries: &mut [RemoteEntry]) {
        for entry in entries {
            if let Some(record) = self.get(&entry.path) {
                entry.path = record.path.clone();
            }
        }
    }
}

impl Extend<Record> for Records {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        self.0.extend(records.into_iter().map(|record| ByPath(Box::new(record))));
    }
}

impl From<Vec<Record>> for Records {
    fn from(records: Vec<Record>) -> Self {
        let mut by_path = Records(HashSet::with_capacity(records.len()));
        by_path.extend(Shrinking::from(records));
        by_path
    }
}
