//! Pins in a table: filed for vault, name and destination, conditionally, and out of a reset's reach.

use obsync_core::pin::{FoundPin, Pin, VaultEncryption};
use obsync_core::{StateError, StateStore};
use serde_json::json;

use crate::scene::{DESTINATION, Scene, VAULT, commit_of, files, key};

const SERVICE: &str = "https://api.example/";

fn pin(vault: &str, name: &str) -> Pin {
    Pin::new(SERVICE, vault.parse().unwrap(), name, VaultEncryption::Standard)
}

/// Number of pins for a vault of this id and name and a destination.
async fn count(scene: &Scene, vault: &str, name: &str, destination: &str) -> usize {
    scene.table().pins(&pin(vault, name), destination).await.unwrap().found().len()
}

#[tokio::test]
async fn a_pin_is_found_by_vault_by_name_and_by_destination() {
    let scene = Scene::new().await;
    let (table, kept) = (scene.table(), pin(VAULT, "Notes"));
    let seen = table.pins(&kept, DESTINATION).await.unwrap();
    assert_eq!(seen.found(), [] as [FoundPin; 0]);
    assert!(table.keep_pin(&kept, &seen).await.unwrap());
    for (vault, name, destination, expected) in [
        (VAULT, "Notes", DESTINATION, 3),
        (VAULT, "x", "s3://x/x", 1),
        ("x", "Notes", "s3://x/x", 1),
        ("x", "x", DESTINATION, 1),
        ("Notes", "x", "s3://x/x", 1),
        ("x", VAULT, "s3://x/x", 1),
        ("same", "same", "s3://x/x", 0),
        ("x", "x", "s3://x/x", 0),
    ] {
        assert_eq!(count(&scene, vault, name, destination).await, expected, "{vault} {name} {destination}");
    }
    let seen = table.pins(&kept, DESTINATION).await.unwrap();
    let requests = table.requests();
    assert!(seen.are(&kept) && table.keep_pin(&kept, &seen).await.unwrap());
    assert_eq!(table.requests(), requests, "what is filed is not written again");
}

#[tokio::test]
async fn of_runs_that_file_a_pin_at_once_one_does_and_the_others_look_again() {
    let scene = Scene::new().await;
    let table = scene.table();
    let seen = table.pins(&pin(VAULT, "Notes"), DESTINATION).await.unwrap();
    let mut filed = Vec::new();
    for by in 0..5 {
        let pin = pin(VAULT, "Notes").accepted_by(&format!("machine {by}"));
        filed.push(table.keep_pin(&pin, &seen).await.unwrap());
    }
    assert_eq!(filed, [true, false, false, false, false]);
}

#[tokio::test]
async fn a_damaged_pin_is_an_error_and_not_no_pin() {
    let scene = Scene::new().await;
    let (table, kept) = (scene.table(), pin(VAULT, "Notes"));
    let seen = table.pins(&kept, DESTINATION).await.unwrap();
    table.keep_pin(&kept, &seen).await.unwrap();
    let keys = scene.keys();
    let item = keys.iter().find(|key| key.starts_with("pin#")).unwrap();
    scene.spoil(item, "pin", json!({ "S": "{" }));
    let error = table.pins(&kept, DESTINATION).await.unwrap_err();
    assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains(item), "{error}");
}

#[tokio::test]
async fn a_reset_keeps_pins() {
    let scene = Scene::new().await;
    let (table, kept) = (scene.table(), pin(VAULT, "Notes"));
    let state = scene.try_open("a run").await.unwrap();
    state.commit(commit_of(files(3), 1)).await.unwrap();
    let seen = table.pins(&kept, DESTINATION).await.unwrap();
    table.keep_pin(&kept, &seen).await.unwrap();
    state.close().await.unwrap();
    table.reset(&key(DESTINATION), &scene.lease_of("a reset")).await.unwrap();
    assert!(table.pins(&kept, DESTINATION).await.unwrap().are(&kept));
}

#[tokio::test]
async fn a_state_of_an_older_release_is_read_and_written_so_that_older_releases_refuse_it() {
    let scene = Scene::new().await;
    let state = scene.try_open("a run").await.unwrap();
    state.commit(commit_of(files(3), 1)).await.unwrap();
    state.close().await.unwrap();
    // Releases without pins know format 1, and look for a destination in `destination`.
    scene.spoil(VAULT, "format", json!({ "N": "1" }));
    let place = scene.take(VAULT, "place");
    scene.spoil(VAULT, "destination", place.clone());
    let state = scene.try_open("a run").await.unwrap();
    assert_eq!(state.all_records().await.unwrap().len(), 3);
    let head = scene.item(VAULT).unwrap();
    assert_eq!((&head["format"], &head["place"]), (&json!({ "N": "3" }), &place));
    // They would begin a state under another head if this one named another destination.
    assert_eq!(head.get("destination"), None);
}
