//! A file for a state database.

use std::fs;
use std::path::PathBuf;

use async_trait::async_trait;
use obsync_conformance::{StateStoreUnderTest, at};
use obsync_core::{Commit, DeferredKey, FileMeta, Record, RecordKind, StateError, VaultState};
use obsync_protocol::{ContentHash, Uid, VaultId};
use obsync_sqlite::{SqliteState, StateIdentity};

/// A database in a folder of its own, removed on drop. Neither the file nor its folder exists at first.
pub(crate) struct DatabaseFile {
    home: tempfile::TempDir,
    pub(crate) identity: StateIdentity,
}

impl DatabaseFile {
    pub(crate) fn new() -> Self {
        let identity = StateIdentity {
            vault_id: VaultId::try_new("vault-1").unwrap(),
            vault_name: "My Vault".to_owned(),
            destination: "/home/me/notes".to_owned(),
        };
        DatabaseFile { home: tempfile::tempdir().unwrap(), identity }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.home.path().join("state/one.sqlite")
    }

    /// The file that SQLite has beside the database during commits.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path().with_extension("sqlite-journal")
    }

    pub(crate) fn try_open(&self) -> Result<SqliteState, StateError> {
        SqliteState::open(&self.path(), &self.identity)
    }

    pub(crate) fn state(&self) -> SqliteState {
        self.try_open().unwrap()
    }

    /// The names of the files beside the database and its own, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.path().join("state")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[async_trait]
impl StateStoreUnderTest for DatabaseFile {
    type State = SqliteState;

    async fn open(&self) -> SqliteState {
        self.state()
    }

    async fn look(&self) -> SqliteState {
        SqliteState::read(&self.path()).unwrap()
    }
}

/// A commit of `count` files and as many folders, and one settled change.
pub(crate) fn commit_of(count: u64) -> Commit {
    let file = |number: u64| {
        Record::new(
            at(&format!("folder {number}/note.md")),
            RecordKind::File(FileMeta {
                hash: ContentHash::of(&number.to_le_bytes()),
                size: number,
                mtime: -1,
                ctime: 1,
                uid: Uid(number),
            }),
        )
    };
    let folder = |number: u64| Record::new(at(&format!("folder {number}")), RecordKind::Folder(Uid(number)));
    Commit {
        records: (0..count).flat_map(|number| [file(number), folder(number)]).collect(),
        resolved: vec![DeferredKey::plain(&at("never deferred.md"))],
        state: VaultState { version: count, listed: true, ..VaultState::default() },
        ..Commit::default()
    }
}
