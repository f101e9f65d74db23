//! The promises of [`StateStore`].

use async_trait::async_trait;
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, FileMeta, Record, RecordKind, StateStore,
    VaultState,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};

use super::tools::{at, meta};

/// A place for one state database.
#[async_trait]
pub trait StateStoreSite: Send + Sync {
    /// The kind of database.
    type State: StateStore;

    /// The database, opened as a new run opens it. An earlier one was dropped before.
    async fn open(&self) -> Self::State;
}

/// Checks all promises of [`StateStore`], each at an empty site made by `fresh`.
///
/// # Panics
///
/// If a promise is broken.
pub async fn check_state_store<S: StateStoreSite>(fresh: impl AsyncFn() -> S) {
    a_new_destination_has_the_default_state(&fresh().await).await;
    what_is_committed_is_there_in_the_next_run(&fresh().await).await;
    records_are_looked_up_in_the_order_of_the_paths(&fresh().await).await;
    a_commit_is_applied_in_its_order(&fresh().await).await;
    a_source_has_the_content_that_is_asked_for(&fresh().await).await;
    deferred_changes_come_by_kind_and_version(&fresh().await).await;
    a_later_change_takes_the_place_of_a_deferred_one(&fresh().await).await;
    what_was_announced_is_known_until_the_next_commit(&fresh().await).await;
}

fn file(path: &str, content: &[u8], uid: u64) -> Record {
    let kind = RecordKind::File(FileMeta { uid: Uid(uid), ..meta(content, -5) });
    Record { path: at(path), kind }
}

fn folder(path: &str, uid: u64) -> Record {
    Record { path: at(path), kind: RecordKind::Folder(Uid(uid)) }
}

fn deferred(key: DeferredKey, uid: u64, cause: DeferredCause) -> Deferred {
    let message = PushMessage {
        uid: Uid(uid),
        path: "encoded path".into(),
        related_path: (uid.is_multiple_of(2)).then(|| "other encoded path".into()),
        hash: "encoded hash".into(),
        size: uid * 3,
        ctime: -1,
        mtime: i64::MAX,
        folder: uid.is_multiple_of(3),
        deleted: uid % 3 == 1,
        device: "a 'device'".to_owned(),
        user: String::new(),
    };
    Deferred { key, message, cause }
}

fn failed() -> DeferredCause {
    DeferredCause::Failed { reason: "a \"reason\"".to_owned() }
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|a, b| a.path.cmp(&b.path));
    records
}

async fn commit(state: &impl StateStore, commit: Commit) {
    state.commit(commit).await.expect("commit");
}

async fn look_up(state: &impl StateStore, paths: &[&str]) -> Vec<Option<Record>> {
    let paths: Vec<VaultPath> = paths.iter().map(|path| at(path)).collect();
    state.records(&paths).await.expect("records")
}

async fn a_new_destination_has_the_default_state(site: &impl StateStoreSite) {
    let state = site.open().await;
    assert_eq!(state.load().await.expect("load"), VaultState::default());
    assert_eq!(look_up(&state, &["a.md", "b.md"]).await, [None, None]);
    assert_eq!(state.sources(&[ContentHash::EMPTY]).await.expect("sources"), [None]);
    assert_eq!(state.all_records().await.expect("all_records"), []);
    assert_eq!(state.announced().await.expect("announced"), []);
    for kind in [DeferredKind::Filtered, DeferredKind::Failed] {
        assert_eq!(state.deferred(kind).await.expect("deferred"), []);
    }
}

async fn what_is_committed_is_there_in_the_next_run(site: &impl StateStoreSite) {
    let records = vec![file("Ünï/Note.md", b"text", 1 << 52), folder("Ünï", 3)];
    let filtered = deferred(DeferredKey::plain(&at("c.png")), 4, DeferredCause::Filtered);
    let failing = deferred(DeferredKey::encoded("0f"), 5, failed());
    let whole = Commit {
        records: records.clone(),
        deferred: vec![filtered.clone(), failing.clone()],
        state: VaultState {
            version: 1 << 53,
            listed: true,
            filter: Some("a filter".to_owned()),
            rechecking: Some(7),
        },
        ..Commit::default()
    };
    commit(&site.open().await, whole.clone()).await;
    let state = site.open().await;
    assert_eq!(state.load().await.expect("load"), whole.state);
    assert_eq!(sorted(state.all_records().await.expect("all_records")), sorted(records));
    assert_eq!(state.deferred(DeferredKind::Filtered).await.expect("deferred"), [filtered]);
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), [failing]);
}

