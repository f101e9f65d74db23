//! The contract of [`StateStore`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use obsync_core::{
    Commit, CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, DestinationIdentity,
    Direction, FileMeta, Intent, KnownContent, LocalFacts, RandomId, Record, RecordKind, StateStore,
    VaultState,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};

use super::tools::{at, meta};

/// The intents to commit before these files are put in place.
pub fn placing(records: impl IntoIterator<Item = Record>) -> Vec<Intent> {
    records.into_iter().map(Intent::Place).collect()
}

/// A place for one state database.
#[async_trait]
pub trait StateStoreUnderTest: Send + Sync {
    /// The kind of database.
    type State: StateStore;

    /// The database, opened like by a new run. An earlier one was dropped before.
    async fn open(&self) -> Self::State;

    /// The database, opened read-only while another process may have it.
    async fn look(&self) -> Self::State;
}

/// Checks the whole contract of [`StateStore`], each part at an empty scene made by `fresh`.
///
/// # Panics
///
/// If the contract is violated.
pub async fn check_state_store<S: StateStoreUnderTest>(fresh: impl AsyncFn() -> S) {
    a_new_destination_has_the_default_state(&fresh().await).await;
    what_is_committed_is_there_in_the_next_run(&fresh().await).await;
    records_are_looked_up_in_the_order_of_the_paths(&fresh().await).await;
    a_commit_is_applied_in_its_order(&fresh().await).await;
    a_source_has_the_content_that_is_asked_for(&fresh().await).await;
    deferred_changes_come_by_kind_and_version(&fresh().await).await;
    deferred_changes_come_in_parts_also_while_they_are_removed(&fresh().await).await;
    a_folder_has_something_below_it_or_not(&fresh().await).await;
    a_later_change_takes_the_place_of_a_deferred_one(&fresh().await).await;
    what_is_about_to_be_done_is_known_until_the_next_commit(&fresh().await).await;
    facts_and_witness_stay_with_a_record(&fresh().await).await;
    what_is_known_of_vault_and_destination_is_there_in_the_next_run(&fresh().await).await;
    each_cause_of_a_deferred_change_stays_itself(&fresh().await).await;
    a_confirmation_is_left_for_whoever_has_the_lock(&fresh().await).await;
}

fn file(path: &str, content: &[u8], uid: u64) -> Record {
    let kind = RecordKind::File(FileMeta { uid: Uid(uid), ..meta(content, -5) });
    Record::new(at(path), kind)
}

fn folder(path: &str, uid: u64) -> Record {
    Record::new(at(path), RecordKind::Folder(Uid(uid)))
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

async fn a_new_destination_has_the_default_state(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    assert_eq!(state.load().await.expect("load"), VaultState::default());
    assert_eq!(look_up(&state, &["a.md", "b.md"]).await, [None, None]);
    assert_eq!(state.sources(&[ContentHash::EMPTY]).await.expect("sources"), [None]);
    assert_eq!(state.all_records().await.expect("all_records"), []);
    assert_eq!(state.intents().await.expect("intents"), []);
    assert_eq!(state.last_check().await.expect("last_check"), None);
    for kind in [DeferredKind::Filtered, DeferredKind::Failed] {
        assert_eq!(state.deferred(kind).await.expect("deferred"), []);
    }
}

async fn what_is_committed_is_there_in_the_next_run(scene: &impl StateStoreUnderTest) {
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
            full_up_to: Some(7),
            ..VaultState::default()
        },
        ..Commit::default()
    };
    commit(&scene.open().await, whole.clone()).await;
    let state = scene.open().await;
    assert_eq!(state.load().await.expect("load"), whole.state);
    assert_eq!(sorted(state.all_records().await.expect("all_records")), sorted(records));
    assert_eq!(state.deferred(DeferredKind::Filtered).await.expect("deferred"), [filtered]);
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), [failing]);
}

async fn records_are_looked_up_in_the_order_of_the_paths(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    let records = vec![file("a.md", b"a", 1), folder("b", 2)];
    commit(&state, Commit { records, ..Commit::default() }).await;
    let found = look_up(&state, &["b", "missing", "a.md", "A.md", "b"]).await;
    let wanted = [Some(folder("b", 2)), None, Some(file("a.md", b"a", 1)), None, Some(folder("b", 2))];
    assert_eq!(found, wanted);
}

