//! Entries of the vault as the server lists them, decoded and checked, the latest of each path.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use obsync_protocol::{
    ContentHash, NameDefect, NameError, PushMessage, Uid, VaultKeys, VaultPath, plain_size,
};

use crate::state::{Deferred, DeferredCause, DeferredKey};

/// One entry of the vault, compact: a listing holds one for each path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteEntry {
    pub(crate) path: VaultPath,
    pub(crate) uid: Uid,
    pub(crate) kind: EntryKind,
    /// Milliseconds since the epoch, for files.
    pub(crate) mtime: i64,
    /// Milliseconds since the epoch, for files.
    pub(crate) ctime: i64,
}

/// Why an entry makes no sense.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// The path, when that at least could be decoded.
    path: Option<VaultPath>,
    reason: String,
}

impl Undecodable {
    /// What the entry is filed under until the vault mends it.
    fn key(&self, message: &PushMessage) -> DeferredKey {
        match &self.path {
            Some(path) => DeferredKey::plain(path),
            None => DeferredKey::encoded(message.path.as_str()),
        }
    }
}

/// What an entry says about its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// There is a file with this content.
    File {
        hash: ContentHash,
        /// Size of the content in bytes (plaintext), as the server says.
        size: u64,
    },
    /// There is a folder.
    Folder,
    /// There is nothing any more; a folder was here if `folder`.
    Deleted { folder: bool },
}

impl RemoteEntry {
    /// Decodes and checks what the server sent.
    pub(crate) fn decode(message: &PushMessage, keys: &VaultKeys) -> Result<Self, Undecodable> {
        let path = keys
            .decode_path(&message.path)
            .map_err(|error| Undecodable { path: None, reason: error.to_string() })?;
        let refused = |reason| Undecodable { path: Some(path.clone()), reason };
        // A deletion passes: what an older release wrote there may go.
        if !message.deleted {
            path.check_to_write().map_err(|error| refused(format!("the name is refused: {error}")))?;
        }
        if !message.has_sound_uid() {
            return Err(refused("the server gives it a version that no vault can have".to_owned()));
        }
        let kind = match (message.deleted, message.folder) {
            (true, folder) => EntryKind::Deleted { folder },
            (false, true) => EntryKind::Folder,
            (false, false) => {
                let hash = keys
                    .decode_hash(&message.hash)
                    .map_err(|error| refused(format!("its content hash makes no sense: {error}")))?;
                let size =
                    plain_size(message.size).filter(|_| message.has_sound_size()).ok_or_else(|| {
                        refused(format!(
                            "the server gives it {} bytes, which no encrypted file has",
                            message.size
                        ))
                    })?;
                EntryKind::File { hash, size }
            }
        };
        Ok(RemoteEntry { path, uid: message.uid, kind, mtime: message.mtime, ctime: message.ctime })
    }

    /// The entry as the server would send it, to be kept with a deferred change.
    pub(crate) fn encode(&self, keys: &VaultKeys) -> PushMessage {
        let (hash, size) = match &self.kind {
            EntryKind::File { hash, size: 0 } => (keys.encode_hash(hash).as_str().to_owned(), 0),
            EntryKind::File { hash, size } => {
                (keys.encode_hash(hash).as_str().to_owned(), size + obsync_protocol::CONTENT_OVERHEAD)
            }
            EntryKind::Folder | EntryKind::Deleted { .. } => (String::new(), 0),
        };
        PushMessage {
            uid: self.uid,
            path: keys.encode_path(&self.path),
            related_path: None,
            hash: hash.into(),
            size,
            ctime: self.ctime,
            mtime: self.mtime,
            folder: matches!(self.kind, EntryKind::Folder | EntryKind::Deleted { folder: true }),
            deleted: matches!(self.kind, EntryKind::Deleted { .. }),
            device: String::new(),
            user: String::new(),
        }
    }

    /// The change as it is kept when it is not applied.
    pub(crate) fn defer(&self, cause: DeferredCause, keys: &VaultKeys) -> Deferred {
        Deferred { key: DeferredKey::plain(&self.path), message: self.encode(keys), cause }
    }

    /// Whether there is a folder or file at the path after this change.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.kind, EntryKind::Deleted { .. })
    }

    /// Whether the filter is to treat it as a folder.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.kind, EntryKind::Folder | EntryKind::Deleted { folder: true })
    }
}

/// The latest entry of each path, in the order in which the paths were first listed.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    entries: Vec<RemoteEntry>,
    /// Where the entry of a path is. The entries by themselves would make a large table, which is copied whenever it
    /// grows and has room for up to twice of what it holds.
    places: HashMap<VaultPath, usize>,
}

impl Latest {
    /// The entry of a path.
    fn get(&self, path: &VaultPath) -> Option<&RemoteEntry> {
        self.places.get(path).and_then(|place| self.entries.get(*place))
    }

