//! Damaged items: reported, never guessed at, and removed by a reset.

use obsync_conformance::{at, placing};
use obsync_core::{Commit, Deferred, DeferredCause, DeferredKind, StateError, StateStore};
use obsync_dynamodb::DynamoState;
use obsync_protocol::ContentHash;
use obsync_protocol::limits::{DEFERRED_CHANGES, FILTERED_CHANGES};
use serde_json::{Value, json};

use crate::scene::{DESTINATION, Scene, VAULT, commit_of, failure, file, files, key, version};

async fn filled() -> Scene {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let filtered = Deferred { cause: DeferredCause::Filtered, ..failure(2) };
    let deferred = vec![failure(1), filtered];
    let commit = Commit {
        records: files(3),
        deferred,
        intents: placing(files(1)),
        state: version(3),
        ..Commit::default()
    };
    state.commit(commit).await.unwrap();
    state.close().await.unwrap();
    scene
}

fn is_corrupt(error: &StateError) -> bool {
    let told = error.to_string();
    matches!(error, StateError::Corrupt { .. })
        && told.contains("dynamodb://obsync-state")
        && told.contains("obsync reset")
}

#[tokio::test]
async fn a_damaged_head_is_told_and_can_be_reset() {
    let wrong: [(&str, Value); 16] = [
        ("version", json!({ "S": "3" })),
        ("version", json!({ "N": "-3" })),
        ("listed", json!({ "N": "1" })),
        ("created", json!({ "S": "yesterday" })),
        ("fencing", json!({ "S": "one" })),
        ("fencing", json!({ "N": "18446744073709551615" })),
        ("lease_expires", json!({ "S": "never" })),
        ("lease_owner", json!({ "N": "1" })),
        ("rechecking", json!({ "S": "yes" })),
        ("files", json!({ "N": "99999999999999999999" })),
        ("failed_pages", json!({ "N": "1.5" })),
        ("failed_pages", json!({ "N": "4294967295" })),
        ("announced_pages", json!({ "N": "4294967295" })),
        ("vault_name", json!({ "NULL": true })),
        ("place", json!({ "N": "1" })),
        ("destination", json!({ "N": "1" })),
    ];
    for (attribute, value) in wrong {
        let scene = filled().await;
        scene.spoil(VAULT, attribute, value);
        if attribute == "lease_owner" {
            scene.spoil(VAULT, "lease_expires", json!({ "N": "9999999999" }));
        }
        if attribute != "vault_name" {
            let error = scene.try_open("a test").await.unwrap_err();
            assert!(is_corrupt(&error), "{attribute}: {error}");
        }
        let error = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap_err();
        assert!(is_corrupt(&error), "{attribute}: {error}");
        scene.table().reset(&key(DESTINATION), &scene.lease_of("a reset")).await.unwrap();
        let state = scene.state().await;
        assert_eq!(state.load().await.unwrap().version, 0);
        state.commit(commit_of(files(2), 2)).await.unwrap();
        assert_eq!(state.all_records().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_reset_of_a_damaged_state_leaves_those_of_other_destinations_alone() {
    for (attribute, value) in [("created", "yesterday"), ("place", "s3://bucket/third")] {
        let scene = filled().await;
        let (other, lease) = (key("s3://bucket/other"), scene.lease_of("a test"));
        let state = DynamoState::open(&scene.table(), other.clone(), &lease).await.unwrap();
        state.commit(commit_of(files(5), 5)).await.unwrap();
        state.close().await.unwrap();
        let head = scene.keys().into_iter().find(|key| key.starts_with("vault-1@")).unwrap();
        scene.spoil(&head, attribute, json!({ "S": value }));
        let error = DynamoState::open(&scene.table(), other.clone(), &lease).await.unwrap_err();
        assert!(is_corrupt(&error), "{error}");
        scene.table().reset(&other, &lease).await.unwrap();
        let state = DynamoState::open(&scene.table(), other, &lease).await.unwrap();
        assert_eq!((state.load().await.unwrap().version, state.all_records().await.unwrap().len()), (0, 0));
        let state = scene.state().await;
        assert_eq!((state.load().await.unwrap(), state.all_records().await.unwrap().len()), (version(3), 3));
    }
}

#[tokio::test]
async fn a_state_of_a_newer_obsync_is_left_alone() {
    let scene = filled().await;
    scene.spoil(VAULT, "format", json!({ "N": "4" }));
    let before = scene.item(VAULT);
    let error = scene.try_open("a test").await.unwrap_err();
    assert!(matches!(error, StateError::Newer { found: 4, known: 3, .. }), "{error}");
    let error = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap_err();
    assert!(matches!(error, StateError::Newer { .. }), "{error}");
    assert_eq!(scene.item(VAULT), before);
}

#[tokio::test]
async fn damaged_records_and_changes_are_told() {
    let scene = filled().await;
    let hash = ContentHash::of(b"folder/0.md").to_string();
    let record = format!("file#{VAULT}#{}", &hash[..32]);
    let intact = scene.item(&record).unwrap();
    let state = scene.state().await;
    for (attribute, value) in [
        ("path", json!({ "S": "../outside" })),
        ("hash", json!({ "S": "abc" })),
        ("size", json!({ "N": "-1" })),
        ("kind", json!({ "S": "symlink" })),
        ("mtime", json!({ "S": "1" })),
    ] {
        let mut item = intact.clone();
        item[attribute] = value;
        scene.cloud.dynamodb().put_item(crate::scene::TABLE, item).unwrap();
        let error = state.all_records().await.unwrap_err();
        assert!(is_corrupt(&error), "{attribute}: {error}");
        assert!(is_corrupt(&state.records(&[at("folder/0.md")]).await.unwrap_err()), "{attribute}");
    }
    for item in [format!("failed#{VAULT}"), format!("announced#{VAULT}")] {
        scene.spoil(&item, "data", json!({ "S": "[{}]" }));
    }
    assert!(is_corrupt(&state.deferred(DeferredKind::Failed).await.unwrap_err()));
    assert!(is_corrupt(&state.intents().await.unwrap_err()));
    let error =
        state.commit(Commit { deferred: vec![failure(2)], ..commit_of(Vec::new(), 9) }).await.unwrap_err();
    assert!(is_corrupt(&error), "a commit does not write over what it cannot read: {error}");
}

#[tokio::test]
async fn items_of_other_programs_in_the_table_are_not_touched() {
    let scene = filled().await;
    let foreign = json!({ "vault_id": { "S": format!("file#other-{VAULT}#x") }, "path": { "N": "1" } });
    scene.cloud.dynamodb().put_item(crate::scene::TABLE, foreign.clone()).unwrap();
    let state = scene.state().await;
    assert_eq!(state.all_records().await.unwrap().len(), 3);
    state.close().await.unwrap();
    scene.table().reset(&key(DESTINATION), &scene.lease_of("a reset")).await.unwrap();
    assert_eq!(scene.item(&format!("file#other-{VAULT}#x")), Some(foreign));
    let state = scene.state().await;
    state.commit(commit_of(vec![file("a.md", 1)], 1)).await.unwrap();
}

#[tokio::test]
async fn more_failed_changes_than_any_run_remembers_are_forgotten_and_everything_is_looked_at_again() {
    forgets_all_of(DeferredKind::Failed, "failed", DEFERRED_CHANGES).await;
}

#[tokio::test]
async fn more_filtered_changes_than_a_listing_may_have_are_forgotten_and_everything_is_looked_at_again() {
    forgets_all_of(DeferredKind::Filtered, "filtered", FILTERED_CHANGES).await;
}

async fn forgets_all_of(kind: DeferredKind, name: &str, most: usize) {
    let scene = filled().await;
    scene.spoil(VAULT, name, json!({ "N": (most + 1).to_string() }));
    let state = scene.state().await;
    assert_eq!(state.load().await.unwrap().full_up_to, Some(0));
    assert_eq!(state.deferred(kind).await.unwrap(), []);
    assert!(!scene.keys().iter().any(|key| key.starts_with(&format!("{name}#"))), "{:?}", scene.keys());
    state.commit(commit_of(files(2), 9)).await.unwrap();
    state.close().await.unwrap();
    assert_eq!(scene.state().await.load().await.unwrap().version, 9);
}