async fn records_are_looked_up_in_the_order_of_the_paths(site: &impl StateStoreSite) {
    let state = site.open().await;
    let records = vec![file("a.md", b"a", 1), folder("b", 2)];
    commit(&state, Commit { records, ..Commit::default() }).await;
    let found = look_up(&state, &["b", "missing", "a.md", "A.md", "b"]).await;
    let wanted = [Some(folder("b", 2)), None, Some(file("a.md", b"a", 1)), None, Some(folder("b", 2))];
    assert_eq!(found, wanted);
}

async fn a_commit_is_applied_in_its_order(site: &impl StateStoreSite) {
    let state = site.open().await;
    let keys = [DeferredKey::plain(&at("x")), DeferredKey::plain(&at("y"))];
    let first = Commit {
        records: vec![file("a.md", b"a", 1), file("b.md", b"b", 2)],
        deferred: vec![deferred(keys[0].clone(), 3, failed())],
        ..Commit::default()
    };
    commit(&state, first).await;
    let second = Commit {
        forgotten: vec![at("a.md"), at("b.md"), at("never was.md")],
        records: vec![folder("a.md", 4), file("c.md", b"c", 5), file("c.md", b"c2", 6)],
        settled: keys.to_vec(),
        deferred: vec![deferred(keys[1].clone(), 7, failed())],
        announced: Vec::new(),
        state: VaultState { version: 7, ..VaultState::default() },
    };
    commit(&state, second).await;
    let records = sorted(state.all_records().await.expect("all_records"));
    assert_eq!(records, [folder("a.md", 4), file("c.md", b"c2", 6)]);
    let left = state.deferred(DeferredKind::Failed).await.expect("deferred");
    assert_eq!(left, [deferred(keys[1].clone(), 7, failed())]);
    assert_eq!(state.load().await.expect("load").version, 7);
}

async fn a_source_has_the_content_that_is_asked_for(site: &impl StateStoreSite) {
    let state = site.open().await;
    let records = vec![file("a.md", b"a", 1), file("b.md", b"b", 2), folder("c", 3)];
    commit(&state, Commit { records, ..Commit::default() }).await;
    let contents = [&b"b"[..], b"none", b"a", b"b"].map(ContentHash::of);
    let sources = state.sources(&contents).await.expect("sources");
    assert_eq!(sources.len(), contents.len());
    // A database may have no index by content; but what it answers has to be right.
    for (source, right) in sources.iter().zip([Some("b.md"), None, Some("a.md"), Some("b.md")]) {
        assert!(source.is_none() || source.as_ref().map(VaultPath::as_str) == right, "{source:?}");
    }
}

async fn deferred_changes_come_by_kind_and_version(site: &impl StateStoreSite) {
    let state = site.open().await;
    let change =
        |uid: u64, cause: DeferredCause| deferred(DeferredKey::encoded(&uid.to_string()), uid, cause);
    let all = [
        change(30, failed()),
        change(4, DeferredCause::Filtered),
        change(20, failed()),
        change(1, DeferredCause::Filtered),
    ];
    commit(&state, Commit { deferred: all.to_vec(), ..Commit::default() }).await;
    let uids = async |kind| -> Vec<u64> {
        state.deferred(kind).await.expect("deferred").iter().map(|change| change.message.uid.0).collect()
    };
    assert_eq!(uids(DeferredKind::Failed).await, [20, 30]);
    assert_eq!(uids(DeferredKind::Filtered).await, [1, 4]);
}

async fn a_later_change_takes_the_place_of_a_deferred_one(site: &impl StateStoreSite) {
    let state = site.open().await;
    let key = DeferredKey::plain(&at("a.md"));
    for (uid, cause) in [(1, failed()), (2, DeferredCause::Filtered)] {
        let deferred = vec![deferred(key.clone(), uid, cause)];
        commit(&state, Commit { deferred, ..Commit::default() }).await;
    }
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), []);
    let filtered = state.deferred(DeferredKind::Filtered).await.expect("deferred");
    assert_eq!(filtered, [deferred(key, 2, DeferredCause::Filtered)]);
}

async fn what_was_announced_is_known_until_the_next_commit(site: &impl StateStoreSite) {
    let first = vec![file("a.md", b"a", 1), file("b.md", b"b", 2)];
    commit(&site.open().await, Commit { announced: first.clone(), ..Commit::default() }).await;
    let state = site.open().await;
    assert_eq!(sorted(state.announced().await.expect("announced")), first);
    assert_eq!(state.all_records().await.expect("all_records"), [], "to announce is not to record");
    let second = vec![file("a.md", b"a2", 3)];
    commit(&state, Commit { announced: second.clone(), ..Commit::default() }).await;
    assert_eq!(state.announced().await.expect("announced"), second);
    commit(&state, Commit::default()).await;
    assert_eq!(state.announced().await.expect("announced"), []);
}
