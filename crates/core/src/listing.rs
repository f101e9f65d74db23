//! The listing of a vault: the latest entry of each path, and the unreadable ones, within memory limits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use obsync_protocol::limits::{
    ENTRIES_KEPT, ENTRIES_RECEIVED, LISTING_MEMORY, UNREADABLE_ENTRIES, UNREADABLE_MEMORY,
};
use obsync_protocol::{Filter, PushMessage, SkipReason, Uid, VaultKeys, VaultPath};

use crate::entry::{Place, RemoteEntry, Undecodable};
use crate::journal::Devices;
use crate::model::{Deferred, DeferredCause, DeferredKey};
use crate::report::Failure;

/// Memory of a run per listed path besides the path itself, in bytes: the entry, the allocator's overhead for
/// the path, and a number in a table with room to grow.
const PATH: u64 = 150;

/// Additional memory of a file or folder in the rest of the run: its record, its place in the plan, its row
/// in the state.
const LIVE: u64 = 210;

/// The latest entry of each path, in the order in which the paths were first listed.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    entries: Vec<RemoteEntry>,
    /// Index of each path's entry. A table has room for up to twice its contents and is copied whenever it
    /// grows, so it stores indices: entries would make it large, and so would paths.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Number of files and folders, without deletions.
    live: usize,
}

impl Latest {
    pub(crate) fn get(&self, path: &VaultPath) -> Option<&RemoteEntry> {
        let is_there = |place: &u32| self.entries[*place as usize].path == *path;
        let place = self.places.find(self.hasher.hash_one(path), is_there)?;
        self.entries.get(*place as usize)
    }

    /// Inserts an entry, replacing that of its path if `yields` returns true for it. Returns whether its path
    /// is new.
    fn put(&mut self, entry: RemoteEntry, yields: impl FnOnce(&RemoteEntry) -> bool) -> bool {
        let Latest { entries, places, hasher, live } = self;
        let is_it = |place: &u32| entries[*place as usize].path == entry.path;
        let hash_of = |place: &u32| hasher.hash_one(&entries[*place as usize].path);
        match places.entry(hasher.hash_one(&entry.path), is_it, hash_of) {
            Entry::Occupied(place) => {
                let known = &mut entries[*place.get() as usize];
                if yields(known) {
                    *live = *live + usize::from(entry.is_live()) - usize::from(known.is_live());
                    *known = entry;
                }
                false
            }
            Entry::Vacant(new) => {
                // No listing has more paths than ENTRIES_RECEIVED plus the deferred ones.
                new.insert(entries.len() as u32);
                *live += usize::from(entry.is_live());
                entries.push(entry);
                true
            }
        }
    }

    pub(crate) fn remove(&mut self, path: &VaultPath) -> Option<RemoteEntry> {
        let Latest { entries, places, hasher, live } = self;
        let is_there = |place: &u32| entries[*place as usize].path == *path;
        let found = places.find_entry(hasher.hash_one(path), is_there).ok()?;
        let (place, _) = found.remove();
        let removed = entries.swap_remove(place as usize);
        *live -= usize::from(removed.is_live());
        // The last entry was moved to this index.
        if let Some(moved) = entries.get(place as usize) {
            let last = entries.len() as u32;
            let hash = hasher.hash_one(&moved.path);
            if let Some(moved) = places.find_mut(hash, |place| *place == last) {
                *moved = place;
            }
        }
        Some(removed)
    }

    /// All entries, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RemoteEntry> {
        self.entries.iter()
    }

    /// Takes all entries and frees their memory.
    pub(crate) fn take(&mut self) -> Vec<RemoteEntry> {
        std::mem::take(self).entries
    }
}

/// Listed entries that cannot be interpreted.
#[derive(Debug, Default)]
pub(crate) struct Unclear {
    /// Paths with something unreadable.
    pub(crate) paths: HashSet<VaultPath>,
    /// Number of entries that are unreadable including their paths: each may be that of any path.
    pub(crate) nowhere: usize,
}

/// A path whose entry must not be applied in this run.
#[derive(Debug)]
pub(crate) struct Withheld {
    pub(crate) reason: String,
    /// The entry; `None` if the listing has none of the path.
    pub(crate) entry: Option<RemoteEntry>,
}

