//! One run at a time.

use std::time::Duration;

use obsync_conformance::{at, placing};
use obsync_core::{Commit, DeferredKind, StateError, StateStore};
use obsync_dynamodb::{DynamoState, StateKey, StoredProgress};
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::progress::record;
use crate::scene::{
    DESTINATION, Scene, VAULT, change_key, commit_of, failure, file, files, key, quick, version,
};
use crate::wire::Wire;

/// Cuts all clients off from the table.
fn cut_off(scene: &Scene) {
    let faults = ServiceFaults { dropped: Chance::always(), ..ServiceFaults::default() };
    scene.cloud.faults().update(|all| all.dynamodb = faults);
}

#[tokio::test]
async fn of_two_runs_one_works_and_the_other_is_told_who_does() {
    let scene = Scene::new().await;
    let state = scene.try_open("lambda 8f31").await.unwrap();
    let error = scene.try_open("somebody else").await.unwrap_err();
    assert!(
        matches!(&error, StateError::Locked { destination } if destination.starts_with(DESTINATION)),
        "{error}"
    );
    assert!(error.to_string().contains("lambda 8f31") && error.to_string().contains("60 s"), "{error}");
    state.commit(commit_of(files(1), 1)).await.unwrap();
    let holder = state.summary().await.unwrap().unwrap().holder.unwrap();
    assert_eq!(holder.owner, "lambda 8f31");

    state.close().await.unwrap();
    let next = scene.try_open("somebody else").await.unwrap();
    assert_eq!(next.load().await.unwrap(), version(1));
    let error = state.commit(commit_of(files(2), 2)).await.unwrap_err();
    assert!(error.to_string().contains("closed already"), "{error}");
    state.close().await.unwrap();
    assert!(scene.try_open("a third").await.is_err(), "closing twice does not take the lease from the next");
}

#[tokio::test]
async fn of_many_runs_at_once_exactly_one_works() {
    let scene = Scene::new().await;
    let mut runs = Vec::new();
    for number in 0..12 {
        let (table, lease) = (scene.table(), scene.lease_of(&format!("run {number}")));
        runs.push(tokio::spawn(async move { DynamoState::open(&table, key(DESTINATION), &lease).await }));
    }
    let mut working = Vec::new();
    for run in runs {
        match run.await.unwrap() {
            Ok(state) => working.push(state),
            Err(error) => assert!(matches!(error, StateError::Locked { .. }), "{error}"),
        }
    }
    assert_eq!(working.len(), 1);
}

#[tokio::test]
async fn a_lease_is_renewed_as_long_as_its_run_lives_and_runs_out_when_it_dies() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let fencing = || scene.item(VAULT).unwrap()["fencing"]["N"].clone();
    assert_eq!(fencing(), "1");
    let renewals = || scene.cloud.counts().of(Service::DynamoDb, "UpdateItem") - 1;
    // For twice its length.
    for renewal in 0..6 {
        scene.clock.until_slept(scene.lease / 3).await;
        assert_eq!(renewals(), renewal);
        scene.clock.advance(scene.lease / 3);
        scene.cloud.wait_for(|counts| counts.of(Service::DynamoDb, "UpdateItem") > renewal + 1).await;
    }
    assert!(matches!(scene.try_open("another").await, Err(StateError::Locked { .. })));
    drop(state);
    let next = scene.state_after("another").await;
    assert_eq!(fencing(), "2");
    next.commit(commit_of(files(1), 1)).await.unwrap();
}

#[tokio::test]
async fn commits_renew_the_lease() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let expires =
        || -> f64 { scene.item(VAULT).unwrap()["lease_expires"]["N"].as_str().unwrap().parse().unwrap() };
    let before = expires();
    scene.clock.advance(Duration::from_millis(5));
    state.commit(commit_of(files(1), 1)).await.unwrap();
    assert!(expires() > before);
}

#[tokio::test]
async fn a_zombie_writes_nothing_at_all() {
    let scene = Scene::new().await;
    let wire = Wire::to(&scene).await;
    let table = scene.table_over(&wire.client(&scene), quick());
    let zombie = DynamoState::open(&table, key(DESTINATION), &scene.lease_of("zombie")).await.unwrap();
    let first = vec![file("a.md", 1), file("b.md", 2)];
    zombie.commit(commit_of(first, 2)).await.unwrap();
    // It is cut off until its lease expires, and another run takes over.
    wire.cut();
    let next = scene.state_after("next").await;
    wire.mend();
    let second = Commit { forgotten: vec![at("b.md")], ..commit_of(vec![file("a.md", 7)], 7) };
    next.commit(second).await.unwrap();

    let error = zombie.write_progress(&record()).await.unwrap_err();
    assert!(matches!(error, StateError::LeaseLost { .. }), "{error}");
    let stale = Commit { forgotten: vec![at("a.md")], ..commit_of(vec![file("b.md", 3)], 3) };
    for _ in 0..2 {
        let error = zombie.commit(stale.clone()).await.unwrap_err();
        assert!(matches!(error, StateError::LeaseLost { .. }), "{error}");
        assert!(error.to_string().contains("took over"), "{error}");
    }
    zombie.lost().await;
    zombie.close().await.unwrap();
    assert_eq!(next.all_records().await.unwrap(), [file("a.md", 7)]);
    assert_eq!(next.progress().await.unwrap(), StoredProgress::Missing);
    next.commit(commit_of(Vec::new(), 8)).await.unwrap();
    assert_eq!(next.load().await.unwrap(), version(8));
}