    /// Takes an entry in, in place of the one of its path if `yields` says so of that.
    fn put(&mut self, entry: RemoteEntry, yields: impl FnOnce(&RemoteEntry) -> bool) {
        match self.places.entry(entry.path.clone()) {
            Entry::Occupied(place) => {
                let known = &mut self.entries[*place.get()];
                if yields(known) {
                    *known = entry;
                }
            }
            Entry::Vacant(new) => {
                new.insert(self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    fn remove(&mut self, path: &VaultPath) {
        let Some(place) = self.places.remove(path) else { return };
        self.entries.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.path.clone(), place);
        }
    }

    /// All entries; none are left, and no memory is held for them.
    pub(crate) fn take(&mut self) -> Vec<RemoteEntry> {
        std::mem::take(self).entries
    }
}

/// What the vault lists besides the entries that make sense.
#[derive(Debug, Default)]
pub(crate) struct Unclear {
    /// Paths at which there is something of which nobody knows what.
    pub(crate) paths: HashSet<VaultPath>,
    /// How many entries say nothing that could be read, not even where: each may be that of any path.
    pub(crate) nowhere: usize,
}

/// The changes of a vault since some version: for each path the latest, and what could not be decoded.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The latest entry of each path.
    pub(crate) entries: Latest,
    /// Entries that make no sense, by their encoded path.
    pub(crate) refused: HashMap<DeferredKey, Deferred>,
    /// Such entries that the vault has deleted since, and by which version.
    pub(crate) withdrawn: HashMap<DeferredKey, Uid>,
    /// How many entries were received.
    pub(crate) received: u64,
    /// The highest uid that was received, which is what an entry is filed under whose own makes no sense.
    pub(crate) newest: u64,
}

impl Listing {
    /// Takes an entry in; of two with one path the later (the one received last when uids are equal) stays.
    pub(crate) fn add(&mut self, mut message: PushMessage, keys: &VaultKeys) {
        self.received += 1;
        let decoded = RemoteEntry::decode(&message, keys);
        if message.has_sound_uid() {
            self.newest = self.newest.max(message.uid.0);
        } else {
            message.uid = Uid(self.newest);
        }
        match decoded {
            Ok(entry) => {
                if !self.refused.is_empty() {
                    let key = DeferredKey::plain(&entry.path);
                    if self.refused.get(&key).is_some_and(|refused| refused.message.uid > entry.uid) {
                        return;
                    }
                    self.refused.remove(&key);
                }
                // A rename can give the deletion and the new entry one uid (protocol.md section 3): for one path
                // what came last in the listing counts.
                let uid = entry.uid;
                self.entries.put(entry, |known| known.uid <= uid);
            }
            Err(error) => {
                let key = error.key(&message);
                if self.newest(&key, error.path.as_ref()).is_some_and(|known| known > message.uid) {
                    return;
                }
                if message.deleted {
                    // A deletion of what could never be stored needs nothing but forgetting it.
                    self.refused.remove(&key);
                    self.withdrawn.insert(key, message.uid);
                    return;
                }
                let cause = DeferredCause::Failed { reason: error.reason };
                self.refuse(Deferred { key, message, cause }, error.path.as_ref());
            }
        }
    }

    /// The version of what is known of a path.
    fn newest(&self, key: &DeferredKey, path: Option<&VaultPath>) -> Option<Uid> {
        let sound = path.and_then(|path| self.entries.get(path)).map(|entry| entry.uid);
        let refused = self.refused.get(key).map(|refused| refused.message.uid);
        sound.max(refused).max(self.withdrawn.get(key).copied())
    }

    /// Takes in what makes no sense. What an earlier entry said of the path is not its state any more.
    fn refuse(&mut self, deferred: Deferred, path: Option<&VaultPath>) {
        if let Some(path) = path {
            self.entries.remove(path);
        }
        self.withdrawn.remove(&deferred.key);
        self.refused.insert(deferred.key.clone(), deferred);
    }

    /// What is listed and makes no sense. A path that was read and is none that a vault may use is not among it: nothing
    /// that was ever pulled is there.
    pub(crate) fn unclear(&self, keys: &VaultKeys) -> Unclear {
        let mut unclear = Unclear::default();
        for deferred in self.refused.values() {
            match keys.decode_path(&deferred.message.path) {
                Ok(path) => {
                    unclear.paths.insert(path);
                }
                Err(NameError::Hostile(_) | NameError::Undecodable(NameDefect::NotText)) => {}
                Err(NameError::Undecodable(_)) => unclear.nowhere += 1,
            }
        }
        unclear
    }

    /// Takes in a change that an earlier run deferred, unless the listing has something later for its path.
    pub(crate) fn add_deferred(&mut self, deferred: Deferred, keys: &VaultKeys) {
        let uid = deferred.message.uid;
        let decoded = RemoteEntry::decode(&deferred.message, keys);
        let path = match &decoded {
            Ok(entry) => Some(&entry.path),
            Err(error) => error.path.as_ref(),
        };
        if self.newest(&deferred.key, path).is_some_and(|known| known >= uid) {
            return;
        }
        match decoded {
            Ok(entry) => self.entries.put(entry, |_| true),
            Err(error) => self.refuse(deferred, error.path.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{EncryptionVersion, MasterKey};

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

    /// A file whose path can be decoded and whose hash cannot.
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
        assert_eq!(senseless.refused[&DeferredKey::plain(&path("a"))].message.uid, Uid(5));
    }

    #[test]
    fn an_entry_whose_version_or_size_makes_no_sense_is_refused_and_no_other() {
        let vast = PushMessage { uid: Uid(PushMessage::SENSELESS), ..folder("a", 1) };
        let huge = PushMessage { folder: false, size: PushMessage::SENSELESS, ..folder("b", 6) };
        let huge = PushMessage { hash: keys().encode_hash(&ContentHash::EMPTY), ..huge };
        let mut listing = listing([folder("c", 5), vast, huge, folder("d", 7)]);
        let refused = |at| listing.refused[&DeferredKey::plain(&path(at))].message.uid;
        assert_eq!((refused("a"), refused("b")), (Uid(5), Uid(6)));
        assert_eq!(taken(&mut listing), entries(&[("c", 5), ("d", 7)]));
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
}
