//! Commits of any size, and their effects on the table.

use obsync_conformance::{at, placing};
use obsync_core::{Commit, DeferredCause, DeferredKey, DeferredKind, StateStore, VaultState};
use obsync_dynamodb::DynamoState;
use obsync_protocol::{ContentHash, PushMessage, VaultPath};
use obsync_testcloud::Service;

use crate::scene::{
    DESTINATION, Scene, VAULT, change_key, commit_of, failure, file, files, key, left_out, version,
};

#[tokio::test]
async fn items_are_as_the_design_says() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let commit = Commit {
        records: files(1),
        deferred: vec![failure(7)],
        intents: placing(vec![file("next.md", 8)]),
        state: version(9),
        ..Commit::default()
    };
    state.commit(commit).await.unwrap();
    let path = ContentHash::of(b"folder/0.md").to_string();
    let file = format!("file#{VAULT}#{}", &path[..32]);
    let keys = [format!("announced#{VAULT}"), format!("failed#{VAULT}"), file.clone(), VAULT.to_owned()];
    assert_eq!(scene.keys(), keys);
    let head = scene.item(VAULT).unwrap();
    for (attribute, number) in
        [("version", "9"), ("files", "1"), ("bytes", "10"), ("failed", "1"), ("fencing", "1")]
    {
        assert_eq!(head[attribute]["N"], number, "{attribute}");
    }
    assert_eq!(head["place"]["S"], DESTINATION);
    let file = scene.item(&file).unwrap();
    assert_eq!(file["path"]["S"], "folder/0.md");
    assert_eq!(file["hash"]["S"], ContentHash::of(&0_u64.to_le_bytes()).to_string());
}

#[tokio::test]
async fn a_commit_larger_than_a_transaction_arrives_whole() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(1_234), 1_234)).await.unwrap();
    let mut paths: Vec<VaultPath> = files(1_234).into_iter().map(|record| record.path).collect();
    paths.insert(77, at("never recorded"));
    let found = state.records(&paths).await.unwrap();
    assert_eq!(found.iter().flatten().count(), 1_234);
    assert!(found[77].is_none() && found[78] == Some(file("folder/77.md", 77)));
    assert_eq!(state.all_records().await.unwrap().len(), 1_234);
    state.close().await.unwrap();

    let state = scene.state().await;
    let forgotten = paths.iter().take(1_000).cloned().collect();
    state.commit(Commit { forgotten, state: version(2_000), ..Commit::default() }).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.bytes, summary.version), (235, 2_350, 2_000));
    assert_eq!(state.all_records().await.unwrap().len(), 235);
}

#[tokio::test]
async fn counts_are_exact_whatever_was_there_before() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    state.commit(commit_of(files(3), 3)).await.unwrap();
    state.close().await.unwrap();
    // A run that commits without look-ups.
    let state = scene.state().await;
    let folder =
        obsync_core::Record::new(at("folder/0.md"), obsync_core::RecordKind::Folder(obsync_protocol::Uid(4)));
    let commit = Commit {
        forgotten: vec![at("folder/1.md"), at("never was")],
        records: vec![folder, file("folder/2.md", 5), file("new.md", 6), file("new.md", 7)],
        state: version(7),
        ..Commit::default()
    };
    state.commit(commit.clone()).await.unwrap();
    state.commit(commit).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.files, summary.folders, summary.bytes), (2, 1, 20));
}

#[tokio::test]
async fn thousands_of_changes_are_deferred_and_settled() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let filtered = (0..3_000).map(left_out).collect();
    let deferred = Commit { deferred: filtered, state: version(1), ..Commit::default() };
    state.commit(deferred).await.unwrap();
    state
        .commit(Commit { deferred: (0..40).map(failure).collect(), state: version(2), ..Commit::default() })
        .await
        .unwrap();
    state.close().await.unwrap();

    let state = scene.state().await;
    let uids = async |kind| -> Vec<u64> {
        state.deferred(kind).await.unwrap().iter().map(|change| change.message.uid.0).collect()
    };
    assert_eq!(uids(DeferredKind::Filtered).await, (40..3_000).collect::<Vec<_>>());
    assert_eq!(uids(DeferredKind::Failed).await, (0..40).collect::<Vec<_>>());
    let resolved: Vec<DeferredKey> = (0..2_990).map(change_key).collect();
    state.commit(Commit { resolved, state: version(3), ..Commit::default() }).await.unwrap();
    assert_eq!(uids(DeferredKind::Filtered).await, (2_990..3_000).collect::<Vec<_>>());
    assert!(uids(DeferredKind::Failed).await.is_empty());
    let resolved: Vec<DeferredKey> = (0..3_000).map(change_key).collect();
    state.commit(Commit { resolved, state: version(4), ..Commit::default() }).await.unwrap();
    let summary = state.summary().await.unwrap().unwrap();
    assert_eq!((summary.filtered, summary.failed), (0, 0));
    assert_eq!(scene.keys(), [VAULT], "no page is left behind");
}

