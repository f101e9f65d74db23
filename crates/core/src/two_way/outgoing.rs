//! Decides what the vault is to get: a pure function of what is recorded and what a scan found, after everything that the
//! vault changed was applied here.
//!
//! Absence is not intent. Only what this installation saw in this very destination can be missed, only by a scan that was
//! complete there, and never in the first run of a direction.

use std::collections::{BTreeMap, HashMap, HashSet};

use obsync_protocol::{ContentHash, Filter, Uid, VaultPath, Verdict};

use crate::conflicted_copy;
use crate::model::{FileMeta, LocalFacts, Record, RecordKind};
use crate::quiet::{is_litter, shrank};
use crate::report::{Report, Step, StepAction};
use crate::scan::{LocalFile, LocalTree, Unknown, UnknownCause};

use super::in_step::Settling;
use super::refusal_pauses::Refusals;

/// How long a file with the name of an editor's temporary one is taken for that, in milliseconds.
const LITTER_LASTS: u64 = 60_000;

/// How many files that went back in time are no coincidence.
const WENT_BACK: usize = 3;

/// By how much the time of a file that is put back can differ, in milliseconds: FAT has steps of two seconds.
const COARSE_TIME: i64 = 2000;

/// What the decision rests on.
pub(crate) struct OutgoingInput<'a> {
    pub(crate) records: &'a [Record],
    pub(crate) tree: LocalTree,
    pub(crate) filter: &'a Filter,
    /// Whether what is in a configuration folder is sent.
    pub(crate) sends_configuration: bool,
    /// Paths with a change of the vault that is not applied here yet.
    pub(crate) unapplied: &'a HashSet<VaultPath>,
    /// Paths that the vault deleted and that are kept here until somebody confirms it.
    pub(crate) held_back: &'a HashSet<VaultPath>,
    /// Milliseconds since the epoch.
    pub(crate) now: i64,
    /// Whether anything may be deleted in the vault at all.
    pub(crate) may_delete: bool,
}

/// A file to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendFile {
    pub(crate) local: LocalFile,
    /// What the vault had at the path when both agreed last.
    pub(crate) base: Option<FileMeta>,
    /// The recorded file that has this path now.
    pub(crate) from: Option<Absent>,
}

/// A recorded file or folder that is gone, certainly by its user's will. Nothing else can be deleted in the vault:
/// [`Outgoing::decide`] alone makes them.
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

/// What the vault is to get, in the order in which it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Files and folders that gave way to something of the other kind: their deletions come first. The deepest first.
    pub(crate) replaced: Vec<Absent>,
    /// The outermost first.
    pub(crate) folders: Vec<VaultPath>,
    /// The smallest first.
    pub(crate) files: Vec<SendFile>,
    pub(crate) deletions: Vec<Absent>,
    /// The deepest first.
    pub(crate) folder_deletions: Vec<Absent>,
    /// Recorded files that have other facts than before and the same content.
    pub(crate) renewed: Vec<(Record, LocalFacts)>,
    /// What is not sent though its user may expect it, and why.
    pub(crate) refused: Vec<(VaultPath, String)>,
    /// Recorded files that are here under a name that is refused: the vault keeps them under the name that it has.
    pub(crate) kept: Vec<VaultPath>,
    /// Files that are not recorded and whose place has a change of the vault that waits.
    pub(crate) waiting: Vec<VaultPath>,
    /// The earlier refusals of what is sent.
    pub(crate) refusals: Refusals,
    /// What of it is to be recorded until everything here is.
    pub(crate) settling: Option<Settling>,
}

