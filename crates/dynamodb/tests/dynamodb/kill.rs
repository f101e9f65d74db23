//! Runs that die at any moment: the version is never ahead of the records for the next run.

use std::collections::BTreeSet;
use std::time::Duration;

use obsync_conformance::{at, placing};
use obsync_core::{Commit, DeferredKey, DeferredKind, Record, StateStore, VaultState};
use obsync_dynamodb::DynamoState;
use obsync_protocol::VaultPath;
use obsync_testcloud::{RequestRecord, Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::scene::{
    DESTINATION, Scene, VAULT, change_key, commit_of, failure, file, files, key, left_out, quick, version,
};
use crate::wire::Wire;

/// A commit with some of everything, too large for one transaction, after [`groundwork`].
fn large() -> Commit {
    Commit {
        forgotten: vec![at("old 1.md"), at("old 2.md")],
        records: files(250),
        resolved: (0..100).map(change_key).collect(),
        deferred: (300..700).map(failure).chain((1_000..1_200).map(left_out)).collect(),
        intents: placing(with_long_paths(2_000)),
        state: version(1_200),
        ..Commit::default()
    }
}

fn groundwork() -> Commit {
    let records = vec![file("old 1.md", 1), file("old 2.md", 2)];
    let deferred = (0..100).map(failure).collect();
    let state = VaultState { full_up_to: Some(1), ..version(2) };
    Commit { records, deferred, intents: placing(with_long_paths(1_200)), state, ..Commit::default() }
}

/// Enough files that their announcements need several items.
fn with_long_paths(count: u64) -> Vec<Record> {
    (0..count).map(|number| file(&format!("{}/{number}.md", "long ".repeat(20)), number)).collect()
}

/// Checks that a state is consistent, whatever part of the large commit it has, and that the commit can be
/// repeated.
async fn is_whole(scene: &Scene, state: &DynamoState) -> bool {
    let known = state.load().await.unwrap();
    let records = state.all_records().await.unwrap();
    let failed = state.deferred(DeferredKind::Failed).await.unwrap();
    let filtered = state.deferred(DeferredKind::Filtered).await.unwrap();
    let announced = state.intents().await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!(summary.files, records.len() as u64);
    assert_eq!((summary.failed, summary.filtered), (failed.len() as u64, filtered.len() as u64));
    let is_done = known == version(1_200);
    if is_done {
        assert_eq!((records.len(), failed.len(), filtered.len()), (250, 400, 200));
        assert_eq!(announced, large().intents);
    } else {
        assert_eq!(known, groundwork().state);
        assert_eq!((failed.len(), filtered.len()), (100, 0));
        assert_eq!(announced, groundwork().intents);
    }
    let paths: Vec<VaultPath> = files(250).into_iter().map(|record| record.path).collect();
    let found = state.records(&paths).await.unwrap();
    assert!(!is_done || found.iter().all(Option::is_some), "the version is ahead of its records");

    state.commit(large()).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.failed, summary.filtered), (250, 400, 200));
    state.close().await.unwrap();
    let pages =
        |name: &str| -> usize { scene.item(VAULT).unwrap()[name]["N"].as_str().unwrap().parse().unwrap() };
    let items = 1 + 250 + pages("failed_pages") + pages("filtered_pages") + pages("announced_pages");
    assert_eq!(scene.keys().len(), items, "nothing is left behind: {:?}", scene.keys());
    is_done
}

#[tokio::test]
async fn a_run_that_is_cut_off_after_any_request_leaves_a_whole_state() {
    for carried_out in [false, true] {
        let mut done = 0;
        for request in 0.. {
            let scene = Scene::new().await;
            let state = scene.state().await;
            state.commit(groundwork()).await.unwrap();
            // From this request on no answers arrive, whether the requests take effect or not.
            let lost = Chance::next(1).after(request);
            let dead = Chance::always().after(request + u64::from(carried_out));
            let operations = vec!["TransactWriteItems".to_owned(), "BatchGetItem".to_owned()];
            let mut faults = ServiceFaults { operations, dropped: dead, ..ServiceFaults::default() };
            if carried_out {
                faults.lost_answer = lost;
            }
            scene.cloud.faults().update(|all| all.dynamodb = faults);
            let outcome = state.commit(large()).await;
            scene.cloud.faults().clear();
            drop(state);
            done += u32::from(is_whole(&scene, &scene.state_after("next").await).await);
            if outcome.is_ok() {
                assert!(request >= 4, "the commit takes several requests");
                break;
            }
        }
        assert!(done >= 1);
    }
}