/// Memory does not depend on the number of changes: every request is small, whether pages are written or read.
#[tokio::test]
async fn ten_thousand_changes_are_deferred_some_at_a_time() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    for (start, version_after) in [(0, 1), (7_000, 2)] {
        let filtered = (start..start + 7_000).map(left_out).collect();
        let commit = Commit { deferred: filtered, state: version(version_after), ..Commit::default() };
        state.commit(commit.clone()).await.unwrap();
        let requests = scene.cloud.counts().of(Service::DynamoDb, "TransactWriteItems");
        state.commit(commit).await.unwrap();
        let again = scene.cloud.counts().of(Service::DynamoDb, "TransactWriteItems") - requests;
        assert!(again <= 1, "what is deferred already is not written again: {again}");
    }
    let found = state.deferred(DeferredKind::Filtered).await.unwrap();
    assert_eq!(found.len(), 14_000);
    let pages: u32 = scene.item(VAULT).unwrap()["filtered_pages"]["N"].as_str().unwrap().parse().unwrap();
    assert_eq!(scene.keys().len() as u32, pages + 1, "the pages of earlier divisions are gone");
}

#[tokio::test]
async fn a_growing_number_of_changes_is_divided_anew_without_losing_any() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    for start in (0..1_500).step_by(150) {
        let deferred = (start..start + 150).map(failure).collect();
        state.commit(Commit { deferred, state: version(start), ..Commit::default() }).await.unwrap();
    }
    let found = state.deferred(DeferredKind::Failed).await.unwrap();
    assert_eq!(found, (0..1_500).map(failure).collect::<Vec<_>>());
    let pages: u32 = scene.item(VAULT).unwrap()["failed_pages"]["N"].as_str().unwrap().parse().unwrap();
    assert!(pages > 4);
    assert_eq!(scene.keys().len() as u32, pages + 1, "the pages of earlier divisions are gone");
}

#[tokio::test]
async fn a_change_larger_than_an_item_is_kept_as_itself() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let huge = |end: &str| {
        let path = "ab".repeat(600_000) + end;
        let mut change = failure(3);
        change.key = DeferredKey::encoded(&path);
        change.message = PushMessage { path: path.into(), user: "u".repeat(1 << 20), ..change.message };
        change
    };
    let deferred = vec![huge("1"), huge("2")];
    state.commit(Commit { deferred, state: version(1), ..Commit::default() }).await.unwrap();
    let found = state.deferred(DeferredKind::Failed).await.unwrap();
    assert_eq!(found.len(), 2, "two that begin alike stay two");
    assert!(found[0].message.path.as_str().starts_with("abab"));
    // Changes read back can be deferred again and settled, and so can the originals.
    let again = Commit { deferred: found.clone(), state: version(2), ..Commit::default() };
    state.commit(again).await.unwrap();
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), found);
    let resolved = vec![found[0].key.clone(), found[1].key.clone(), huge("1").key];
    state.commit(Commit { resolved, state: version(3), ..Commit::default() }).await.unwrap();
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), []);
}

#[tokio::test]
async fn a_change_of_nothing_but_control_characters_fits_into_an_item() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let text = "\u{1}".repeat(1 << 20);
    let mut change = failure(3);
    change.key = DeferredKey::encoded(&text);
    change.cause = DeferredCause::Failed { reason: text.clone() };
    change.message = PushMessage {
        path: text.clone().into(),
        related_path: Some(text.clone().into()),
        hash: text.clone().into(),
        device: text.clone(),
        user: text,
        ..change.message
    };
    let commit = Commit { deferred: vec![change.clone()], ..commit_of(Vec::new(), 1) };
    state.commit(commit).await.unwrap();
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap().len(), 1);
    state.commit(Commit { resolved: vec![change.key], ..commit_of(Vec::new(), 2) }).await.unwrap();
    assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), []);
}

