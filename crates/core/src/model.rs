//! The model of the engine: metadata and records of files, and deferred changes.

use std::borrow::Cow;

use obsync_protocol::limits::{
    DEFERRED_CHANGES, FILTERED_CHANGES, LARGEST_NUMBER, UNREADABLE_HASH, UNREADABLE_PATH,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use serde::{Deserialize, Serialize};

/// The metadata of a stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// SHA-256 of the content.
    pub hash: ContentHash,
    /// Size of the content in bytes (plaintext).
    pub size: u64,
    /// Time of the last change, in milliseconds since the epoch; becomes the file's modification time.
    pub mtime: i64,
    /// Time of creation, in milliseconds since the epoch; kept if a destination can store it.
    pub ctime: i64,
    /// The vault's version of this content at this path.
    pub uid: Uid,
}

/// A content that obsync once wrote. The size saves reading a file that cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownContent {
    /// SHA-256 of the content.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub size: u64,
}

impl KnownContent {
    /// Hash and size of these bytes.
    pub fn of(content: &[u8]) -> Self {
        KnownContent { hash: ContentHash::of(content), size: content.len() as u64 }
    }
}

impl From<&FileMeta> for KnownContent {
    fn from(meta: &FileMeta) -> Self {
        KnownContent { hash: meta.hash, size: meta.size }
    }
}

/// A file or folder that the destination and the vault last agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its path.
    pub path: VaultPath,
    /// File or folder, with its metadata.
    pub kind: RecordKind,
    /// The file's facts right after it was written or compared. `None` if they were not read.
    pub facts: Option<LocalFacts>,
    /// True if it was seen in this very destination: written by a run that committed, or found by a scan.
    /// Only a witnessed file can count as missing.
    pub witnessed: bool,
}

/// Facts about a file that a destination returns without reading it. Equal facts mean equal content when a
/// file is checked; before a file is replaced or removed, its content is compared as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalFacts {
    /// A file in a folder.
    File {
        /// Bytes.
        size: u64,
        /// Time of the last change of the content, nanoseconds since the epoch.
        modified: i64,
        /// Time of the last change of any kind, nanoseconds since the epoch.
        changed: i64,
        /// The file's number in its file system.
        inode: u64,
    },
    /// An object of a bucket.
    Object {
        /// Bytes.
        size: u64,
        /// The service's entity tag of these bytes, with its quotation marks.
        entity_tag: String,
    },
}

/// The subject of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A file, as obsync wrote it.
    File(FileMeta),
    /// A folder of the vault, with the version that brought it.
    Folder(Uid),
}

impl Record {
    /// A record of a file or folder that was not checked yet.
    pub fn new(path: VaultPath, kind: RecordKind) -> Self {
        Record { path, kind, facts: None, witnessed: false }
    }

    /// A record of a file or folder with these facts, written or compared just now.
    pub fn seen(path: VaultPath, kind: RecordKind, facts: Option<LocalFacts>) -> Self {
        Record { path, kind, facts, witnessed: true }
    }

    /// The file's metadata, if this is a file.
    pub fn file(&self) -> Option<&FileMeta> {
        match &self.kind {
            RecordKind::File(meta) => Some(meta),
            RecordKind::Folder(_) => None,
        }
    }

    /// The vault's version of this record.
    pub fn uid(&self) -> Uid {
        match &self.kind {
            RecordKind::File(meta) => meta.uid,
            RecordKind::Folder(uid) => *uid,
        }
    }
}

impl LocalFacts {
    /// Bytes.
    pub fn size(&self) -> u64 {
        match self {
            LocalFacts::File { size, .. } | LocalFacts::Object { size, .. } => *size,
        }
    }
}

/// The newest listed entry of a vault, to compare with a later listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorEntry {
    /// Its version.
    pub uid: Uid,
    /// SHA-256 of its plain path, or of the encoded one if that cannot be decoded.
    pub path: ContentHash,
    /// SHA-256 of its contents.
    pub entry: ContentHash,
}

/// The direction in which a destination is synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Direction {
    /// From the vault to the destination.
    #[default]
    Pull,
    /// From the destination to the vault.
    Push,
    /// Both ways.
    Both,
}

/// Deletions of one minute, for the hourly limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletions {
    /// The minute, counted from the epoch.
    pub minute: i64,
    /// Files that were removed in the destination.
    pub here: u64,
    /// Files that were deleted in the vault.
    pub there: u64,
}

