//! Progress records.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use obsync_core::{StateError, StateStore};
use obsync_dynamodb::{ProgressRecord, ProgressStatus, Resumption, StoredProgress};
use obsync_testcloud::Service;
use serde_json::{Value, json};

use crate::scene::{Scene, TABLE, VAULT, commit_of, files, key};

const ITEM: &str = "progress#vault-1";
const FRESHNESS: Duration = ProgressRecord::FRESHNESS;

/// A record of a run that is halfway.
pub(crate) fn record() -> ProgressRecord {
    let now = Timestamp::now();
    ProgressRecord {
        vault_id: key("").vault_id,
        start_time: now - SignedDuration::from_secs(100),
        last_update: now,
        files_total: 300,
        files_complete: 100,
        bytes_total: 1 << 40,
        bytes_complete: 5,
        status: ProgressStatus::Running,
        error: None,
        resumable: true,
        last_version: 1,
        resume_token: Some("in flight".to_owned()),
        invocations: 2,
        failures_in_a_row: 0,
        last_error: None,
        cut_short: false,
        sending: false,
        hurdle: None,
    }
}

#[tokio::test]
async fn progress_that_is_noted_comes_with_the_next_commit_and_costs_nothing() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let before = scene.cloud.counts();
    state.note_progress(ProgressRecord { files_complete: 1, ..record() });
    let latest = record();
    state.note_progress(latest.clone());
    state.commit(commit_of(files(3), 42)).await.unwrap();
    state.commit(commit_of(files(4), 43)).await.unwrap();
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 2);
    let found = state.progress().await.unwrap();
    assert_eq!(found, StoredProgress::Found(Box::new(ProgressRecord { last_version: 42, ..latest })));
    assert_eq!(scene.table().progress(&key("").vault_id).await.unwrap(), found);
}

#[tokio::test]
async fn the_item_is_as_documented() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let record =
        ProgressRecord { error: Some("it rained".to_owned()), status: ProgressStatus::Failed, ..record() };
    state.write_progress(&record).await.unwrap();
    let item = scene.item(ITEM).unwrap();
    let data: Value = serde_json::from_str(item["data"]["S"].as_str().unwrap()).unwrap();
    let wanted = json!({
        "vault_id": VAULT,
        "start_time": record.start_time.to_string(),
        "last_update": record.last_update.to_string(),
        "files_total": 300,
        "files_complete": 100,
        "bytes_total": 1_u64 << 40,
        "bytes_complete": 5,
        "status": "failed",
        "error": "it rained",
        "resumable": true,
        "last_version": 1,
        "resume_token": "in flight",
        "invocations": 2,
        "failures_in_a_row": 0,
        "last_error": null,
    });
    assert_eq!(data, wanted);
    let ttl: i64 = item["ttl"]["N"].as_str().unwrap().parse().unwrap();
    let left = ttl - Timestamp::now().as_second();
    let kept = 90 * 86_400;
    assert!((kept - 100..=kept).contains(&left), "{left}");
}

#[tokio::test]
async fn what_cannot_be_resumed_falls_back_to_the_checkpoint_and_says_why() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let resumption = async |freshness| state.progress().await.unwrap().resumption(freshness);
    let reason = async |freshness| match resumption(freshness).await {
        Resumption::Checkpoint { reason } => reason,
        Resumption::Token(token) => panic!("resumed with {token}"),
    };
    assert!(reason(FRESHNESS).await.contains("no progress record"));

    state.write_progress(&record()).await.unwrap();
    assert_eq!(resumption(FRESHNESS).await, Resumption::Token("in flight".to_owned()));
    let hours = |hours: i64| Timestamp::now() - SignedDuration::from_hours(hours);
    state.write_progress(&ProgressRecord { last_update: hours(2), ..record() }).await.unwrap();
    assert!(reason(FRESHNESS).await.contains("older than 3600 s"));
    let token = Resumption::Token("in flight".to_owned());
    assert_eq!(resumption(Duration::from_secs(3 * 3600)).await, token, "how long is a setting");

    state.write_progress(&ProgressRecord { resumable: false, ..record() }).await.unwrap();
    assert!(reason(FRESHNESS).await.contains("not resumable"));
    state.write_progress(&ProgressRecord { resume_token: None, ..record() }).await.unwrap();
    assert!(reason(FRESHNESS).await.contains("no resume token"));
    state.write_progress(&ProgressRecord { status: ProgressStatus::Complete, ..record() }).await.unwrap();
    assert!(reason(FRESHNESS).await.contains("complete"));
    for data in [json!({ "S": "{}" }), json!({ "S": "not json" }), json!({ "N": "1" })] {
        scene.spoil(ITEM, "data", data);
        assert!(reason(FRESHNESS).await.contains("unreadable"));
    }
    scene.spoil(ITEM, "ttl", json!({ "N": "1000" }));
    assert!(
        reason(FRESHNESS).await.contains("no progress record"),
        "its time is over, though it is still there"
    );
}

#[tokio::test]
async fn progress_is_never_too_large_to_be_written() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    for (number, token) in (1..).zip(["t".repeat(1 << 20), "\u{1}".repeat(200 << 10)]) {
        let huge =
            ProgressRecord { error: Some("é".repeat(1 << 20)), resume_token: Some(token), ..record() };
        state.note_progress(huge);
        state.commit(commit_of(files(1), number)).await.unwrap();
        let StoredProgress::Found(found) = state.progress().await.unwrap() else { panic!("no record") };
        assert!(found.error.unwrap().len() <= 4096 && found.resume_token.is_none());
    }
}

#[tokio::test]
async fn progress_is_written_by_the_holder_of_the_lease_only() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.write_progress(&record()).await.unwrap();
    let before = scene.item(ITEM);
    scene.spoil(VAULT, "fencing", json!({ "N": "2" }));
    let error = state.write_progress(&ProgressRecord { invocations: 9, ..record() }).await.unwrap_err();
    assert!(matches!(error, StateError::LeaseLost { .. }), "{error}");
    assert_eq!(scene.item(ITEM), before);
}

#[tokio::test]
async fn dynamodb_removes_progress_after_its_time() {
    let scene = Scene::new().await;
    scene.expire_items().await;
    let state = scene.state().await;
    state.write_progress(&record()).await.unwrap();
    scene.spoil(ITEM, "ttl", json!({ "N": (Timestamp::now().as_second() - 10).to_string() }));
    assert_eq!(scene.cloud.dynamodb().sweep_ttl().unwrap(), 1);
    assert_eq!(state.progress().await.unwrap(), StoredProgress::Missing);
    assert!(scene.cloud.dynamodb().item(TABLE, VAULT).unwrap().is_some());
}
