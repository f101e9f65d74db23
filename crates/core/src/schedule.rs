//! Schedules a run: a pure function of the listing, the state, the filter and the mode. No I/O.
//!
//! The order of a plan's steps matters, and its fields are in that order: content that the plan itself is
//! about to remove or overwrite is rescued first, then files and folders are removed, folders are created,
//! and the rest is copied or downloaded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use obsync_protocol::{ContentHash, Filter, NameFolding, Uid, VaultPath, Verdict};

use crate::destination::{Removable, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::listing::Unclear;
use crate::model::{FileMeta, KnownContent, LocalFacts, Record, RecordKind};
use crate::reconcile::{Action, Before, Local, Mode, Reach, Remote, Rules, decide};
use crate::records::Records;
use crate::shrinking::Shrinking;

/// Input of a plan.
#[derive(Debug)]
pub(crate) struct ScheduleInput<'a> {
    /// The latest entry of each path that changed (in full mode, of each path).
    pub(crate) entries: Vec<RemoteEntry>,
    /// The vault's other listed entries, as far as known.
    pub(crate) unclear: Unclear,
    /// Records of those paths; in full mode, of all paths.
    pub(crate) records: Records,
    /// For wanted contents, a recorded file that has them.
    pub(crate) sources: HashMap<ContentHash, VaultPath>,
    /// Selects the entries to sync.
    pub(crate) filter: &'a Filter,
    /// Extent of the pull.
    pub(crate) mode: Mode,
    /// Limits on changes of recorded files. All but [`Reach::Everything`] need a listing from the first
    /// version on, and all records.
    pub(crate) reach: Reach,
    /// The listing has only entries after an earlier one of this run: it says nothing about other paths.
    pub(crate) is_sequel: bool,
    /// An earlier full pull, which was cut short, checked everything again up to this version.
    pub(crate) full_up_to: u64,
    /// The destination's folding rules; if it folds names, `records` has all paths.
    pub(crate) folds_names: NameFolding,
}

/// The steps of a run, in order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Schedule {
    /// Wanted contents that are here but that the plan is about to remove or overwrite.
    pub(crate) rescues: Vec<Transfer>,
    /// Files to remove.
    pub(crate) removals: Vec<FileRemoval>,
    /// Folders to remove if they are empty, deepest first.
    pub(crate) folder_removals: Vec<FolderChange>,
    /// Folders to create, shortest path first.
    pub(crate) folders: Vec<FolderChange>,
    /// Files of which only the times changed; each has one target.
    pub(crate) touches: Vec<Transfer>,
    /// Contents to put in place, in order of uid.
    pub(crate) transfers: Vec<Transfer>,
    /// Records to write without any other work (a newer uid for the present file).
    pub(crate) renewed: Vec<Record>,
    /// Changes that need no work at all.
    pub(crate) unchanged: Vec<VaultPath>,
    /// Recorded files that the filter excludes, or whose entries are unreadable, to be checked in a full
    /// pull: if they changed, the state must not claim them, or a wider filter or a better entry would find
    /// nothing to do.
    pub(crate) doubted: Vec<Wanted>,
    /// Paths whose records are dropped before anything else: files there are kept as if a user had put them
    /// there.
    pub(crate) released: Vec<VaultPath>,
    /// Files that the vault does not list and that stay nevertheless, because unreadable entries may be
    /// theirs.
    pub(crate) unlisted: Vec<VaultPath>,
    /// Changes that the filter excludes.
    pub(crate) filtered: Vec<RemoteEntry>,
    /// The destination's folding rules.
    pub(crate) folds_names: NameFolding,
    /// Deletions that wait for a user's confirmation.
    pub(crate) held_back: Vec<RemoteEntry>,
    /// Changes that cannot be applied to this destination, with the reason.
    pub(crate) refused: Vec<(RemoteEntry, String)>,
}

/// One content and the paths that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) hash: ContentHash,
    /// Bytes of plaintext.
    pub(crate) size: u64,
    pub(crate) source: Source,
    /// At least one; the first is written from the source, the others are copies of it.
    pub(crate) targets: Vec<Target>,
}

