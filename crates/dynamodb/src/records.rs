//! The items of files and folders.

use obsync_core::{FileMeta, Record, RecordKind};
use obsync_protocol::{Uid, VaultPath};

use super::attributes::{Damage, Item, Reader, VAULT_ID, number, text};
use super::head::Counts;
use super::rows::content_hash;

const PATH: &str = "path";
const KIND: &str = "kind";
const HASH: &str = "hash";
const UID: &str = "uid";
const SIZE: &str = "size";
const MTIME: &str = "mtime";
const CTIME: &str = "ctime";

const FILE: &str = "file";
const FOLDER: &str = "folder";

/// The item of this key for a record.
pub(super) fn item(key: &str, record: &Record) -> Item {
    let mut item = Item::from([
        (VAULT_ID.to_owned(), text(key)),
        (PATH.to_owned(), text(record.path.as_str())),
        (UID.to_owned(), number(record.uid())),
    ]);
    match &record.kind {
        RecordKind::Folder(_) => {
            item.insert(KIND.to_owned(), text(FOLDER));
        }
        RecordKind::File(meta) => item.extend([
            (KIND.to_owned(), text(FILE)),
            (HASH.to_owned(), text(meta.hash.to_string())),
            (SIZE.to_owned(), number(meta.size)),
            (MTIME.to_owned(), number(meta.mtime)),
            (CTIME.to_owned(), number(meta.ctime)),
        ]),
    }
    item
}

/// The record of an item.
pub(super) fn read(item: &Item) -> Result<Record, Damage> {
    let item = Reader(item);
    let path = VaultPath::parse(item.text(PATH)?).map_err(|error| format!("its path is not one: {error}"))?;
    let uid = Uid(item.number(UID)?);
    let kind = match item.text(KIND)? {
        FOLDER => RecordKind::Folder(uid),
        FILE => RecordKind::File(FileMeta {
            hash: content_hash(item.text(HASH)?)?,
            size: item.number(SIZE)?,
            mtime: item.number(MTIME)?,
            ctime: item.number(CTIME)?,
            uid,
        }),
        other => return Err(format!("it is of the kind {other:?}, which there is not")),
    };
    Ok(Record { path, kind })
}

/// What is known to be recorded for a path, as far as counting needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    Folder,
    /// A file of so many bytes.
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
    /// What counting changes by when this takes the place of `old`.
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
