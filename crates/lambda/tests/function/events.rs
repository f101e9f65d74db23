//! The ways of invoking the function, and its answers.

use data_encoding::BASE64;
use obsync_testcloud::{Invocation, Service};
use obsync_testkit::Chance;
use serde_json::{Value, json};

use crate::alterations::{Alteration, altered};
use crate::world::{World, answered, failed, invoke, many, report, schema_faults, sync, write_notes};

fn message(id: &str, body: &Value) -> Value {
    text_message(id, &body.to_string())
}

fn text_message(id: &str, body: &str) -> Value {
    json!({ "messageId": id, "eventSource": "aws:sqs", "body": body })
}

fn again(ids: &[&str]) -> Value {
    let ids: Vec<Value> = ids.iter().map(|id| json!({ "itemIdentifier": id })).collect();
    json!({ "batchItemFailures": ids })
}

/// A notification as SNS puts it into a queue.
fn notification(message: &str) -> Value {
    json!({
        "Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-east-1:123456789012:topic",
        "Message": message, "Timestamp": "2025-01-01T00:00:00.000Z", "SignatureVersion": "1",
    })
}

fn from_event_bridge(kind: &str, source: &str, detail: &Value) -> Value {
    json!({
        "version": "0", "id": "1", "detail-type": kind, "source": source, "account": "123456789012",
        "time": "2025-01-01T00:00:00Z", "region": "us-east-1", "resources": [], "detail": detail,
    })
}

