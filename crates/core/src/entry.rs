//! One entry of the vault: decoded and checked, and back to what the server sent.

use obsync_protocol::{
    CONTENT_OVERHEAD, ContentHash, Filter, NameDefect, NameError, PushMessage, SkipReason, Uid, VaultKeys,
    VaultPath, Verdict, plain_size,
};

use crate::model::{Deferred, DeferredCause, DeferredKey, KnownContent};
use crate::reconcile::Remote;

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

/// Why an entry cannot be read.
#[derive(Debug)]
pub(crate) struct Undecodable {
    /// Where it is, as far as that is known.
    pub(crate) place: Place,
    pub(crate) reason: String,
}

/// Where an entry is that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At this path; only the rest of it cannot be read.
    At(VaultPath),
    /// At a path that no vault may use, so nothing that was ever pulled is there.
    Impossible,
    /// Nobody knows: it may be that of any path.
    Unknown,
}

impl Place {
    /// The path, if it is known.
    pub(crate) fn path(&self) -> Option<&VaultPath> {
        match self {
            Place::At(path) => Some(path),
            Place::Impossible | Place::Unknown => None,
        }
    }

    /// Why the user's filter leaves out whatever is there. What the protocol never syncs is no reason: an entry there that
    /// cannot be read is reported.
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
    /// What the entry is filed under until the vault mends it.
    pub(crate) fn key(&self, message: &PushMessage) -> DeferredKey {
        match self.place.path() {
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
            .map_err(|error| Undecodable { place: Place::of(&error), reason: error.to_string() })?;
        let refused = |reason| Undecodable { place: Place::At(path.clone()), reason };
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

    /// The change as it is kept when it is not applied.
    pub(crate) fn defer(&self, cause: DeferredCause, keys: &VaultKeys) -> Deferred {
        Deferred { key: DeferredKey::plain(&self.path), message: self.encode(keys), cause }
    }

    /// The entry as a decision sees it.
    pub(crate) fn remote(&self) -> Remote {
        match self.kind {
            EntryKind::File { hash, size } => {
                Remote::File { content: KnownContent { hash, size }, mtime: self.mtime, uid: self.uid }
            }
            EntryKind::Folder => Remote::Folder(self.uid),
            EntryKind::Deleted { .. } => Remote::Deleted,
        }
    }

    /// The same for an entry that the filter leaves out.
    pub(crate) fn left_out(&self) -> Remote {
        Remote::LeftOut { uid: self.uid, is_folder: self.is_folder(), is_live: self.is_live() }
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
