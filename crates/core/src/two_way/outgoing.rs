//! Decides what to send to the vault: a pure function of the records and a scan, after all changes of the
//! vault were applied here.
//!
//! Absence is not intent. A file counts as deleted only if this installation saw it in this very destination,
//! only by a scan that was complete there, and never in the first run of a direction.

use std::collections::{BTreeMap, HashMap, HashSet};

use obsync_protocol::{ContentHash, Filter, Uid, VaultPath, Verdict};

use crate::conflicted_copy;
use crate::model::{FileMeta, LocalFacts, Record, RecordKind};
use crate::quiet::{is_litter, shrank};
use crate::report::{Report, Step, StepAction};
use crate::scan::{LocalFile, LocalTree, Unknown, UnknownCause};

use super::refusal_pauses::Refusals;

/// A file with the name of an editor's temporary file is skipped while it is younger than this, in
/// milliseconds.
const LITTER_LASTS: u64 = 60_000;

/// So many files that went back in time are no coincidence.
const WENT_BACK: usize = 3;

/// Tolerance for the time of a restored file, in milliseconds: FAT has steps of two seconds.
const COARSE_TIME: i64 = 2000;

/// Input of the decision.
pub(crate) struct OutgoingInput<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) tree: LocalTree,
    pub(crate) filter: &'a Filter,
    /// Send configuration folders.
    pub(crate) sends_configuration: bool,
    /// Paths with a change of the vault that is not applied here yet.
    pub(crate) unapplied: &'a HashSet<VaultPath>,
    /// Paths that the vault deleted and that are kept here until a user confirms the deletion.
    pub(crate) held_back: &'a HashSet<VaultPath>,
    /// Milliseconds since the epoch.
    pub(crate) now: i64,
    /// Deletions in the vault are allowed.
    pub(crate) may_delete: bool,
}

/// A file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendFile {
    pub(crate) local: LocalFile,
    /// The vault's version at the path when both sides last agreed.
    pub(crate) base: Option<FileMeta>,
    /// The recorded file that was renamed to this path.
    pub(crate) from: Option<Absent>,
}

/// A recorded file or folder that its user certainly removed. Only these can be deleted in the vault, and
/// only [`Outgoing::decide`] creates them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absent {
    path: VaultPath,
    uid: Uid,
    /// `None`: a folder.
    file: Option<FileMeta>,
}

impl Absent {
    fn of(record: &Record) -> Self {
        Absent { path: record.path.clone(), uid: record.uid(), file: record.file().cloned() }
    }

    pub(crate) fn path(&self) -> &VaultPath {
        &self.path
    }

    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    pub(crate) fn file(&self) -> Option<&FileMeta> {
        self.file.as_ref()
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.file.is_none()
    }
}

/// Changes to send to the vault, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Files and folders replaced by something of the other kind: their deletions come first. Deepest first.
    pub(crate) replaced: Vec<Absent>,
    /// Outermost first.
    pub(crate) folders: Vec<VaultPath>,
    /// Smallest first.
    pub(crate) files: Vec<SendFile>,
    pub(crate) deletions: Vec<Absent>,
    /// Deepest first.
    pub(crate) folder_deletions: Vec<Absent>,
    /// Recorded files whose facts changed but not their content.
    pub(crate) renewed: Vec<(Record, LocalFacts)>,
    /// Paths that are not sent though the user may expect it, with the reason.
    pub(crate) refused: Vec<(VaultPath, String)>,
    /// Recorded files that are here under a refused name: the vault keeps them under their recorded name.
    pub(crate) kept: Vec<VaultPath>,
    /// Files without a record at whose path a change of the vault waits.
    pub(crate) waiting: Vec<VaultPath>,
    /// Earlier refusals of the files to send.
    pub(crate) refusals: Refusals,
    /// Deletions, and files that became empty, that count for the limit.
    pub(crate) counted: HashSet<VaultPath>,
}