impl Transfer {
    /// Paths whose content changes.
    pub(crate) fn renewed_targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| !target.is_recorded_as(self.hash))
    }

    /// Size of each path that has the content already, as far as known.
    pub(crate) fn confirmed_targets(&self) -> impl Iterator<Item = u64> {
        self.targets.iter().filter(|target| target.is_recorded_as(self.hash)).map(|_| self.size)
    }

    /// The changes that it applies.
    pub(crate) fn entries(&self) -> impl Iterator<Item = RemoteEntry> {
        let kind = EntryKind::File { hash: self.hash, size: self.size };
        self.targets.iter().map(move |target| RemoteEntry {
            path: target.path.clone(),
            uid: target.uid,
            kind,
            mtime: target.mtime,
            ctime: target.ctime,
        })
    }
}

/// Source of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// From the server.
    Remote,
    /// From a file of the destination.
    Local(VaultPath),
}

impl Source {
    /// The file of the destination, if it is the source.
    pub(crate) fn local(&self) -> Option<&VaultPath> {
        match self {
            Source::Remote => None,
            Source::Local(path) => Some(path),
        }
    }
}

/// A path that needs a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: VaultPath,
    pub(crate) uid: Uid,
    pub(crate) mtime: i64,
    pub(crate) ctime: i64,
    /// The content that obsync last put there.
    pub(crate) replaces: Option<KnownContent>,
    /// True if a file of the vault is at the path, above it or below it until the plan's removals are done.
    pub(crate) obstructed: bool,
    /// True if its record is already right in every detail.
    pub(crate) recorded: bool,
    /// Facts of the file that obsync put there last.
    pub(crate) facts: Option<Box<LocalFacts>>,
}

/// A file to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRemoval {
    pub(crate) file: Removable,
    /// Its size in bytes.
    pub(crate) size: u64,
    pub(crate) uid: Uid,
    /// True if the plan puts something in its place, so that it cannot stay until that is there.
    pub(crate) in_the_way: bool,
    /// True if it counts as a deletion ([`crate::brake`]).
    pub(crate) counts: bool,
}

/// A folder to create or remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FolderChange {
    pub(crate) path: VaultPath,
    pub(crate) uid: Uid,
    /// True if its record is already right.
    pub(crate) recorded: bool,
}

impl Target {
    /// Metadata of the file.
    pub(crate) fn meta(&self, hash: ContentHash, size: u64) -> FileMeta {
        FileMeta { hash, size, mtime: self.mtime, ctime: self.ctime, uid: self.uid }
    }
}

impl Schedule {
    pub(crate) fn new(mut input: ScheduleInput<'_>) -> Schedule {
        let records = std::mem::take(&mut input.records);
        let mut scheduler = Scheduler::new(records, &input);
        match input.reach {
            Reach::Everything if input.mode == Mode::Full && !input.is_sequel => {
                scheduler.remove_unlisted(&input.entries, &input.unclear, input.filter);
            }
            Reach::KeepEverything => scheduler.release(&input.entries, input.is_sequel),
            Reach::Everything | Reach::Listed | Reach::Additions => {}
        }
        let mut entries = scheduler.admit(input.entries, input.filter);
        // By uid and path, in reverse: they are taken from the end.
        entries.sort_unstable_by(|a, b| b.uid.cmp(&a.uid).then_with(|| b.path.cmp(&a.path)));
        for entry in Shrinking::from(entries) {
            scheduler.place(entry);
        }
        scheduler.find_sources(&input.sources);
        scheduler.finish()
    }

    /// True if there is work to do in the destination.
    pub(crate) fn has_work(&self) -> bool {
        let transfers = self.rescues.len() + self.touches.len() + self.transfers.len();
        transfers + self.removals.len() + self.folder_removals.len() + self.folders.len() > 0
    }

    /// Paths of all files and folders that it would put in place or check again.
    pub(crate) fn wanted_paths(&self) -> impl Iterator<Item = &VaultPath> {
        let targets = self.rescues.iter().chain(&self.transfers).flat_map(|transfer| &transfer.targets);
        targets.map(|target| &target.path).chain(self.folders.iter().map(|folder| &folder.path))
    }