#[tokio::test]
async fn a_run_that_lost_its_lease_learns_of_it_without_committing() {
    let scene = Scene::new().await;
    let run = scene.state().await;
    // As if another run had taken over.
    scene.spoil(VAULT, "fencing", serde_json::json!({ "N": "9" }));
    scene.clock.advance(scene.lease / 3);
    tokio::time::timeout(Duration::from_secs(30), run.lost()).await.unwrap();
    assert!(matches!(run.commit(commit_of(files(1), 1)).await, Err(StateError::LeaseLost { .. })));
}

#[tokio::test]
async fn a_zombie_that_reads_is_told_that_it_lost_its_lease_not_that_the_state_is_damaged() {
    let scene = Scene::new().await;
    let wire = Wire::to(&scene).await;
    let table = scene.table_over(&wire.client(&scene), quick());
    let zombie = DynamoState::open(&table, key(DESTINATION), &scene.lease_of("zombie")).await.unwrap();
    let first = Commit { deferred: vec![failure(1)], intents: placing(files(1)), ..commit_of(Vec::new(), 1) };
    zombie.commit(first).await.unwrap();
    wire.cut();
    let next = scene.state_after("next").await;
    next.commit(Commit { resolved: vec![change_key(1)], ..commit_of(Vec::new(), 2) }).await.unwrap();
    wire.mend();
    let error = zombie.deferred(DeferredKind::Failed).await.unwrap_err();
    assert!(matches!(error, StateError::LeaseLost { .. }), "{error}");
    let error = zombie.intents().await.unwrap_err();
    assert!(matches!(error, StateError::LeaseLost { .. }), "{error}");
}

#[tokio::test]
async fn nothing_renews_a_lease_whose_owner_is_gone_or_has_let_go_of_it() {
    let scene = Scene::new().await;
    let renewals = || scene.cloud.counts().of(Service::DynamoDb, "UpdateItem");
    let closed = scene.state().await;
    closed.close().await.unwrap();
    let dropped =
        DynamoState::open(&scene.table(), key("s3://bucket/other"), &scene.lease_of("a test")).await;
    drop(dropped.unwrap());
    let before = renewals();
    for _ in 0..9 {
        scene.clock.advance(scene.lease / 3);
        // A renewal would have its turn here.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(renewals(), before);
}

#[tokio::test]
async fn a_lease_that_could_not_be_let_go_of_can_be_later() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    cut_off(&scene);
    assert!(state.close().await.is_err());
    scene.cloud.faults().clear();
    let error = state.commit(commit_of(files(1), 1)).await.unwrap_err();
    assert!(error.to_string().contains("closed already"), "{error}");
    assert!(matches!(scene.try_open("another").await, Err(StateError::Locked { .. })));
    state.close().await.unwrap();
    scene.try_open("another").await.unwrap();
}

#[tokio::test]
async fn a_lease_that_never_ends_is_damage_and_not_waited_for() {
    let scene = Scene::new().await;
    drop(scene.state().await);
    scene.spoil(VAULT, "lease_expires", serde_json::json!({ "N": "1e20" }));
    let error = scene.try_open("another").await.unwrap_err();
    assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("any lease lasts"), "{error}");
    scene.table().reset(&key(DESTINATION), &scene.lease_of("a reset")).await.unwrap();
    scene.state().await.commit(commit_of(files(1), 1)).await.unwrap();
}

#[tokio::test]
async fn a_lease_can_be_taken_by_anybody_with_any_name_for_a_bounded_time() {
    let mut scene = Scene::new().await;
    scene.lease = Duration::MAX;
    let long = "n".repeat(1 << 20);
    let key = StateKey { vault_name: long.clone(), ..key(DESTINATION) };
    let state = DynamoState::open(&scene.table(), key, &scene.lease_of(&long)).await.unwrap();
    state.commit(commit_of(files(1), 1)).await.unwrap();
    let error = scene.try_open("another").await.unwrap_err().to_string();
    assert!(error.contains("runs out in 3600 s") && error.len() < 2_000, "{error}");
}

#[tokio::test]
async fn a_run_that_was_held_up_goes_on_when_nobody_took_over() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    cut_off(&scene);
    scene.clock.advance(2 * scene.lease);
    scene.cloud.faults().clear();
    state.commit(commit_of(files(3), 3)).await.unwrap();
    assert_eq!(state.summary().await.unwrap().unwrap().files, 3);
}

#[tokio::test]
async fn a_lease_whose_answer_was_lost_is_not_in_its_own_way() {
    let scene = Scene::new().await;
    let faults = ServiceFaults { lost_answer: Chance::next(1), ..ServiceFaults::default() };
    scene.cloud.faults().update(|all| all.dynamodb = faults);
    let state = scene.state().await;
    state.commit(commit_of(files(1), 1)).await.unwrap();
    assert_eq!(scene.item(VAULT).unwrap()["fencing"]["N"], "1");
}