impl Outgoing {
    /// Decides what to send.
    pub(crate) fn decide(input: OutgoingInput<'_>) -> Self {
        if input.tree.is_as_recorded() {
            return Outgoing::default();
        }
        let records: HashMap<&VaultPath, &Record> =
            input.records.iter().map(|record| (&record.path, record)).collect();
        let mut outgoing = Outgoing::default();
        outgoing.renew(&input, &records);
        let absent = outgoing.gone(&input, &records);
        let refused = outgoing.send(&input, &records);
        let absent = outgoing.keep_refused(absent, &refused, &input.tree, &records);
        outgoing.place(absent, &records);
        outgoing
    }

    /// True if there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.replaced.is_empty()
            && self.folders.is_empty()
            && self.files.is_empty()
            && self.deletions.is_empty()
            && self.folder_deletions.is_empty()
    }

    /// Files and folders to delete in the vault.
    pub(crate) fn absent(&self) -> impl Iterator<Item = &Absent> {
        let renamed = self.files.iter().filter_map(|file| file.from.as_ref());
        self.replaced.iter().chain(&self.deletions).chain(&self.folder_deletions).chain(renamed)
    }

    pub(crate) fn has_absent(&self) -> bool {
        self.absent().next().is_some()
    }

    /// True if files went back in time together, as when a backup is restored over them: several edits, and
    /// at least half of them, are older than the version that both sides agreed on. Files from a device whose
    /// clock is ahead of `now` do not count.
    pub(crate) fn went_back(&self, now: i64) -> bool {
        let edits = self.files.iter().filter_map(|file| Some((file.base.as_ref()?.mtime, file.local.mtime)));
        let (older, newer): (Vec<_>, Vec<_>) =
            edits.partition(|(base, local)| *base <= now && local.saturating_add(COARSE_TIME) < *base);
        older.len() >= WENT_BACK && older.len() >= newer.len()
    }

    /// Files that lost half of their bytes or more.
    pub(crate) fn shrunk(&self) -> HashSet<VaultPath> {
        let shrunk = self.files.iter().filter(|file| file.is_shrunk());
        shrunk.map(|file| file.local.path.clone()).collect()
    }

    /// Leaves shrunk files to a later run, except those that the scan `before` found shrunk too.
    pub(crate) fn leave_what_shrank_but(&mut self, before: &HashSet<VaultPath>) {
        self.files.retain(|file| !file.is_shrunk() || before.contains(&file.local.path));
    }

    /// Notes the deletions that count for the limit: files that became empty count, confirmed deletions and
    /// files that are sent under another name do not. Returns their number.
    pub(crate) fn count_deletions(&mut self, confirmed: &HashSet<VaultPath>) -> u64 {
        let mut elsewhere: HashMap<ContentHash, usize> = HashMap::new();
        for file in self.files.iter().filter(|file| file.base.is_none()) {
            *elsewhere.entry(file.local.content.hash).or_default() += 1;
        }
        let mut counted = HashSet::new();
        for deletion in self.replaced.iter().chain(&self.deletions) {
            let Some(file) = &deletion.file else { continue };
            let moved = elsewhere.get_mut(&file.hash).filter(|places| **places > 0 && file.size > 0);
            match moved {
                Some(places) => *places -= 1,
                None if confirmed.contains(&deletion.path) => {}
                None => {
                    counted.insert(deletion.path.clone());
                }
            }
        }
        let emptied = self.files.iter().filter(|file| file.is_emptied()).map(|file| &file.local.path);
        counted.extend(emptied.filter(|path| !confirmed.contains(*path)).cloned());
        self.counted = counted;
        self.counted.len() as u64
    }

    /// Takes out every unconfirmed deletion and every unconfirmed file that became empty. Returns them with
    /// their recorded versions.
    pub(crate) fn hold_back(&mut self, confirmed: &HashSet<VaultPath>) -> Vec<Absent> {
        let is_held = |deletion: &mut Absent| !confirmed.contains(&deletion.path);
        let mut held_back: Vec<Absent> = self.deletions.extract_if(.., is_held).collect();
        held_back.extend(self.replaced.extract_if(.., is_held));
        held_back.extend(self.folder_deletions.extract_if(.., is_held));
        // Files and folders that would replace a held-back one stay here.
        let stays: HashSet<VaultPath> = held_back.iter().map(|deletion| deletion.path.clone()).collect();
        self.folders.retain(|path| !is_at_or_in(path, &stays));
        self.files.retain(|file| !is_at_or_in(&file.local.path, &stays));
        let emptied =
            self.files.extract_if(.., |file| file.is_emptied() && !confirmed.contains(&file.local.path));
        held_back.extend(emptied.filter_map(|file| {
            let base = file.base?;
            Some(Absent { path: file.local.path, uid: base.uid, file: Some(base) })
        }));
        held_back
    }

    fn renew(&mut self, input: &OutgoingInput<'_>, records: &HashMap<&VaultPath, &Record>) {
        let renewed = input.tree.renewed.iter().filter_map(|(path, facts)| {
            let record = records.get(path).copied()?;
            Some((record.clone(), facts.clone()))
        });
        self.renewed.extend(renewed);
    }

    /// Recorded files and folders that their user removed.
    fn gone(&self, input: &OutgoingInput<'_>, records: &HashMap<&VaultPath, &Record>) -> Vec<Absent> {
        if !input.may_delete || input.tree.is_in_flux {
            return Vec::new();
        }
        // A name in other letter case is there in place of the recorded one, and its user certainly gave it.
        let respelled = input.tree.respelled.iter().map(|respelled| &respelled.recorded);
        let gone = input.tree.absent.iter().chain(respelled).filter_map(|path| records.get(path).copied());
        // A file that was replaced by a folder, or a folder by a file, is gone too: the scan saw something
        // else in its place.
        let became_folders = input.tree.folders.iter().filter_map(|path| records.get(path).copied());
        let became_folders = became_folders.filter(|record| record.file().is_some());
        let became_files = input.tree.files.iter().filter_map(|file| records.get(&file.path).copied());
        let became_files = became_files.filter(|record| record.file().is_none());
        gone.chain(became_folders)
            .chain(became_files)
            .filter(|record| {
                let path = &record.path;
                record.witnessed
                    && !input.unapplied.contains(path)
                    && !input.tree.is_unknown(path)
                    && input.sends(path, record.file().is_none()) == Ok(true)
            })
            .map(Absent::of)
            .collect()
    }

    /// Takes out deletions of files that were only renamed to a refused name: the local file has the text
    /// under that name only.
    fn keep_refused(
        &mut self,
        mut absent: Vec<Absent>,
        refused: &[&LocalFile],
        tree: &LocalTree,
        records: &HashMap<&VaultPath, &Record>,
    ) -> Vec<Absent> {
        let names = tree.unknown.iter().filter_map(|unknown| match unknown.why {
            UnknownCause::Name { inode, .. } => inode,
            _ => None,
        });
        let inodes: HashSet<u64> =
            names.chain(refused.iter().filter_map(|file| inode(&file.facts))).collect();
        let contents: HashSet<ContentHash> =
            refused.iter().filter(|file| file.content.size > 0).map(|file| file.content.hash).collect();
        let may_be_renamed = went_with_a_folder(&absent, tree, records);
        let is_kept = |gone: &mut Absent| {
            if may_be_renamed.contains(&gone.path) {
                return true;
            }
            let Some(file) = &gone.file else { return false };
            let facts = records.get(&gone.path).and_then(|record| record.facts.as_ref());
            contents.contains(&file.hash)
                || facts.and_then(inode).is_some_and(|inode| inodes.contains(&inode))
        };
        self.kept = absent.extract_if(.., is_kept).map(|gone| gone.path).collect();
        let occupied: HashSet<VaultPath> = self.kept.iter().flat_map(ancestors).collect();
        absent.retain(|gone| !gone.is_folder() || !occupied.contains(&gone.path));
        absent
    }

    /// Sorts the folders and files to send. Returns the refused files.
    fn send<'t>(
        &mut self,
        input: &'t OutgoingInput<'_>,
        records: &HashMap<&VaultPath, &Record>,
    ) -> Vec<&'t LocalFile> {
        for path in &input.tree.folders {
            // A path at which a change of the vault waits is skipped until that is settled.
            let is_free = !input.unapplied.contains(path);
            match input.sends_anew(path, true, records) {
                Ok(true) if is_free => self.folders.push(path.clone()),
                Ok(_) => {}
                Err(reason) => self.refused.push((path.clone(), reason)),
            }
        }
        // A held-back file that was edited here is sent; an unrecorded file at its path waits with it.
        let waits = |path: &VaultPath| {
            input.unapplied.contains(path) || (input.held_back.contains(path) && !records.contains_key(path))
        };
        // An editor's temporary file beside the one that it saves is gone in a moment.
        let is_passing = |file: &LocalFile| {
            is_litter(file.path.file_name()) && input.now.abs_diff(file.mtime) < LITTER_LASTS
        };
        let mut refused = Vec::new();
        let wanted: Vec<LocalFile> = input
            .tree
            .files
            .iter()
            .filter(|file| records.contains_key(&file.path) || !is_passing(file))
            .filter(|file| match input.sends_anew(&file.path, false, records) {
                Ok(true) if waits(&file.path) => {
                    self.waiting.push(file.path.clone());
                    false
                }
                Ok(sends) => sends,
                Err(reason) => {
                    self.refused.push((file.path.clone(), reason));
                    refused.push(*file);
                    false
                }
            })
            .cloned()
            .collect();
        self.files = wanted
            .into_iter()
            .map(|local| {
                let base = records.get(&local.path).and_then(|record| record.file()).cloned();
                SendFile { local, base, from: None }
            })
            .collect();
        self.folders.sort_by_key(|path| (path.segments().count(), path.clone()));
        self.files.sort_by(|a, b| {
            (a.local.content.size, &a.local.path).cmp(&(b.local.content.size, &b.local.path))
        });
        refused
    }

    /// Finds the renames among gone and new files, and puts the rest in order.
    fn place(&mut self, absent: Vec<Absent>, records: &HashMap<&VaultPath, &Record>) {
        let renamed = self.renames(&absent, records);
        let there: HashSet<VaultPath> = self
            .folders
            .iter()
            .cloned()
            .chain(self.files.iter().map(|file| file.local.path.clone()))
            .collect();
        let occupied: HashSet<VaultPath> = there.iter().flat_map(ancestors).collect();
        let mut moved = HashSet::new();
        for (at, from) in renamed {
            // If something else takes the old path, the content is sent as a new file.
            if !there.contains(from.path()) && !occupied.contains(from.path()) {
                moved.insert(from.path.clone());
                self.files[at].from = Some(from);
            }
        }
        for gone in absent.into_iter().filter(|gone| !moved.contains(&gone.path)) {
            if there.contains(&gone.path) || (occupied.contains(&gone.path) && !gone.is_folder()) {
                self.replaced.push(gone);
            } else if gone.is_folder() {
                self.folder_deletions.push(gone);
            } else {
                self.deletions.push(gone);
            }
        }
        // The contents of a folder that becomes a file are deleted before it.
        let replaced: HashSet<VaultPath> = self.replaced.iter().map(|gone| gone.path.clone()).collect();
        let is_inside = |gone: &mut Absent| ancestors(&gone.path).any(|folder| replaced.contains(&folder));
        let inside: Vec<Absent> = self.deletions.extract_if(.., is_inside).collect();
        self.replaced.extend(inside);
        self.replaced.extend(self.folder_deletions.extract_if(.., is_inside));
        let deepest_first = |a: &Absent, b: &Absent| {
            let key = |gone: &Absent| (std::cmp::Reverse(gone.path.segments().count()), gone.path.clone());
            key(a).cmp(&key(b))
        };
        self.replaced.sort_by(deepest_first);
        self.folder_deletions.sort_by(deepest_first);
        self.deletions.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// New files that certainly are renamed recorded ones: exactly one gone and one new file have the same
    /// non-empty content, or, if there are several, the same file number in the file system.
    fn renames(&self, absent: &[Absent], records: &HashMap<&VaultPath, &Record>) -> Vec<(usize, Absent)> {
        let mut gone: BTreeMap<ContentHash, Vec<&Absent>> = BTreeMap::new();
        for absent in absent {
            if let Some(file) = absent.file().filter(|file| file.size > 0) {
                gone.entry(file.hash).or_default().push(absent);
            }
        }
        let mut new: BTreeMap<ContentHash, Vec<usize>> = BTreeMap::new();
        for (at, file) in self.files.iter().enumerate().filter(|(_, file)| file.base.is_none()) {
            new.entry(file.local.content.hash).or_default().push(at);
        }
        let pairs = gone.into_iter().flat_map(|(hash, gone)| {
            match (&gone[..], new.get(&hash).map(Vec::as_slice).unwrap_or_default()) {
                ([from], [to]) => vec![(*to, *from)],
                (gone, new) => self.same_files(gone, new, records),
            }
        });
        pairs.map(|(to, from)| (to, from.clone())).collect()
    }

    /// Pairs gone and new files of one content by their file numbers. A number alone says nothing about the
    /// content: the number of a deleted file is reused.
    fn same_files<'a>(
        &self,
        gone: &[&'a Absent],
        new: &[usize],
        records: &HashMap<&VaultPath, &Record>,
    ) -> Vec<(usize, &'a Absent)> {
        let number_of_gone = |gone: &Absent| records.get(&gone.path)?.facts.as_ref().and_then(inode);
        let number_of_new = |at: usize| self.files.get(at).and_then(|file| inode(&file.local.facts));
        let pair = |to: &usize| {
            let number = number_of_new(*to)?;
            let mut from = gone.iter().filter(|gone| number_of_gone(gone) == Some(number));
            // Hard links are several names of one file.
            let is_only = new.iter().filter(|at| number_of_new(**at) == Some(number)).count() == 1;
            match (from.next(), from.next()) {
                (Some(from), None) if is_only => Some((*to, *from)),
                _ => None,
            }
        };
        new.iter().filter_map(pair).collect()
    }
}

