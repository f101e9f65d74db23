//! Tables of earlier releases: read unchanged, and converted to the present format when a run works with
//! them.
//!
//! `data/format-first.json` has the items of the first release with a table (format 1), `format-last.json`
//! those of the last one before format 3; each is from a pull that was killed while it put objects in place.

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use obsync_conformance::at;
use obsync_core::{Commit, DeferredKind, StateStore};
use obsync_dynamodb::{DynamoState, StateKey};
use obsync_testcloud::ServiceFaults;
use obsync_testkit::Chance;
use serde_json::{Value, json};

use crate::scene::{Scene, TABLE};

const WRITTEN: [&str; 2] =
    [include_str!("../data/format-first.json"), include_str!("../data/format-last.json")];

/// A scene with these items, and their state's key.
async fn place(written: &str) -> (Scene, StateKey) {
    let scene = Scene::new().await;
    let items: Vec<Value> = serde_json::from_str(written).unwrap();
    let head = items.iter().find(|item| item.get("lease_id").is_some()).unwrap();
    let vault_id = head["vault_id"]["S"].as_str().unwrap().parse().unwrap();
    for item in items {
        scene.cloud.dynamodb().put_item(TABLE, item).unwrap();
    }
    let key =
        StateKey { vault_id, vault_name: "Notes".to_owned(), destination: "s3://vaults/notes".to_owned() };
    (scene, key)
}

fn format(scene: &Scene, key: &StateKey) -> Value {
    scene.item(key.vault_id.as_str()).unwrap()["format"]["N"].clone()
}

#[tokio::test]
async fn a_state_of_an_earlier_format_has_everything_that_it_had() {
    for (written, earlier) in WRITTEN.into_iter().zip(["1", "2"]) {
        let (scene, key) = place(written).await;
        assert_eq!(format(&scene, &key), earlier);
        let looked = DynamoState::read(&scene.table(), key.clone()).await.unwrap();
        let intents = looked.intents().await.unwrap();
        let failed = looked.deferred(DeferredKind::Failed).await.unwrap();
        let filtered = looked.deferred(DeferredKind::Filtered).await.unwrap();
        let known = looked.load().await.unwrap();
        assert_eq!(looked.all_records().await.unwrap().len(), 8);
        assert_eq!((failed.len(), filtered.len()), (1, 7));
        assert!(!intents.is_empty() && intents.iter().all(|intent| intent.placed().is_some()));
        assert_eq!((&known.destination, known.cursor), (&None, None));
        assert_eq!(format(&scene, &key), earlier, "to look at it changes nothing");

        let state = DynamoState::open(&scene.table(), key.clone(), &scene.lease_of("a test")).await.unwrap();
        assert_eq!(format(&scene, &key), "3");
        assert_eq!(state.load().await.unwrap(), known);
        assert_eq!(state.intents().await.unwrap(), intents);
        let records = state.all_records().await.unwrap();
        assert_eq!(records.len(), 8);
        assert!(records.iter().all(|record| record.facts.is_none() && !record.witnessed));
        let forgotten = vec![records[0].path.clone(), at("never was.md")];
        state.note_check(7).await;
        state.commit(Commit { forgotten, state: known.clone(), ..Commit::default() }).await.unwrap();
        state.close().await.unwrap();
        let state = DynamoState::open(&scene.table(), key.clone(), &scene.lease_of("a test")).await.unwrap();
        assert_eq!(state.all_records().await.unwrap().len(), 7);
        assert_eq!(state.intents().await.unwrap(), []);
        assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap(), failed);
        assert_eq!(state.last_check().await.unwrap(), Some(7));
    }
}

/// Whichever request is the last to arrive, or to have its answer lost: the next run finds everything.
#[tokio::test]
async fn a_migration_that_was_cut_off_after_any_request_is_made_again() {
    for written in WRITTEN {
        for (request, carried_out) in (0..8).flat_map(|request| [(request, false), (request, true)]) {
            let (scene, key) = place(written).await;
            let before = DynamoState::read(&scene.table(), key.clone()).await.unwrap();
            let known = (before.load().await.unwrap(), before.intents().await.unwrap());
            let dropped = Chance::always().after(request + u64::from(carried_out));
            let mut faults = ServiceFaults { dropped, ..ServiceFaults::default() };
            if carried_out {
                faults.lost_answer = Chance::next(1).after(request);
            }
            scene.cloud.faults().update(|all| all.dynamodb = faults);
            let opened =
                DynamoState::open(&scene.table(), key.clone(), &scene.lease_of("one that dies")).await;
            if let Ok(state) = opened {
                let _ = state.commit(Commit { state: known.0.clone(), ..Commit::default() }).await;
            }
            scene.cloud.faults().clear();
            // Its lease expires.
            let now = jiff::Timestamp::now().as_second();
            scene.spoil(key.vault_id.as_str(), "lease_expires", json!({ "N": (now - 1).to_string() }));
            let state = DynamoState::open(&scene.table(), key, &scene.lease_of("the next")).await.unwrap();
            assert_eq!(state.all_records().await.unwrap().len(), 8, "{request}, {carried_out}");
            assert_eq!(state.load().await.unwrap(), known.0, "{request}, {carried_out}");
            let intents = state.intents().await.unwrap();
            assert!(intents == known.1 || intents.is_empty(), "{request}, {carried_out}: all or none");
            assert_eq!(state.deferred(DeferredKind::Failed).await.unwrap().len(), 1);
            assert_eq!(state.deferred(DeferredKind::Filtered).await.unwrap().len(), 7);
        }
    }
}