/// A change of the vault that was not applied, stored so that it is not lost once the watermark has passed
/// it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    /// Its key; a later change of the same path replaces it.
    pub key: DeferredKey,
    /// The server's message.
    pub message: PushMessage,
    /// The reason why it was not applied.
    pub cause: DeferredCause,
}

/// The key of a [`Deferred`]: the plain path, or the encoded one if that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeferredKey(String);

impl Deferred {
    /// Approximate memory in bytes.
    pub(crate) fn cost(&self) -> u64 {
        /// Without its texts, with its share of a map.
        const FIXED: u64 = 400;
        let Deferred { key, message, cause } = self;
        let reason = cause.reason().map_or(0, str::len);
        let texts =
            2 * key.as_str().len() + message.path.as_str().len() + message.hash.as_str().len() + reason;
        FIXED + texts as u64
    }

    /// The same without parts of unlimited length: an unreadable entry is not stored whole. Also for entries
    /// that earlier releases stored.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Some(encoded) = self.key.0.strip_prefix("//") {
            self.key = DeferredKey::encoded(encoded);
            self.message.path = shortened(self.message.path.as_str()).into_owned().into();
        }
        if self.message.hash.as_str().len() > UNREADABLE_HASH {
            self.message.hash = beginning(self.message.hash.as_str(), UNREADABLE_HASH).into();
        }
        // Beyond the limit of a database, and refused on the next attempt, too.
        self.message.size = self.message.size.min(LARGEST_NUMBER + 1);
        self.message.related_path = None;
        self.message.device = String::new();
        self.message.user = String::new();
        self
    }
}

/// An encoded path of any length, shortened for storage: equal paths have equal results.
fn shortened(path: &str) -> Cow<'_, str> {
    if path.len() <= UNREADABLE_PATH {
        return Cow::Borrowed(path);
    }
    let shown = UNREADABLE_PATH - 2 * ContentHash::EMPTY.as_bytes().len() - '…'.len_utf8();
    // A whole path cannot be mistaken for a shortened one: no encoded path has this character.
    Cow::Owned(format!("{}…{}", beginning(path, shown), ContentHash::of(path.as_bytes())))
}

fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Prefix of the keys of outgoing changes.
const OUTGOING: &str = "/>";

impl DeferredKey {
    /// The key of a path that could be decoded.
    pub fn plain(path: &VaultPath) -> Self {
        DeferredKey(path.as_str().to_owned())
    }

    /// The key of an encoded path that could not be decoded. No [`VaultPath`] begins with a slash, so the two
    /// kinds cannot collide. A long path is shortened to its beginning and a hash of it
    /// ([`UNREADABLE_PATH`]).
    pub fn encoded(path: &str) -> Self {
        DeferredKey(format!("//{}", shortened(path)))
    }

    /// The key of an outgoing change of this path. It cannot collide with the other kinds.
    pub fn outgoing(path: &VaultPath) -> Self {
        DeferredKey(format!("{OUTGOING}{path}"))
    }

    /// True for a path that could not be decoded.
    pub(crate) fn is_encoded(&self) -> bool {
        self.0.starts_with("//")
    }

    /// True for an outgoing change.
    pub fn is_outgoing(&self) -> bool {
        self.0.starts_with(OUTGOING)
    }

    /// The path, plain or encoded, for display.
    pub fn shown(&self) -> &str {
        self.0.strip_prefix("//").or_else(|| self.0.strip_prefix(OUTGOING)).unwrap_or(&self.0)
    }

    /// The key as loaded from a database.
    pub fn from_stored(text: String) -> Self {
        DeferredKey(text)
    }

    /// The key as text for storage.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The reason why a change was deferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeferredCause {
    /// Excluded by the filter; checked again when the filter changes.
    Filtered,
    /// It could not be applied; retried in every run.
    Failed {
        /// The error, as a sentence.
        reason: String,
    },
    /// A deletion that waits for a user's confirmation.
    HeldBack {
        /// Time of the confirmation, in milliseconds since the epoch.
        confirmed: Option<i64>,
    },
    /// A deletion that is not made because the destination keeps deleted files.
    Retained,
    /// It can never be applied here, unless the vault changes it again. It is retried in every run, as it may
    /// have been in the way of another change that is gone.
    Lasting {
        /// The error, as a sentence.
        reason: String,
    },
    /// The same, and the user accepted that.
    Acknowledged {
        /// The error, as a sentence.
        reason: String,
    },
    /// A push does not apply it. A later sync or pull does.
    Diverged,
}

