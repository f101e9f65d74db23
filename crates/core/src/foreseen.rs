//! The state of a destination after a dry run: its records and scan as they would be once all changes of the
//! vault were applied here. The sending half of a sync decides on it, as it does in a run.

use std::collections::{HashMap, HashSet};

use obsync_protocol::{ContentHash, VaultPath};

use crate::conflicted_copy::{self, COPIES, DeviceName};
use crate::destination::{DestinationError, DestinationExt, Found, Wanted};
use crate::model::{KnownContent, Record};
use crate::report::{Report, Step, StepAction};
use crate::run::Run;
use crate::scan::{LocalFile, LocalTree};

/// Differences of a destination from its present state. Empty unless a run is dry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreseen {
    /// Records that would be written for files and folders that are here already.
    pub(crate) records: Vec<Record>,
    /// What would be recorded of files before the vault's changes are applied, which is an earlier version than is recorded.
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
    listed: Option<Vec<String>>,
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
    fn takes(&self, path: &VaultPath) -> bool {
        self.moved.values().any(|moved| moved == path) || self.made.iter().any(|made| made.path == *path)
    }
}

/// Kind of a user's file or folder in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTheWay {
    /// A file with this content, as far as it can be read.
    File(Option<KnownContent>),
    /// A folder.
    Folder,
}

impl Run<'_> {
    /// Notes that a user's file is kept under another name: that of a copy with the same content, else a free
    /// one.
    pub(crate) async fn foresee_kept(
        &self,
        path: &VaultPath,
        what: InTheWay,
        report: &mut Report,
    ) -> Result<(), DestinationError> {
        report.steps.push(Step {
            action: StepAction::KeepBeside,
            path: path.clone(),
            size: None,
            from: None,
        });
        if let InTheWay::File(Some(content)) = what
            && self.has_equal_copy(path, content, report).await?
        {
            report.foreseen.gone.insert(path.clone());
            return Ok(());
        }
        let is_folder = what == InTheWay::Folder;
        if let Some(copy) = self.free_name(path, is_folder, report).await? {
            report.foreseen.moved.insert(path.clone(), copy);
        }
        Ok(())
    }

    /// Notes that a content of the vault is stored under a name beside its own.
    pub(crate) async fn foresee_copy(
        &self,
        of: LocalFile,
        report: &mut Report,
    ) -> Result<(), DestinationError> {
        if let Some(path) = self.free_name(&of.path, false, report).await? {
            report.foreseen.made.push(LocalFile { path, ..of });
        }
        Ok(())
    }

    /// Content of the file at a path.
    pub(crate) async fn content_at(
        &self,
        path: &VaultPath,
    ) -> Result<Option<KnownContent>, DestinationError> {
        let empty = KnownContent { hash: ContentHash::EMPTY, size: 0 };
        let wanted = Wanted { path: path.clone(), hash: empty.hash, size: empty.size };
        Ok(match self.destination.look(vec![wanted]).await?.pop() {
            Some(Found::Wanted) => Some(empty),
            Some(Found::Other(content)) => Some(content),
            Some(Found::Nothing | Found::Unknown) | None => None,
        })
    }

    /// Paths of all local files, listed once.
    pub(crate) async fn files_here<'r>(
        &self,
        report: &'r mut Report,
    ) -> Result<&'r [String], DestinationError> {
        let listed = &mut report.foreseen.listed;
        if listed.is_none() {
            let found = self.destination.list().await?;
            *listed = Some(found.files.into_iter().map(|file| file.path).collect());
        }
        Ok(listed.as_deref().unwrap_or_default())
    }

    /// True if there is a conflicted copy of a file with its content.
    async fn has_equal_copy(
        &self,
        path: &VaultPath,
        content: KnownContent,
        report: &mut Report,
    ) -> Result<bool, DestinationError> {
        let listed = self.files_here(report).await?.iter();
        let copies = listed.filter_map(|copy| VaultPath::parse(copy).ok());
        let copies = copies.filter(|copy| conflicted_copy::is_of(copy, path));
        let KnownContent { hash, size } = content;
        let wanted = copies.map(|path| Wanted { path, hash, size }).collect();
        Ok(self.destination.holds(wanted).await?.contains(&true))
    }

    /// The name that a file would be kept under, as far as known without trying.
    async fn free_name(
        &self,
        path: &VaultPath,
        is_folder: bool,
        report: &Report,
    ) -> Result<Option<VaultPath>, DestinationError> {
        let device = DeviceName::new(&self.source.client.options().device);
        let label = conflicted_copy::label(device);
        for copy in 1..COPIES {
            let Some(name) = conflicted_copy::path(path, is_folder, &label, copy) else { return Ok(None) };
            let facts = self.destination.facts(vec![name.clone()]).await?;
            let is_free = facts.is_none_or(|facts| facts.iter().all(Option::is_none));
            if is_free && !report.foreseen.takes(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}
