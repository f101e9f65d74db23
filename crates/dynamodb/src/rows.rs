//! Stored changes and intents: rows of JSON in the attribute `data` of an item.

use obsync_core::{Deferred, DeferredCause, DeferredKey, FileMeta, Intent, KnownContent, Record, RecordKind};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attributes::{Damage, Item, Reader, VAULT_ID, text};

/// The attribute that holds rows.
const DATA: &str = "data";
/// The longest encoded path or hash that is stored whole, in bytes. No decodable path is that long when
/// encoded, so only unusable ones are shortened. It keeps every row below an item's 400 KB, even one of
/// control characters, which take six bytes each in JSON.
const LONGEST_NAME: usize = 10 << 10;
/// The longest reason, device or user that is stored whole, in bytes.
const LONGEST_TEXT: usize = 2 << 10;

/// The item of this key with these rows.
pub(super) fn item<R: Serialize>(key: &str, rows: &[R]) -> Result<Item, Damage> {
    let data = serde_json::to_string(rows).map_err(|error| error.to_string())?;
    Ok(Item::from([(VAULT_ID.to_owned(), text(key)), (DATA.to_owned(), text(data))]))
}

/// The rows of an item.
pub(super) fn read<R: DeserializeOwned>(item: &Item) -> Result<Vec<R>, Damage> {
    serde_json::from_str(Reader(item).text(DATA)?)
        .map_err(|error| format!("its rows are unreadable: {error}"))
}

