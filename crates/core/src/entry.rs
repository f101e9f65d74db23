//! Entries of the vault as the server lists them, decoded and checked, the latest of each path.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use obsync_protocol::{ContentHash, PushMessage, Uid, VaultKeys, VaultPath, plain_size};

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
        let kind = match (message.deleted, message.folder) {
            (true, folder) => EntryKind::Deleted { folder },
            (false, true) => EntryKind::Folder,
            (false, false) => {
                let hash = keys
                    .decode_hash(&message.hash)
                    .map_err(|error| refused(format!("its content hash makes no sense: {error}")))?;
                let size = plain_size(message.size).ok_or_else(|| {
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

/// The changes of a vault since some version: for each path the latest, and what could not be decoded.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The latest entry of each path.
    pub(crate) entries: HashMap<VaultPath, RemoteEntry>,
    /// Entries that make no sense, by their encoded path.
    pub(crate) refused: HashMap<DeferredKey, Deferred>,
    /// Keys of such entries that the vault has deleted since.
    pub(crate) withdrawn: Vec<DeferredKey>,
    /// How many entries were received.
    pub(crate) received: u64,
}

impl Listing {
    /// Takes an entry in; of two with one path the later (the one received last when uids are equal) stays.
    pub(crate) fn add(&mut self, message: PushMessage, keys: &VaultKeys) {
        self.received += 1;
        match RemoteEntry::decode(&message, keys) {
            Ok(entry) => {
                if !self.refused.is_empty() {
                    self.refused.remove(&DeferredKey::plain(&entry.path));
                }
                self.add_entry(entry);
            }
            Err(error) => {
                let key = error.key(&message);
                if message.deleted {
                    // A deletion of what could never be stored needs nothing but forgetting it.
                    self.refused.remove(&key);
                    self.withdrawn.push(key);
                    return;
                }
                // What an earlier entry said of the path is not its state any more.
                if let Some(path) = &error.path {
                    self.entries.remove(path);
                }
                let cause = DeferredCause::Failed { reason: error.reason };
                self.refused.insert(key.clone(), Deferred { key, message, cause });
            }
        }
    }

    fn add_entry(&mut self, entry: RemoteEntry) {
        match self.entries.entry(entry.path.clone()) {
            // A rename can give the deletion and the new entry one uid (protocol.md section 3): for one path
            // what came last in the listing counts.
            Entry::Occupied(known) if known.get().uid > entry.uid => {}
            Entry::Occupied(mut known) => {
                known.insert(entry);
            }
            Entry::Vacant(new) => {
                new.insert(entry);
            }
        }
    }

    /// Takes in a change that an earlier run deferred, unless the listing has something later for its path.
    /// Whether it was taken.
    pub(crate) fn add_deferred(&mut self, deferred: Deferred, keys: &VaultKeys) {
        let later = |known: &RemoteEntry| known.uid >= deferred.message.uid;
        match RemoteEntry::decode(&deferred.message, keys) {
            Ok(entry) if self.entries.get(&entry.path).is_some_and(later) => {}
            Ok(entry) => {
                self.entries.insert(entry.path.clone(), entry);
            }
            Err(error) if error.path.as_ref().and_then(|path| self.entries.get(path)).is_some_and(later) => {}
            Err(_) => {
                self.refused.entry(deferred.key.clone()).or_insert(deferred);
            }
        }
    }
}