/// An entry that cannot be read.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) deferred: Deferred,
    place: Place,
}

impl Refused {
    /// Its path and the reason why the user's filter excludes it, if it does.
    pub(crate) fn left_out_by(&self, filter: &Filter) -> Option<(&VaultPath, SkipReason)> {
        let reason = self.place.left_out_by(filter, self.deferred.message.folder)?;
        Some((self.place.path()?, reason))
    }

    /// Approximate memory in bytes.
    fn cost(&self) -> u64 {
        self.deferred.cost() + self.place.path().map_or(0, |path| path.as_str().len() as u64)
    }
}

/// The reason why a listing stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// Too many entries.
    Received,
    /// Too many paths.
    Paths,
    /// Too much memory for paths.
    Memory,
    /// Too many unreadable entries.
    Unreadable,
}

/// The changes of a vault since some version: the latest of each path, and those that could not be decoded.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The latest entry of each path.
    pub(crate) entries: Latest,
    /// Unreadable entries by their keys.
    pub(crate) refused: HashMap<DeferredKey, Refused>,
    /// Unreadable entries that the vault has deleted since, each with the version of the deletion.
    pub(crate) withdrawn: HashMap<DeferredKey, Uid>,
    /// Paths whose entries must not be applied in this run.
    pub(crate) withheld: BTreeMap<VaultPath, Withheld>,
    /// Entries with an impossible version. They are listed again each time, so they are not deferred.
    pub(crate) impossible: Vec<(Failure, Place)>,
    /// Number of received entries.
    pub(crate) received: u64,
    /// Number of changes that earlier runs deferred, among the entries.
    pub(crate) recalled: u64,
    /// The highest received uid.
    pub(crate) newest: u64,
    /// The device of each version.
    pub(crate) devices: Devices,
    /// Set when no more entries are accepted.
    pub(crate) excess: Option<Excess>,
    /// Memory of paths in bytes, including that of entries that are not accepted any more.
    paths_memory: u64,
    memory_limit: u64,
    most_received: u64,
    most_live: u64,
    /// Memory of unreadable entries, in bytes.
    unreadable_memory: u64,
}

impl Default for Listing {
    fn default() -> Self {
        Listing::within(LISTING_MEMORY)
    }
}

impl Listing {
    /// A listing whose entries may use this many bytes of memory.
    pub(crate) fn within(memory: u64) -> Self {
        Listing {
            entries: Latest::default(),
            refused: HashMap::new(),
            withdrawn: HashMap::new(),
            withheld: BTreeMap::new(),
            impossible: Vec::new(),
            devices: Devices::default(),
            received: 0,
            recalled: 0,
            newest: 0,
            excess: None,
            paths_memory: 0,
            memory_limit: memory,
            most_received: ENTRIES_RECEIVED,
            most_live: ENTRIES_KEPT,
            unreadable_memory: 0,
        }
    }

    /// Adds an entry; of two with one path the later one stays (the one received last if uids are equal).
    pub(crate) fn add(&mut self, message: PushMessage, keys: &VaultKeys) {
        self.received += 1;
        if self.received > self.most_received {
            self.excess = Some(Excess::Received);
        }
        if self.excess.is_some() {
            return self.count_only(&message);
        }
        if message.has_sound_uid() {
            self.newest = self.newest.max(message.uid.0);
        }
        self.devices.note(&message);
        match RemoteEntry::decode(&message, keys) {
            Ok(entry) => self.add_sound(entry),
            Err(error) if !message.has_sound_uid() => self.add_impossible(&message, error),
            Err(error) => self.add_unreadable(message, error),
        }
    }

    /// Counts an entry that is not added, to report how much memory it would have used.
    fn count_only(&mut self, message: &PushMessage) {
        let path = message.path.as_str().len() as u64 / 2;
        self.paths_memory = self.paths_memory.saturating_add(PATH + LIVE + path);
    }

    /// The reason why no more entries are accepted, if it is their number or memory.
    pub(crate) fn too_large(&self) -> Option<Excess> {
        self.excess.filter(|excess| matches!(excess, Excess::Paths | Excess::Memory))
    }