/// A commit with more deferred changes than are written at once, some of which failed before.
fn thousands() -> Commit {
    let deferred = (0..6_000).map(left_out).collect();
    Commit { deferred, ..commit_of(files(5), 6_000) }
}

#[tokio::test]
async fn a_run_that_is_cut_off_while_it_defers_thousands_of_changes_forgets_none() {
    let mut cut = 0;
    for request in 0.. {
        let scene = Scene::new().await;
        let state = scene.state().await;
        let failed = (0..600).map(failure).collect();
        state.commit(Commit { deferred: failed, ..commit_of(Vec::new(), 600) }).await.unwrap();
        let dropped = Chance::always().after(request);
        let operations = vec!["TransactWriteItems".to_owned()];
        let faults = ServiceFaults { operations, dropped, ..ServiceFaults::default() };
        scene.cloud.faults().update(|all| all.dynamodb = faults);
        let is_done = state.commit(thousands()).await.is_ok();
        scene.cloud.faults().clear();
        drop(state);

        let next = scene.state_after("next").await;
        let failed = keys_of(&next, DeferredKind::Failed).await;
        let filtered = keys_of(&next, DeferredKind::Filtered).await;
        let summary = next.summary().await.unwrap().unwrap();
        assert_eq!((summary.failed, summary.filtered), (failed.len() as u64, filtered.len() as u64));
        let both: BTreeSet<_> = failed.union(&filtered).collect();
        assert!((0..600).map(change_key).all(|key| both.contains(&key)), "{request} requests");
        assert_eq!(next.load().await.unwrap().version == 6_000, is_done);
        next.commit(thousands()).await.unwrap();
        let summary = next.summary().await.unwrap().unwrap();
        assert_eq!((summary.files, summary.failed, summary.filtered), (5, 0, 6_000));
        if is_done {
            break;
        }
        cut += 1;
    }
    assert!(cut >= 4, "{cut}");
}

/// A commit whose records nearly fill a transaction, and which settles most of the 61 changes that failed so
/// far.
fn moving(records: u64) -> Commit {
    let deferred = (0..60).map(left_out).collect();
    Commit { deferred, ..commit_of(files(records), 200) }
}

#[tokio::test]
async fn a_change_that_failed_and_is_left_out_now_is_never_forgotten() {
    for (records, request) in [97, 98, 99].into_iter().flat_map(|records| (0..4).map(move |n| (records, n))) {
        let scene = Scene::new().await;
        let state = scene.state().await;
        let failed = (0..61).map(failure).collect();
        state.commit(Commit { deferred: failed, ..commit_of(Vec::new(), 100) }).await.unwrap();
        let operations = vec!["TransactWriteItems".to_owned()];
        let dropped = Chance::always().after(request);
        let faults = ServiceFaults { operations, dropped, ..ServiceFaults::default() };
        scene.cloud.faults().update(|all| all.dynamodb = faults);
        let is_done = state.commit(moving(records)).await.is_ok();
        scene.cloud.faults().clear();
        drop(state);

        let next = scene.state_after("next").await;
        let mut found = keys_of(&next, DeferredKind::Failed).await;
        found.extend(keys_of(&next, DeferredKind::Filtered).await);
        assert_eq!(found, (0..61).map(change_key).collect(), "{records} records, {request} requests");
        assert!(!is_done || keys_of(&next, DeferredKind::Failed).await.len() == 1);
        next.commit(moving(records)).await.unwrap();
        let summary = next.summary().await.unwrap().unwrap();
        assert_eq!((summary.files, summary.failed, summary.filtered), (records, 1, 60));
    }
}

async fn keys_of(state: &DynamoState, kind: DeferredKind) -> BTreeSet<DeferredKey> {
    state.deferred(kind).await.unwrap().into_iter().map(|change| change.key).collect()
}

