//! Properties of SQLite beyond the common contract of state databases: when it writes at all, its
//! permissions, the files that it leaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_conformance::at;
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, JournalChange, JournalEntry, LastRun,
    RunOutcome, Side, StateError, StateStore, Unfinished, VaultState,
};
use obsync_protocol::limits::{DEFERRED_CHANGES, FILTERED_CHANGES};
use obsync_protocol::{ContentHash, Filter, PushMessage, Uid, VaultId};
use obsync_sqlite::{SqliteState, StateIdentity};

use crate::database::{DatabaseFile, commit_of};
use obsync_conformance::confined::{Confinement, confined};

async fn read_everything(state: &SqliteState) {
    state.load().await.unwrap();
    state.records(&[at("folder 1/note.md")]).await.unwrap();
    state.sources(&[ContentHash::of(b"a")]).await.unwrap();
    state.all_records().await.unwrap();
    state.intents().await.unwrap();
    state.deferred(DeferredKind::Failed).await.unwrap();
    state.summary().unwrap();
}

#[tokio::test]
async fn the_database_is_made_by_the_first_commit_only() {
    let file = DatabaseFile::new();
    let state = file.state();
    read_everything(&state).await;
    assert_eq!(file.files(), ["one.sqlite.lock"]);
    state.commit(commit_of(1)).await.unwrap();
    assert_eq!(file.files(), ["one.sqlite", "one.sqlite-journal", "one.sqlite.lock"], "while it is open");
    drop(state);
    assert_eq!(file.files(), ["one.sqlite", "one.sqlite.lock"]);
}

#[tokio::test]
async fn a_run_that_finds_nothing_new_writes_nothing() {
    let file = DatabaseFile::new();
    file.state().commit(commit_of(10)).await.unwrap();
    let facts = || {
        let facts = fs::metadata(file.path()).unwrap();
        (fs::read(file.path()).unwrap(), facts.modified().unwrap())
    };
    let before = facts();
    let state = file.state();
    read_everything(&state).await;
    // Equal contents are no change.
    let same = Commit { state: state.load().await.unwrap(), ..Commit::default() };
    state.commit(same).await.unwrap();
    drop(state);
    assert!(facts() == before, "the database was written");
    assert_eq!(file.files(), ["one.sqlite", "one.sqlite.lock"]);
}

/// A line of the journal for a file that was moved.
fn moved(from: &str, to: &str) -> JournalEntry {
    JournalEntry {
        at: jiff::Timestamp::now().as_millisecond(),
        side: Side::Vault,
        change: JournalChange::Write,
        path: at(to),
        from: Some(at(from)),
        device: None,
        base: Uid(0),
        uid: Uid(1),
        size: None,
    }
}

#[tokio::test]
async fn the_newest_lines_of_the_journal_stay_however_old_the_clock_says_they_are() {
    let file = DatabaseFile::new();
    let state = file.state();
    let old = JournalEntry { at: 1_000, ..moved("old.md", "new.md") };
    for _ in 0..5 {
        let commit = Commit { journal: vec![old.clone(); 300], ..commit_of(1) };
        state.commit(commit).await.unwrap();
    }
    let left = state.journal(None, 10_000).await.unwrap().len();
    assert!((1_000..1_300).contains(&left), "{left}");
}

