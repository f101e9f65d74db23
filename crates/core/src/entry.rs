//! One entry of the vault: decodes and checks the server's message, and encodes it again.

use obsync_protocol::{
    CONTENT_OVERHEAD, ContentHash, Filter, NameDefect, NameError, PushMessage, SkipReason, Uid, VaultKeys,
    VaultPath, Verdict, plain_size,
};

use crate::model::{Deferred, DeferredCause, DeferredKey, KnownContent};
use crate::reconcile::Remote;

/// One entry of the vault, compact: a listing has one for each path.
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

/// An entry that cannot be read.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// Its path, as far as known.
    pub(crate) place: Place,
    pub(crate) reason: String,
}

/// Path of an entry that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this path; only the rest of the entry cannot be read.
    At(VaultPath),
    /// At a path that no vault may use, so nothing was ever pulled there.
    Impossible,
    /// Unknown: it may be any path.
    Unknown,
}

impl Place {
    /// The path, if known.
    pub(crate) fn path(&self) -> Option<&VaultPath> {
        match self {
            Place::At(path) => Some(path),
            Place::Impossible | Place::Unknown => None,
        }
    }

    /// The reason why the user's filter excludes everything at the path. Paths that the protocol never syncs
    /// do not count: an unreadable entry there is reported.
    pub(crate) fn left_out_by(&self, filter: &Filter, is_folder: bool) -> Option<SkipReason> {
        match filter.verdict(self.path()?, is_folder) {
            Verdict::Skip(reason) => Some(reason).filter(|reason| reason.is_chosen()),
            Verdict::Sync => None,
        }
    }

    fn of(error: &NameError) -> Self {
        match error {
            NameError::Hostile { .. } | NameError::Undecodable(NameDefect::NotText) => Place::Impossible,
            NameError::Undecodable(_) => Place::Unknown,
        }
    }
}

impl Undecodable {
    /// Key of the entry until the vault fixes it.
    pub(crate) fn key(&self, message: &PushMessage) -> DeferredKey {
        match self.place.path() {
            Some(path) => DeferredKey::plain(path),
            None => DeferredKey::encoded(message.path.as_str()),
        }
    }
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file with this content.
    File {
        hash: ContentHash,
        /// Size of the content in bytes (plaintext), according to the server.
        size: u64,
    },
    /// A folder.
    Folder,
    /// Nothing; it was a folder if `folder`.
    Deleted { folder: bool },
}

impl RemoteEntry {
    /// Decodes and checks the server's message.
    pub(crate) fn decode(message: &PushMessage, keys: &VaultKeys) -> Result<Self, Undecodable> {
        let path = keys
            .decode_path(&message.path)
            .map_err(|error| Undecodable { place: Place::of(&error), reason: error.to_string() })?;
        let refused = |reason| Undecodable { place: Place::At(path.clone()), reason };
        // Deletions are accepted: files that an older release wrote there may be removed.
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

    /// The entry as the server would send it, to be stored with a deferred change.
    pub(crate) fn encode(&self, keys: &VaultKeys) -> PushMessage {
        let (hash, size) = match &self.kind {
            EntryKind::File { hash, size: 0 } => (keys.encode_hash(hash).as_str().to_owned(), 0),
            EntryKind::File { hash, size } => {
                (keys.encode_hash(hash).as_str().to_owned(), size.saturating_add(CONTENT_OVERHEAD))
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

    /// The deferred change that stores this entry.
    pub(crate) fn defer(&self, cause: DeferredCause, keys: &VaultKeys) -> Deferred {
        Deferred { key: DeferredKey::plain(&self.path), message: self.encode(keys), cause }
    }

    /// The entry in the form used for decisions.
    pub(crate) fn remote(&self) -> Remote {
        match self.kind {
            EntryKind::File { hash, size } => {
                Remote::File { content: KnownContent { hash, size }, mtime: self.mtime, uid: self.uid }
            }
            EntryKind::Folder => Remote::Folder(self.uid),
            EntryKind::Deleted { .. } => Remote::Deleted,
        }
    }

    /// The same for an entry that the filter excludes.
    pub(crate) fn left_out(&self) -> Remote {
        Remote::LeftOut { uid: self.uid, is_folder: self.is_folder(), is_live: self.is_live() }
    }

    /// True if a folder or file is at the path after this change.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.kind, EntryKind::Deleted { .. })
    }

    /// True if the filter treats it as a folder.
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.kind, EntryKind::Folder | EntryKind::Deleted { folder: true })
    }
}
