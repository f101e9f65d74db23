//! Deletions that are confirmed while a run has the lease.

use jiff::Timestamp;
use obsync_core::StateStore;
use obsync_testcloud::Service;
use serde_json::json;

use crate::scene::{Scene, VAULT};

fn item() -> String {
    format!("confirmed#{VAULT}")
}

/// The confirmed uids, sorted.
async fn confirmed(state: &dyn StateStore) -> Vec<u64> {
    let mut uids = state.confirmations().await.unwrap();
    uids.sort_unstable();
    uids
}

#[tokio::test]
async fn what_is_confirmed_by_several_counts_until_it_is_forgotten() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.leave_confirmations(vec![1, 2, 2]).await.unwrap();
    state.leave_confirmations(vec![3]).await.unwrap();
    assert_eq!(confirmed(&state).await, [1, 2, 3]);
    state.forget_confirmations(&[1, 3]).await.unwrap();
    assert_eq!(confirmed(&state).await, [2]);
    state.forget_confirmations(&[2]).await.unwrap();
    state.leave_confirmations(vec![4]).await.unwrap();
    assert_eq!(confirmed(&state).await, [4]);
}

#[tokio::test]
async fn a_confirmation_that_ran_out_is_not_revived_by_a_later_one() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.leave_confirmations(vec![1, 2]).await.unwrap();
    // DynamoDB removes an item up to some days after its expiry.
    for past in [json!({ "N": (Timestamp::now().as_second() - 1).to_string() }), json!({ "S": "spoiled" })] {
        scene.spoil(&item(), "ttl", past);
        let before = scene.cloud.counts();
        state.leave_confirmations(vec![3]).await.unwrap();
        assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 2);
        assert_eq!(confirmed(&state).await, [3]);
    }
    let before = scene.cloud.counts();
    state.leave_confirmations(vec![4]).await.unwrap();
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 1);
    assert_eq!(confirmed(&state).await, [3, 4]);
    let ttl: i64 = scene.item(&item()).unwrap()["ttl"]["N"].as_str().unwrap().parse().unwrap();
    assert!(ttl > Timestamp::now().as_second() + 6 * 24 * 3600);
}

#[tokio::test]
async fn confirmations_that_are_left_at_once_are_all_kept() {
    let scene = Scene::new().await;
    let state = std::sync::Arc::new(scene.state().await);
    state.leave_confirmations(vec![100]).await.unwrap();
    scene.spoil(&item(), "ttl", json!({ "N": "1000" }));
    let left = (1..=8).map(|uid| {
        let state = state.clone();
        tokio::spawn(async move { state.leave_confirmations(vec![uid]).await })
    });
    for left in left.collect::<Vec<_>>() {
        left.await.unwrap().unwrap();
    }
    assert_eq!(confirmed(&*state).await, (1..=8).collect::<Vec<u64>>());
}
