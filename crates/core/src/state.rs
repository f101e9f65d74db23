//! What is known of a destination: the trait that every state database implements.
//!
//! The state never claims what is not durable: the engine commits a [`Commit`] only after the store has published
//! the files that it speaks of. One commit is one transaction.

use std::borrow::Cow;

use async_trait::async_trait;
use obsync_protocol::limits::{LARGEST_NUMBER, UNREADABLE_HASH, UNREADABLE_PATH};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};

use crate::store::FileMeta;

/// What is known of the vault as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultState {
    /// The watermark: every change of the vault up to and including this version is applied, or recorded as
    /// [`Deferred`].
    pub version: u64,
    /// Whether a first listing was handled to its end (the protocol's `initial` is its opposite).
    pub listed: bool,
    /// [Fingerprint](obsync_protocol::Filter::fingerprint) of the filter that decided which entries were deferred;
    /// `None` while a run with another filter is at work, so that an interrupted one is not taken for complete.
    pub filter: Option<String>,
    /// A full pull was begun and has not come to its end: the next one must be full too. Up to this version everything
    /// was looked at again already.
    pub rechecking: Option<u64>,
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

/// One transaction. In this order: `forgotten` records go, `records` are put (over older ones of their path),
/// `settled` deferred changes go, `deferred` ones are put, `announced` takes the place of what was announced before,
/// `state` is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Records of what is no longer in the destination.
    pub forgotten: Vec<VaultPath>,
    /// Records of what is in the destination now.
    pub records: Vec<Record>,
    /// Deferred changes that are done with. A key that was never deferred is fine.
    pub settled: Vec<DeferredKey>,
    /// Changes that were not applied.
    pub deferred: Vec<Deferred>,
    /// Records of the files that are published next. Should the process die between that and the commit of their
    /// records, the next run knows by this that what it finds is its own work and no one else's.
    pub announced: Vec<Record>,
    /// The vault as a whole.
    pub state: VaultState,
}

/// A database of what is known of one (vault, destination). Holding it means holding the destination's lock or lease.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The state as committed last; the default for a destination that was never pulled to.
    async fn load(&self) -> Result<VaultState, StateError>;

    /// The records of these paths, in their order. Costs in proportion to the number of paths.
    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError>;

    /// For each content the path of some recorded file that has it, in order. A database without an index by content
    /// may answer `None` for what it has.
    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError>;

    /// All records, in no order. Costs in proportion to the vault.
    async fn all_records(&self) -> Result<Vec<Record>, StateError>;

    /// The deferred changes of one kind, by ascending uid.
    async fn deferred(&self, kind: DeferredKind) -> Result<Vec<Deferred>, StateError>;

    /// What the last commit announced.
    async fn announced(&self) -> Result<Vec<Record>, StateError>;

    /// Applies one transaction; durable when it returns.
    async fn commit(&self, commit: Commit) -> Result<(), StateError>;
}

/// What can go wrong with a state database.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database is damaged.
    #[error(
        "the state database {database} is damaged ({reason}); your notes are not affected. `obsync reset DEST` removes it, \
         and the next pull adopts the files that are there without downloading them"
    )]
    Corrupt {
        /// Which database.
        database: String,
        /// What was found.
        reason: String,
    },
    /// The database was written by a newer obsync.
    #[error(
        "the state database {database} was written by a newer obsync (format {found}, this one knows {known}); update \
         obsync, or remove the database with `obsync reset DEST`"
    )]
    Newer {
        /// Which database.
        database: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process works on the same destination.
    #[error("another obsync is working on {destination}; wait for it to end, or stop it")]
    Locked {
        /// The destination.
        destination: String,
    },
    /// Another process took the destination over, because this one gave no sign of life for too long.
    #[error(
        "another obsync took over {destination} while this one was held up; nothing is lost, and what this one had \
         recorded counts"
    )]
    LeaseLost {
        /// The destination.
        destination: String,
    },
    /// The database cannot be read or written.
    #[error("the state database {database} cannot be used: {reason}")]
    Unavailable {
        /// Which database.
        database: String,
        /// What is wrong.
        reason: String,
    },
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