#[tokio::test]
async fn the_journal_of_a_folder_has_what_was_moved_out_of_it() {
    let file = DatabaseFile::new();
    let state = file.state();
    let journal = vec![moved("Old/a.md", "New/a.md"), moved("Older/b.md", "New/b.md")];
    state.commit(Commit { journal: journal.clone(), ..commit_of(1) }).await.unwrap();
    assert_eq!(state.journal(Some(&at("Old")), 10).await.unwrap(), journal[..1]);
    assert_eq!(state.journal(Some(&at("New")), 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn contents_are_found_before_they_are_indexed_which_is_when_a_run_asks_for_few_after_the_first_pull() {
    let file = DatabaseFile::new();
    let is_indexed = || {
        let sql = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'records_by_hash'";
        let database = rusqlite::Connection::open(file.path()).unwrap();
        database.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap() == 1
    };
    let contents = [7u64, 99, 3].map(|number| ContentHash::of(&number.to_le_bytes()));
    let expected = [Some(at("folder 7/note.md")), None, Some(at("folder 3/note.md"))];
    let state = file.state();
    let done = commit_of(10);
    let under_way = VaultState { listed: false, ..done.state.clone() };
    state.commit(Commit { state: under_way, ..done.clone() }).await.unwrap();
    assert!(!is_indexed());
    assert_eq!(state.sources(&contents).await.unwrap(), expected);
    state.commit(Commit { state: done.state.clone(), ..Commit::default() }).await.unwrap();
    assert!(!is_indexed());
    assert_eq!(state.sources(&contents).await.unwrap(), expected);
    // A run with many contents reads all records, which is quicker.
    drop(state);
    let state = file.state();
    let many: Vec<_> = (0..1_000_u64).map(|number| ContentHash::of(&number.to_le_bytes())).collect();
    assert_eq!(state.sources(&many).await.unwrap().iter().flatten().count(), 10);
    let later = |by| Commit {
        state: VaultState { version: done.state.version + by, ..done.state.clone() },
        ..Commit::default()
    };
    state.commit(later(1)).await.unwrap();
    assert!(!is_indexed());
    assert_eq!(state.sources(&contents).await.unwrap(), expected);
    state.commit(later(2)).await.unwrap();
    assert!(is_indexed());
    assert_eq!(state.sources(&contents).await.unwrap(), expected);
}

#[tokio::test]
async fn a_database_whose_records_are_ordered_by_path_as_they_once_were_is_gone_on_with() {
    let file = DatabaseFile::new();
    file.state().commit(commit_of(3)).await.unwrap();
    let earlier = "
        ALTER TABLE records RENAME TO newer;
        CREATE TABLE records (path TEXT PRIMARY KEY, uid INTEGER NOT NULL, hash BLOB, size INTEGER, mtime INTEGER,
                              ctime INTEGER, witnessed INTEGER NOT NULL DEFAULT 0, seen_size INTEGER, modified INTEGER,
                              changed INTEGER, inode INTEGER, entity_tag TEXT) STRICT, WITHOUT ROWID;
        CREATE INDEX records_by_hash ON records (hash) WHERE hash IS NOT NULL;
        INSERT INTO records SELECT * FROM newer;
        DROP TABLE newer;";
    rusqlite::Connection::open(file.path()).unwrap().execute_batch(earlier).unwrap();
    let state = file.state();
    // Three known contents, and two unknown ones.
    state.commit(commit_of(5)).await.unwrap();
    assert_eq!(state.all_records().await.unwrap().len(), 10);
    assert_eq!(state.sample(8).await.unwrap().len(), 5, "there are five files");
    let content = ContentHash::of(&4u64.to_le_bytes());
    assert_eq!(state.sources(&[content]).await.unwrap(), [Some(at("folder 4/note.md"))]);
}

/// A commit of a complete pull.
fn complete_commit() -> Commit {
    let commit = commit_of(1);
    let state = VaultState { filter: Some(Filter::default().fingerprint()), ..commit.state };
    Commit { state, ..commit }
}

/// The note of a run after a power failure: empty, or a part.
#[tokio::test]
async fn a_note_of_the_last_run_that_cannot_be_read_counts_as_a_run_that_was_cut_short() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(complete_commit()).await.unwrap();
    let note = file.path().with_extension("sqlite-run");
    assert_eq!(Unfinished::of(&state, false).await.unwrap(), [], "no run was ever noted");
    let complete = LastRun::begin(None).end(RunOutcome::Complete, None);
    state.note_run(&complete).await;
    assert_eq!(Unfinished::of(&state, false).await.unwrap(), []);
    let whole = fs::read(&note).unwrap();
    for text in [&b""[..], b"\n", &whole[..whole.len() / 2], &[0; 200], b"\xff"] {
        fs::write(&note, text).unwrap();
        assert_eq!(Unfinished::of(&state, false).await.unwrap(), [Unfinished::Interrupted], "{text:?}");
    }
    state.note_run(&complete).await;
    assert_eq!(Unfinished::of(&state, false).await.unwrap(), []);
}

#[tokio::test]
async fn a_run_is_noted_by_a_file_that_replaces_the_one_before() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(complete_commit()).await.unwrap();
    let complete = LastRun::begin(None).end(RunOutcome::Complete, None);
    state.note_run(&complete).await;
    // As seen by a process that has opened the file.
    let link = file.path().with_extension("run-opened");
    fs::hard_link(file.path().with_extension("sqlite-run"), &link).unwrap();
    let before = fs::read(&link).unwrap();
    state.note_run(&LastRun::begin(Some(&complete))).await;
    assert_eq!(fs::read(&link).unwrap(), before);
    assert_eq!(state.last_run().await.unwrap().unwrap().outcome, RunOutcome::Running);
}

#[tokio::test]
async fn the_time_of_a_check_is_overwritten_and_never_missing() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(complete_commit()).await.unwrap();
    let note = file.path().with_extension("sqlite-checked");
    let link = file.path().with_extension("checked-opened");
    // Of one length, longer, shorter, and after a file that says nothing.
    for (at, is_overwritten) in [(7, false), (8, true), (1_764_284_400_000, false), (9, false)] {
        let _ = fs::remove_file(&link);
        let had = fs::hard_link(&note, &link).is_ok();
        state.note_check(at).await;
        assert_eq!(state.last_check().await.unwrap(), Some(at));
        let is_same = had && fs::read(&link).unwrap() == fs::read(&note).unwrap();
        assert_eq!(is_same, is_overwritten, "{at}");
    }
    fs::write(&note, "").unwrap();
    state.note_check(10).await;
    assert_eq!(state.last_check().await.unwrap(), Some(10));
}