#[tokio::test]
async fn that_a_full_pull_was_begun_is_known_until_one_comes_to_its_end() {
    let scene = Scene::new().await;
    for full_up_to in [Some(0), Some(2), None] {
        let state = scene.state().await;
        let begun = VaultState { full_up_to, version: 3, ..VaultState::default() };
        state.commit(Commit { state: begun.clone(), ..Commit::default() }).await.unwrap();
        assert_eq!(state.load().await.unwrap(), begun);
        state.close().await.unwrap();
        let looked = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap();
        assert_eq!(looked.load().await.unwrap(), begun);
    }
}

#[tokio::test]
async fn whoever_only_looks_is_not_confused_by_a_run_at_work() {
    let scene = Scene::new().await;
    let working = scene.state().await;
    let first = Commit { deferred: vec![failure(1)], intents: placing(files(2)), ..commit_of(Vec::new(), 1) };
    working.commit(first).await.unwrap();
    let looked = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap();
    let many = Commit { deferred: (0..900).map(failure).collect(), ..commit_of(Vec::new(), 2) };
    working.commit(many).await.unwrap();
    assert_eq!(looked.deferred(DeferredKind::Failed).await.unwrap().len(), 900);
    assert_eq!(looked.intents().await.unwrap(), []);
    assert_eq!(looked.load().await.unwrap(), version(2));
}

#[tokio::test]
async fn more_is_announced_than_an_item_holds() {
    let scene = Scene::new().await;
    let state = scene.state().await;
    let announced: Vec<_> =
        (0..3_000).map(|number| file(&format!("{}/{number}.md", "long ".repeat(20)), number)).collect();
    state
        .commit(Commit { intents: placing(announced.clone()), state: version(0), ..Commit::default() })
        .await
        .unwrap();
    state.close().await.unwrap();
    let state = scene.state().await;
    assert_eq!(state.intents().await.unwrap(), placing(announced));
    state
        .commit(Commit { intents: placing(files(1)), state: version(0), ..Commit::default() })
        .await
        .unwrap();
    assert_eq!(state.intents().await.unwrap(), placing(files(1)));
    state.commit(Commit { state: version(0), ..Commit::default() }).await.unwrap();
    assert_eq!(state.intents().await.unwrap(), []);
    assert_eq!(scene.keys(), [VAULT]);
}

#[tokio::test]
async fn the_destinations_of_a_vault_have_a_state_each() {
    let scene = Scene::new().await;
    let table = scene.table();
    let places = [DESTINATION, "s3://bucket/other", "gs://bucket/prefix"];
    for (number, place) in (1..).zip(places) {
        let state = DynamoState::open(&table, key(place), &scene.lease_of("a test")).await.unwrap();
        state.commit(commit_of(files(number), number)).await.unwrap();
        state.close().await.unwrap();
    }
    for (number, place) in (1..).zip(places) {
        let state = DynamoState::read(&table, key(place)).await.unwrap();
        assert_eq!(state.load().await.unwrap(), version(number));
        assert_eq!(state.all_records().await.unwrap().len() as u64, number);
        assert_eq!(state.summary().await.unwrap().unwrap().destination, place);
    }
    let vault = key("").vault_id;
    assert_eq!(table.summary(&vault).await.unwrap().unwrap().destination, DESTINATION);
}

#[tokio::test]
async fn a_state_that_is_only_looked_at_writes_nothing_and_needs_no_lease() {
    let scene = Scene::new().await;
    let looked = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap();
    assert_eq!(looked.load().await.unwrap().version, 0);
    assert!(looked.summary().await.unwrap().is_none());
    assert_eq!(scene.keys(), [""; 0]);

    let working = scene.state().await;
    working.commit(commit_of(files(2), 2)).await.unwrap();
    let looked = DynamoState::read(&scene.table(), key(DESTINATION)).await.unwrap();
    assert_eq!(looked.load().await.unwrap(), version(2));
    assert_eq!(looked.records(&[at("folder/1.md")]).await.unwrap(), [Some(file("folder/1.md", 1))]);
    let error = looked.commit(commit_of(files(1), 3)).await.unwrap_err();
    assert!(error.to_string().contains("looked at only"), "{error}");
}