/// Takes a lease like the first release: its expression and its condition, word for word, with their values.
async fn take_as_the_first_release(scene: &Scene, key: &StateKey, now: i64) -> Result<(), String> {
    let (text, number) = (
        |value: &str| AttributeValue::S(value.to_owned()),
        |value: i64| AttributeValue::N(value.to_string()),
    );
    let request = scene
        .client()
        .update_item()
        .table_name(TABLE)
        .key("vault_id", text(key.vault_id.as_str()))
        .update_expression(
            "SET #format = :format, #destination = :destination, #lease_owner = :lease_owner, #lease_id = :lease_id, \
             #lease_expires = :lease_expires, #revision = :zero, #fencing = if_not_exists(#fencing, :zero) + :one",
        )
        .condition_expression(
            "(attribute_not_exists(#destination) OR #destination = :destination) \
             AND (attribute_not_exists(#format) OR #format <= :format) \
             AND (attribute_not_exists(#lease_expires) OR #lease_expires < :now)",
        );
    let names = ["format", "destination", "lease_owner", "lease_id", "lease_expires", "revision", "fencing"];
    let request = names
        .iter()
        .fold(request, |request, name| request.expression_attribute_names(format!("#{name}"), *name))
        .expression_attribute_values(":format", number(1))
        .expression_attribute_values(":destination", text(&key.destination))
        .expression_attribute_values(":lease_owner", text("the first release"))
        .expression_attribute_values(":lease_id", text("a lease of the first release"))
        .expression_attribute_values(":lease_expires", number(now + 60))
        .expression_attribute_values(":zero", number(0))
        .expression_attribute_values(":one", number(1))
        .expression_attribute_values(":now", number(now));
    request.send().await.map(drop).map_err(|error| error.into_service_error().to_string())
}

/// Commits a file like the first release: in a transaction with the head, as long as that has its lease.
async fn commit_as_the_first_release(scene: &Scene, key: &StateKey, head: &Value) -> Result<(), String> {
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let number = |value: &str| AttributeValue::N(value.to_owned());
    let update = Update::builder()
        .table_name(TABLE)
        .key("vault_id", text(key.vault_id.as_str()))
        .update_expression("SET #files = :files")
        .condition_expression("#fencing = :fencing AND #lease_id = :lease_id")
        .expression_attribute_names("#files", "files")
        .expression_attribute_names("#fencing", "fencing")
        .expression_attribute_names("#lease_id", "lease_id")
        .expression_attribute_values(":files", number("9999"))
        .expression_attribute_values(":fencing", number(head["fencing"]["N"].as_str().unwrap()))
        .expression_attribute_values(":lease_id", text(head["lease_id"]["S"].as_str().unwrap()))
        .build()
        .unwrap();
    let put = Put::builder()
        .table_name(TABLE)
        .item("vault_id", text(&format!("file#{}#late", key.vault_id)))
        .build()
        .unwrap();
    let items =
        [TransactWriteItem::builder().put(put).build(), TransactWriteItem::builder().update(update).build()];
    let request = scene.client().transact_write_items().set_transact_items(Some(items.into()));
    request.send().await.map(drop).map_err(|error| error.into_service_error().to_string())
}

#[tokio::test]
async fn of_the_first_release_and_this_one_each_keeps_the_other_out_and_the_first_ends_with_a_reason() {
    let (scene, key) = place(WRITTEN[0]).await;
    let now = jiff::Timestamp::now().as_second();
    let head = || scene.item(key.vault_id.as_str()).unwrap();
    let open =
        || async { DynamoState::open(&scene.table(), key.clone(), &scene.lease_of("this release")).await };

    // In turn: it has the lease, and this one waits.
    take_as_the_first_release(&scene, &key, now).await.unwrap();
    let of_the_first = head();
    let error = open().await.unwrap_err().to_string();
    assert!(error.contains("the first release") && error.contains("runs out in"), "{error}");
    assert_eq!(head(), of_the_first, "nothing of it was changed");

    // It dies, this one takes over, and the announced files are still there.
    scene.spoil(key.vault_id.as_str(), "lease_expires", json!({ "N": (now - 1).to_string() }));
    let state = open().await.unwrap();
    let (intents, records) = (state.intents().await.unwrap(), state.all_records().await.unwrap());
    assert!(!intents.is_empty() && records.len() == 8);

    // At the same time: it returns and commits its interrupted work; then it begins anew, while this one
    // works and afterwards.
    let error = commit_as_the_first_release(&scene, &key, &of_the_first).await.unwrap_err();
    assert!(error.contains("ConditionalCheckFailed"), "{error}");
    let error = take_as_the_first_release(&scene, &key, now).await.unwrap_err();
    assert!(error.contains("conditional request failed"), "{error}");
    assert_eq!(state.all_records().await.unwrap(), records);
    assert_eq!(state.intents().await.unwrap(), intents);
    state.close().await.unwrap();
    take_as_the_first_release(&scene, &key, now).await.unwrap_err();
    // It reads the format to say why.
    assert_eq!(head()["format"], json!({ "N": "3" }));
    assert_eq!(open().await.unwrap().all_records().await.unwrap(), records);
}