    fn add_sound(&mut self, entry: RemoteEntry) {
        if !self.refused.is_empty() {
            let key = DeferredKey::plain(&entry.path);
            if self.refused.get(&key).is_some_and(|refused| refused.deferred.message.uid > entry.uid) {
                return;
            }
            self.forget_refused(&key);
        }
        // A rename can give the deletion and the new entry one uid (docs/PROTOCOL.md section 3): for one
        // path, the last in the listing counts.
        let uid = entry.uid;
        self.put(entry, |known| known.uid <= uid);
    }

    /// Inserts an entry as [`Latest::put`] does, and counts its memory.
    fn put(&mut self, entry: RemoteEntry, yields: impl FnOnce(&RemoteEntry) -> bool) {
        let cost = PATH + entry.path.as_str().len() as u64;
        if self.entries.put(entry, yields) {
            self.paths_memory += cost;
        }
        if self.memory() > self.memory_limit {
            self.excess = Some(Excess::Memory);
        } else if self.entries.live as u64 > self.most_live {
            self.excess = Some(Excess::Paths);
        }
    }

    /// Memory of `entries` in this run, in bytes; after an [`Excess`], the memory that they would need.
    pub(crate) fn memory(&self) -> u64 {
        self.paths_memory.saturating_add(LIVE * self.entries.live as u64)
    }

    fn add_impossible(&mut self, message: &PushMessage, error: Undecodable) {
        let path = error.key(message).shown().to_owned();
        let failure = Failure { path, uid: message.uid, reason: error.reason };
        self.count_unreadable(PATH + failure.path.len() as u64);
        self.impossible.push((failure, error.place));
    }

    fn add_unreadable(&mut self, message: PushMessage, error: Undecodable) {
        let key = error.key(&message);
        if self.newest_of(&key, error.place.path()).is_some_and(|known| known > message.uid) {
            return;
        }
        if message.deleted {
            // The deletion of an unreadable entry only removes that entry.
            self.forget_refused(&key);
            self.count_unreadable(PATH + key.as_str().len() as u64);
            self.withdrawn.insert(key, message.uid);
            return;
        }
        let cause = DeferredCause::Failed { reason: error.reason };
        let deferred = Deferred { key, message, cause }.bounded();
        self.refuse(Refused { deferred, place: error.place });
    }

    /// The latest known version of a path.
    fn newest_of(&self, key: &DeferredKey, path: Option<&VaultPath>) -> Option<Uid> {
        let sound = path.and_then(|path| self.entries.get(path)).map(|entry| entry.uid);
        let refused = self.refused.get(key).map(|refused| refused.deferred.message.uid);
        sound.max(refused).max(self.withdrawn.get(key).copied())
    }

    /// Adds an unreadable entry. An earlier entry of the path is dropped, as it is not its state any more.
    fn refuse(&mut self, refused: Refused) {
        if let Some(path) = refused.place.path() {
            let _ = self.entries.remove(path);
        }
        let key = refused.deferred.key.clone();
        self.withdrawn.remove(&key);
        self.forget_refused(&key);
        self.count_unreadable(refused.cost());
        self.refused.insert(key, refused);
    }

    /// Takes out the entry of a path, and one that an earlier run deferred, if that is added later.
    pub(crate) fn withhold(&mut self, path: &VaultPath, reason: &str) {
        let entry = self.entries.remove(path);
        let withheld = self.withheld.entry(path.clone());
        let withheld = withheld.or_insert_with(|| Withheld { reason: reason.to_owned(), entry: None });
        withheld.entry = entry.or(withheld.entry.take());
    }

    fn forget_refused(&mut self, key: &DeferredKey) {
        if let Some(refused) = self.refused.remove(key) {
            self.unreadable_memory = self.unreadable_memory.saturating_sub(refused.cost());
        }
    }

    /// Counts one more unreadable entry of this many bytes.
    fn count_unreadable(&mut self, bytes: u64) {
        self.unreadable_memory += bytes;
        if !self.has_room_for_unreadable() {
            self.excess = Some(Excess::Unreadable);
        }
    }