#[tokio::test]
async fn a_commit_that_is_dropped_at_any_moment_leaves_a_whole_state() {
    let mut dropped = 0;
    for delay in (0..40).map(|step| Duration::from_micros(step * step * 90)) {
        let scene = Scene::new().await;
        let state = scene.state().await;
        state.commit(groundwork()).await.unwrap();
        let latency = ServiceFaults { latency: Duration::from_millis(10), ..ServiceFaults::default() };
        scene.cloud.faults().update(|all| all.dynamodb = latency);
        dropped += u32::from(tokio::time::timeout(delay, state.commit(large())).await.is_err());
        scene.cloud.faults().clear();
        // The same run continues, although its given-up requests may still take effect.
        is_whole_in_the_end(&scene, &state).await;
    }
    assert!(dropped > 15, "{dropped}");
}

async fn is_whole_in_the_end(scene: &Scene, state: &DynamoState) {
    state.commit(large()).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.failed, summary.filtered), (250, 400, 200));
    assert_eq!(summary.version, 1_200);
    state.close().await.unwrap();
    let next = DynamoState::open(&scene.table(), key(DESTINATION), &scene.lease_of("next")).await.unwrap();
    assert!(is_whole(scene, &next).await);
}

/// A state behind a wire, with one file, in a cloud that delays transactions.
async fn at_the_end_of_a_wire(scene: &Scene) -> DynamoState {
    let table = scene.table_over(&Wire::to(scene).await.client(scene), quick());
    let state = DynamoState::open(&table, key(DESTINATION), &scene.lease_of("a test")).await.unwrap();
    state.commit(commit_of(vec![file("a.md", 1)], 1)).await.unwrap();
    state
}

/// Delays transactions requested from now on by this long.
fn delay_transactions(scene: &Scene, milliseconds: u64) {
    let operations = vec!["TransactWriteItems".to_owned()];
    let latency = Duration::from_millis(milliseconds);
    let faults = ServiceFaults { operations, latency, ..ServiceFaults::default() };
    scene.cloud.faults().update(|all| all.dynamodb = faults);
}

/// Begins a commit, and gives it up once its transaction is sent.
async fn give_up(scene: &Scene, state: &DynamoState, commit: Commit) {
    let before = scene.cloud.counts();
    tokio::select! {
        outcome = state.commit(commit) => panic!("it was faster: {outcome:?}"),
        () = scene.cloud.wait_for(|counts| counts.since(&before).of(Service::DynamoDb, "TransactWriteItems") > 0) => {}
    }
}

/// Waits until every requested transaction is carried out or refused.
async fn all_are_through(scene: &Scene) {
    let is_under_way =
        |request: &RequestRecord| request.operation == "TransactWriteItems" && request.status.is_none();
    while scene.cloud.requests().iter().any(is_under_way) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_request_that_was_given_up_does_not_undo_a_later_commit() {
    let scene = Scene::new().await;
    let state = at_the_end_of_a_wire(&scene).await;
    delay_transactions(&scene, 2_000);
    give_up(&scene, &state, commit_of(vec![file("a.md", 2), file("b.md", 2)], 2)).await;
    delay_transactions(&scene, 0);
    state.commit(commit_of(vec![file("a.md", 3)], 3)).await.unwrap();
    all_are_through(&scene).await;
    assert_eq!(state.all_records().await.unwrap(), [file("a.md", 3)], "it came too late");
    state.commit(commit_of(vec![file("a.md", 4)], 4)).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.version), (1, 4));
}

#[tokio::test]
async fn a_commit_is_planned_anew_when_a_request_that_was_given_up_comes_between() {
    let scene = Scene::new().await;
    let state = at_the_end_of_a_wire(&scene).await;
    let before = scene.cloud.counts();
    delay_transactions(&scene, 2_000);
    let records = vec![file("a.md", 2), file("b.md", 2)];
    give_up(&scene, &state, Commit { deferred: vec![failure(2)], ..commit_of(records, 2) }).await;
    // Planned before that one takes effect, and examined after it.
    delay_transactions(&scene, 2_500);
    let commit = Commit { deferred: vec![failure(3)], ..commit_of(vec![file("a.md", 3)], 3) };
    state.commit(commit).await.unwrap();
    let requests = scene.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "TransactWriteItems"), 3, "one was refused: {requests}");
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), [failure(2), failure(3)]);
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.failed, summary.version), (2, 2, 3));
}
