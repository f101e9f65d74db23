//! The state of a destination after a dry run: how it would be recorded, and what a scan would find, once everything that the
//! vault changed was applied here. The half of a sync that sends decides on that, as it does in a run.

use std::collections::{HashMap, HashSet};

use obsync_protocol::VaultPath;

use crate::model::{KnownContent, Record};
use crate::scan::LocalTree;

/// How a destination would differ from what it is. Empty, unless a run is dry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreseen {
    /// What would be recorded of files and folders that are here already.
    pub(crate) records: Vec<Record>,
    /// Paths of which nothing would be recorded any more.
    pub(crate) forgotten: HashSet<VaultPath>,
    /// Paths at which there would be what the vault has.
    pub(crate) arrivals: HashSet<VaultPath>,
    /// Files that would have another path, by the one that they have.
    pub(crate) moved: HashMap<VaultPath, VaultPath>,
    /// Files that would have a merged content.
    pub(crate) merged: HashMap<VaultPath, KnownContent>,
}

impl Foreseen {
    /// Makes records what they would be.
    pub(crate) fn apply_to_records(&self, records: &mut Vec<Record>) {
        if self.records.is_empty() && self.forgotten.is_empty() {
            return;
        }
        let replaced: HashSet<&VaultPath> = self.records.iter().map(|record| &record.path).collect();
        records.retain(|record| !self.forgotten.contains(&record.path) && !replaced.contains(&record.path));
        records.extend(self.records.iter().cloned());
        records.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    }

    /// Makes what a scan found what it would find. The scan compared with records that were [made so](Self::apply_to_records).
    pub(crate) fn apply_to_tree(&self, tree: &mut LocalTree) {
        let is_replaced = |path: &VaultPath| self.arrivals.contains(path) && !self.moved.contains_key(path);
        tree.files.retain(|file| !is_replaced(&file.path));
        for file in &mut tree.files {
            if let Some(content) = self.merged.get(&file.path) {
                file.content = *content;
            }
            if let Some(to) = self.moved.get(&file.path) {
                file.path = to.clone();
            }
        }
        let comes: HashSet<&VaultPath> = self.arrivals.iter().chain(self.moved.values()).collect();
        let folders: HashSet<VaultPath> = comes.iter().flat_map(|path| path.ancestors()).collect();
        tree.absent.retain(|path| !comes.contains(path) && !folders.contains(path));
        tree.sort();
    }
}