/// The reason that an earlier release stored, as an accepted one, for a change that a push does not apply.
const LEFT_BY_A_PUSH: &str = "the vault changed it, and a push applies nothing here; `obsync sync` does, or `obsync push --mirror` replaces it";

impl DeferredCause {
    /// The cause that was stored as accepted with this reason.
    pub fn acknowledged(reason: String) -> Self {
        match reason == LEFT_BY_A_PUSH {
            true => DeferredCause::Diverged,
            false => DeferredCause::Acknowledged { reason },
        }
    }

    /// The error, if it is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            DeferredCause::Failed { reason }
            | DeferredCause::Lasting { reason }
            | DeferredCause::Acknowledged { reason } => Some(reason),
            DeferredCause::Filtered
            | DeferredCause::Retained
            | DeferredCause::HeldBack { .. }
            | DeferredCause::Diverged => None,
        }
    }

    /// The kind that loads it.
    pub fn kind(&self) -> DeferredKind {
        match self {
            DeferredCause::Filtered | DeferredCause::Retained => DeferredKind::Filtered,
            DeferredCause::Failed { .. }
            | DeferredCause::HeldBack { .. }
            | DeferredCause::Lasting { .. }
            | DeferredCause::Acknowledged { .. }
            | DeferredCause::Diverged => DeferredKind::Failed,
        }
    }
}

/// Kinds of deferred changes to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredKind {
    /// Changes that the filter excluded, which matter when the filter changes, and deletions of files that
    /// are kept.
    Filtered,
    /// Changes that failed, are held back, were acknowledged or were left alone by a push. They matter in every
    /// run.
    Failed,
}

impl DeferredKind {
    /// Most changes that a state has of it.
    pub(crate) fn most(self) -> usize {
        match self {
            DeferredKind::Filtered => FILTERED_CHANGES,
            DeferredKind::Failed => DEFERRED_CHANGES,
        }
    }
}

/// An announced change. It is committed before it is made, so that a run after a crash can tell its own work
/// from that of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A file is put in place.
    Place(Record),
    /// The file at a path is exchanged with a staged one. The path does not count as absent until the removed
    /// file is checked.
    Exchange {
        /// The path.
        path: VaultPath,
        /// The staged file's name.
        staged: String,
        /// The content that is written there: found in the staged file, it is not the user's.
        expected: Option<KnownContent>,
    },
    /// A file is removed here.
    Remove {
        /// Its path.
        path: VaultPath,
        /// Its content.
        content: KnownContent,
    },
    /// A change is sent to the vault.
    Push {
        /// The changed path.
        path: VaultPath,
        /// The previous path, for a rename.
        from: Option<VaultPath>,
        /// The content; `None` for a deletion.
        content: Option<KnownContent>,
        /// The version of the path that it was made from; of a new file the version of the vault that was
        /// known. Everything that the vault has of its paths above it is newer.
        base: Uid,
        /// When a later listing did not have it, in milliseconds since the epoch. The vault may still accept
        /// it. `None` if no later run has looked for it, or if a text that it replaced is still to be brought
        /// back.
        missing_since: Option<i64>,
    },
}

impl Intent {
    /// True if it is sent to the vault.
    pub(crate) fn is_push(&self) -> bool {
        matches!(self, Intent::Push { .. })
    }

    /// The future record of a file that is put in place.
    pub fn placed(&self) -> Option<&Record> {
        match self {
            Intent::Place(record) => Some(record),
            Intent::Exchange { .. } | Intent::Remove { .. } | Intent::Push { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_entry_that_cannot_be_read_little_is_kept_and_the_same_each_time() {
        let path = "ab".repeat(1 << 20);
        let message = PushMessage {
            uid: Uid(7),
            path: path.clone().into(),
            hash: "é".repeat(1000).into(),
            device: "d".repeat(1000),
            related_path: Some("x".repeat(1000).into()),
            ..PushMessage::default()
        };
        let cause = DeferredCause::Failed { reason: String::new() };
        // As an earlier release stored it.
        let deferred = Deferred { key: DeferredKey(format!("//{path}")), message, cause }.bounded();
        assert_eq!(deferred.key, DeferredKey::encoded(&path));
        let kept = deferred.key.as_str().len() + deferred.message.path.as_str().len();
        assert!(kept <= 2 * UNREADABLE_PATH + 2, "{kept}");
        assert!(deferred.message.hash.as_str().len() <= UNREADABLE_HASH);
        assert_eq!(deferred.clone().bounded(), deferred);
        assert_ne!(DeferredKey::encoded(&format!("{path}a")), deferred.key);
    }
}
