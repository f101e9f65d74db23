//! Alternative destinations in events: refused, unless the settings allow them.

use obsync_testcloud::LambdaRuntime;
use serde_json::{Value, json};

use crate::world::{BUCKET, PREFIX, TABLE, World, answered, failed, invoke, report, sync, write_notes};

fn to(bucket: &str, prefix: &str) -> Value {
    json!({ "action": "sync", "vault_id": "Notes", "dest_bucket": bucket, "dest_prefix": prefix })
}

async fn refused(function: &LambdaRuntime, event: &Value) -> String {
    let invocation = invoke(function, event).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "InvalidEvent", "{message}");
    message.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_sends_no_vault_anywhere_unless_that_is_allowed() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    world.cloud.s3().create_bucket("other");
    let function = world.function();
    for event in [
        to("other", ""),
        json!({ "action": "sync", "vault_id": "Notes", "dest_bucket": "other" }),
        json!({ "action": "sync", "vault_id": "Notes", "dest_prefix": "elsewhere" }),
    ] {
        let message = refused(&function, &event).await;
        assert!(message.contains("OBSYNC_ALLOW_DESTINATIONS does not"), "{message}");
    }
    let queued = json!({ "Records": [
        { "messageId": "1", "eventSource": "aws:sqs", "body": to("other", "").to_string() },
        { "messageId": "2", "eventSource": "aws:sqs", "body": sync("Notes").to_string() },
    ] });
    let invocation = invoke(&function, &queued).await;
    assert_eq!(answered(&invocation), &json!({ "batchItemFailures": [{ "itemIdentifier": "1" }] }));
    assert!(world.cloud.s3().files("other", "").is_empty());
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_destination_is_used_for_its_event_only() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    world.cloud.s3().create_bucket("other");
    let function = world.function_with(&[("OBSYNC_ALLOW_DESTINATIONS", "third, other/copies")]);
    for (bucket, prefix) in [("other", ""), ("other", "copies 2"), ("other", "copies/../x"), ("third2", "")] {
        refused(&function, &to(bucket, prefix)).await;
    }
    answered(&invoke(&function, &to("other", "copies/today")).await);
    assert_eq!(world.cloud.s3().files("other", "copies/today/Notes/").len(), 3);
    assert!(world.cloud.s3().files(BUCKET, "").is_empty());
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_cannot_take_the_configured_place_of_a_vault() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    write_notes(&world.vault("Private"), 3);
    // The widest possible permission.
    let function = world.function_with(&[("OBSYNC_ALLOW_DESTINATIONS", BUCKET)]);
    for prefix in ["", "notes/Private", "notes/A vault that is yet to come"] {
        let message = refused(&function, &to(BUCKET, prefix)).await;
        assert!(message.contains("overlaps s3://vaults/notes"), "{message}");
    }
    // The usual place may be named.
    answered(&invoke(&function, &to(BUCKET, "notes")).await);
    answered(&invoke(&function, &sync("Private")).await);
    world.assert_exact("Notes");
    world.assert_exact("Private");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_place_in_the_table_fails_one_vault_and_not_the_run() {
    let world = World::new().await;
    let (notes, private) = (world.vault("Notes"), world.vault("Private"));
    write_notes(&notes, 3);
    write_notes(&private, 3);
    let function = world.function();
    let both = json!({ "action": "sync", "vaults": ["Notes", "Private"] });
    answered(&invoke(&function, &both).await);
    let items = world.cloud.dynamodb().items(TABLE).unwrap();
    let key = |item: &Value| item["vault_id"]["S"].as_str().unwrap_or_default().to_owned();
    let places = items.into_iter().find(|item| key(item).starts_with("places#")).unwrap();
    notes.write("new.md", "new", 1_800_000_000_000).unwrap();
    for wrong in [
        json!({ "N": "7" }),
        json!({ "S": "../../elsewhere" }),
        json!({ "S": "Notes" }),
        json!({ "S": "Notes/inside" }),
        json!({ "S": "" }),
        json!({ "L": [] }),
    ] {
        let mut item = places.clone();
        item["places"]["M"][private.id().as_str()] = wrong.clone();
        // Of two vaults with one place neither is right.
        let is_shared = wrong == json!({ "S": "Notes" });
        world.cloud.dynamodb().put_item(TABLE, item).unwrap();
        let invocation = invoke(&function, &both).await;
        if is_shared {
            assert_eq!(failed(&invocation).0, "SyncFailed");
            continue;
        }
        let answer = answered(&invocation);
        assert_eq!(answer["status"], "partial", "{wrong}: {answer}");
        let status = |id: &str| {
            let vaults = answer["vaults"].as_array().unwrap();
            vaults.iter().find(|vault| vault["vault_id"] == id).unwrap()["status"].clone()
        };
        assert_eq!(status(notes.id().as_str()), "complete", "{wrong}");
        assert_eq!(status(private.id().as_str()), "failed", "{wrong}");
        let error = answer["errors"][0].as_str().unwrap();
        assert!(error.contains("obsync-state") && error.contains("`places`"), "{error}");
    }
    world.assert_exact("Notes");
    world.cloud.dynamodb().put_item(TABLE, places).unwrap();
    let invocation = invoke(&function, &sync("Private")).await;
    assert_eq!(report(answered(&invocation))["status"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_marker_is_another_ones_is_in_doubt_and_the_answer_says_so() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let first = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&first)).get("doubt"), None);
    let key = format!("{PREFIX}/Notes/.obsync/id");
    let mut marker: Value =
        serde_json::from_slice(&world.cloud.s3().object(BUCKET, &key).unwrap().content).unwrap();
    let id = marker["id"].as_str().unwrap().replace(|digit| digit != '0', "0");
    marker["id"] = json!(id);
    world.cloud.s3().put(BUCKET, &key, marker.to_string(), &[]);
    let second = invoke(&function, &sync("Notes")).await;
    let answer = answered(&second);
    assert_eq!(report(answer)["doubt"], "other_destination", "{answer}");
    assert_eq!(report(answer)["adopted"]["files"], 3, "{answer}");
    let third = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&third)).get("doubt"), None);
    world.assert_exact("Notes");
}