impl SendFile {
    /// The version that the file was made from.
    pub(super) fn base_uid(&self) -> Uid {
        self.base.as_ref().map_or(Uid(0), |base| base.uid)
    }

    fn is_shrunk(&self) -> bool {
        self.base.as_ref().is_some_and(|base| shrank(Some(self.local.content.size), Some(base.size)))
    }

    /// True if it had content before and is empty now.
    fn is_emptied(&self) -> bool {
        self.local.content.size == 0 && self.base.as_ref().is_some_and(|base| base.size > 0)
    }
}

impl OutgoingInput<'_> {
    /// True if this path is sent at all.
    ///
    /// # Errors
    /// The reason why not, if the user may expect it to be sent.
    fn sends(&self, path: &VaultPath, is_folder: bool) -> Result<bool, String> {
        if self.filter.verdict(path, is_folder) != Verdict::Sync {
            return Ok(false);
        }
        let is_configuration = path.as_str().starts_with('.');
        if is_configuration && (is_folder || !self.sends_configuration) {
            return Ok(false);
        }
        path.check_to_write().map_err(|error| format!("the vault must not get this name: {error}"))?;
        Ok(true)
    }

    /// The same for a local file or folder that the vault may not have yet.
    fn sends_anew(
        &self,
        path: &VaultPath,
        is_folder: bool,
        records: &HashMap<&VaultPath, &Record>,
    ) -> Result<bool, String> {
        let sends = self.sends(path, is_folder)?;
        // Obsidian writes no file with such a name on any device (docs/PROTOCOL.md section 4).
        if sends && path.as_str().contains(':') && has_new_colon(path, records) {
            return Err("Obsidian cannot have a colon in a name; rename it".to_owned());
        }
        Ok(sends)
    }
}