/// As on a full disk.
#[tokio::test]
async fn a_run_that_cannot_be_noted_does_not_pass_for_the_one_before() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(complete_commit()).await.unwrap();
    let complete = LastRun::begin(None).end(RunOutcome::Complete, None);
    state.note_run(&complete).await;
    // In place of the temporary file that should replace it.
    fs::create_dir(file.path().with_extension("sqlite-run.new")).unwrap();
    state.note_run(&LastRun::begin(Some(&complete))).await;
    assert_eq!(Unfinished::of(&state, false).await.unwrap(), [Unfinished::Interrupted]);
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    let file = DatabaseFile::new();
    file.state().commit(commit_of(1)).await.unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file.path()), 0o600);
    assert_eq!(mode(&file.path().with_extension("sqlite.lock")), 0o600);
    assert_eq!(mode(file.path().parent().unwrap()), 0o700);
}

#[tokio::test]
async fn one_process_at_a_time_works_with_it() {
    let file = DatabaseFile::new();
    let first = file.state();
    first.commit(commit_of(2)).await.unwrap();
    let error = file.try_open().unwrap_err();
    let held = format!(", process {} since ", std::process::id());
    assert!(matches!(&error, StateError::Locked { destination } if destination.contains(&held)), "{error}");
    let sentence = "another obsync is working on /home/me/notes (held by host ";
    assert!(error.to_string().starts_with(sentence), "{error}");
    let reader = SqliteState::read(&file.path()).unwrap();
    assert!(reader.holder().is_some_and(|holder| holder.contains(&held)));
    assert_eq!(reader.load().await.unwrap().version, 2, "looking is possible meanwhile");
    drop(first);
    assert_eq!(reader.holder(), None);
    assert!(file.try_open().is_ok());
}

#[tokio::test]
async fn a_database_opened_to_be_looked_at_is_not_changed() {
    let file = DatabaseFile::new();
    let absent = SqliteState::read(&file.path()).unwrap();
    read_everything(&absent).await;
    assert_eq!((absent.identity(), absent.summary().unwrap()), (None, None));
    assert!(matches!(absent.commit(commit_of(1)).await, Err(StateError::Unavailable { .. })));
    assert_eq!(file.files(), [""; 0]);

    file.state().commit(commit_of(1)).await.unwrap();
    let reader = SqliteState::read(&file.path()).unwrap();
    assert_eq!(reader.identity(), Some(&file.identity));
    assert!(matches!(reader.commit(commit_of(2)).await, Err(StateError::Unavailable { .. })));
    assert_eq!(reader.load().await.unwrap().version, 1);
}

