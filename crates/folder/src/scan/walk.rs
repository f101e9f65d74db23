//! Walks a destination, several folders at a time, and notes differences from the records.
//!
//! Every folder is opened by one name in its open parent, without following a link, so that no path leads
//! out. A folder is listed completely before any of its entries is checked: a folder with an incomplete
//! listing has no absences.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use obsync_core::blocking::lock;
use obsync_core::{
    DestinationError, LocalFacts, LocalTree, Record, Respelled, ScanInput, Spelling, Unknown, UnknownCause,
};
use obsync_protocol::{Filter, VaultPath, Verdict, normalize_local_name};
use rayon::Scope;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use super::clock::Clock;
use super::file::{Unread, read};
use super::known::{Known, Name};
use super::names::{Matched, Place, match_names};
use crate::context::Context;
use crate::entry::{Kind, look};
use crate::error::Action;
use crate::listing_faults::ListingFaults;
use crate::mount_list::{Mounts, is_mount};
use crate::own_folder::is_own_name;
use crate::root::Root;
use crate::transplant::is_own_beside;

/// Entries of one folder checked by one thread at a time.
const PORTION: usize = 256;

/// A running scan.
pub(super) struct Walk<'a> {
    root: &'a Root,
    faults: &'a ListingFaults,
    known: Known<'a>,
    filter: &'a Filter,
    /// Only these paths are scanned, and the folders on the way to them.
    only: Option<Few<'a>>,
    clock: Clock,
    /// Mounts of earlier scans.
    mounts: &'a Mounts,
    /// Present mounts.
    mounted: Mutex<Mounts>,
    stop: &'a AtomicBool,
    tree: Mutex<LocalTree>,
    found: AtomicU64,
    read: AtomicU64,
    failed: Mutex<Option<DestinationError>>,
}

/// A few paths, and the folders on the way to them.
struct Few<'a> {
    paths: &'a HashSet<VaultPath>,
    folders: HashSet<VaultPath>,
}

/// An open folder.
struct Folder {
    dir: OwnedFd,
    /// `None`: the root.
    path: Option<VaultPath>,
    /// Its name in the destination.
    name: String,
}

/// The entries of a folder that can have paths in the vault, and the names of the others.
#[derive(Default)]
struct Entries {
    entries: Vec<(String, FileType)>,
    others: Vec<String>,
}

