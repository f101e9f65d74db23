//! Changes and announced files as they are kept: rows of JSON in the attribute `data` of an item.

use obsync_core::{Deferred, DeferredCause, DeferredKey, FileMeta, Record, RecordKind};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attributes::{Damage, Item, Reader, VAULT_ID, text};

/// The attribute that holds rows.
const DATA: &str = "data";
/// The longest encoded path or hash that is kept whole, in bytes. No path that can be decoded is as long as this when it is
/// encoded, so nothing is lost but what cannot be used. It keeps every row below an item's 400 KB, even one of control
/// characters, which take six bytes each in JSON.
const LONGEST_NAME: usize = 10 << 10;
/// The longest reason, device or user that is kept whole, in bytes.
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

/// A file or folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RecordRow {
    path: String,
    uid: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct FileRow {
    hash: String,
    size: u64,
    mtime: i64,
    ctime: i64,
}

impl From<&Record> for RecordRow {
    fn from(record: &Record) -> Self {
        let file = record.file().map(|meta| FileRow {
            hash: meta.hash.to_string(),
            size: meta.size,
            mtime: meta.mtime,
            ctime: meta.ctime,
        });
        RecordRow { path: record.path.as_str().to_owned(), uid: record.uid().0, file }
    }
}

impl RecordRow {
    /// The record.
    pub(super) fn record(self) -> Result<Record, Damage> {
        let path = VaultPath::parse(&self.path).map_err(|error| format!("a path is not one: {error}"))?;
        let uid = Uid(self.uid);
        let kind = match self.file {
            None => RecordKind::Folder(uid),
            Some(FileRow { hash, size, mtime, ctime }) => {
                RecordKind::File(FileMeta { hash: content_hash(&hash)?, size, mtime, ctime, uid })
            }
        };
        Ok(Record { path, kind })
    }
}

/// A content hash from its hexadecimal digits.
pub(super) fn content_hash(digits: &str) -> Result<ContentHash, Damage> {
    digits.parse().map_err(|_| "a content hash is not one".to_owned())
}

/// A change that was not applied. One that the filter left out has no reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeferredRow {
    /// What it is filed under.
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
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

impl From<&Deferred> for DeferredRow {
    fn from(Deferred { key, message, cause }: &Deferred) -> Self {
        DeferredRow {
            key: stored_key(key),
            reason: match cause {
                DeferredCause::Filtered => None,
                DeferredCause::Failed { reason } => Some(shorten(reason, LONGEST_TEXT)),
            },
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
    /// The change.
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
        let cause = match self.reason {
            None => DeferredCause::Filtered,
            Some(reason) => DeferredCause::Failed { reason },
        };
        Deferred { key: DeferredKey::from_stored(self.key), message, cause }
    }
}

/// What a change is filed under, as it is kept: one and the same for every key, and of bounded length.
pub(super) fn stored_key(key: &DeferredKey) -> String {
    shorten(key.as_str(), LONGEST_NAME)
}

/// A text that is too long, cut, with a hash of the whole so that two of them stay two.
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
