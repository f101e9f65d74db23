//! The text that identifies a destination as long as no record changes, so that records need not be read.

use obsync_core::StateStore;
use obsync_dynamodb::DynamoState;
use serde_json::json;

use crate::scene::{DESTINATION, Scene, VAULT, commit_of, file, files, key};

/// A state with a noted text.
async fn noted() -> Scene {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(3), 3)).await.unwrap();
    assert_eq!(state.in_step().await, None);
    state.note_in_step("a digest".to_owned()).await;
    state.close().await.unwrap();
    scene
}

async fn known_by(state: &DynamoState) -> Option<String> {
    state.in_step().await
}

#[tokio::test]
async fn it_lasts_over_runs_that_change_no_record() {
    let scene = noted().await;
    for at_version in 4..7 {
        let state = scene.state().await;
        assert_eq!(known_by(&state).await.as_deref(), Some("a digest"));
        // Changes of the vault that change no record here.
        state.commit(commit_of(Vec::new(), at_version)).await.unwrap();
        state.close().await.unwrap();
    }
    let state = scene.state().await;
    assert_eq!(known_by(&state).await.as_deref(), Some("a digest"));
}

#[tokio::test]
async fn a_changed_record_ends_it_until_it_is_noted_anew() {
    let forgotten = || {
        let gone = files(1).into_iter().map(|record| record.path).collect();
        obsync_core::Commit { forgotten: gone, ..commit_of(Vec::new(), 4) }
    };
    for commit in [commit_of(vec![file("new.md", 4)], 4), forgotten()] {
        let scene = noted().await;
        let state = scene.state().await;
        state.commit(commit).await.unwrap();
        assert_eq!(known_by(&state).await, None);
        state.close().await.unwrap();
        let state = scene.state().await;
        assert_eq!(known_by(&state).await, None);
        state.note_in_step("another".to_owned()).await;
        state.close().await.unwrap();
        assert_eq!(known_by(&scene.state().await).await.as_deref(), Some("another"));
    }
}

#[tokio::test]
async fn nothing_is_known_after_a_run_that_died_or_was_one_of_another_release() {
    let scene = noted().await;
    drop(scene.state().await);
    let state = scene.state_after("the next").await;
    assert_eq!(known_by(&state).await, None, "nobody knows how far the other came");
    state.close().await.unwrap();

    let scene = noted().await;
    // A release without this feature takes the lease, as all do by raising this number, and leaves the rest
    // unchanged.
    let fencing: u64 = scene.item(VAULT).unwrap()["fencing"]["N"].as_str().unwrap().parse().unwrap();
    scene.spoil(VAULT, "fencing", json!({ "N": (fencing + 1).to_string() }));
    assert_eq!(known_by(&scene.state().await).await, None);
}

#[tokio::test]
async fn what_no_obsync_wrote_and_what_was_reset_is_not_known() {
    for text in ["", "1", "x a digest", "99999999999999999999 a digest"] {
        let scene = noted().await;
        scene.spoil(VAULT, "in_step", json!({ "S": text }));
        assert_eq!(known_by(&scene.state().await).await, None, "{text:?}");
    }
    let scene = noted().await;
    scene.table().reset(&key(DESTINATION), &scene.lease_of("a reset")).await.unwrap();
    assert!(scene.item(VAULT).unwrap().get("in_step").is_none());
    assert_eq!(known_by(&scene.state().await).await, None);
}
