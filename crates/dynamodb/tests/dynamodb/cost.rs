//! The number of requests of a run.

use obsync_conformance::placing;
use obsync_core::{Commit, DeferredKey, DeferredKind, StateStore};
use obsync_dynamodb::{DynamoState, StateKey};
use obsync_protocol::{VaultId, VaultPath};
use obsync_testcloud::Service;

use crate::scene::{DESTINATION, Scene, commit_of, file, files, key, version};

/// The engine's calls to the state in an incremental run with these files.
async fn incremental_run(state: &DynamoState, changed: Vec<obsync_core::Record>, at_version: u64) {
    state.load().await.unwrap();
    state.load().await.unwrap();
    assert_eq!(state.intents().await.unwrap(), []);
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), []);
    let paths: Vec<VaultPath> = changed.iter().map(|record| record.path.clone()).collect();
    assert_eq!(state.records(&paths).await.unwrap().iter().flatten().count(), changed.len());
    let known = state.load().await.unwrap();
    state
        .commit(Commit { intents: placing(changed.clone()), state: known, ..Commit::default() })
        .await
        .unwrap();
    let resolved: Vec<DeferredKey> = paths.iter().map(DeferredKey::plain).collect();
    let last = Commit { records: changed, resolved, state: version(at_version), ..Commit::default() };
    state.commit(last).await.unwrap();
    // The engine's last commit, which adds nothing.
    state.commit(Commit { state: version(at_version), ..Commit::default() }).await.unwrap();
    state.close().await.unwrap();
}

#[tokio::test]
async fn ten_changes_in_ten_thousand_files_cost_five_requests() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(10_000), 10_000)).await.unwrap();
    state.close().await.unwrap();

    let before = scene.cloud.counts();
    let state = scene.state().await;
    let changed =
        (0..10).map(|number| file(&format!("folder/{}.md", number * 997), 10_001 + number)).collect();
    incremental_run(&state, changed, 10_010).await;
    let requests = scene.requests_since(&before);
    // Lease, look-up, announcement, records, end of lease.
    for (operation, count) in [("UpdateItem", 2), ("BatchGetItem", 1), ("TransactWriteItems", 2)] {
        assert_eq!(requests.of(Service::DynamoDb, operation), count, "{requests}");
    }
    assert_eq!(requests.total(Service::DynamoDb), 5, "{requests}");
    assert_eq!(state.table().requests(), 5, "the table counts them itself");
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.version), (10_000, 10_010));
}

#[tokio::test]
async fn a_run_without_changes_costs_two_requests() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(3), 3)).await.unwrap();
    state.close().await.unwrap();
    let before = scene.cloud.counts();
    incremental_run(&scene.state().await, Vec::new(), 3).await;
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 2);
}

#[tokio::test]
async fn a_first_run_looks_nothing_up() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let before = scene.cloud.counts();
    let paths: Vec<VaultPath> = files(5_000).into_iter().map(|record| record.path).collect();
    assert!(state.records(&paths).await.unwrap().iter().all(Option::is_none));
    assert_eq!(state.all_records().await.unwrap(), []);
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 0);
    for part in files(5_000).chunks(99) {
        state.commit(commit_of(part.to_vec(), 0)).await.unwrap();
    }
    let requests = scene.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "TransactWriteItems"), 51);
    assert_eq!(requests.total(Service::DynamoDb), 51);
}

/// Announces and commits these files as the engine does, a hundred at a time: each batch is committed with
/// the announcement of the next.
async fn bring(state: &DynamoState, files: &[obsync_core::Record]) {
    let mut records = Vec::new();
    for batch in files.chunks(100) {
        let known = state.load().await.unwrap();
        let commit = Commit { records, intents: placing(batch.to_vec()), state: known, ..Commit::default() };
        state.commit(commit).await.unwrap();
        records = batch.to_vec();
    }
    let known = state.load().await.unwrap();
    state.commit(Commit { records, state: known, ..Commit::default() }).await.unwrap();
}

#[tokio::test]
async fn a_first_pull_of_ten_thousand_files_costs_two_requests_for_every_hundred() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    bring(&state, &files(10_000)).await;
    state.commit(commit_of(Vec::new(), 10_000)).await.unwrap();
    state.close().await.unwrap();
    let counts = scene.cloud.counts();
    // The announcement of the first hundred; and for each hundred its records, which take two requests with
    // the rest of the commit.
    assert_eq!(counts.of(Service::DynamoDb, "TransactWriteItems"), 1 + 2 * 100 + 1, "{counts}");
    assert_eq!(counts.total(Service::DynamoDb), 204, "the lease is taken and let go of: {counts}");
    assert_eq!(state.summary().await.unwrap().unwrap().files, 10_000);
}

#[tokio::test]
async fn a_complete_run_looks_nothing_up_that_it_has_read() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(50), 50)).await.unwrap();
    state.close().await.unwrap();
    let before = scene.cloud.counts();
    let state = scene.state().await;
    assert_eq!(state.all_records().await.unwrap().len(), 50);
    bring(&state, &files(150)).await;
    let requests = scene.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "Scan"), 1, "{requests}");
    assert_eq!(requests.of(Service::DynamoDb, "BatchGetItem"), 0, "{requests}");
    assert_eq!(state.summary().await.unwrap().unwrap().files, 150);
}

#[tokio::test]
async fn lookups_are_made_a_hundred_at_a_time() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(1), 1)).await.unwrap();
    let before = scene.cloud.counts();
    let paths: Vec<VaultPath> = files(250).into_iter().map(|record| record.path).collect();
    let twice: Vec<VaultPath> = paths.iter().chain(&paths).cloned().collect();
    assert_eq!(state.records(&twice).await.unwrap().iter().flatten().count(), 2);
    assert_eq!(scene.requests_since(&before).of(Service::DynamoDb, "BatchGetItem"), 3);
}

#[tokio::test]
async fn how_fresh_many_states_are_costs_a_request_for_every_hundred() {
    let scene = Scene::new().await;
    // The vault's first destination was up to date once, its second was only begun.
    let states = [key(DESTINATION), key("s3://bucket/copy")];
    for (state, checked) in states.iter().zip([Some(7), None]) {
        let lease = scene.lease_of("a test");
        let opened = DynamoState::open(&scene.table(), state.clone(), &lease).await.unwrap();
        if let Some(at) = checked {
            opened.note_check(at).await;
        }
        opened.close().await.unwrap();
    }
    let unknown = (0..150).map(|number| StateKey {
        vault_id: VaultId::try_new(format!("unknown-{number}")).unwrap(),
        ..key(DESTINATION)
    });
    let asked: Vec<StateKey> = states.into_iter().chain(unknown).collect();
    let before = scene.cloud.counts();
    let found = scene.table().freshness(&asked).await.unwrap();
    assert_eq!(found[0].unwrap().checked, Some(7));
    assert!(found[1].is_some_and(|second| second.checked.is_none() && second.created > 0));
    assert!(found[2..].iter().all(Option::is_none) && found.len() == asked.len());
    // States found under the vault are not looked for under the destination.
    let requests = scene.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "BatchGetItem"), 2 + 2, "{requests}");
}
