//! Removing a state.

use std::time::Duration;

use obsync_conformance::{at, placing};
use obsync_core::{Commit, DeferredKind, StateError, StateStore};
use obsync_dynamodb::DynamoState;
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;
use serde_json::json;

use crate::site::{DESTINATION, Site, VAULT, failure, files, key, version};

const OTHER: &str = "s3://bucket/other";

/// A site with a state of 130 files and 200 failures for each of these destinations.
async fn filled(destinations: &[&str]) -> Site {
    let site = Site::new().await;
    for place in destinations {
        let state = DynamoState::open(&site.table(), key(place), &site.lease_of("a test")).await.unwrap();
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
    site
}

async fn reset(site: &Site, destination: &str) -> Result<(), StateError> {
    site.table().reset(&key(destination), &site.lease_of("a reset")).await
}

#[tokio::test]
async fn a_reset_removes_one_state_and_no_other() {
    let site = filled(&[DESTINATION, OTHER]).await;
    let before = site.cloud.counts();
    reset(&site, DESTINATION).await.unwrap();
    let requests = site.requests_since(&before);
    assert_eq!(requests.of(Service::DynamoDb, "TransactWriteItems"), 2, "99 items each: {requests}");
    assert!(site.keys().iter().all(|key| key.contains('@') || key == VAULT), "{:?}", site.keys());
    let lease = site.lease_of("a test");
    let other = DynamoState::open(&site.table(), key(OTHER), &lease).await.unwrap();
    assert_eq!(other.all_records().await.unwrap().len(), 130);
    assert_eq!(other.deferred(DeferredKind::Failed).await.unwrap().len(), 200);
    let state = site.state().await;
    assert_eq!(state.load().await.unwrap().version, 0);
    assert_eq!(state.records(&[at("folder/0.md")]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_reset_that_was_cut_off_has_to_be_done_again() {
    for request in 0.. {
        let site = filled(&[DESTINATION]).await;
        let dropped = Chance::always().after(request);
        site.cloud.faults().update(|all| all.dynamodb = ServiceFaults { dropped, ..Default::default() });
        let outcome = reset(&site, DESTINATION).await;
        site.cloud.faults().clear();
        if outcome.is_ok() {
            assert!(request > 4, "a reset takes several requests");
            break;
        }
        match site.try_open_after("next").await {
            Ok(state) => {
                assert_eq!(state.all_records().await.unwrap().len(), 130, "nothing was done: {request}");
                state.close().await.unwrap();
            }
            Err(error) => {
                assert!(error.to_string().contains("a reset of it did not come to its end"), "{error}");
                let error = DynamoState::read(&site.table(), key(DESTINATION)).await.unwrap_err();
                assert!(error.to_string().contains("obsync reset"), "{error}");
            }
        }
        reset(&site, DESTINATION).await.unwrap();
        assert_eq!(site.keys(), [VAULT]);
        assert_eq!(site.state().await.load().await.unwrap().version, 0);
    }
}

#[tokio::test]
async fn a_reset_that_lost_its_lease_removes_nothing() {
    let site = filled(&[DESTINATION]).await;
    let before = site.keys();
    let operations = vec!["Scan".to_owned()];
    let latency = Duration::from_millis(500);
    let slow = ServiceFaults { operations, latency, ..ServiceFaults::default() };
    site.cloud.faults().update(|all| all.dynamodb = slow);
    let take_over = async {
        site.cloud.wait_for(|counts| counts.of(Service::DynamoDb, "Scan") > 0).await;
        site.spoil(VAULT, "fencing", json!({ "N": "9" }));
    };
    let (outcome, ()) = tokio::join!(reset(&site, DESTINATION), take_over);
    assert!(matches!(outcome, Err(StateError::LeaseLost { .. })), "{outcome:?}");
    assert_eq!(site.keys(), before);
}

#[tokio::test]
async fn a_state_that_is_worked_on_is_not_reset() {
    let site = filled(&[DESTINATION]).await;
    let state = site.state().await;
    let error = reset(&site, DESTINATION).await.unwrap_err();
    assert!(matches!(error, StateError::Locked { .. }), "{error}");
    assert_eq!(state.all_records().await.unwrap().len(), 130);
}