#[tokio::test]
async fn the_state_of_another_vault_or_destination_is_refused() {
    let mut file = DatabaseFile::new();
    file.state().commit(commit_of(1)).await.unwrap();
    let right = file.identity.clone();
    for wrong in [
        StateIdentity { vault_id: VaultId::try_new("vault-2").unwrap(), ..right.clone() },
        StateIdentity { destination: "/elsewhere".to_owned(), ..right.clone() },
    ] {
        file.identity = wrong;
        let error = file.try_open().unwrap_err();
        assert!(matches!(&error, StateError::Unavailable { .. }), "{error}");
        assert!(
            error.to_string().contains("it is the state of /home/me/notes pulled from the vault vault-1"),
            "{error}"
        );
    }
    file.identity = right;
    assert!(file.try_open().is_ok());
}

#[tokio::test]
async fn a_vault_that_was_renamed_is_known_by_its_new_name() {
    let mut file = DatabaseFile::new();
    file.state().commit(commit_of(1)).await.unwrap();
    file.identity.vault_name = "Renamed".to_owned();
    let state = file.state();
    state.commit(Commit { state: state.load().await.unwrap(), ..Commit::default() }).await.unwrap();
    assert_eq!(SqliteState::read(&file.path()).unwrap().identity().unwrap().vault_name, "Renamed");
}

#[tokio::test]
async fn a_summary_counts_what_is_there() {
    let file = DatabaseFile::new();
    let state = file.state();
    let change = |key: &str, cause: DeferredCause| Deferred {
        key: DeferredKey::encoded(key),
        message: PushMessage::default(),
        cause,
    };
    let failed = || DeferredCause::Failed { reason: "a reason".to_owned() };
    let deferred = vec![change("1", failed()), change("2", DeferredCause::Filtered), change("3", failed())];
    state.commit(Commit { deferred, ..commit_of(5) }).await.unwrap();
    let summary = state.summary().unwrap().unwrap();
    assert_eq!(summary.identity, file.identity);
    assert_eq!((summary.version, summary.listed), (5, true));
    assert_eq!((summary.files, summary.folders, summary.bytes), (5, 5, 1 + 2 + 3 + 4));
    assert_eq!((summary.failed, summary.filtered), (2, 1));
    assert!(summary.created > 1_600_000_000_000 && summary.committed >= summary.created);
}

#[tokio::test]
async fn what_an_earlier_release_kept_whole_of_unreadable_entries_is_shortened_when_a_state_is_opened() {
    let file = DatabaseFile::new();
    let state = file.state();
    let unreadable = |number: u64| {
        let path = format!("{number:04}{}", "ab".repeat(1 << 19));
        let message = PushMessage {
            uid: Uid(number),
            path: path.as_str().into(),
            hash: "c".repeat(1 << 20).into(),
            ..PushMessage::default()
        };
        let cause = DeferredCause::Failed { reason: "a reason".to_owned() };
        Deferred { key: DeferredKey::from_stored(format!("//{path}")), message, cause }
    };
    let deferred: Vec<Deferred> = (0..20).map(unreadable).collect();
    state.commit(Commit { deferred: deferred.clone(), ..commit_of(1) }).await.unwrap();
    drop(state);
    assert!(std::fs::metadata(file.path()).unwrap().len() > 50 << 20);
    let state = file.state();
    let expected: Vec<Deferred> = deferred.into_iter().map(Deferred::bounded).collect();
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), expected);
    drop(state);
    assert!(std::fs::metadata(file.path()).unwrap().len() < 1 << 20);
}

