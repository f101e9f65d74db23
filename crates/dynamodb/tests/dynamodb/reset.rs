//! Removing a state.

use std::time::Duration;

use obsync_conformance::{at, placing};
use obsync_core::{Commit, DeferredKind, StateError, StateStore};
use obsync_dynamodb::DynamoState;
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;
use serde_json::json;

use crate::scene::{DESTINATION, Scene, VAULT, failure, files, key, version};

const OTHER: &str = "s3://bucket/other";

/// A scene with a state of 130 files and 200 failures for each of these destinations.
async fn filled(destinations: &[&str]) -> Scene {
    let scene = Scene::new().await;
    for place in destinations {
        let state = DynamoState::open(&scene.table(), key(place), &scene.lease_of("a test")).await.unwrap();
        let deferred = (0..200).map(failure).collect();
        let announced = files(2);
        let commit = Commit {
            records: files(130),
            deferred,
            intents: placing(announced),
            state: version(5),
            ..Commit::default()
        };
        state.commit(commit).await.unwrap();
        state.close().await.unwrap();
    }
    scene
}

async fn reset(scene: &Scene, destination: &str) -> Result<(), StateError> {
    scene.table().reset(&key(destination), &scene.lease_of("a reset")).await
}

#[tokio::test]
async fn a_reset_removes_one_state_and_no_other() {
    let scene = filled(&[DESTINATION, OTHER]).await;
    let before = scene.cloud.counts();
    reset(&scene, DESTINATION).await.unwrap();
    let requests = scene.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "TransactWriteItems"), 2, "99 items each: {requests}");
    assert!(scene.keys().iter().all(|key| key.contains('@') || key == VAULT), "{:?}", scene.keys());
    let lease = scene.lease_of("a test");
    let other = DynamoState::open(&scene.table(), key(OTHER), &lease).await.unwrap();
    assert_eq!(other.all_records().await.unwrap().len(), 130);
    assert_eq!(other.deferred(DeferredKind::Failed).await.unwrap().len(), 200);
    let state = scene.state().await;
    assert_eq!(state.load().await.unwrap().version, 0);
    assert_eq!(state.records(&[at("folder/0.md")]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_reset_that_was_cut_off_has_to_be_done_again() {
    for request in 0.. {
        let scene = filled(&[DESTINATION]).await;
        let dropped = Chance::always().after(request);
        scene.cloud.faults().update(|all| all.dynamodb = ServiceFaults { dropped, ..Default::default() });
        let outcome = reset(&scene, DESTINATION).await;
        scene.cloud.faults().clear();
        if outcome.is_ok() {
            assert!(request > 4, "a reset takes several requests");
            break;
        }
        match scene.try_open_after("next").await {
            Ok(state) => {
                assert_eq!(state.all_records().await.unwrap().len(), 130, "nothing was done: {request}");
                state.close().await.unwrap();
            }
            Err(error) => {
                assert!(error.to_string().contains("a reset of it did not finish"), "{error}");
                let error = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap_err();
                assert!(error.to_string().contains("obsync reset"), "{error}");
            }
        }
        reset(&scene, DESTINATION).await.unwrap();
        assert_eq!(scene.keys(), [VAULT]);
        assert_eq!(scene.state().await.load().await.unwrap().version, 0);
    }
}

#[tokio::test]
async fn a_reset_that_lost_its_lease_removes_nothing() {
    let scene = filled(&[DESTINATION]).await;
    let before = scene.keys();
    let operations = vec!["Scan".to_owned()];
    let latency = Duration::from_millis(500);
    let slow = ServiceFaults { operations, latency, ..ServiceFaults::default() };
    scene.cloud.faults().update(|all| all.dynamodb = slow);
    let take_over = async {
        scene.cloud.wait_for(|counts| counts.of(Service::DynamoDb, "Scan") > 0).await;
        scene.spoil(VAULT, "fencing", json!({ "N": "9" }));
    };
    let (outcome, ()) = tokio::join!(reset(&scene, DESTINATION), take_over);
    assert!(matches!(outcome, Err(StateError::LeaseLost { .. })), "{outcome:?}");
    assert_eq!(scene.keys(), before);
}

#[tokio::test]
async fn a_state_that_is_worked_on_is_not_reset() {
    let scene = filled(&[DESTINATION]).await;
    let state = scene.state().await;
    let error = reset(&scene, DESTINATION).await.unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert_eq!(state.all_records().await.unwrap().len(), 130);
}
