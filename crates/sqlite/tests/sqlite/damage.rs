//! State databases that are damaged, of a newer version or no such databases at all: always an error message,
//! never a panic.

use std::fs;
use std::path::Path;

use obsync_conformance::at;
use obsync_core::{Commit, DeferredKind, StateError, StateStore};
use obsync_protocol::ContentHash;
use obsync_sqlite::SqliteState;
use proptest::prelude::*;

use crate::database::{DatabaseFile, commit_of};

/// A database with a few hundred rows, and its bytes. Its contents are indexed.
fn filled() -> (DatabaseFile, Vec<u8>) {
    let file = DatabaseFile::new();
    block_on(file.state().commit(commit_of(299))).unwrap();
    let state = file.state();
    block_on(state.sources(&[ContentHash::of(b"a content")])).unwrap();
    block_on(state.commit(commit_of(300))).unwrap();
    drop(state);
    let bytes = fs::read(file.path()).unwrap();
    (file, bytes)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Changes a database with another program.
fn tamper(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Opens it and runs every operation of a run.
fn use_it(file: &DatabaseFile) -> Result<(), StateError> {
    let state = file.try_open()?;
    block_on(async {
        state.load().await?;
        let paths: Vec<_> = (0..300).map(|number| at(&format!("folder {number}/note.md"))).collect();
        state.records(&paths).await?;
        let contents: Vec<_> = (0..300_u64).map(|number| ContentHash::of(&number.to_le_bytes())).collect();
        state.sources(&contents).await?;
        state.all_records().await?;
        state.intents().await?;
        state.deferred(DeferredKind::Failed).await?;
        state.deferred(DeferredKind::Filtered).await?;
        state.summary()?;
        state.commit(commit_of(301)).await
    })
}

#[test]
fn garbage_is_corrupt() {
    let file = DatabaseFile::new();
    drop(file.state());
    for garbage in
        [vec![0; 100], vec![b'x'; 5_000], b"SQLite format 3\0".to_vec(), b"SQLite format 3\0".repeat(400)]
    {
        fs::write(file.path(), &garbage).unwrap();
        let error = use_it(&file).unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains("obsync reset"), "{error}");
        assert!(matches!(SqliteState::read(&file.path()), Err(StateError::Corrupt { .. })));
        assert_eq!(fs::read(file.path()).unwrap(), garbage, "it is left as it is");
    }
}

#[test]
fn a_truncated_database_is_corrupt() {
    let (file, bytes) = filled();
    for kept in [1, 99, 100, 1_000, 4_096, 4_097, bytes.len() / 2, bytes.len() - 4_096, bytes.len() - 1] {
        fs::write(file.path(), &bytes[..kept]).unwrap();
        let error = use_it(&file).expect_err(&format!("{kept} of {} bytes", bytes.len()));
        assert!(matches!(error, StateError::Corrupt { .. }), "{kept} bytes: {error}");
    }
}

#[test]
fn an_empty_file_is_a_first_commit_that_was_interrupted() {
    let file = DatabaseFile::new();
    drop(file.state());
    fs::write(file.path(), "").unwrap();
    use_it(&file).unwrap();
    assert_eq!(block_on(file.state().load()).unwrap().version, 301);
}

#[test]
fn a_database_of_a_newer_obsync_is_said_to_be_newer() {
    let (file, _) = filled();
    tamper(&file.path(), "PRAGMA user_version = 7");
    for error in [file.try_open().unwrap_err(), SqliteState::read(&file.path()).unwrap_err()] {
        assert!(matches!(error, StateError::Newer { found: 7, known: 2, .. }), "{error}");
        assert!(error.to_string().contains("update obsync"), "{error}");
    }
}

#[test]
fn a_database_of_another_program_is_corrupt() {
    let file = DatabaseFile::new();
    drop(file.state());
    tamper(&file.path(), "CREATE TABLE notes (text)");
    assert!(matches!(file.try_open(), Err(StateError::Corrupt { .. })));
    fs::remove_file(file.path()).unwrap();
    fs::create_dir(file.path()).unwrap();
    assert!(matches!(file.try_open(), Err(StateError::Corrupt { .. })));
}

#[test]
fn values_that_cannot_be_are_corrupt() {
    for sql in [
        "UPDATE records SET path = '../' || path",
        "UPDATE records SET path = '/' || path",
        "UPDATE records SET path = '' WHERE path = 'folder 1'",
        "UPDATE records SET hash = x'00ff' WHERE hash IS NOT NULL",
        "UPDATE records SET size = -1 WHERE hash IS NOT NULL",
        "UPDATE records SET size = NULL",
        "UPDATE records SET mtime = NULL",
        "UPDATE records SET uid = -1",
        "UPDATE vault SET version = -1",
        "UPDATE vault SET vault_id = 'not an id!'",
        "DELETE FROM vault",
        "DROP TABLE vault",
        "DROP TABLE records",
        "DROP TABLE deferred",
        "DROP TABLE intents",
        "ALTER TABLE records RENAME COLUMN uid TO version",
        "INSERT INTO deferred VALUES ('k', 1, NULL, 1, '', NULL, '', 0, 0, 0, 0, 0, '', '', NULL)",
        "INSERT INTO deferred VALUES ('k', 0, NULL, -1, '', NULL, '', 0, 0, 0, 0, 0, '', '', NULL)",
        "INSERT INTO deferred VALUES ('k', 0, NULL, 1, '', NULL, '', -1, 0, 0, 0, 0, '', '', NULL)",
        "UPDATE records SET path = CAST(x'ff' AS TEXT) WHERE path = 'folder 1'",
        "UPDATE vault SET filter = CAST(x'ff' AS TEXT)",
        "INSERT INTO deferred VALUES ('k', 99, NULL, 1, '', NULL, '', 0, 0, 0, 0, 0, '', '', NULL)",
        "INSERT INTO intents (path, uid, kind) VALUES ('a.md', 1, 4)",
        "INSERT INTO intents (path, uid, kind) VALUES ('a.md', 1, 1)",
        "INSERT INTO intents (path, uid, kind) VALUES ('a.md', 1, 2)",
        "UPDATE records SET seen_size = -1",
        "UPDATE records SET seen_size = 1, modified = 1",
        "UPDATE vault SET cursor_uid = 1",
        "UPDATE vault SET direction = 3",
        "UPDATE vault SET destination_id = 'not an id', generation = '00'",
        "UPDATE vault SET destination_id = '00000000000000000000000000000000'",
        "UPDATE vault SET deletions = '[1]'",
    ] {
        let (file, _) = filled();
        tamper(&file.path(), sql);
        let error = use_it(&file).expect_err(sql);
        assert!(matches!(error, StateError::Corrupt { .. }), "{sql}: {error}");
    }
}

#[test]
fn a_first_commit_that_a_kill_interrupted_never_happened() {
    let file = DatabaseFile::new();
    drop(file.state());
    fs::write(file.path(), "").unwrap();
    let mut connection = rusqlite::Connection::open(file.path()).unwrap();
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.execute_batch("CREATE TABLE a (b); CREATE TABLE c (d); CREATE TABLE e (f)").unwrap();
    transaction.execute("INSERT INTO a SELECT randomblob(90000)", []).unwrap();
    let journal = file.journal();
    let (torn, saved) = (fs::read(file.path()).unwrap(), fs::read(&journal).unwrap());
    drop(transaction);
    drop(connection);
    assert!(!torn.is_empty() && !saved.is_empty());
    fs::write(file.path(), &torn).unwrap();
    fs::write(&journal, &saved).unwrap();
    use_it(&file).unwrap();
    assert_eq!(block_on(file.state().load()).unwrap().version, 301);
}

#[test]
fn a_commit_that_a_kill_interrupted_is_rolled_back_by_who_comes_next() {
    let (file, bytes) = filled();
    // A hot journal: SQLite's own, of a transaction that wrote to the file and never ended.
    let mut connection = rusqlite::Connection::open(file.path()).unwrap();
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.execute_batch("UPDATE records SET uid = 999; UPDATE vault SET version = 999").unwrap();
    let journal = file.journal();
    let (torn, saved) = (fs::read(file.path()).unwrap(), fs::read(&journal).unwrap());
    drop(transaction);
    drop(connection);
    assert!(torn != bytes, "the transaction has reached the file");
    let killed = || {
        fs::write(file.path(), &torn).unwrap();
        fs::write(&journal, &saved).unwrap();
    };
    killed();
    let reader = SqliteState::read(&file.path()).unwrap();
    assert_eq!(block_on(reader.load()).unwrap().version, 300, "by one who only looks");
    drop(reader);
    killed();
    let state = file.state();
    assert_eq!(block_on(state.load()).unwrap().version, 300, "by one who works");
    let records = block_on(state.all_records()).unwrap();
    assert!(records.iter().all(|record| record.uid().0 < 300));
    drop(state);
    assert!(!journal.exists(), "nothing is left beside the database");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn random_damage_never_makes_it_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let (file, mut bytes) = filled();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        fs::write(file.path(), &bytes).unwrap();
        // Not every damage is detectable; if it is detected, the error is one of these (or a version, if that
        // number was changed).
        if let Err(error) = use_it(&file) {
            let expected = matches!(
                error,
                StateError::Corrupt { .. } | StateError::Newer { .. } | StateError::Unavailable { .. }
            );
            prop_assert!(expected, "{error}");
        }
    }
}

#[test]
fn a_state_that_cannot_be_read_does_not_swallow_a_commit() {
    let (file, _) = filled();
    tamper(&file.path(), "DELETE FROM vault");
    assert!(file.try_open().is_err());
    let (file, _) = filled();
    let state = file.state();
    tamper(&file.path(), "DELETE FROM vault");
    let empty = Commit::default();
    assert!(matches!(block_on(state.commit(empty)), Err(StateError::Corrupt { .. })));
}