#[tokio::test]
async fn more_failed_changes_than_any_run_remembers_are_forgotten_and_everything_is_looked_at_again() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(commit_of(9)).await.unwrap();
    let failed = |number: u64, cause| {
        let message = PushMessage {
            uid: Uid(number),
            path: format!("{number:06}").as_str().into(),
            ..PushMessage::default()
        };
        Deferred { key: DeferredKey::encoded(&format!("{number:06}")), message, cause }
    };
    let cause = || DeferredCause::Failed { reason: "a reason".to_owned() };
    let filtered = failed(7_000_000, DeferredCause::Filtered);
    let too_many = DEFERRED_CHANGES as u64 + 1;
    let deferred = (1..=too_many).map(|number| failed(number, cause())).chain([filtered.clone()]).collect();
    state.commit(Commit { deferred, ..commit_of(9) }).await.unwrap();
    let looked_at = SqliteState::read(&file.path()).unwrap();
    assert_eq!(looked_at.deferred(DeferredKind::Failed).await.unwrap().len(), DEFERRED_CHANGES);
    drop((state, looked_at));
    for _ in 0..2 {
        let state = file.state();
        assert_eq!(state.load().await.unwrap().full_up_to, Some(0));
        assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), []);
        assert_eq!(state.deferred(DeferredKind::Filtered).await.unwrap(), std::slice::from_ref(&filtered));
    }
}

#[tokio::test]
async fn more_filtered_changes_than_a_listing_may_have_are_forgotten_and_everything_is_looked_at_again() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(commit_of(9)).await.unwrap();
    drop(state);
    // The result of many runs with a hostile service, created at once.
    let database = rusqlite::Connection::open(file.path()).unwrap();
    let fill = "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number LIMIT ?1)
                INSERT INTO deferred SELECT 'k' || n, 0, NULL, n, '', NULL, '', 0, 0, 0, 0, 0, '', '', NULL FROM number";
    database.execute(fill, [FILTERED_CHANGES as i64]).unwrap();
    assert_eq!(file.state().load().await.unwrap().full_up_to, None, "so many are kept");
    database
        .execute_batch(
            "INSERT INTO deferred VALUES ('more', 0, NULL, 1, '', NULL, '', 0, 0, 0, 0, 0, '', '', NULL)",
        )
        .unwrap();
    let state = file.state();
    assert_eq!(state.load().await.unwrap().full_up_to, Some(0));
    assert_eq!(state.deferred(DeferredKind::Filtered).await.unwrap(), []);
}

#[tokio::test]
async fn a_version_that_is_too_large_is_refused_and_nothing_of_its_commit_is_kept() {
    let file = DatabaseFile::new();
    let state = file.state();
    state.commit(commit_of(1)).await.unwrap();
    let too_large = VaultState { version: u64::MAX, ..VaultState::default() };
    let error = state.commit(Commit { state: too_large, ..commit_of(9) }).await.unwrap_err();
    assert!(error.to_string().contains("larger than it can hold"), "{error}");
    let change = Deferred {
        key: DeferredKey::encoded("1"),
        message: PushMessage { uid: Uid(1 << 63), ..PushMessage::default() },
        cause: DeferredCause::Filtered,
    };
    assert!(state.commit(Commit { deferred: vec![change], ..commit_of(9) }).await.is_err());
    assert_eq!(state.all_records().await.unwrap().len(), 2);
    assert_eq!(state.load().await.unwrap().version, 1);
}

#[tokio::test]
async fn a_full_disk_keeps_what_was_committed_before() {
    let Some(disk) =
        confined("state::a_full_disk_keeps_what_was_committed_before", Confinement::Disk("size=1m"))
    else {
        return;
    };
    let identity = DatabaseFile::new().identity;
    let path = disk.join("one.sqlite");
    let state = SqliteState::open(&path, &identity).unwrap();
    state.commit(commit_of(100)).await.unwrap();
    let error = state.commit(commit_of(50_000)).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("no space is left"), "{error}");
    assert_eq!(state.load().await.unwrap().version, 100);
    drop(state);
    let state = SqliteState::open(&path, &identity).unwrap();
    assert_eq!(state.all_records().await.unwrap().len(), 200);
    state.commit(commit_of(101)).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_writable_is_told_with_what_to_do() {
    let test = "state::a_folder_that_is_not_writable_is_told_with_what_to_do";
    let Some(home) = confined(test, Confinement::NoPrivileges) else { return };
    fs::set_permissions(&home, fs::Permissions::from_mode(0o555)).unwrap();
    let identity = DatabaseFile::new().identity;
    let error = SqliteState::open(&home.join("state/one.sqlite"), &identity).unwrap_err();
    assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("OBSYNC_HOME"), "{error}");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
}
