//! Databases of earlier releases: read as they are, and migrated to the present format when a run opens them.
//!
//! `data/format-1-first.sqlite` is of the first release with state format 1, `format-1-last.sqlite` of the
//! last one; each is of a pull that was killed while it put files in place. `format-2.sqlite` has one of
//! everything that format 2 can store.

use std::fs;
use std::path::{Path, PathBuf};

use obsync_core::{
    Commit, CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, DestinationIdentity,
    Direction, FileMeta, Intent, KnownContent, LocalFacts, Record, RecordKind, StateError, StateStore,
    VaultState,
};
use obsync_protocol::{PushMessage, Uid, VaultPath};
use obsync_sqlite::{SqliteState, StateIdentity};
use rusqlite::Connection;
use tempfile::TempDir;

const WRITTEN: [&[u8]; 2] =
    [include_bytes!("../data/format-1-first.sqlite"), include_bytes!("../data/format-1-last.sqlite")];

/// Contents of a state, sorted.
#[derive(Debug, PartialEq)]
struct Content {
    state: VaultState,
    records: Vec<Record>,
    intents: Vec<Intent>,
    filtered: Vec<Deferred>,
    failed: Vec<Deferred>,
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

/// A database with these bytes, and its identity.
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

/// A database of format 2.
const FORMAT_2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/format-2.sqlite");

/// Contents that a later format has to migrate.
#[tokio::test]
async fn a_database_of_format_2_says_all_that_it_can() {
    let (_home, path, identity) = place(&fs::read(FORMAT_2).unwrap());
    let before = content(&SqliteState::read(&path).unwrap()).await;
    assert_eq!(before, everything());
    let state = SqliteState::open(&path, &identity).unwrap();
    assert_eq!(content(&state).await, before);
    let commit = Commit { intents: before.intents.clone(), state: before.state.clone(), ..Commit::default() };
    state.commit(commit).await.unwrap();
    assert_eq!(content(&state).await, before);
}

/// One of everything that a state of format 2 can store.
fn everything() -> Content {
    let path = |text: &str| VaultPath::parse(text).unwrap();
    let content = |text: &str| KnownContent::of(text.as_bytes());
    let id = |digit: &str| digit.repeat(32).parse().unwrap();
    let meta = |text: &str, uid| {
        let KnownContent { hash, size } = content(text);
        FileMeta { hash, size, mtime: 1_700_000_000_123, ctime: 1_600_000_000_456, uid: Uid(uid) }
    };
    let facts =
        LocalFacts::File { size: 4, modified: 1_700_000_000_123_456_789, changed: -1, inode: u64::MAX };
    let tag = LocalFacts::Object { size: 6, entity_tag: "\"tag\"".to_owned() };
    let record = |text: &str, kind, facts, witnessed| Record { path: path(text), kind, facts, witnessed };
    let deferred = |text: &str, uid, cause| {
        let message = PushMessage {
            uid: Uid(uid),
            path: format!("encoded {text}").into(),
            related_path: Some("encoded before".to_owned().into()),
            hash: "encoded hash".to_owned().into(),
            size: 33,
            ctime: 5,
            mtime: 6,
            device: "a device".to_owned(),
            user: "a user".to_owned(),
            ..PushMessage::default()
        };
        Deferred { key: DeferredKey::plain(&path(text)), message, cause }
    };
    let reason = || "a reason".to_owned();
    Content {
        state: VaultState {
            version: 42,
            listed: true,
            filter: Some("a filter".to_owned()),
            full_up_to: Some(7),
            cursor: Some(CursorEntry {
                uid: Uid(44),
                path: content("path").hash,
                entry: content("entry").hash,
            }),
            keeping: true,
            forgetting: false,
            direction: Direction::Both,
            destination: Some(DestinationIdentity {
                id: id("1"),
                generation: id("2"),
                next: Some(id("3")),
                tag: Some("\"marker\"".to_owned()),
            }),
            deletions: vec![Deletions { minute: 28_000_000, here: 1, there: 2 }],
        },
        records: vec![
            record("a folder", RecordKind::Folder(Uid(3)), None, true),
            record("file.md", RecordKind::File(meta("text", 4)), Some(facts), true),
            record("not looked at.md", RecordKind::File(meta("", 5)), None, false),
            record("object.md", RecordKind::File(meta("object", 6)), Some(tag), false),
        ],
        intents: vec![
            Intent::Place(Record::new(path("placed.md"), RecordKind::File(meta("placed", 8)))),
            Intent::Exchange {
                path: path("a.md"),
                staged: "staged".to_owned(),
                expected: Some(content("a")),
            },
            Intent::Exchange { path: path("b.md"), staged: "staged, too".to_owned(), expected: None },
            Intent::Remove { path: path("removed.md"), content: content("removed") },
            Intent::Push {
                path: path("new name.md"),
                from: Some(path("old name.md")),
                content: Some(content("pushed")),
                base: Uid(9),
                missing_since: None,
            },
            Intent::Push {
                path: path("deleted.md"),
                from: None,
                content: None,
                base: Uid(10),
                missing_since: None,
            },
        ],
        filtered: vec![
            deferred("filtered.md", 11, DeferredCause::Filtered),
            deferred("retained.md", 12, DeferredCause::Retained),
        ],
        failed: vec![
            deferred("failed.md", 13, DeferredCause::Failed { reason: reason() }),
            deferred("held back.md", 14, DeferredCause::HeldBack { confirmed: None }),
            deferred("confirmed.md", 15, DeferredCause::HeldBack { confirmed: Some(16) }),
            deferred("accepted.md", 17, DeferredCause::Acknowledged { reason: reason() }),
        ],
    }
}

#[tokio::test]
async fn a_summary_of_a_database_of_format_1_is_the_same_before_and_after() {
    let (_home, path, identity) = place(WRITTEN[0]);
    let before = SqliteState::read(&path).unwrap().summary().unwrap().unwrap();
    assert_eq!((before.files + before.folders, before.filtered, before.failed), (5, 1, 1));
    assert_eq!(SqliteState::open(&path, &identity).unwrap().summary().unwrap(), Some(before));
}

/// A migration whose process died after some of its pages were written: the next one rolls it back and starts
/// again.
#[tokio::test]
async fn a_migration_that_was_cut_in_half_is_made_again() {
    for steps in 1..=3 {
        let (_home, path, identity) = place(WRITTEN[1]);
        let before = content(&SqliteState::read(&path).unwrap()).await;
        let dying = Connection::open(&path).unwrap();
        // So little memory for pages that they are written to the file before the commit.
        dying.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE").unwrap();
        let all = [
            "ALTER TABLE deferred RENAME COLUMN failed TO cause",
            "ALTER TABLE announced RENAME TO intents",
            "UPDATE records SET uid = 1; DELETE FROM intents",
        ];
        all[..steps].iter().for_each(|step| dying.execute_batch(step).unwrap());
        // The disk after the crash.
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