/// Number of log lines with this text.
fn logged(invocation: &Invocation, text: &str) -> usize {
    invocation.logs.iter().filter(|line| line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_told_which_messages_are_to_come_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let bodies = [sync("Notes"), sync("Nothing"), json!(7)];
    let records = ["1", "2", "3"].iter().zip(&bodies).map(|(id, body)| message(id, body));
    let event = json!({ "Records": records.collect::<Vec<_>>() });
    // An unknown vault may exist tomorrow. A number is no vault.
    assert_eq!(answered(&invoke(&function, &event).await), &again(&["2"]));
    world.assert_exact("Notes");
    let event = json!({ "Records": [message("2", &sync("Nothing"))] });
    assert_eq!(failed(&invoke(&function, &event).await).0, "SyncFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_understood_in_every_envelope_and_batch() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    let function = world.function();
    let request = sync("Notes");
    let topic =
        json!({ "EventSource": "aws:sns", "EventVersion": "1.0", "Sns": notification(&request.to_string()) });
    let base64 = BASE64.encode(request.to_string().as_bytes());
    let by_topic = notification(&from_event_bridge("Sync", "my.app", &request).to_string());
    let schedule = from_event_bridge("Scheduled Event", "aws.scheduler", &json!("{}"));
    let nothing = |body: &str| json!({ "Records": [text_message("1", body)] });
    // The vault has a place after this, so that events without names include it.
    answered(&invoke(&function, &request).await);
    let events = [
        json!({ "Records": [message("1", &from_event_bridge("Sync", "my.app", &request))] }),
        json!({ "Records": [message("1", &from_event_bridge("Sync", "my.app", &json!(request.to_string())))] }),
        json!({ "Records": [message("1", &notification(&request.to_string()))] }),
        json!({ "Records": [message("1", &by_topic)] }),
        json!({ "Records": [topic] }),
        json!([message("1", &request), message("2", &request)]),
        json!([request]),
        json!({ "Records": [text_message("1", &base64)] }),
        json!({ "ExecutedVersion": "$LATEST", "Payload": request, "StatusCode": 200 }),
        json!(request.to_string()),
        schedule.clone(),
        json!({ "Records": [message("1", &schedule)] }),
        nothing("\"\""),
        nothing("{}"),
    ];
    for (number, event) in events.iter().enumerate() {
        vault.write("note.md", format!("content {number}"), 1_800_000_000_000 + number as i64).unwrap();
        let invocation = invoke(&function, event).await;
        let answer = answered(&invocation);
        let is_done = answer["status"] == "complete" || *answer == again(&[]);
        assert!(is_done, "{event}: {answer}");
        world.assert_exact("Notes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_about_objects_are_acknowledged_and_start_nothing() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let object = json!({ "bucket": { "name": "vaults" }, "object": { "key": "notes/Notes/a.md" } });
    let created = from_event_bridge("Object Created", "aws.s3", &object);
    let record = json!({ "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": object });
    let records = json!({ "Records": [record] });
    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "vaults" });
    for event in [&created, &records, &test] {
        let invocation = invoke(&function, event).await;
        let answer = answered(&invocation);
        assert_eq!((&answer["status"], &answer["success"]), (&json!("ignored"), &json!(true)), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("no request"), "{answer}");
        let by_topic = message("2", &notification(&event.to_string()));
        let queued = json!({ "Records": [message("1", event), by_topic] });
        assert_eq!(answered(&invoke(&function, &queued).await), &again(&[]), "{event}");
    }
    assert_eq!(world.cloud.counts().iter().count(), 0, "{}", world.cloud.counts());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_understood_is_logged_once_and_goes_to_the_dead_letter_queue() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let queue = world.cloud.queues().create("letters");
    let function = world.function_with(&[("OBSYNC_DEAD_LETTER_QUEUE", &queue)]);
    let status = json!({ "action": "status" }).to_string();
    let unknown = json!({ "action": "dance\u{202e}" }).to_string();
    let bodies = ["hello", "7", &status, &unknown];
    let poison = bodies.iter().zip(10..).map(|(body, id)| text_message(&format!("poison-{id}"), body));
    let good = message("good", &sync("Notes"));
    let event = json!({ "Records": poison.chain([good]).collect::<Vec<_>>() });
    let invocation = invoke(&function, &event).await;
    assert_eq!(answered(&invocation), &again(&[]));
    world.assert_exact("Notes");
    let letters = world.cloud.queues().messages("letters");
    assert_eq!(letters.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>(), bodies);
    let reasons = ["does not carry JSON", "is a number", "nobody would read", "is unknown"];
    for (letter, reason) in letters.iter().zip(reasons) {
        let text = &letter.attributes["ObsyncReason"];
        assert!(text.contains(reason) && text.is_ascii(), "{letter:?}");
    }
    assert_eq!(logged(&invocation, "poison-10"), 1, "{:?}", invocation.logs);
    // A rule does not read the answer either.
    let rule = from_event_bridge("Sync", "my.app", &json!({ "action": "dance" }));
    assert_eq!(answered(&invoke(&function, &rule).await), &again(&[]));
    assert_eq!(world.cloud.queues().messages("letters").len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_dead_letter_queue_does_not_take_come_again() {
    let world = World::new().await;
    let queue = world.cloud.queues().create("letters");
    let function = world.function_with(&[("OBSYNC_DEAD_LETTER_QUEUE", &queue)]);
    world.cloud.faults().update(|faults| faults.sqs.forbidden = Chance::always());
    let event =
        json!({ "Records": [text_message("1", "hello"), message("2", &json!({ "Event": "s3:TestEvent" }))] });
    let invocation = invoke(&function, &event).await;
    assert_eq!(answered(&invocation), &again(&["1"]));
    assert_eq!(logged(&invocation, "sqs:SendMessage"), 1, "{:?}", invocation.logs);
    world.cloud.faults().clear();
    assert_eq!(answered(&invoke(&function, &event).await), &again(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_dead_letter_queue_poison_is_logged_and_acknowledged() {
    let world = World::new().await;
    let event = json!({ "Records": [text_message("poison", "hello")] });
    let invocation = invoke(&world.function(), &event).await;
    assert_eq!(answered(&invocation), &again(&[]));
    assert_eq!(logged(&invocation, "poison"), 1, "{:?}", invocation.logs);
    assert_eq!(world.cloud.counts().iter().count(), 0, "{}", world.cloud.counts());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_fifo_queue_the_rest_of_the_group_comes_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let letters = world.cloud.queues().create("letters.fifo");
    let function = world.function_with(&[("OBSYNC_DEAD_LETTER_QUEUE", &letters)]);
    let of_group = |id: &str, group: &str, body: &str| {
        let mut message = text_message(id, body);
        message["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:123456789012:vaults.fifo");
        message["attributes"] = json!({ "MessageGroupId": group });
        message
    };
    let (notes, nothing) = (sync("Notes").to_string(), sync("Nothing").to_string());
    let event = json!({ "Records": [
        of_group("1", "one", &notes),
        of_group("2", "one", &nothing),
        of_group("3", "two", "hello"),
        of_group("4", "two", &notes),
        of_group("5", "one", &notes),
        of_group("6", "one", "hello"),
    ] });
    assert_eq!(answered(&invoke(&function, &event).await), &again(&["2", "5"]));
    world.assert_exact("Notes");
    let groups: Vec<Option<String>> =
        world.cloud.queues().messages("letters.fifo").into_iter().map(|letter| letter.group).collect();
    assert_eq!(groups, [Some("two".to_owned()), Some("one".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_batch_of_a_queue_is_served_and_a_larger_one_refused() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let queue = world.cloud.queues().create("letters");
    let function = world.function_with(&[("OBSYNC_DEAD_LETTER_QUEUE", &queue)]);
    let messages = |count: usize| {
        let body = |number: usize| {
            if number.is_multiple_of(10) { "hello".to_owned() } else { sync("Notes").to_string() }
        };
        (0..count).map(|number| text_message(&number.to_string(), &body(number))).collect::<Vec<_>>()
    };
    let invocation = invoke(&function, &json!({ "Records": messages(10_000) })).await;
    assert_eq!(answered(&invocation), &again(&[]));
    world.assert_exact("Notes");
    assert_eq!(world.cloud.queues().messages("letters").len(), 1000);
    assert_eq!(world.cloud.counts().of(Service::Sqs, "SendMessageBatch"), 100);
    assert!(invocation.logs.len() < 200, "{}", invocation.logs.len());
    let invocation = invoke(&function, &json!({ "Records": messages(10_001) })).await;
    let (kind, message) = failed(&invocation);
    assert!(kind == "InvalidEvent" && message.contains("more than 10000 messages"), "{kind} {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_much_gets_a_sentence_and_the_right_status() {
    let world = World::new().await;
    let function = world.function();
    let names: Vec<String> = (0..10_000).map(|number| format!("vault {number}")).collect();
    let to = |prefix: &str| json!({ "action": "sync", "vault_id": "Notes", "dest_prefix": prefix });
    for (event, part) in [
        (json!({ "action": "sync", "padding": "x".repeat(1 << 20) }), "1048576 are the most"),
        (json!({ "action": "sync", "x".repeat(1_000_000): 1 }), "unknown field"),
        (json!({ "action": "x".repeat(1_000_000) }), "is unknown"),
        (json!({ "action": "sync", "vaults": names }), "it names 10000 vaults; 1000 are the most"),
        (json!({ "action": "sync", "vault_id": "../".repeat(400) }), "1 to 1024 bytes, not 1200"),
        (to("../../other"), "no such destination"),
        (to("notes/../other"), "no such destination"),
        (json!({ "action": "sync", "dest_bucket": "../other" }), "no such destination"),
    ] {
        let invocation = invoke(&function, &event).await;
        let (kind, text) = failed(&invocation);
        assert!(kind == "InvalidEvent" && text.contains(part) && text.len() < 1000, "{kind} {text}");
        let request = json!({ "httpMethod": "POST", "requestContext": {}, "body": event.to_string() });
        let invocation = invoke(&function, &request).await;
        let answer = answered(&invocation);
        assert_eq!(answer["statusCode"], 400, "{answer}");
        assert!(answer["body"].as_str().unwrap().contains(part), "{answer}");
        let queued = json!({ "Records": [message("1", &event)] });
        assert_eq!(answered(&invoke(&function, &queued).await), &again(&[]), "{part}");
    }
    // Paths in the names of vaults are names: of vaults that do not exist.
    for name in ["../../etc/passwd", "/", "Notes/../Private", "Notes/"] {
        let invocation = invoke(&function, &sync(name)).await;
        let (kind, text) = failed(&invocation);
        assert!(kind == "SyncFailed" && text.contains(name), "{kind} {text}");
        let status = json!({ "action": "status", "vault_id": name });
        assert_eq!(failed(&invoke(&function, &status).await).0, "VaultNotFound");
    }
    assert_eq!(world.cloud.s3().files("vaults", "").len(), 0);
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
    assert_eq!((&about["direction"], &about["folders"]), (&json!("pull"), &json!(3)), "{about}");
    assert_eq!(about["destination"], "s3://vaults/notes/Notes");
    assert_eq!(about["encryption"], "standard");
    assert_eq!(about["last_run"]["progress"]["files_complete"], 3);
    assert_eq!((&about["failures"], &about["failures_unlisted"]), (&json!([]), &json!(0)), "{about}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_names_what_failed_as_the_command_line_does() {
    let world = World::new().await;
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    let told = invoke(&function, &json!({ "action": "status", "vault_id": "Notes" })).await;
    let about = report(answered(&told));
    let failure = &about["failures"][0];
    assert_eq!((&failure["path"], &failure["uid"]), (&json!("Broken.md"), &json!(1)), "{about}");
    assert!(!failure["reason"].as_str().unwrap().is_empty(), "{about}");
    assert_eq!((&about["failures_unlisted"], &about["held_back"]), (&json!(0), &json!([])), "{about}");
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
    // Up to six of them probe once in a run whether the service honours conditions of writes, copies and
    // removals; one writes the marker, and one commits that it is written. Two announce removals: the source
    // of the rename, and the rest.
    assert!(requests <= 50, "{since}");
}

/// Action and path of each change in a report, sorted.
fn changes(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["changes"].as_array().unwrap().iter();
    let mut changes: Vec<_> =
        steps.map(|step| (step["action"].as_str().unwrap(), step["path"].as_str().unwrap())).collect();
    changes.sort_unstable();
    changes
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_every_file_that_changed_if_the_event_asks_for_it() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    let function = world.function();
    let listing = json!({ "action": "sync", "vaults": ["Notes"], "list_changes": true });
    let invocation = invoke(&function, &listing).await;
    let of_first = report(answered(&invocation));
    let brought: Vec<String> = (0..3).map(|n| format!("folder {n}/note {n}.md")).collect();
    let expected: Vec<_> = brought.iter().map(|path| ("download", path.as_str())).collect();
    assert_eq!((changes(of_first), of_first.get("changes_unlisted")), (expected, None));
    vault.delete("folder 0/note 0.md").unwrap();
    vault.rename("folder 1/note 1.md", "renamed.md").unwrap();
    let invocation = invoke(&function, &listing).await;
    let moved = [("copy", "renamed.md"), ("remove", "folder 0/note 0.md"), ("remove", "folder 1/note 1.md")];
    assert_eq!(changes(report(answered(&invocation))), moved);
    let invocation = invoke(&function, &listing).await;
    assert!(changes(report(answered(&invocation))).is_empty(), "nothing has changed");
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&invocation)).get("changes"), None, "nobody asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_names_what_changed_is_no_longer_than_lambda_takes() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    // The answer to a request contains JSON as a string, in which each quotation mark takes four bytes.
    let folder = vec!["\"".repeat(240); 4].join("/");
    let count = 1200;
    for number in 0..count {
        vault.write(&format!("{folder}/{number}"), format!("note {number}"), 1_800_000_000_000).unwrap();
    }
    let body = json!({ "action": "sync", "vault_id": "Notes", "list_changes": true }).to_string();
    let context = json!({ "http": { "method": "POST" } });
    let event = json!({ "version": "2.0", "requestContext": context, "body": body });
    let function = world.function();
    let invocation = invoke(&function, &event).await;
    let answer = answered(&invocation);
    let length = answer.to_string().len();
    assert!((4_000_000..6_000_000).contains(&length), "{length} bytes");
    let content: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    let report = report(&content);
    let (listed, unlisted) = (changes(report).len() as u64, report["changes_unlisted"].as_u64().unwrap());
    assert_eq!((listed + unlisted, report["pulled"]["files"].as_u64()), (count, Some(count)));
    assert!(unlisted > 0, "{listed} are listed");
}

/// Optional fields, left out when empty.
const OPTIONAL: &[&str] = &["vaults.0.chain", "vaults.0.encryption"];

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_a_field_that_is_missing_renamed_or_unknown() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let status = json!({ "action": "status", "vaults": ["Notes"] });
    for event in [sync("Notes"), status] {
        let invocation = invoke(&function, &event).await;
        let answer = answered(&invocation);
        for (alteration, path, altered) in altered(answer) {
            // An open object, as deploy/README.md says.
            let is_open = path.starts_with("metadata.");
            let is_optional = alteration == Alteration::Removed && OPTIONAL.contains(&path.as_str());
            let is_refused = schema_faults(&altered) != [""; 0];
            assert!(is_refused || is_open || is_optional, "{path} {alteration:?}");
        }
    }
}
