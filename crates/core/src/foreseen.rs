//! The state of a destination after a dry run: its records and scan as they would be once all changes of the
//! vault were applied here. The sending half of a sync decides on it, as it does in a run.

use std::collections::{HashMap, HashSet};

use obsync_protocol::VaultPath;

use crate::model::{KnownContent, Record};
use crate::scan::{LocalFile, LocalTree};

/// Differences of a destination from its present state. Empty unless a run is dry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreseen {
    /// Records that would be written for files and folders that are here already.
    pub(crate) records: Vec<Record>,
    /// Records that would be written before the vault's changes are applied, of files at an earlier version
    /// than the recorded one.
    pub(crate) taken_back: Vec<Record>,
    /// Paths whose records would be removed.
    pub(crate) forgotten: HashSet<VaultPath>,
    /// Paths that would have the vault's version.
    pub(crate) arrivals: HashSet<VaultPath>,
    /// Files and folders that would be moved, with their contents, by their present paths.
    pub(crate) moved: HashMap<VaultPath, VaultPath>,
    /// Files that would be gone because a conflicted copy has their content already.
    pub(crate) gone: HashSet<VaultPath>,
    /// Files that would be created from the vault under names of their own.
    pub(crate) made: Vec<LocalFile>,
    /// Paths at which a change of the vault would wait.
    pub(crate) left: HashSet<VaultPath>,
    /// Files that would have a merged content.
    pub(crate) merged: HashMap<VaultPath, KnownContent>,
    /// Paths of all local files, once loaded.
    pub(crate) listed: Option<Vec<String>>,
}

impl Foreseen {
    /// Changes records to what they would be.
    pub(crate) fn apply_to_records(&self, records: &mut Vec<Record>) {
        if self.records.is_empty() && self.taken_back.is_empty() && self.forgotten.is_empty() {
            return;
        }
        let replaced: HashSet<&VaultPath> = self.records.iter().map(|record| &record.path).collect();
        let taken_back = self.taken_back.iter().filter(|record| !replaced.contains(&record.path));
        let taken_back: HashMap<&VaultPath, &Record> =
            taken_back.map(|record| (&record.path, record)).collect();
        records.retain(|record| !self.forgotten.contains(&record.path) && !replaced.contains(&record.path));
        for record in records.iter_mut() {
            if let Some(taken_back) = taken_back.get(&record.path) {
                *record = (*taken_back).clone();
            }
        }
        records.extend(self.records.iter().cloned());
        records.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    }

    /// Changes a scan to what it would find. The scan compared with `records` after
    /// [this](Self::apply_to_records).
    pub(crate) fn apply_to_tree(&self, tree: &mut LocalTree, records: &[Record]) {
        if *self == Foreseen::default() {
            return;
        }
        let is_replaced = |path: &VaultPath| {
            self.gone.contains(path) || (self.arrivals.contains(path) && !self.moved.contains_key(path))
        };
        tree.files.retain(|file| !is_replaced(&file.path));
        for file in &mut tree.files {
            if let Some(content) = self.merged.get(&file.path) {
                file.content = *content;
            }
        }
        let files = tree.files.iter_mut().map(|file| &mut file.path);
        for path in files.chain(&mut tree.folders) {
            if let Some(moved) = self.place_of(path) {
                *path = moved;
            }
        }
        tree.files.extend(self.made.iter().cloned());
        let made = self.made.iter().map(|file| &file.path);
        let comes: HashSet<&VaultPath> =
            self.arrivals.iter().chain(self.moved.values()).chain(made).collect();
        let folders: HashSet<VaultPath> = comes.iter().flat_map(|path| path.ancestors()).collect();
        tree.absent.retain(|path| !comes.contains(path) && !folders.contains(path));
        self.add_folders(tree, folders, records);
        tree.sort();
    }

    /// Adds parent folders of files that the vault does not list.
    fn add_folders(&self, tree: &mut LocalTree, folders: HashSet<VaultPath>, records: &[Record]) {
        let recorded = records.iter().filter(|record| record.file().is_none()).map(|record| &record.path);
        let known: HashSet<&VaultPath> = recorded.chain(&self.arrivals).chain(&tree.folders).collect();
        let new: Vec<VaultPath> = folders.into_iter().filter(|folder| !known.contains(folder)).collect();
        tree.folders.extend(new);
    }

    /// The path that a file or folder would have, if it would be moved.
    fn place_of(&self, path: &VaultPath) -> Option<VaultPath> {
        if self.moved.is_empty() {
            return None;
        }
        if let Some(moved) = self.moved.get(path) {
            return Some(moved.clone());
        }
        path.ancestors().find_map(|folder| {
            let moved = self.moved.get(&folder)?;
            moved.join(path.as_str().strip_prefix(folder.as_str())?.strip_prefix('/')?).ok()
        })
    }

    /// True if the path is occupied now and would not be any more.
    pub(crate) fn leaves(&self, path: &VaultPath) -> bool {
        self.gone.contains(path) || self.moved.contains_key(path)
    }

    /// True if the path is free now and would be occupied.
    pub(crate) fn takes(&self, path: &VaultPath) -> bool {
        self.moved.values().any(|moved| moved == path) || self.made.iter().any(|made| made.path == *path)
    }
}
