//! The state of a destination after a dry run: how it would be recorded, and what a scan would find, once everything that the
//! vault changed was applied here. The half of a sync that sends decides on that, as it does in a run.

use std::collections::{HashMap, HashSet};

use obsync_protocol::{ContentHash, VaultPath};

use crate::conflicted_copy::{self, COPIES, DeviceName};
use crate::destination::{DestinationError, DestinationExt, Found, Wanted};
use crate::model::{KnownContent, Record};
use crate::report::{Report, Step, StepAction};
use crate::run::Run;
use crate::scan::{LocalFile, LocalTree};

/// How a destination would differ from what it is. Empty, unless a run is dry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreseen {
    /// What would be recorded of files and folders that are here already.
    pub(crate) records: Vec<Record>,
    /// What would be recorded of files before the vault's changes are applied, which is an earlier version than is recorded.
    pub(crate) taken_back: Vec<Record>,
    /// Paths of which nothing would be recorded any more.
    pub(crate) forgotten: HashSet<VaultPath>,
    /// Paths at which there would be what the vault has.
    pub(crate) arrivals: HashSet<VaultPath>,
    /// Files and folders that would have another path, with all that is in them, by the one that they have.
    pub(crate) moved: HashMap<VaultPath, VaultPath>,
    /// Files that would be gone, because a conflicted copy has their content already.
    pub(crate) gone: HashSet<VaultPath>,
    /// Files that would be made of what the vault has, under names of their own.
    pub(crate) made: Vec<LocalFile>,
    /// Paths at which a change of the vault would wait.
    pub(crate) left: HashSet<VaultPath>,
    /// Files that would have a merged content.
    pub(crate) merged: HashMap<VaultPath, KnownContent>,
    /// The paths of all files here, once they were asked for.
    listed: Option<Vec<String>>,
}

impl Foreseen {
    /// Makes records what they would be.
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

    /// Makes what a scan found what it would find. The scan compared with `records` that were [made so](Self::apply_to_records).
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

    /// Adds the folders that files bring with them and that the vault lists nowhere.
    fn add_folders(&self, tree: &mut LocalTree, folders: HashSet<VaultPath>, records: &[Record]) {
        let recorded = records.iter().filter(|record| record.file().is_none()).map(|record| &record.path);
        let known: HashSet<&VaultPath> = recorded.chain(&self.arrivals).chain(&tree.folders).collect();
        let new: Vec<VaultPath> = folders.into_iter().filter(|folder| !known.contains(folder)).collect();
        tree.folders.extend(new);
    }

    /// Where something would be, if that is another place.
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

    /// Whether nothing would have a path any more that something has.
    pub(crate) fn leaves(&self, path: &VaultPath) -> bool {
        self.gone.contains(path) || self.moved.contains_key(path)
    }

    /// Whether something would have a path that nothing has.
    fn takes(&self, path: &VaultPath) -> bool {
        self.moved.values().any(|moved| moved == path) || self.made.iter().any(|made| made.path == *path)
    }
}

/// What a user has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTheWay {
    /// A file with this content, as far as it can be read.
    File(Option<KnownContent>),
    /// A folder.
    Folder,
}

impl Run<'_> {
    /// Foresees that what a user has at a path is kept under another name: that of a copy with the same content, else a free one.
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

    /// Foresees that a content of the vault comes under a name beside its own.
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

    /// The content of the file at a path.
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

    /// The paths of all files here, listed once.
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

    /// Whether there is a conflicted copy of a file with its content.
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

    /// The name that something would be kept under, as far as that can be told without trying.
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