    /// Every pending change, by uid.
    pub(crate) fn pending(&self) -> impl Iterator<Item = Uid> {
        let transfers = self.rescues.iter().chain(&self.touches).chain(&self.transfers);
        transfers
            .flat_map(|transfer| transfer.targets.iter().map(|target| target.uid))
            .chain(self.removals.iter().map(|removal| removal.uid))
            .chain(self.folder_removals.iter().chain(&self.folders).map(|folder| folder.uid))
            .chain(self.renewed.iter().map(Record::uid))
            .chain(self.filtered.iter().chain(&self.held_back).map(|entry| entry.uid))
            .chain(self.refused.iter().map(|(entry, _)| entry.uid))
    }
}

pub(crate) struct Scheduler {
    pub(crate) schedule: Schedule,
    /// Records of entries that are not scheduled yet.
    pub(crate) records: Records,
    pub(crate) folds_names: NameFolding,
    pub(crate) rules: Rules,
    /// Contents that are here now and will be gone after the plan's removals and overwrites.
    vanishing: HashMap<ContentHash, VaultPath>,
    pub(crate) vanishing_paths: HashSet<VaultPath>,
    /// Index into the plan's transfers by content and size: an entry with a wrong size must not fail the
    /// others.
    wanted: HashTable<u32>,
    hasher: RandomState,
}

impl Scheduler {
    fn new(records: Records, input: &ScheduleInput<'_>) -> Self {
        Scheduler {
            schedule: Schedule::default(),
            records,
            folds_names: input.folds_names,
            rules: Rules {
                reach: input.reach,
                full_above: (input.mode == Mode::Full).then_some(Uid(input.full_up_to)),
            },
            vanishing: HashMap::new(),
            vanishing_paths: HashSet::new(),
            wanted: HashTable::new(),
            hasher: RandomState::new(),
        }
    }

    /// Plans the removal of files that the vault does not list at all. Files with unreadable entries stay,
    /// and everything stays as long as an entry's path is unknown: a file too many is better than the wrong
    /// one removed.
    fn remove_unlisted(&mut self, entries: &[RemoteEntry], unclear: &Unclear, filter: &Filter) {
        let files =
            unclear.paths.iter().filter_map(|path| self.records.get(path)?.file().map(|known| (path, known)));
        self.schedule.doubted.extend(files.map(|(path, known)| wanted(path, known)));
        let listed: HashSet<&VaultPath> =
            entries.iter().map(|entry| &entry.path).chain(&unclear.paths).collect();
        let unlisted: Vec<Record> = self
            .records
            .iter()
            .filter(|record| !listed.contains(&record.path))
            // A file that a narrower filter left behind is no longer the vault's.
            .filter(|record| matches!(filter.verdict(&record.path, record.file().is_none()), Verdict::Sync))
            .cloned()
            .collect();
        if unclear.nowhere > 0 {
            self.schedule.unlisted.extend(unlisted.into_iter().map(|record| record.path));
            return;
        }
        for record in unlisted {
            let decision = decide(Some(&record), Local::NotScanned, Remote::Unlisted, &self.rules);
            if decision.before == Before::Remove {
                let uid = record.uid();
                self.remove(record.path, record.kind, uid);
            }
        }
    }

    /// Drops every record that the listing does not confirm; in a sequel, only those of listed paths.
    fn release(&mut self, entries: &[RemoteEntry], is_sequel: bool) {
        let listed: HashMap<&VaultPath, &RemoteEntry> =
            entries.iter().map(|entry| (&entry.path, entry)).collect();
        let Scheduler { records, schedule, vanishing, vanishing_paths, rules, .. } = self;
        let is_released = |record: &Record| {
            let remote = listed.get(&record.path).map_or(Remote::Unlisted, |entry| entry.remote());
            if is_sequel && remote == Remote::Unlisted {
                return false;
            }
            decide(Some(record), Local::NotScanned, remote, rules).before == Before::Release
        };
        for record in records.extract_if(is_released) {
            // A file in the way of a listed one is moved aside, so its content must be copied elsewhere
            // before.
            if let Some(known) = record.file()
                && listed.get(&record.path).is_some_and(|entry| entry.is_live())
            {
                vanishing_paths.insert(record.path.clone());
                vanishing.entry(known.hash).or_insert_with(|| record.path.clone());
            }
            schedule.released.push(record.path);
        }
        schedule.released.sort_unstable();
    }