/// A stored intent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct IntentRow {
    path: String,
    /// The file's version, or the base version of a push.
    #[serde(default)]
    uid: u64,
    /// The kind; formats 1 and 2 know only of files put in place.
    #[serde(default, skip_serializing_if = "is_place")]
    kind: IntentKind,
    /// A file that is put in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileRow>,
    /// The content that results, is removed or is pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<ContentRow>,
    /// The staged file, or the old path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    /// When a listing did not have a push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing_since: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum IntentKind {
    #[default]
    Place,
    Exchange,
    Remove,
    Push,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_place(kind: &IntentKind) -> bool {
    *kind == IntentKind::Place
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FileRow {
    hash: String,
    size: u64,
    mtime: i64,
    ctime: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ContentRow {
    hash: String,
    size: u64,
}

impl From<&KnownContent> for ContentRow {
    fn from(content: &KnownContent) -> Self {
        ContentRow { hash: content.hash.to_string(), size: content.size }
    }
}

impl ContentRow {
    fn content(&self) -> Result<KnownContent, Damage> {
        Ok(KnownContent { hash: content_hash(&self.hash)?, size: self.size })
    }
}

impl From<&Intent> for IntentRow {
    fn from(intent: &Intent) -> Self {
        let row = |path: &VaultPath, kind: IntentKind| IntentRow {
            path: path.as_str().to_owned(),
            uid: 0,
            kind,
            file: None,
            content: None,
            other: None,
            missing_since: None,
        };
        match intent {
            Intent::Place(record) => {
                let file = record.file().map(|meta| FileRow {
                    hash: meta.hash.to_string(),
                    size: meta.size,
                    mtime: meta.mtime,
                    ctime: meta.ctime,
                });
                IntentRow { uid: record.uid().0, file, ..row(&record.path, IntentKind::Place) }
            }
            Intent::Exchange { path, staged, expected } => IntentRow {
                content: expected.as_ref().map(ContentRow::from),
                other: Some(staged.clone()),
                ..row(path, IntentKind::Exchange)
            },
            Intent::Remove { path, content } => {
                IntentRow { content: Some(content.into()), ..row(path, IntentKind::Remove) }
            }
            Intent::Push { path, from, content, base, missing_since } => IntentRow {
                uid: base.0,
                missing_since: *missing_since,
                content: content.as_ref().map(ContentRow::from),
                other: from.as_ref().map(|from| from.as_str().to_owned()),
                ..row(path, IntentKind::Push)
            },
        }
    }
}

impl IntentRow {
    /// Parses the intent.
    pub(super) fn intent(self) -> Result<Intent, Damage> {
        let path = vault_path(&self.path)?;
        let (uid, content) = (Uid(self.uid), self.content.as_ref().map(ContentRow::content).transpose()?);
        Ok(match self.kind {
            IntentKind::Place => {
                let kind = match self.file {
                    None => RecordKind::Folder(uid),
                    Some(FileRow { hash, size, mtime, ctime }) => {
                        RecordKind::File(FileMeta { hash: content_hash(&hash)?, size, mtime, ctime, uid })
                    }
                };
                Intent::Place(Record::new(path, kind))
            }
            IntentKind::Exchange => Intent::Exchange {
                path,
                staged: self.other.ok_or("an exchange has no staged file")?,
                expected: content,
            },
            IntentKind::Remove => {
                Intent::Remove { path, content: content.ok_or("a removal has no content")? }
            }
            IntentKind::Push => {
                let from = self.other.as_deref().map(vault_path).transpose()?;
                Intent::Push { path, from, content, base: uid, missing_since: self.missing_since }
            }
        })
    }
}

fn vault_path(path: &str) -> Result<VaultPath, Damage> {
    VaultPath::parse(path).map_err(|error| format!("a path is not one: {error}"))
}

/// Parses a content hash in hexadecimal.
pub(super) fn content_hash(digits: &str) -> Result<ContentHash, Damage> {
    digits.parse().map_err(|_| "a content hash is not one".to_owned())
}

/// A stored change that was not applied. A filtered one has no reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeferredRow {
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Set unless `reason` implies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<RarerCause>,
    /// When a held-back deletion was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirmed: Option<i64>,
    uid: u64,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    related_path: Option<String>,
    hash: String,
    size: u64,
    ctime: i64,
    mtime: i64,
    folder: bool,
    deleted: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    device: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    user: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RarerCause {
    HeldBack,
    Acknowledged,
    Retained,
    Lasting,
    Diverged,
}

impl From<&Deferred> for DeferredRow {
    fn from(Deferred { key, message, cause }: &Deferred) -> Self {
        let (rarer, confirmed) = match cause {
            DeferredCause::Filtered | DeferredCause::Failed { .. } => (None, None),
            DeferredCause::Retained => (Some(RarerCause::Retained), None),
            DeferredCause::HeldBack { confirmed } => (Some(RarerCause::HeldBack), *confirmed),
            DeferredCause::Lasting { .. } => (Some(RarerCause::Lasting), None),
            DeferredCause::Acknowledged { .. } => (Some(RarerCause::Acknowledged), None),
            DeferredCause::Diverged => (Some(RarerCause::Diverged), None),
        };
        DeferredRow {
            key: stored_key(key),
            reason: cause.reason().map(|reason| shorten(reason, LONGEST_TEXT)),
            cause: rarer,
            confirmed,
            uid: message.uid.0,
            path: shorten(message.path.as_str(), LONGEST_NAME),
            related_path: message.related_path.as_ref().map(|path| shorten(path.as_str(), LONGEST_NAME)),
            hash: shorten(message.hash.as_str(), LONGEST_NAME),
            size: message.size,
            ctime: message.ctime,
            mtime: message.mtime,
            folder: message.folder,
            deleted: message.deleted,
            device: shorten(&message.device, LONGEST_TEXT),
            user: shorten(&message.user, LONGEST_TEXT),
        }
    }
}

impl DeferredRow {
    /// Parses the change.
    pub(super) fn deferred(self) -> Deferred {
        let message = PushMessage {
            uid: Uid(self.uid),
            path: self.path.into(),
            related_path: self.related_path.map(Into::into),
            hash: self.hash.into(),
            size: self.size,
            ctime: self.ctime,
            mtime: self.mtime,
            folder: self.folder,
            deleted: self.deleted,
            device: self.device,
            user: self.user,
        };
        let cause = match (self.cause, self.reason) {
            (None, None) => DeferredCause::Filtered,
            (None, Some(reason)) => DeferredCause::Failed { reason },
            (Some(RarerCause::Retained), _) => DeferredCause::Retained,
            (Some(RarerCause::HeldBack), _) => DeferredCause::HeldBack { confirmed: self.confirmed },
            (Some(RarerCause::Acknowledged), reason) => {
                DeferredCause::acknowledged(reason.unwrap_or_default())
            }
            (Some(RarerCause::Lasting), reason) => {
                DeferredCause::Lasting { reason: reason.unwrap_or_default() }
            }
            (Some(RarerCause::Diverged), _) => DeferredCause::Diverged,
        };
        Deferred { key: DeferredKey::from_stored(self.key), message, cause }
    }
}

/// The stored form of a change's key: unique for every key, and of bounded length.
pub(super) fn stored_key(key: &DeferredKey) -> String {
    shorten(key.as_str(), LONGEST_NAME)
}

/// Shortens a long text, and adds a hash of the whole so that two of them stay distinct.
pub(super) fn shorten(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mark = format!("… sha256:{}", ContentHash::of(text.as_bytes()));
    let kept = text.floor_char_boundary(longest - mark.len());
    [&text[..kept], &mark].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_within_its_limit_and_stays_itself() {
        let long = "é".repeat(2000);
        let cut = shorten(&long, 1001);
        assert!(cut.len() <= 1001 && cut.starts_with("éé"));
        assert_eq!(shorten(&cut, 1001), cut);
        assert_ne!(shorten(&format!("{long}e"), 1001), cut);
        assert_eq!(shorten("short", 1001), "short");
    }
}
