//! Places of vaults.

use std::collections::BTreeMap;

use obsync_core::StateError;
use obsync_dynamodb::Places;
use obsync_protocol::VaultId;
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;
use serde_json::json;

use crate::scene::Scene;

const ROOT: &str = "s3://bucket/prefix";

/// Gives each of these vaults the name `<prefix>-<number of vaults with one>`.
fn give(prefix: &str, vaults: &[&str]) -> impl Fn(&BTreeMap<VaultId, String>) -> BTreeMap<VaultId, String> {
    let vaults: Vec<VaultId> = vaults.iter().map(|id| VaultId::try_new(*id).unwrap()).collect();
    let prefix = prefix.to_owned();
    move |known| {
        let mut places = known.clone();
        for vault in &vaults {
            let name = format!("{prefix}-{}", places.len());
            places.entry(vault.clone()).or_insert(name);
        }
        places
    }
}

fn names(places: &Places) -> Vec<&str> {
    places.names.values().map(String::as_str).collect()
}

#[tokio::test]
async fn a_vault_stays_where_it_was_put() {
    let scene = Scene::new().await;
    let table = scene.table();
    assert_eq!(names(&table.places(ROOT, give("old", &["a", "b"])).await.unwrap()), ["old-0", "old-1"]);
    let before = scene.cloud.counts();
    assert_eq!(names(&table.places(ROOT, give("new", &["a", "b"])).await.unwrap()), ["old-0", "old-1"]);
    assert_eq!(scene.requests_since(&before).total(Service::DynamoDb), 1);
    assert_eq!(names(&table.places(ROOT, give("new", &["c"])).await.unwrap()), ["old-0", "old-1", "new-2"]);
    assert_eq!(names(&table.places("s3://bucket/other", give("new", &["a"])).await.unwrap()), ["new-0"]);
}

#[tokio::test]
async fn runs_that_give_out_places_at_once_never_give_one_twice() {
    let scene = Scene::new().await;
    let faults = ServiceFaults { lost_answer: Chance::next(5), ..ServiceFaults::default() };
    scene.cloud.faults().update(|all| all.dynamodb = faults);
    let runs: Vec<_> = ["a", "b", "c", "d"]
        .map(|vault| {
            let table = scene.table();
            tokio::spawn(async move { table.places(ROOT, give("n", &[vault])).await.unwrap() })
        })
        .into_iter()
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    let places = scene.table().places(ROOT, give("n", &[])).await.unwrap();
    let mut given = names(&places);
    given.sort_unstable();
    assert_eq!(given, ["n-0", "n-1", "n-2", "n-3"]);
}

#[tokio::test]
async fn a_revision_that_nothing_can_follow_is_told() {
    let scene = Scene::new().await;
    scene.table().places(ROOT, give("n", &["a"])).await.unwrap();
    let key = scene.keys().pop().unwrap();
    scene.spoil(&key, "revision", json!({ "N": u64::MAX.to_string() }));
    let error = scene.table().places(ROOT, give("n", &["b"])).await.unwrap_err();
    assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn places_that_are_damaged_as_a_whole_are_told() {
    let scene = Scene::new().await;
    scene.table().places(ROOT, give("n", &["a"])).await.unwrap();
    let key = scene.keys().pop().unwrap();
    scene.spoil(&key, "places", json!({ "S": "x" }));
    let error = scene.table().places(ROOT, give("n", &["b"])).await.unwrap_err();
    assert!(matches!(error, StateError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_entry_costs_its_own_vault_its_place_and_no_other() {
    let scene = Scene::new().await;
    scene.table().places(ROOT, give("n", &["a"])).await.unwrap();
    let key = scene.keys().pop().unwrap();
    let damaged = json!({ "M": { "a": { "S": "n-0" }, "b": { "N": "1" }, "c/d": { "S": "x" } } });
    scene.spoil(&key, "places", damaged);
    let places = scene.table().places(ROOT, give("n", &["a", "b", "e"])).await.unwrap();
    assert_eq!(places.names.keys().map(VaultId::as_str).collect::<Vec<_>>(), ["a", "e"]);
    assert_eq!(places.damaged.iter().map(VaultId::as_str).collect::<Vec<_>>(), ["b"]);
    let kept = &scene.item(&key).unwrap()["places"]["M"];
    assert_eq!((&kept["b"], &kept["c/d"]), (&json!({ "N": "1" }), &json!({ "S": "x" })), "kept as it was");
}