    fn has_room_for_unreadable(&self) -> bool {
        let count = self.refused.len() + self.withdrawn.len() + self.impossible.len();
        count < UNREADABLE_ENTRIES && self.unreadable_memory < UNREADABLE_MEMORY.min(self.memory_limit / 2)
    }

    /// Takes out the entries with an impossible version, as failures, without those that the user's filter
    /// excludes.
    pub(crate) fn take_impossible(&mut self, filter: &Filter) -> impl Iterator<Item = Failure> {
        let impossible = std::mem::take(&mut self.impossible).into_iter();
        let left_out = |place: &Place| place.left_out_by(filter, false).is_some();
        impossible.filter(move |(_, place)| !left_out(place)).map(|(failure, _)| failure)
    }

    /// The listed unreadable entries, without those of paths that no vault may use: nothing was ever pulled
    /// there.
    pub(crate) fn unclear(&self) -> Unclear {
        let mut unclear = Unclear::default();
        let impossible = self.impossible.iter().map(|(_, place)| place);
        for place in self.refused.values().map(|refused| &refused.place).chain(impossible) {
            match place {
                Place::At(path) => {
                    unclear.paths.insert(path.clone());
                }
                Place::Impossible => {}
                Place::Unknown => unclear.nowhere += 1,
            }
        }
        unclear.paths.extend(self.withheld.keys().cloned());
        unclear
    }

    /// True if a later change than this deferred one is listed for its path.
    pub(crate) fn supersedes(&self, deferred: &Deferred, keys: &VaultKeys) -> bool {
        let decoded = RemoteEntry::decode(&deferred.message, keys);
        let path = match &decoded {
            Ok(entry) => Some(&entry.path),
            Err(error) => error.place.path(),
        };
        self.newest_of(&deferred.key, path).is_some_and(|known| known >= deferred.message.uid)
    }