    /// Schedules one admitted entry. There is one per path, so its record is taken out.
    fn place(&mut self, entry: RemoteEntry) {
        let mut base = self.records.take(&entry.path);
        let decision = decide(base.as_deref(), Local::NotScanned, entry.remote(), &self.rules);
        if decision.before == Before::Remove
            && let Some(removed) = base.take()
        {
            self.remove(entry.path.clone(), removed.kind, entry.uid);
            if !entry.is_live() {
                return;
            }
        }
        match (decision.action, entry.kind) {
            (Action::Renew, EntryKind::File { hash, .. }) => {
                let Some(base) = base else { return };
                let size = base.file().map_or(0, |known| known.size);
                let kind = RecordKind::File(Target::new(entry, None).meta(hash, size));
                // The present file belongs to another version from now on.
                self.schedule.renewed.push(Record { kind, ..*base });
            }
            (Action::SetTimes, EntryKind::File { hash, .. }) => {
                let replaces = base.as_deref().and_then(Record::file).map(KnownContent::from);
                let size = replaces.map_or(0, |known| known.size);
                let targets = vec![Target::new(entry, replaces)];
                self.schedule.touches.push(Transfer { hash, size, source: Source::Remote, targets });
            }
            (Action::Compare { size, replaces }, EntryKind::File { hash, .. }) => {
                self.bring(entry, hash, size, replaces, base);
            }
            (Action::MakeFolder { is_recorded }, _) => {
                let (path, uid) = (entry.path, entry.uid);
                self.schedule.folders.push(FolderChange { path, uid, recorded: is_recorded });
            }
            _ => self.schedule.unchanged.push(entry.path),
        }
    }

    /// Schedules a content for the path of its entry.
    fn bring(
        &mut self,
        entry: RemoteEntry,
        hash: ContentHash,
        size: u64,
        replaces: Option<KnownContent>,
        base: Option<Box<Record>>,
    ) {
        let mut target = Target::new(entry, replaces);
        match replaces {
            Some(known) if known.hash == hash => {
                let known = base.as_deref().and_then(Record::file);
                target.recorded = known.is_some_and(|known| target.meta(hash, size) == *known);
            }
            Some(known) => self.vanish(known.hash, target.path.clone()),
            None => {}
        }
        // Of files that are replaced, only objects have facts that a write can be conditional on.
        let counts =
            |facts: &LocalFacts| target.is_recorded_as(hash) || matches!(facts, LocalFacts::Object { .. });
        let facts = base.and_then(|record| record.facts).filter(counts);
        target.facts = facts.filter(|_| replaces.is_some()).map(Box::new);
        self.want(hash, size, target);
    }

    /// Adds a path to the transfer of a content.
    fn want(&mut self, hash: ContentHash, size: u64, target: Target) {
        let Scheduler { schedule: Schedule { transfers, .. }, wanted, hasher, .. } = self;
        let content_at = |at: &u32| (transfers[*at as usize].hash, transfers[*at as usize].size);
        let is_it = |at: &u32| content_at(at) == (hash, size);
        match wanted.entry(hasher.hash_one((hash, size)), is_it, |at| hasher.hash_one(content_at(at))) {
            Entry::Occupied(at) => transfers[*at.get() as usize].targets.push(target),
            Entry::Vacant(new) => {
                // There are not more of them than entries, whose number a listing limits.
                new.insert(transfers.len() as u32);
                transfers.push(Transfer { hash, size, source: Source::Remote, targets: vec![target] });
            }
        }
    }

    fn remove(&mut self, path: VaultPath, kind: RecordKind, uid: Uid) {
        match kind {
            RecordKind::File(meta) => {
                self.vanish(meta.hash, path.clone());
                let file = Removable { path, content: (&meta).into() };
                self.schedule.removals.push(FileRemoval {
                    file,
                    size: meta.size,
                    uid,
                    in_the_way: false,
                    counts: true,
                });
            }
            RecordKind::Folder(_) => {
                self.schedule.folder_removals.push(FolderChange { path, uid, recorded: false });
            }
        }
    }