async fn a_commit_is_applied_in_its_order(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
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
        resolved: keys.to_vec(),
        deferred: vec![deferred(keys[1].clone(), 7, failed())],
        intents: Vec::new(),
        state: VaultState { version: 7, ..VaultState::default() },
        ..Commit::default()
    };
    commit(&state, second).await;
    let records = sorted(state.all_records().await.expect("all_records"));
    assert_eq!(records, [folder("a.md", 4), file("c.md", b"c2", 6)]);
    let left = state.deferred(DeferredKind::Failed).await.expect("deferred");
    assert_eq!(left, [deferred(keys[1].clone(), 7, failed())]);
    assert_eq!(state.load().await.expect("load").version, 7);
}

async fn a_source_has_the_content_that_is_asked_for(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    let records = vec![file("a.md", b"a", 1), file("b.md", b"b", 2), folder("c", 3)];
    commit(&state, Commit { records, ..Commit::default() }).await;
    let contents = [&b"b"[..], b"none", b"a", b"b"].map(ContentHash::of);
    let sources = state.sources(&contents).await.expect("sources");
    assert_eq!(sources.len(), contents.len());
    // A database may have no index by content, but its answers have to be right.
    for (source, right) in sources.iter().zip([Some("b.md"), None, Some("a.md"), Some("b.md")]) {
        assert!(source.is_none() || source.as_ref().map(VaultPath::as_str) == right, "{source:?}");
    }
}

async fn deferred_changes_come_by_kind_and_version(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    let change =
        |uid: u64, cause: DeferredCause| deferred(DeferredKey::encoded(&uid.to_string()), uid, cause);
    let all = [
        change(30, failed()),
        change(4, DeferredCause::Retained),
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

/// More than any database returns at once.
async fn deferred_changes_come_in_parts_also_while_they_are_removed(scene: &impl StateStoreUnderTest) {
    const MANY: u64 = 12_000;
    let state = scene.open().await;
    let cause = |uid: u64| match uid % 4000 {
        0 => DeferredCause::Retained,
        1 => failed(),
        _ => DeferredCause::Filtered,
    };
    let change = |uid: u64| deferred(DeferredKey::encoded(&uid.to_string()), uid, cause(uid));
    let all = (0..MANY).map(change).collect();
    commit(&state, Commit { deferred: all, ..Commit::default() }).await;
    for is_removing in [false, true] {
        let (mut uids, mut parts, mut from) = (BTreeSet::new(), 0, None);
        loop {
            let part = state.deferred_part(DeferredKind::Filtered, from).await.expect("part");
            parts += 1;
            uids.extend(part.changes.iter().map(|change| change.message.uid.0));
            if is_removing {
                let resolved = part.changes.into_iter().map(|change| change.key).collect();
                commit(&state, Commit { resolved, ..Commit::default() }).await;
            }
            from = part.next;
            if from.is_none() {
                break;
            }
        }
        assert!(parts > 1, "{parts} parts");
        assert!((0..MANY).filter(|uid| uid % 4000 != 1).eq(uids), "removing: {is_removing}");
    }
    assert_eq!(state.deferred(DeferredKind::Filtered).await.expect("deferred"), []);
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred").len(), 3);
    let retained = (0..3).map(|n| deferred(DeferredKey::encoded(&n.to_string()), n, DeferredCause::Retained));
    let filtered = deferred(DeferredKey::encoded("9"), 9, DeferredCause::Filtered);
    let few = retained.clone().chain([filtered]).collect();
    commit(&state, Commit { deferred: few, ..Commit::default() }).await;
    let mut part = state.retained_part(None).await.expect("part");
    part.changes.sort_by_key(|change| change.message.uid);
    assert_eq!((part.changes, part.next), (retained.collect(), None));
}

async fn a_folder_has_something_below_it_or_not(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    let records = vec![folder("a", 1), file("b.md", b"b", 2), file("c/d.md", b"d", 3), folder("e/f", 4)];
    commit(&state, Commit { records, ..Commit::default() }).await;
    for (path, has) in [("a", false), ("b", false), ("b.md", false), ("c", true), ("e", true), ("e/f", false)]
    {
        assert_eq!(state.has_below(&at(path)).await.expect("has_below"), has, "{path}");
    }
}

async fn a_later_change_takes_the_place_of_a_deferred_one(scene: &impl StateStoreUnderTest) {
    let state = scene.open().await;
    let key = DeferredKey::plain(&at("a.md"));
    for (uid, cause) in [(1, failed()), (2, DeferredCause::Filtered)] {
        let deferred = vec![deferred(key.clone(), uid, cause)];
        commit(&state, Commit { deferred, ..Commit::default() }).await;
    }
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), []);
    let filtered = state.deferred(DeferredKind::Filtered).await.expect("deferred");
    assert_eq!(filtered, [deferred(key, 2, DeferredCause::Filtered)]);
}

