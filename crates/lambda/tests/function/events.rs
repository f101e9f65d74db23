//! The ways in which the function is invoked, and what it answers to each.

use obsync_testcloud::Service;
use serde_json::{Value, json};

use crate::world::{World, answered, failed, invoke, many, report, sync, write_notes};

fn message(id: &str, body: &Value) -> Value {
    json!({ "messageId": id, "eventSource": "aws:sqs", "body": body.to_string() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_told_which_messages_are_to_come_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let bodies = [sync("Notes"), sync("Nothing"), json!(7)];
    let records = ["1", "2", "3"].iter().zip(&bodies).map(|(id, body)| message(id, body));
    let event = json!({ "Records": records.collect::<Vec<_>>() });
    let invocation = invoke(&world.function(), &event).await;
    let failures = json!([{ "itemIdentifier": "2" }, { "itemIdentifier": "3" }]);
    assert_eq!(answered(&invocation), &json!({ "batchItemFailures": failures }));
    world.assert_exact("Notes");
    let event = json!({ "Records": [message("2", &sync("Nothing"))] });
    assert_eq!(failed(&invoke(&world.function(), &event).await).0, "SyncFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_in_http() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let context = json!({ "http": { "method": "POST" } });
    let request = |body: &str| json!({ "version": "2.0", "requestContext": context, "body": body });
    for (body, status) in [
        (sync("Notes").to_string(), 200),
        (sync("Nothing").to_string(), 500),
        (json!({ "action": "sync", "vaults": ["Notes", "Nothing"] }).to_string(), 207),
        (json!({ "action": "status", "vault_id": "Nothing" }).to_string(), 404),
        ("{".to_owned(), 400),
        (json!({ "action": "dance" }).to_string(), 400),
    ] {
        let invocation = invoke(&function, &request(&body)).await;
        let answer = answered(&invocation);
        assert_eq!(answer["statusCode"], json!(status), "{body}: {answer}");
        let content: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        assert_eq!(content["success"], json!(status == 200), "{content}");
    }
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_how_things_are_and_changes_nothing() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let status = json!({ "action": "status", "vault_id": "Notes" });
    let before = invoke(&function, &status).await;
    assert_eq!(report(answered(&before))["status"], "never_synced");
    assert_eq!(world.cloud.dynamodb().items("obsync-state").unwrap(), [] as [Value; 0]);
    answered(&invoke(&function, &sync("Notes")).await);
    let after = invoke(&function, &status).await;
    let about = report(answered(&after));
    assert_eq!((&about["status"], &about["files"]), (&json!("complete"), &json!(3)), "{about}");
    assert_eq!(about["destination"], "s3://vaults/notes/Notes");
    assert_eq!(about["encryption"], "standard");
    assert_eq!(about["progress"]["files_complete"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_changes_in_a_large_vault_cost_few_requests() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, many(2000));
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    for number in 0..4 {
        let (new, changed) = (format!("new {number}"), format!("changed {number}"));
        vault.write(&format!("folder 0/new {number}.md"), new, 1_800_000_000_000).unwrap();
        vault.write(&format!("folder {number}/note {number}.md"), changed, 1_800_000_000_001).unwrap();
    }
    vault.delete("folder 4/note 4.md").unwrap();
    vault.rename("folder 5/note 5.md", "folder 5/renamed.md").unwrap();
    let before = world.cloud.counts();
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(answered(&invocation)["files_count"], 9);
    world.assert_exact("Notes");
    let since = world.cloud.counts().since(&before);
    let requests = since.total(Service::S3) + since.total(Service::DynamoDb);
    println!("{requests} requests");
    // Up to four of them ask once in a run whether the service keeps conditions of writes, copies and removals.
    assert!(requests <= 44, "{since}");
}