    fn vanish(&mut self, hash: ContentHash, path: VaultPath) {
        self.vanishing_paths.insert(path.clone());
        self.vanishing.entry(hash).or_insert(path);
    }

    /// Finds a source for each wanted content. If the source is removed, the transfer is a rescue.
    fn find_sources(&mut self, sources: &HashMap<ContentHash, VaultPath>) {
        let Scheduler { schedule, vanishing, vanishing_paths, .. } = self;
        let rescues = schedule.transfers.extract_if(.., |transfer| {
            // An empty content need not be copied.
            if transfer.hash == ContentHash::EMPTY {
                return false;
            }
            let is_target = |path: &VaultPath| transfer.targets.iter().any(|target| target.path == *path);
            let stays = sources
                .get(&transfer.hash)
                .filter(|path| !vanishing_paths.contains(*path) && !is_target(path));
            let vanishes = vanishing.get(&transfer.hash);
            if let Some(from) = stays.or(vanishes) {
                transfer.source = Source::Local(from.clone());
            }
            stays.is_none() && vanishes.is_some()
        });
        schedule.rescues.extend(rescues);
    }

    fn finish(mut self) -> Schedule {
        let schedule = &mut self.schedule;
        schedule.folds_names = self.folds_names;
        schedule.folder_removals.sort_by(|a, b| b.path.cmp(&a.path));
        schedule.folders.sort_by(|a, b| a.path.cmp(&b.path));
        if schedule.rescues.is_empty() && schedule.removals.is_empty() {
            return self.schedule;
        }
        let key = |path: &VaultPath| self.folds_names.key(path).into_owned();
        let leaving: BTreeSet<String> = schedule
            .removals
            .iter()
            .map(|removal| key(&removal.file.path))
            .chain(schedule.folder_removals.iter().map(|folder| key(&folder.path)))
            .collect();
        for target in schedule.rescues.iter_mut().flat_map(|rescue| &mut rescue.targets) {
            target.obstructed = target.replaces.is_some() || is_obstructed(&key(&target.path), &leaving);
        }
        let targets =
            schedule.rescues.iter().chain(&schedule.transfers).flat_map(|transfer| &transfer.targets);
        let files: BTreeSet<String> = targets.map(|target| key(&target.path)).collect();
        let folders: BTreeSet<String> = schedule.folders.iter().map(|folder| key(&folder.path)).collect();
        for removal in &mut schedule.removals {
            let path = key(&removal.file.path);
            // Its parent folders exist as long as the file does.
            removal.in_the_way = is_obstructed(&path, &files) || is_at_or_below(&path, &folders);
        }
        self.schedule
    }
}

impl Target {
    fn new(entry: RemoteEntry, replaces: Option<KnownContent>) -> Self {
        Target {
            path: entry.path,
            uid: entry.uid,
            mtime: entry.mtime,
            ctime: entry.ctime,
            replaces,
            obstructed: false,
            recorded: false,
            facts: None,
        }
    }

    /// True if the state records this content at the path.
    pub(crate) fn is_recorded_as(&self, hash: ContentHash) -> bool {
        self.replaces.is_some_and(|recorded| recorded.hash == hash)
    }
}

/// The query whether a recorded file is unchanged.
pub(crate) fn wanted(path: &VaultPath, known: &FileMeta) -> Wanted {
    Wanted { path: path.clone(), hash: known.hash, size: known.size }
}

/// True if one of the leaving paths is `path`, above it or below it.
fn is_obstructed(path: &str, leaving: &BTreeSet<String>) -> bool {
    let above = path.match_indices('/').any(|(at, _)| leaving.contains(&path[..at]));
    above || is_at_or_below(path, leaving)
}

/// True if one of these paths is `path`, or below it.
pub(crate) fn is_at_or_below(path: &str, paths: &BTreeSet<String>) -> bool {
    let below = format!("{path}/");
    paths.contains(path) || paths.range(below.clone()..).next().is_some_and(|first| first.starts_with(&below))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