    /// Adds a change that an earlier run deferred, unless a later one is listed for its path. Returns whether
    /// there was room for it: the number of stored unreadable entries is limited.
    pub(crate) fn add_deferred(&mut self, deferred: Deferred, keys: &VaultKeys) -> bool {
        self.recalled += 1;
        if self.too_large().is_some() {
            self.count_only(&deferred.message);
            return true;
        }
        let uid = deferred.message.uid;
        let decoded = RemoteEntry::decode(&deferred.message, keys);
        let path = match &decoded {
            Ok(entry) => Some(&entry.path),
            Err(error) => error.place.path(),
        };
        if self.newest_of(&deferred.key, path).is_some_and(|known| known >= uid) {
            return true;
        }
        match decoded {
            Ok(entry) => match self.withheld.get_mut(&entry.path) {
                Some(Withheld { entry: Some(known), .. }) if known.uid >= uid => {}
                Some(withheld) => withheld.entry = Some(entry),
                None => self.put(entry, |_| true),
            },
            Err(_) if !self.has_room_for_unreadable() => return false,
            Err(error) => {
                let mut deferred = deferred.bounded();
                // The filter that excluded it may have been another one.
                if matches!(deferred.cause, DeferredCause::Filtered | DeferredCause::Diverged) {
                    deferred.cause = DeferredCause::Failed { reason: error.reason };
                }
                self.refuse(Refused { deferred, place: error.place });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{EncryptionVersion, MasterKey};

    use obsync_protocol::limits::LARGEST_NUMBER;

    use super::*;

    fn keys() -> VaultKeys {
        VaultKeys::new(&MasterKey::from_hex(&"5a".repeat(32)).unwrap(), EncryptionVersion::V3, "salt")
    }

    fn path(text: &str) -> VaultPath {
        VaultPath::parse(text).unwrap()
    }

    fn folder(at: &str, uid: u64) -> PushMessage {
        PushMessage {
            uid: Uid(uid),
            path: keys().encode_path(&path(at)),
            folder: true,
            ..PushMessage::default()
        }
    }

    /// A file with a path that can be decoded and a hash that cannot.
    fn nonsense(at: &str, uid: u64) -> PushMessage {
        PushMessage { hash: "00".into(), folder: false, ..folder(at, uid) }
    }

    fn listing(messages: impl IntoIterator<Item = PushMessage>) -> Listing {
        let mut listing = Listing::default();
        messages.into_iter().for_each(|message| listing.add(message, &keys()));
        listing
    }

    fn taken(listing: &mut Listing) -> Vec<(String, u64)> {
        listing.entries.take().iter().map(|entry| (entry.path.to_string(), entry.uid.0)).collect()
    }

    fn entries(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(path, uid)| ((*path).to_owned(), *uid)).collect()
    }

    #[test]
    fn of_each_path_the_latest_entry_stays_and_of_two_with_one_uid_the_second() {
        let mut listing = listing([folder("a", 3), folder("b", 2), folder("a", 1), folder("b", 4)]);
        listing.add(PushMessage { deleted: true, ..folder("a", 3) }, &keys());
        assert!(!listing.entries.get(&path("a")).unwrap().is_live());
        assert_eq!(taken(&mut listing), entries(&[("a", 3), ("b", 4)]));
        assert_eq!(taken(&mut listing), entries(&[]), "what was taken is gone");
    }

    #[test]
    fn an_entry_that_makes_no_sense_takes_out_the_earlier_one_of_its_path_and_no_other() {
        let mut listing = listing([folder("a", 1), folder("b", 2), folder("c", 3), nonsense("a", 4)]);
        assert_eq!(listing.refused.len(), 1);
        for (at, uid) in [("b", 5), ("c", 6)] {
            listing.add(folder(at, uid), &keys());
        }
        listing.add(nonsense("c", 7), &keys());
        assert_eq!(taken(&mut listing), entries(&[("b", 5)]));
    }

    #[test]
    fn an_entry_that_makes_sense_again_is_not_refused_any_more() {
        let mut listing = listing([nonsense("a", 1), folder("a", 2)]);
        assert!(listing.refused.is_empty());
        assert_eq!(taken(&mut listing), entries(&[("a", 2)]));
    }

    #[test]
    fn of_entries_out_of_order_the_latest_counts_whether_it_makes_sense_or_not() {
        let mut sound = listing([folder("a", 5), nonsense("a", 4)]);
        assert!(sound.refused.is_empty());
        assert_eq!(taken(&mut sound), entries(&[("a", 5)]));
        let mut senseless = listing([nonsense("a", 5), folder("a", 4), nonsense("a", 3)]);
        assert_eq!(taken(&mut senseless), entries(&[]));
        assert_eq!(senseless.refused[&DeferredKey::plain(&path("a"))].deferred.message.uid, Uid(5));
    }

    #[test]
    fn a_deletion_of_what_cannot_be_read_counts_unless_something_later_is_listed() {
        let unreadable = |uid| PushMessage { uid: Uid(uid), path: "00".into(), ..PushMessage::default() };
        let deletion = |uid| PushMessage { deleted: true, ..unreadable(uid) };
        let key = DeferredKey::encoded("00");
        let mut gone = listing([deletion(5), unreadable(4)]);
        let cause = DeferredCause::Failed { reason: String::new() };
        gone.add_deferred(Deferred { key: key.clone(), message: unreadable(3), cause }, &keys());
        assert!(gone.refused.is_empty());
        assert_eq!(gone.withdrawn[&key], Uid(5));
        let back = listing([unreadable(6), deletion(5)]);
        assert!(back.withdrawn.is_empty());
        assert!(back.refused.contains_key(&key));
    }

    #[test]
    fn a_deferred_change_does_not_come_back_when_its_path_makes_no_sense_any_more() {
        let mut listing = listing([nonsense("a", 5)]);
        let (key, cause) = (DeferredKey::plain(&path("a")), DeferredCause::Filtered);
        listing.add_deferred(Deferred { key, message: folder("a", 2), cause }, &keys());
        assert_eq!(taken(&mut listing), entries(&[]));
        assert_eq!(listing.refused.len(), 1);
    }

    #[test]
    fn a_deferred_change_counts_unless_the_listing_has_a_later_one() {
        let deferred = |message: PushMessage| Deferred {
            key: match keys().decode_path(&message.path) {
                Ok(path) => DeferredKey::plain(&path),
                Err(_) => DeferredKey::encoded(message.path.as_str()),
            },
            message,
            cause: DeferredCause::Filtered,
        };
        let mut listing = listing([folder("a", 3), folder("b", 3)]);
        for message in [folder("a", 2), folder("b", 4), folder("c", 1), nonsense("b", 2), nonsense("d", 1)] {
            listing.add_deferred(deferred(message), &keys());
        }
        assert_eq!(listing.refused.len(), 1);
        assert_eq!(taken(&mut listing), entries(&[("a", 3), ("b", 4), ("c", 1)]));
    }

    #[test]
    fn numbers_beyond_all_that_can_be_are_that_entrys_failure_alone() {
        let huge = PushMessage { uid: Uid(LARGEST_NUMBER + 1), ..folder("a", 1) };
        let size = PushMessage { size: 1 << 63, ..nonsense("b", 2) };
        let mut listing = listing([folder("a", 1), huge, size, folder("c", 3)]);
        assert_eq!((listing.newest, listing.impossible.len(), listing.refused.len()), (3, 1, 1));
        assert_eq!(listing.unclear().paths, HashSet::from([path("a"), path("b")]));
        assert_eq!(taken(&mut listing), entries(&[("a", 1), ("c", 3)]));
    }

    #[test]
    fn a_listing_that_takes_more_memory_than_there_is_says_how_much_it_would_have_taken() {
        let mut listing = Listing::within(10 * (PATH + LIVE));
        (0..20).for_each(|number| listing.add(folder(&number.to_string(), number), &keys()));
        assert_eq!((listing.excess, listing.received), (Some(Excess::Memory), 20));
        assert!(listing.entries.entries.len() < 11);
        assert!((20 * (PATH + LIVE)..23 * (PATH + LIVE)).contains(&listing.memory()), "{}", listing.memory());
    }

    #[test]
    fn more_entries_or_more_paths_than_a_listing_may_have_are_its_end() {
        for (most_received, most_live, excess) in
            [(10, 10, None), (9, 10, Some(Excess::Received)), (10, 9, Some(Excess::Paths))]
        {
            let mut listing = Listing { most_received, most_live, ..Listing::default() };
            (1..=10).for_each(|uid| listing.add(folder(&uid.to_string(), uid), &keys()));
            assert_eq!((listing.excess, listing.received), (excess, 10));
            assert_eq!(listing.newest, if excess == Some(Excess::Received) { 9 } else { 10 });
        }
    }

    #[test]
    fn a_path_that_comes_and_goes_counts_once() {
        let mut listing = Listing::within(10 * (PATH + LIVE));
        for uid in 0..1000 {
            listing.add(PushMessage { deleted: uid % 2 == 0, ..folder("a", uid) }, &keys());
        }
        assert_eq!((listing.excess, listing.memory()), (None, PATH + LIVE + 1));
    }

    #[test]
    fn a_vault_of_500_000_notes_with_two_million_deletions_behind_it_is_listed() {
        let keys = keys();
        let mut listing = Listing::default();
        for number in 0..2_500_000 {
            let path = path(&format!("Journal/{}/a note with a usual name {number}.md", number % 1000));
            let (uid, path) = (Uid(number + 1), keys.encode_path(&path));
            let deleted = number % 5 != 0;
            listing.add(PushMessage { uid, path, folder: true, deleted, ..PushMessage::default() }, &keys);
        }
        assert_eq!((listing.excess, listing.entries.live), (None, 500_000));
        assert_eq!(listing.entries.take().len(), 2_500_000);
    }

    #[test]
    fn what_cannot_be_read_is_kept_up_to_a_number_and_forgotten_where_the_vault_mends_it() {
        let mut listing = listing((0..5).map(|uid| nonsense("a", uid)));
        let one = listing.unreadable_memory;
        assert!(one < 1000, "{one}");
        listing.add(folder("a", 9), &keys());
        assert_eq!(listing.unreadable_memory, 0);
        for number in 0..=UNREADABLE_ENTRIES as u64 {
            listing.add(
                PushMessage { path: format!("{number:032x}").into(), ..folder("a", 10 + number) },
                &keys(),
            );
        }
        assert_eq!(listing.excess, Some(Excess::Unreadable));
    }
}