/// An entry with a path in the vault.
struct Spot<'a> {
    name: String,
    kind: FileType,
    path: VaultPath,
    record: Option<&'a Record>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        context: &'a Context,
        root: &'a Root,
        input: &'a ScanInput,
        only: Option<&'a HashSet<VaultPath>>,
        mounts: &'a Mounts,
        stop: &'a AtomicBool,
    ) -> Self {
        Walk {
            root,
            faults: &context.listing_faults,
            known: Known::new(&input.records),
            filter: &input.filter,
            only: only.map(Few::new),
            clock: Clock::new(root),
            mounts,
            mounted: Mutex::default(),
            stop,
            tree: Mutex::default(),
            found: AtomicU64::new(0),
            read: AtomicU64::new(0),
            failed: Mutex::default(),
        }
    }

    /// Scans everything on the threads of the current pool. Also returns the mounts below the root.
    pub(super) fn run(self) -> Result<(LocalTree, Mounts), DestinationError> {
        rayon::scope(|scope| match open_folder(&self.root.handle, ".") {
            Ok(dir) => self.enter(scope, Folder { dir, path: None, name: String::new() }),
            Err(error) => self.fail(self.root.errors.root_error(Action::List, error)),
        });
        if let Some(error) = lock(&self.failed).take() {
            return Err(error);
        }
        let mut tree = std::mem::take(&mut *lock(&self.tree));
        let mut mounted = std::mem::take(&mut *lock(&self.mounted));
        mounted.0.extend(self.mounts.0.iter().cloned());
        tree.found = self.found.into_inner();
        tree.read = self.read.into_inner();
        tree.sort();
        Ok((tree, mounted))
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// True if a path has to be scanned.
    fn is_wanted(&self, path: &VaultPath) -> bool {
        self.only.as_ref().is_none_or(|few| few.paths.contains(path))
    }

    /// True if a folder leads to such a path.
    fn is_on_the_way(&self, path: &VaultPath) -> bool {
        self.only.as_ref().is_none_or(|few| few.folders.contains(path))
    }

    /// Lists a folder and schedules its entries.
    fn enter<'s>(&'s self, scope: &Scope<'s>, folder: Folder) {
        if self.is_over() {
            return;
        }
        let Entries { entries, others } = match self.list(&folder) {
            Ok(entries) => entries,
            Err(error) if folder.path.is_none() => {
                return self.fail(self.root.errors.root_error(Action::List, error));
            }
            Err(error) => return self.unreadable(folder.name, error),
        };
        let known = self.known.names(folder.path.as_ref());
        let matched = {
            let entries: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
            let known: Vec<&str> = known.iter().map(|known| known.name).collect();
            match_names(&entries, &known, &others)
        };
        self.note_missing(&folder, &known, &matched);
        let spots = self.spots(&folder, entries, &known, matched);
        let folder = Arc::new(folder);
        let mut spots = spots.into_iter().peekable();
        while spots.peek().is_some() {
            let portion: Vec<Spot<'_>> = spots.by_ref().take(PORTION).collect();
            let folder = folder.clone();
            if spots.peek().is_none() {
                return self.look_at(scope, &folder, portion);
            }
            scope.spawn(move |scope| self.look_at(scope, &folder, portion));
        }
    }

    fn list(&self, folder: &Folder) -> io::Result<Entries> {
        let at_top = folder.path.is_none();
        let mut listed = Entries::default();
        for (read, entry) in rustix::fs::Dir::read_from(&folder.dir)?.enumerate() {
            if self.faults.ends(&folder.name, read)? {
                break;
            }
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let shown = name.to_string_lossy();
            if (at_top && is_own_name(&shown)) || is_own_beside(&shown) {
                continue;
            }
            if shown.starts_with('.') && !self.filter.config_dirs.contains(&folder.vault_path(&shown)) {
                listed.others.push(shown.into_owned());
                continue;
            }
            let refused = match name.to_str() {
                Ok(name) => VaultPath::check(name).err().map(|error| error.to_string()),
                Err(_) => Some("it is no text in UTF-8".to_owned()),
            };
            match refused {
                None => listed.entries.push((shown.into_owned(), entry.file_type())),
                Some(reason) => {
                    if self.only.is_none() {
                        let why = match is_folder(folder, name, entry.file_type()) {
                            true => UnknownCause::FolderName { reason },
                            false => UnknownCause::Name { reason, inode: Some(entry.ino()) },
                        };
                        self.unknown(folder.at(&shown), why);
                    }
                    listed.others.push(shown.into_owned());
                }
            }
        }
        listed.entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(listed)
    }

    /// Notes recorded names that are missing in a folder. Excluded ones do not count as missing.
    fn note_missing(&self, folder: &Folder, known: &[Name<'a>], matched: &Matched) {
        for index in &matched.missing {
            let name = known[*index];
            let record = name.record.map(|index| self.known.record(index));
            let path = folder.vault_path(name.name);
            // A mount point may disappear with its file system.
            if self.mounts.at_or_below(&path).any(|mount| self.has_records_below(mount)) {
                self.unknown(path, UnknownCause::NotMounted);
                continue;
            }
            let below = self.known.below(&path);
            self.absent(record.into_iter().chain(below));
        }
    }

    fn absent<'r>(&self, records: impl Iterator<Item = &'r Record>) {
        let syncs =
            |record: &&Record| self.filter.verdict(&record.path, record.file().is_none()) == Verdict::Sync;
        let paths: Vec<VaultPath> = records.filter(syncs).map(|record| record.path.clone()).collect();
        lock(&self.tree).absent.extend(paths);
    }

    /// The places of a folder with their paths. Twins and names that no vault can have are noted as unknown.
    fn spots(
        &self,
        folder: &Folder,
        mut entries: Vec<(String, FileType)>,
        known: &[Name<'a>],
        matched: Matched,
    ) -> Vec<Spot<'a>> {
        let name_of = |place: &Place, entries: &[(String, FileType)]| match &place.name {
            Some(name) => folder.vault_path(name),
            None => folder.vault_path(&entries[place.entry].0),
        };
        for (entry, place) in &matched.twins {
            let of = VaultPath::parse(&name_of(&matched.places[*place], &entries)).ok();
            let of = of.filter(|of| {
                let twin = VaultPath::parse(&folder.vault_path(&entries[*entry].0));
                self.is_wanted(of) || twin.is_ok_and(|twin| self.is_wanted(&twin))
            });
            if let Some(of) = of {
                self.unknown(folder.at(&entries[*entry].0), UnknownCause::Twin { of });
            }
        }
        for (index, place) in &matched.respelled {
            self.note_respelled(folder, known[*index], &name_of(&matched.places[*place], &entries));
        }
        let mut spots = Vec::with_capacity(matched.places.len());
        for place in matched.places {
            let record =
                place.known.and_then(|index| known[index].record).map(|index| self.known.record(index));
            let path = match record {
                Some(record) => Ok(record.path.clone()),
                None => VaultPath::parse(&name_of(&place, &entries))
                    .and_then(|path| path.check_to_write().map(|()| path)),
            };
            let (name, kind) =
                std::mem::replace(&mut entries[place.entry], (String::new(), FileType::Unknown));
            match path {
                Ok(path) if !self.is_wanted(&path) && !self.is_on_the_way(&path) => {}
                Ok(path) => {
                    if place.name.is_some() {
                        let spelling = Spelling { path: path.clone(), name: folder.at(&name) };
                        lock(&self.tree).spellings.push(spelling);
                    }
                    spots.push(Spot { name, kind, path, record });
                }
                Err(_) if self.only.is_some() => {}
                Err(error) => {
                    let reason = error.to_string();
                    let why = match is_folder(folder, name.as_str(), kind) {
                        true => UnknownCause::FolderName { reason },
                        false => UnknownCause::Name { reason, inode: None },
                    };
                    self.unknown(folder.at(&name), why);
                }
            }
        }
        spots
    }

    fn note_respelled(&self, folder: &Folder, known: Name<'a>, found: &str) {
        let recorded = folder.vault_path(known.name);
        let (Ok(recorded), Ok(found)) = (VaultPath::parse(&recorded), VaultPath::parse(found)) else {
            return;
        };
        let is_folder = known.record.is_none_or(|index| self.known.record(index).file().is_none());
        if self.filter.verdict(&recorded, is_folder) == Verdict::Sync {
            lock(&self.tree).respelled.push(Respelled { recorded, found });
        }
    }

    fn look_at<'s>(&'s self, scope: &Scope<'s>, folder: &Arc<Folder>, spots: Vec<Spot<'s>>) {
        for spot in spots {
            if self.is_over() {
                return;
            }
            match spot.kind {
                FileType::Directory => self.look_at_folder(scope, folder, spot),
                _ => self.look_at_entry(scope, folder, spot),
            }
        }
    }

    fn look_at_folder<'s>(&'s self, scope: &Scope<'s>, above: &Arc<Folder>, spot: Spot<'s>) {
        let Spot { name, path, record, .. } = spot;
        let syncs = self.filter.verdict(&path, true) == Verdict::Sync;
        if syncs && record.is_none_or(|record| record.file().is_some()) {
            lock(&self.tree).folders.push(path.clone());
        }
        if !self.filter.reaches(&path) || !self.is_on_the_way(&path) {
            return;
        }
        let above = above.clone();
        scope.spawn(move |scope| {
            let shown = above.at(&name);
            match open_folder(&above.dir, &name) {
                Ok(dir) => {
                    let is_mounted = self.note_mount(&above, &dir, &shown);
                    drop(above);
                    match is_mounted {
                        Ok(true) => {}
                        Ok(false) => return self.unknown(shown, UnknownCause::NotMounted),
                        Err(error) => return self.unreadable(shown, error.into()),
                    }
                    self.enter(scope, Folder { dir, path: Some(path), name: shown });
                }
                // It was there a moment ago.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
                    self.unknown(shown, UnknownCause::Changing);
                }
                Err(error) => self.unreadable(shown, error.into()),
            }
        });
    }

    /// Notes a folder that is a file system of its own. `false` if it was one, and is not now.
    fn note_mount(&self, above: &Folder, dir: &OwnedFd, name: &str) -> rustix::io::Result<bool> {
        if is_mount(dir, &above.dir)? {
            lock(&self.mounted).0.insert(name.to_owned());
            return Ok(true);
        }
        Ok(!self.mounts.0.contains(name))
    }

    /// True if a folder of this name has records.
    fn has_records_below(&self, name: &str) -> bool {
        self.known.has_below(name) || (!name.is_ascii() && self.known.has_below(&normalize_local_name(name)))
    }

    fn look_at_entry<'s>(&'s self, scope: &Scope<'s>, folder: &Arc<Folder>, mut spot: Spot<'s>) {
        let skips = |is_folder| self.filter.verdict(&spot.path, is_folder) != Verdict::Sync;
        if spot.record.is_none_or(|record| record.file().is_none()) {
            self.note_below_file(&spot);
        }
        let is_listed_as_file = spot.kind == FileType::RegularFile;
        if is_listed_as_file && skips(false) {
            return;
        }
        // Not the type from the listing: some file systems give none.
        let facts = match look(&folder.dir, &spot.name) {
            Ok(Some(facts)) => facts,
            Ok(None) | Err(_) if skips(true) => return,
            Ok(None) => return self.unknown(folder.at(&spot.name), UnknownCause::Changing),
            Err(error) => return self.unreadable(folder.at(&spot.name), error.into()),
        };
        match facts.kind {
            Kind::Folder => {
                spot.kind = FileType::Directory;
                self.look_at_folder(scope, folder, spot);
            }
            Kind::Foreign if skips(true) => {}
            Kind::Foreign => {
                let is_link = rustix::fs::readlinkat(&folder.dir, &spot.name, Vec::new()).is_ok();
                let why = if is_link { UnknownCause::Link } else { UnknownCause::Special };
                self.unknown(folder.at(&spot.name), why);
            }
            Kind::File if !is_listed_as_file && skips(false) => {}
            Kind::File => self.look_at_file(folder, &spot, &facts.local()),
        }
    }

    /// If a file is in place of a folder, all files recorded below that are missing.
    fn note_below_file(&self, spot: &Spot<'_>) {
        if spot.kind == FileType::RegularFile {
            let below = self.known.below(spot.path.as_str());
            if !below.is_empty() {
                self.absent(below.into_iter());
            }
        }
    }

    fn look_at_file(&self, folder: &Folder, spot: &Spot<'_>, facts: &LocalFacts) {
        self.found.fetch_add(1, Ordering::Relaxed);
        let recorded = spot.record.and_then(|record| Some((record.file()?, record.facts.as_ref())));
        if recorded.is_some_and(|(_, recorded)| recorded == Some(facts)) && !self.clock.is_racy(facts) {
            return;
        }
        self.read.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.faults.read(&folder.at(&spot.name)) {
            return self.unreadable(folder.at(&spot.name), error);
        }
        let file = match read(&folder.dir, &spot.name, &spot.path, &self.clock, self.stop) {
            Ok(file) => file,
            Err(Unread::Changing) => return self.unknown(folder.at(&spot.name), UnknownCause::Changing),
            Err(Unread::Failed(error)) => return self.unreadable(folder.at(&spot.name), error),
            Err(Unread::Stopped) => return,
        };
        match recorded {
            Some((meta, facts)) if file.content == meta.into() => {
                if facts != Some(&file.facts) {
                    lock(&self.tree).renewed.push((file.path, file.facts));
                }
            }
            _ => lock(&self.tree).files.push(file),
        }
    }

    fn unknown(&self, path: String, why: UnknownCause) {
        lock(&self.tree).unknown.push(Unknown { path, why });
    }

    /// Notes an unreadable place. If no more files can be opened, the scan ends.
    fn unreadable(&self, path: String, error: io::Error) {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                self.fail(self.root.errors.root_error(Action::List, error));
            }
            _ => self.unknown(path, UnknownCause::Unreadable { reason: error.to_string() }),
        }
    }

    fn fail(&self, error: DestinationError) {
        *lock(&self.failed) = Some(error);
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl<'a> Few<'a> {
    fn new(paths: &'a HashSet<VaultPath>) -> Self {
        let above = |path: &VaultPath| std::iter::successors(path.parent(), VaultPath::parent);
        Few { folders: paths.iter().flat_map(above).collect(), paths }
    }
}

impl Folder {
    /// The name of an entry in the destination.
    fn at(&self, name: &str) -> String {
        join(&self.name, name)
    }

    /// The path of an entry in the vault.
    fn vault_path(&self, name: &str) -> String {
        join(self.path.as_ref().map_or("", VaultPath::as_str), name)
    }
}

/// True if an entry is a folder. Some file systems give no type in their listings.
fn is_folder(above: &Folder, name: impl Arg, listed: FileType) -> bool {
    match listed {
        FileType::Unknown => rustix::fs::statat(&above.dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|facts| FileType::from_raw_mode(facts.st_mode) == FileType::Directory),
        listed => listed == FileType::Directory,
    }
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Opens a folder by one name in an open one. A link is not followed.
pub(super) fn open_folder(dir: impl rustix::fd::AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}