async fn what_is_about_to_be_done_is_known_until_the_next_commit(scene: &impl StateStoreUnderTest) {
    let content = KnownContent::of(b"b");
    let first = vec![
        Intent::Place(file("a.md", b"a", 1)),
        Intent::Place(folder("b", 2)),
        Intent::Exchange { path: at("c.md"), staged: "staged-1".to_owned(), expected: Some(content) },
        Intent::Exchange { path: at("d.md"), staged: "staged-2".to_owned(), expected: None },
        Intent::Remove { path: at("e.md"), content },
        Intent::Push {
            path: at("f.md"),
            from: Some(at("old f.md")),
            content: Some(content),
            base: Uid(7),
            missing_since: Some(1_700_000_000_000),
        },
        Intent::Push { path: at("g.md"), from: None, content: None, base: Uid(1 << 53), missing_since: None },
    ];
    commit(&scene.open().await, Commit { intents: first.clone(), ..Commit::default() }).await;
    let state = scene.open().await;
    let intents = async || state.intents().await.expect("intents");
    assert_eq!(intents().await, first);
    assert_eq!(state.all_records().await.expect("all_records"), [], "to be about to is not to record");
    let second = vec![Intent::Place(file("a.md", b"a2", 3))];
    commit(&state, Commit { intents: second.clone(), ..Commit::default() }).await;
    assert_eq!(intents().await, second);
    commit(&state, Commit::default()).await;
    assert_eq!(intents().await, []);
}

async fn facts_and_witness_stay_with_a_record(scene: &impl StateStoreUnderTest) {
    let object = LocalFacts::Object { size: 3, entity_tag: "\"a\\tag\"".to_owned() };
    let at_the_limits =
        LocalFacts::File { size: 1 << 52, modified: i64::MIN, changed: i64::MAX, inode: u64::MAX };
    let records = vec![
        Record { facts: Some(object), witnessed: false, ..file("a.md", b"a", 1) },
        Record { facts: Some(at_the_limits), witnessed: true, ..file("b.md", b"b", 2) },
        Record { witnessed: true, ..folder("c", 3) },
        file("d.md", b"d", 4),
    ];
    commit(&scene.open().await, Commit { records: records.clone(), ..Commit::default() }).await;
    let state = scene.open().await;
    assert_eq!(sorted(state.all_records().await.expect("all_records")), records);
    let found = look_up(&state, &["a.md", "b.md", "c", "d.md"]).await;
    assert_eq!(found.into_iter().flatten().collect::<Vec<_>>(), records);
    // A record replaces another as a whole.
    commit(&state, Commit { records: vec![file("b.md", b"b2", 5)], ..Commit::default() }).await;
    assert_eq!(look_up(&state, &["b.md"]).await, [Some(file("b.md", b"b2", 5))]);
}

async fn what_is_known_of_vault_and_destination_is_there_in_the_next_run(scene: &impl StateStoreUnderTest) {
    let id = |digit: char| -> RandomId { digit.to_string().repeat(32).parse().expect("an id") };
    let whole = VaultState {
        version: 9,
        cursor: Some(CursorEntry {
            uid: Uid(1 << 53),
            path: ContentHash::of(b"path"),
            entry: ContentHash::of(b"entry"),
        }),
        direction: Direction::Both,
        keeping: true,
        forgetting: true,
        destination: Some(DestinationIdentity {
            id: id('0'),
            generation: id('a'),
            next: Some(id('f')),
            tag: Some("\"a tag\"".to_owned()),
        }),
        deletions: vec![
            Deletions { minute: -1, here: 2, there: u64::MAX },
            Deletions { minute: 3, here: 0, there: 1 },
        ],
        ..VaultState::default()
    };
    let without_next = DestinationIdentity { id: id('1'), generation: id('b'), next: None, tag: None };
    let less = VaultState {
        direction: Direction::Push,
        destination: Some(without_next),
        deletions: Vec::new(),
        ..whole.clone()
    };
    for state in [whole, less, VaultState::default()] {
        commit(&scene.open().await, Commit { state: state.clone(), ..Commit::default() }).await;
        assert_eq!(scene.open().await.load().await.expect("load"), state);
    }
}