/// True if a path has a colon, the vault has no such name yet, and it is not a conflicted copy of one that
/// the vault has.
fn has_new_colon(path: &VaultPath, records: &HashMap<&VaultPath, &Record>) -> bool {
    if records.contains_key(path) {
        return false;
    }
    let known = ancestors(path).find(|folder| records.contains_key(folder));
    let below = known.as_ref().map_or(0, |folder| folder.as_str().len());
    let is_new = path.as_str().get(below..).is_some_and(|rest| rest.contains(':'));
    let original = || {
        let name = conflicted_copy::original(path.file_name())?;
        let folder = path.parent().map_or_else(String::new, |folder| format!("{folder}/"));
        VaultPath::parse(&format!("{folder}{name}")).ok()
    };
    is_new && original().is_none_or(|original| !records.contains_key(&original))
}

/// If a folder is here whose name no vault can have: the missing folders, and the files that are missing
/// together with their folder. The folder may be any of the missing ones.
fn went_with_a_folder(
    absent: &[Absent],
    tree: &LocalTree,
    records: &HashMap<&VaultPath, &Record>,
) -> HashSet<VaultPath> {
    let is_such = |unknown: &Unknown| matches!(unknown.why, UnknownCause::FolderName { .. });
    if !tree.unknown.iter().any(is_such) {
        return HashSet::new();
    }
    let folders: HashSet<&VaultPath> =
        absent.iter().filter(|gone| gone.is_folder()).map(|gone| &gone.path).collect();
    // Without a record, nobody knows whether the folder is there.
    let may_be_missing = |folder: VaultPath| folders.contains(&folder) || !records.contains_key(&folder);
    let went = |gone: &&Absent| gone.is_folder() || gone.path.parent().is_some_and(may_be_missing);
    absent.iter().filter(went).map(|gone| gone.path.clone()).collect()
}