impl Outgoing {
    /// Decides what is to be sent.
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

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.replaced.is_empty()
            && self.folders.is_empty()
            && self.files.is_empty()
            && self.deletions.is_empty()
            && self.folder_deletions.is_empty()
    }

    /// What is to be deleted in the vault.
    pub(crate) fn absent(&self) -> impl Iterator<Item = &Absent> {
        let renamed = self.files.iter().filter_map(|file| file.from.as_ref());
        self.replaced.iter().chain(&self.deletions).chain(&self.folder_deletions).chain(renamed)
    }

    /// Whether anything is.
    pub(crate) fn has_absent(&self) -> bool {
        self.absent().next().is_some()
    }

    /// Whether files went back in time together, as when a backup is restored over them: several, and half of the edits at
    /// least, are older than what both sides agreed on. What comes from a device whose clock is ahead of `now` says nothing.
    pub(crate) fn went_back(&self, now: i64) -> bool {
        let edits = self.files.iter().filter_map(|file| Some((file.base.as_ref()?.mtime, file.local.mtime)));
        let (older, newer): (Vec<_>, Vec<_>) =
            edits.partition(|(base, local)| *base <= now && local.saturating_add(COARSE_TIME) < *base);
        older.len() >= WENT_BACK && older.len() >= newer.len()
    }

    /// The files that lost half of their bytes or more.
    pub(crate) fn shrunk(&self) -> HashSet<VaultPath> {
        let shrunk = self.files.iter().filter(|file| file.is_shrunk());
        shrunk.map(|file| file.local.path.clone()).collect()
    }

    /// Leaves the files that did so to a later run, but for those that were found so before.
    pub(crate) fn leave_what_shrank_but(&mut self, before: &HashSet<VaultPath>) {
        self.files.retain(|file| !file.is_shrunk() || before.contains(&file.local.path));
    }

    /// The files whose deletion counts for the limit: without what is sent under another name, with files that became empty.
    pub(crate) fn count_deletions(&self, confirmed: &HashSet<VaultPath>) -> u64 {
        let mut elsewhere: HashMap<ContentHash, usize> = HashMap::new();
        for file in self.files.iter().filter(|file| file.base.is_none()) {
            *elsewhere.entry(file.local.content.hash).or_default() += 1;
        }
        let mut counted = 0;
        for deletion in self.replaced.iter().chain(&self.deletions) {
            let Some(file) = &deletion.file else { continue };
            let moved = elsewhere.get_mut(&file.hash).filter(|places| **places > 0 && file.size > 0);
            match moved {
                Some(places) => *places -= 1,
                None if confirmed.contains(&deletion.path) => {}
                None => counted += 1,
            }
        }
        counted
            + self
                .files
                .iter()
                .filter(|file| file.is_emptied() && !confirmed.contains(&file.local.path))
                .count() as u64
    }

    /// Takes out every deletion, and every file that became empty, that nobody confirmed. Tells their paths, and what is
    /// recorded of them.
    pub(crate) fn hold_back(&mut self, confirmed: &HashSet<VaultPath>) -> Vec<Absent> {
        let is_held = |deletion: &mut Absent| !confirmed.contains(&deletion.path);
        let mut held_back: Vec<Absent> = self.deletions.extract_if(.., is_held).collect();
        held_back.extend(self.replaced.extract_if(.., is_held));
        held_back.extend(self.folder_deletions.extract_if(.., is_held));
        // What would take the place of what stays, stays here.
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

    /// The recorded files and folders that are gone by their user's will.
    fn gone(&self, input: &OutgoingInput<'_>, records: &HashMap<&VaultPath, &Record>) -> Vec<Absent> {
        if !input.may_delete || input.tree.is_in_flux {
            return Vec::new();
        }
        // A name that is the same but for its spelling is there in its place, and certainly given by its user.
        let respelled = input.tree.respelled.iter().map(|respelled| &respelled.recorded);
        let gone = input.tree.absent.iter().chain(respelled).filter_map(|path| records.get(path).copied());
        // A file that gave way to a folder or the other way round is gone, too: something else is seen in its place.
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

    /// Takes out what only got a name that the vault must not get: its text is here under that name alone.
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

    /// Sorts out the folders and files that are to be sent. Tells the files that are refused.
    fn send<'t>(
        &mut self,
        input: &'t OutgoingInput<'_>,
        records: &HashMap<&VaultPath, &Record>,
    ) -> Vec<&'t LocalFile> {
        for path in &input.tree.folders {
            // A place in which a change of the vault waits is left until that is settled.
            let is_free = !input.unapplied.contains(path);
            match input.sends_anew(path, true, records) {
                Ok(true) if is_free => self.folders.push(path.clone()),
                Ok(_) => {}
                Err(reason) => self.refused.push((path.clone(), reason)),
            }
        }
        // What is held back and was changed here is news; what was not recorded is a part of the question.
        let waits = |path: &VaultPath| {
            input.unapplied.contains(path) || (input.held_back.contains(path) && !records.contains_key(path))
        };
        // What an editor has beside the file that it saves is gone in a moment.
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

    /// Finds the renames among what is gone and what is new, and brings the rest into its order.
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
            // Where anything else is to have the old path, the content goes as one of its own.
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
        // What lies in a folder that becomes a file has to go before it.
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

    /// The new files that certainly are a recorded one under another name: of one content that is not empty there is one that
    /// is gone, and one that is new; where there are several, those that are the same file of the file system.
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

    /// Of files with one content, those that are gone and have a new name. Such a number says nothing of the content: that of a
    /// file that is gone is given to another one.
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
            // Hard links are one file under several names.
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
    /// The version that it was made from.
    pub(super) fn base_uid(&self) -> Uid {
        self.base.as_ref().map_or(Uid(0), |base| base.uid)
    }

    fn is_shrunk(&self) -> bool {
        self.base.as_ref().is_some_and(|base| shrank(Some(self.local.content.size), Some(base.size)))
    }

    /// Whether it had a content before and has none any more.
    fn is_emptied(&self) -> bool {
        self.local.content.size == 0 && self.base.as_ref().is_some_and(|base| base.size > 0)
    }
}

impl OutgoingInput<'_> {
    /// Whether this path is sent at all.
    ///
    /// # Errors
    /// Why not, where its user may expect it.
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

    /// The same of what is here, which the vault may not have yet.
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

/// Whether a path has a colon where the vault has no such name yet, nor one of which this is a conflicted copy.
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

/// What is missing with the folder that it was in, and such folders, if a folder is here whose name no vault can have: it may be
/// any of them.
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
    // Of a folder that is not recorded nobody knows whether it is there.
    let may_be_missing = |folder: VaultPath| folders.contains(&folder) || !records.contains_key(&folder);
    let went = |gone: &&Absent| gone.is_folder() || gone.path.parent().is_some_and(may_be_missing);
    absent.iter().filter(went).map(|gone| gone.path.clone()).collect()
}

/// The number of a file in its file system.
fn inode(facts: &LocalFacts) -> Option<u64> {
    match facts {
        LocalFacts::File { inode, .. } => Some(*inode),
        LocalFacts::Object { .. } => None,
    }
}

/// The folders that a path lies in, the innermost first.
pub(super) fn ancestors(path: &VaultPath) -> impl Iterator<Item = VaultPath> + use<> {
    std::iter::successors(path.parent(), VaultPath::parent)
}

fn is_at_or_in(path: &VaultPath, places: &HashSet<VaultPath>) -> bool {
    places.contains(path) || ancestors(path).any(|folder| places.contains(&folder))
}

/// What a record becomes with other facts.
pub(crate) fn renewed((record, facts): (Record, LocalFacts)) -> Record {
    let Record { path, kind, witnessed, .. } = record;
    Record { path, kind, facts: Some(facts), witnessed }
}

/// The record of a file that the vault took.
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
    /// Tells what the vault would get.
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