async fn each_cause_of_a_deferred_change_stays_itself(scene: &impl StateStoreUnderTest) {
    let causes = [
        failed(),
        DeferredCause::HeldBack { confirmed: None },
        DeferredCause::HeldBack { confirmed: Some(-5) },
        DeferredCause::Acknowledged { reason: "it cannot be".to_owned() },
        DeferredCause::Lasting { reason: "it cannot be".to_owned() },
        DeferredCause::Diverged,
    ];
    let changes: Vec<Deferred> = (1..)
        .zip(causes)
        .map(|(uid, cause)| deferred(DeferredKey::encoded(&format!("{uid}")), uid, cause))
        .collect();
    commit(&scene.open().await, Commit { deferred: changes.clone(), ..Commit::default() }).await;
    let state = scene.open().await;
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), changes);
    assert_eq!(state.deferred(DeferredKind::Filtered).await.expect("deferred"), []);
    let reason = "the vault changed it, and a push applies nothing here; `obsync sync` does, or `obsync push --mirror` \
                  replaces it";
    let left =
        deferred(DeferredKey::encoded("8"), 8, DeferredCause::Acknowledged { reason: reason.to_owned() });
    commit(&state, Commit { deferred: vec![left.clone()], ..Commit::default() }).await;
    let read = state.deferred(DeferredKind::Failed).await.expect("deferred");
    assert_eq!(
        read.last(),
        Some(&Deferred { cause: DeferredCause::Diverged, ..left.clone() }),
        "of an earlier release"
    );
    commit(&state, Commit { resolved: vec![left.key], ..Commit::default() }).await;
    // From one cause to another, and to none.
    let retained = deferred(DeferredKey::encoded("9"), 9, DeferredCause::Retained);
    commit(&state, Commit { deferred: vec![retained.clone()], ..Commit::default() }).await;
    assert_eq!(state.deferred(DeferredKind::Filtered).await.expect("deferred"), [retained]);
    let key = changes[0].key.clone();
    let held_back = deferred(key.clone(), 1, DeferredCause::HeldBack { confirmed: None });
    commit(&state, Commit { deferred: vec![held_back.clone()], ..Commit::default() }).await;
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred")[0], held_back);
    commit(&state, Commit { resolved: vec![key], ..Commit::default() }).await;
    assert_eq!(state.deferred(DeferredKind::Failed).await.expect("deferred"), changes[1..]);
}

async fn a_confirmation_is_left_for_whoever_has_the_lock(scene: &impl StateStoreUnderTest) {
    let first = scene.open().await;
    let change = deferred(DeferredKey::plain(&at("gone.md")), 7, DeferredCause::HeldBack { confirmed: None });
    commit(&first, Commit { deferred: vec![change], ..Commit::default() }).await;
    assert_eq!(first.confirmations().await.expect("confirmations"), [0; 0]);
    let other = scene.look().await;
    other.leave_confirmations(vec![7, 9]).await.expect("leave_confirmations");
    other.leave_confirmations(vec![7, 1 << 53]).await.expect("leave_confirmations");
    let mut left = first.confirmations().await.expect("confirmations");
    left.sort_unstable();
    left.dedup();
    assert_eq!(left, [7, 9, 1 << 53]);
    first.forget_confirmations(&[7, 1 << 53]).await.expect("forget_confirmations");
    assert_eq!(first.confirmations().await.expect("confirmations"), [9]);
    // The commit of a run does not change them.
    commit(&first, commit_of_nothing()).await;
    assert_eq!(scene.look().await.confirmations().await.expect("confirmations"), [9]);
    first.forget_confirmations(&[9]).await.expect("forget_confirmations");
    assert_eq!(first.confirmations().await.expect("confirmations"), [0; 0]);
}

fn commit_of_nothing() -> Commit {
    Commit { state: VaultState { version: 8, ..VaultState::default() }, ..Commit::default() }
}