/// File number in the file system.
fn inode(facts: &LocalFacts) -> Option<u64> {
    match facts {
        LocalFacts::File { inode, .. } => Some(*inode),
        LocalFacts::Object { .. } => None,
    }
}

/// Parent folders of a path, innermost first.
pub(super) fn ancestors(path: &VaultPath) -> impl Iterator<Item = VaultPath> + use<> {
    std::iter::successors(path.parent(), VaultPath::parent)
}

fn is_at_or_in(path: &VaultPath, places: &HashSet<VaultPath>) -> bool {
    places.contains(path) || ancestors(path).any(|folder| places.contains(&folder))
}

/// A record with its facts replaced.
pub(crate) fn renewed((record, facts): (Record, LocalFacts)) -> Record {
    let Record { path, kind, witnessed, .. } = record;
    Record { path, kind, facts: Some(facts), witnessed }
}

/// Record of a file that the vault accepted.
pub(crate) fn sent(local: &LocalFile, uid: Uid) -> Record {
    let meta = FileMeta {
        hash: local.content.hash,
        size: local.content.size,
        mtime: local.mtime,
        ctime: local.ctime,
        uid,
    };
    Record::seen(local.path.clone(), RecordKind::File(meta), Some(local.facts.clone()))
}

impl Report {
    /// Reports in a dry run what would be sent.
    pub(crate) fn describe_outgoing(&mut self, outgoing: &Outgoing) {
        let step = |action, path: &VaultPath| Step { action, path: path.clone(), size: None, from: None };
        let deletions = outgoing.replaced.iter().chain(&outgoing.deletions).chain(&outgoing.folder_deletions);
        self.steps.extend(outgoing.folders.iter().map(|path| step(StepAction::PushFolder, path)));
        self.steps.extend(outgoing.files.iter().map(|file| Step {
            size: Some(file.local.content.size),
            from: file.from.as_ref().map(|from| from.path().clone()),
            ..step(StepAction::Push, &file.local.path)
        }));
        self.steps.extend(deletions.map(|absent| step(StepAction::DeleteInVault, absent.path())));
    }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
