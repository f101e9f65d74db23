//! The words of the engine: what a file carries, what is recorded of it, and changes that wait.

use std::borrow::Cow;

use obsync_protocol::limits::{LARGEST_NUMBER, UNREADABLE_HASH, UNREADABLE_PATH};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};

/// What a stored file carries besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// SHA-256 of the content.
    pub hash: ContentHash,
    /// Size of the content in bytes (plaintext).
    pub size: u64,
    /// Time of the last change, milliseconds since the epoch; becomes the file's modification time.
    pub mtime: i64,
    /// Time of creation, milliseconds since the epoch; kept where a store has a place for it.
    pub ctime: i64,
    /// The vault's version that brought this content to this path.
    pub uid: Uid,
}

/// A content that obsync once put somewhere. The size saves reading a file that cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownContent {
    /// SHA-256 of the content.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub size: u64,
}

impl KnownContent {
    /// These bytes as a content.
    pub fn of(content: &[u8]) -> Self {
        KnownContent { hash: ContentHash::of(content), size: content.len() as u64 }
    }
}

impl From<&FileMeta> for KnownContent {
    fn from(meta: &FileMeta) -> Self {
        KnownContent { hash: meta.hash, size: meta.size }
    }
}

/// A file or folder that obsync has put into the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it is.
    pub path: VaultPath,
    /// What it is.
    pub kind: RecordKind,
}

/// What a [`Record`] speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A file, as obsync wrote it.
    File(FileMeta),
    /// A folder of the vault, with the version that brought it.
    Folder(Uid),
}

impl Record {
    /// The file's particulars, when this is a file.
    pub fn file(&self) -> Option<&FileMeta> {
        match &self.kind {
            RecordKind::File(meta) => Some(meta),
            RecordKind::Folder(_) => None,
        }
    }

    /// The vault's version that this record stands for.
    pub fn uid(&self) -> Uid {
        match &self.kind {
            RecordKind::File(meta) => meta.uid,
            RecordKind::Folder(uid) => *uid,
        }
    }
}

/// A change of the vault that was not applied, kept so that it is not forgotten once the watermark has passed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    /// What it is filed under; a later change of the same path takes its place.
    pub key: DeferredKey,
    /// The change as the server told it.
    pub message: PushMessage,
    /// Why it was not applied.
    pub cause: DeferredCause,
}

/// What a [`Deferred`] is filed under: the plain path, or the encoded one when that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeferredKey(String);

impl Deferred {
    /// Bytes of memory that it takes, roughly.
    pub(crate) fn cost(&self) -> u64 {
        /// Without its texts, with its share of a map.
        const FIXED: u64 = 400;
        let Deferred { key, message, cause } = self;
        let reason = match cause {
            DeferredCause::Failed { reason } => reason.len(),
            DeferredCause::Filtered => 0,
        };
        let texts =
            2 * key.as_str().len() + message.path.as_str().len() + message.hash.as_str().len() + reason;
        FIXED + texts as u64
    }

    /// The same with nothing in it that could be of any length: an entry that cannot be read is not kept whole. Also for
    /// what earlier releases kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Some(encoded) = self.key.0.strip_prefix("//") {
            self.key = DeferredKey::encoded(encoded);
            self.message.path = shortened(self.message.path.as_str()).into_owned().into();
        }
        if self.message.hash.as_str().len() > UNREADABLE_HASH {
            self.message.hash = beginning(self.message.hash.as_str(), UNREADABLE_HASH).into();
        }
        // Beyond what a database holds, and refused all the same when it is tried again.
        self.message.size = self.message.size.min(LARGEST_NUMBER + 1);
        self.message.related_path = None;
        self.message.device = String::new();
        self.message.user = String::new();
        self
    }
}

/// An encoded path that may be of any length, as it is kept: the same for the same path, and short.
fn shortened(path: &str) -> Cow<'_, str> {
    if path.len() <= UNREADABLE_PATH {
        return Cow::Borrowed(path);
    }
    let shown = UNREADABLE_PATH - 2 * ContentHash::EMPTY.as_bytes().len() - '…'.len_utf8();
    // Neither is a whole path mistaken for a shortened one: no encoded path has this character.
    Cow::Owned(format!("{}…{}", beginning(path, shown), ContentHash::of(path.as_bytes())))
}

fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl DeferredKey {
    /// The key for a path that could be decoded.
    pub fn plain(path: &VaultPath) -> Self {
        DeferredKey(path.as_str().to_owned())
    }

    /// The key for an encoded path that could not be decoded. No [`VaultPath`] begins with a slash, so the two
    /// kinds cannot meet. A long path is shortened to its beginning and a hash of it ([`UNREADABLE_PATH`]).
    pub fn encoded(path: &str) -> Self {
        DeferredKey(format!("//{}", shortened(path)))
    }

    /// The path, plain or encoded, for people.
    pub fn shown(&self) -> &str {
        self.0.strip_prefix("//").unwrap_or(&self.0)
    }

    /// The key as read back from a database.
    pub fn from_stored(text: String) -> Self {
        DeferredKey(text)
    }

    /// The key as text, to be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a change was deferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeferredCause {
    /// The filter leaves it out; it is looked at again when the filter changes.
    Filtered,
    /// It could not be applied; it is tried again in every run.
    Failed {
        /// A sentence about what went wrong.
        reason: String,
    },
}

/// Which deferred changes to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredKind {
    /// Those that the filter left out.
    Filtered,
    /// Those that failed.
    Failed,
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
        // As an earlier release kept it.
        let deferred = Deferred { key: DeferredKey(format!("//{path}")), message, cause }.bounded();
        assert_eq!(deferred.key, DeferredKey::encoded(&path));
        let kept = deferred.key.as_str().len() + deferred.message.path.as_str().len();
        assert!(kept <= 2 * UNREADABLE_PATH + 2, "{kept}");
        assert!(deferred.message.hash.as_str().len() <= UNREADABLE_HASH);
        assert_eq!(deferred.clone().bounded(), deferred);
        assert_ne!(DeferredKey::encoded(&format!("{path}a")), deferred.key);
    }
}
