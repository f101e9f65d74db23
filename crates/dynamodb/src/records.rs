//! The items of files and folders.

use obsync_core::{FileMeta, LocalFacts, Record, RecordKind};
use obsync_protocol::{Uid, VaultPath};
use serde::{Deserialize, Serialize};

use super::attributes::{Damage, Item};
use super::head::Counts;
use super::rows::content_hash;

/// A record as an item. Attributes that a folder lacks, and unknown ones, are left out.
#[derive(Serialize, Deserialize)]
struct RecordItem {
    vault_id: String,
    path: String,
    kind: Kind,
    uid: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ctime: Option<i64>,
    // The destination's facts of a file: see `LocalFacts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity_tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witnessed: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Folder,
}

impl RecordItem {
    fn new(key: &str, record: &Record) -> Self {
        let file = record.file();
        let (mut modified, mut changed, mut inode, mut entity_tag) = (None, None, None, None);
        match &record.facts {
            Some(LocalFacts::File { modified: content, changed: any, inode: number, .. }) => {
                (modified, changed, inode) = (Some(*content), Some(*any), Some(*number));
            }
            Some(LocalFacts::Object { entity_tag: tag, .. }) => entity_tag = Some(tag.clone()),
            None => {}
        }
        RecordItem {
            vault_id: key.to_owned(),
            path: record.path.as_str().to_owned(),
            kind: if file.is_some() { Kind::File } else { Kind::Folder },
            uid: record.uid().0,
            hash: file.map(|meta| meta.hash.to_string()),
            size: file.map(|meta| meta.size),
            mtime: file.map(|meta| meta.mtime),
            ctime: file.map(|meta| meta.ctime),
            seen_size: record.facts.as_ref().map(LocalFacts::size),
            modified,
            changed,
            inode,
            entity_tag,
            witnessed: record.witnessed.then_some(true),
        }
    }

    fn meta(&self) -> Result<FileMeta, Damage> {
        match (&self.hash, self.size, self.mtime, self.ctime) {
            (Some(hash), Some(size), Some(mtime), Some(ctime)) => {
                Ok(FileMeta { hash: content_hash(hash)?, size, mtime, ctime, uid: Uid(self.uid) })
            }
            _ => Err("the hash, size or times of a file are missing".to_owned()),
        }
    }

    /// The facts; incomplete ones are ignored.
    fn facts(&self) -> Option<LocalFacts> {
        let size = self.seen_size?;
        match (&self.entity_tag, self.modified, self.changed, self.inode) {
            (Some(entity_tag), ..) => Some(LocalFacts::Object { size, entity_tag: entity_tag.clone() }),
            (None, Some(modified), Some(changed), Some(inode)) => {
                Some(LocalFacts::File { size, modified, changed, inode })
            }
            _ => None,
        }
    }
}

pub(super) fn item(key: &str, record: &Record) -> Result<Item, Damage> {
    serde_dynamo::to_item(RecordItem::new(key, record)).map_err(|error| error.to_string())
}

/// Parses the record of an item.
pub(super) fn read(item: Item) -> Result<Record, Damage> {
    let item: RecordItem = serde_dynamo::from_item(item).map_err(|error| error.to_string())?;
    let path = VaultPath::parse(&item.path).map_err(|error| format!("its path is not one: {error}"))?;
    let kind = match item.kind {
        Kind::Folder => RecordKind::Folder(Uid(item.uid)),
        Kind::File => RecordKind::File(item.meta()?),
    };
    Ok(Record { path, kind, facts: item.facts(), witnessed: item.witnessed.unwrap_or_default() })
}

/// The recorded entry of a path, as far as counting needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Folder,
    /// A file of this many bytes.
    File(u64),
}

impl From<Option<&Record>> for Presence {
    fn from(record: Option<&Record>) -> Self {
        match record.map(|record| &record.kind) {
            None => Presence::Absent,
            Some(RecordKind::Folder(_)) => Presence::Folder,
            Some(RecordKind::File(meta)) => Presence::File(meta.size),
        }
    }
}

impl Presence {
    /// The change of the counts when this replaces `old`.
    pub(super) fn instead_of(self, old: Presence) -> Counts {
        let (new, old) = (self.counts(), old.counts());
        Counts {
            files: new.files - old.files,
            folders: new.folders - old.folders,
            bytes: new.bytes.saturating_sub(old.bytes),
            ..Counts::default()
        }
    }

    fn counts(self) -> Counts {
        match self {
            Presence::Absent => Counts::default(),
            Presence::Folder => Counts { folders: 1, ..Counts::default() },
            Presence::File(size) => {
                Counts { files: 1, bytes: i64::try_from(size).unwrap_or(i64::MAX), ..Counts::default() }
            }
        }
    }
}
