//! Databases that earlier releases wrote: read as they are, and brought to the present format when they are worked with.
//!
//! `data/format-1-first.sqlite` is of the first release with state format 1, `format-1-last.sqlite` of the last one; each is of
//! a pull that was killed while it put files in place.

use std::fs;
use std::path::{Path, PathBuf};

use obsync_core::{Commit, DeferredCause, DeferredKind, Intent, Record, StateError, StateStore, VaultState};
use obsync_sqlite::{SqliteState, StateIdentity};
use rusqlite::Connection;
use tempfile::TempDir;

const WRITTEN: [&[u8]; 2] =
    [include_bytes!("../data/format-1-first.sqlite"), include_bytes!("../data/format-1-last.sqlite")];

/// What a state says, in an order of its own.
#[derive(Debug, PartialEq)]
struct Content {
    state: VaultState,
    records: Vec<Record>,
    intents: Vec<Intent>,
    filtered: Vec<obsync_core::Deferred>,
    failed: Vec<obsync_core::Deferred>,
}

async fn content(state: &SqliteState) -> Content {
    let mut records = state.all_records().await.unwrap();
    records.sort_by(|one, other| one.path.cmp(&other.path));
    Content {
        state: state.load().await.unwrap(),
        records,
        intents: state.intents().await.unwrap(),
        filtered: state.deferred(DeferredKind::Filtered).await.unwrap(),
        failed: state.deferred(DeferredKind::Failed).await.unwrap(),
    }
}

/// A database with these bytes, and whose it is.
fn place(bytes: &[u8]) -> (TempDir, PathBuf, StateIdentity) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("one.sqlite");
    fs::write(&path, bytes).unwrap();
    let identity = SqliteState::read(&path).unwrap().identity().unwrap().clone();
    (home, path, identity)
}

fn format(path: &Path) -> i64 {
    Connection::open(path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_database_of_format_1_has_everything_that_it_had() {
    for bytes in WRITTEN {
        let (_home, path, identity) = place(bytes);
        let before = content(&SqliteState::read(&path).unwrap()).await;
        assert_eq!(fs::read(&path).unwrap(), bytes, "to look at it changes nothing");
        assert_eq!((before.records.len(), before.intents.len()), (5, 118));
        assert_eq!((before.filtered.len(), before.failed.len()), (1, 1));
        assert!(before.intents.iter().all(|intent| intent.placed().is_some()));
        assert!(before.records.iter().all(|record| record.facts.is_none() && !record.witnessed));
        assert!(matches!(before.failed[0].cause, DeferredCause::Failed { .. }));
        assert_eq!((&before.state.destination, before.state.cursor), (&None, None));

        let state = SqliteState::open(&path, &identity).unwrap();
        assert_eq!(content(&state).await, before);
        assert_eq!(state.last_check().await.unwrap(), None);
        state.note_check(7).await;
        let commit =
            Commit { intents: before.intents.clone(), state: before.state.clone(), ..Commit::default() };
        state.commit(commit).await.unwrap();
        drop(state);
        assert_eq!(format(&path), 2);
        let state = SqliteState::open(&path, &identity).unwrap();
        assert_eq!((content(&state).await, state.last_check().await.unwrap()), (before, Some(7)));
    }
}

#[tokio::test]
async fn a_summary_of_a_database_of_format_1_is_the_same_before_and_after() {
    let (_home, path, identity) = place(WRITTEN[0]);
    let before = SqliteState::read(&path).unwrap().summary().unwrap().unwrap();
    assert_eq!((before.files + before.folders, before.filtered, before.failed), (5, 1, 1));
    assert_eq!(SqliteState::open(&path, &identity).unwrap().summary().unwrap(), Some(before));
}

/// A migration whose process died after some of its pages were written: what comes next rolls it back and begins anew.
#[tokio::test]
async fn a_migration_that_was_cut_in_half_is_made_again() {
    for steps in 1..=3 {
        let (_home, path, identity) = place(WRITTEN[1]);
        let before = content(&SqliteState::read(&path).unwrap()).await;
        let dying = Connection::open(&path).unwrap();
        // So little memory for pages that they go to the file before the commit.
        dying.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE").unwrap();
        let all = [
            "ALTER TABLE deferred RENAME COLUMN failed TO cause",
            "ALTER TABLE announced RENAME TO intents",
            "UPDATE records SET uid = 1; DELETE FROM intents",
        ];
        all[..steps].iter().for_each(|step| dying.execute_batch(step).unwrap());
        // The disk as the crash leaves it.
        let after = tempfile::tempdir().unwrap();
        let left = after.path().join("one.sqlite");
        fs::copy(&path, &left).unwrap();
        let journal = path.with_extension("sqlite-journal");
        fs::copy(&journal, left.with_extension("sqlite-journal")).unwrap();
        drop(dying);
        let state = SqliteState::open(&left, &identity).unwrap();
        assert_eq!(content(&state).await, before, "{steps} steps");
        drop(state);
        assert_eq!(format(&left), 2);
    }
}

#[tokio::test]
async fn a_database_of_a_later_format_is_left_alone() {
    let (_home, path, identity) = place(WRITTEN[0]);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = SqliteState::open(&path, &identity).map(drop).unwrap_err();
    assert!(matches!(refused, StateError::Newer { found: 3, known: 2, .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
}
