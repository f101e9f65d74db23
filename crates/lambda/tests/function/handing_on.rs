//! Invocations that hand on: each continues where the one before ended, even if events are delivered twice,
//! late or not at all.

use std::time::Duration;

use obsync_testcloud::{Invocation, InvokeOptions, LambdaRuntime, QueuedEvent, Service};
use obsync_testkit::Chance;
use serde_json::{Value, json};

use crate::world::{TABLE, World, answered, failed, invoke, invoke_for, report, sync, write_notes};

/// Settings of a self-continuing function, with small batches, so that each invocation makes progress.
pub(crate) const ON: [(&str, &str); 2] = [("OBSYNC_SELF_CONTINUE", "true"), ("LAMBDA_BATCH_SIZE", "20")];
/// The time of an invocation in these tests, in milliseconds.
const TIME: u64 = 3000;

/// A destination limited to this many requests per second.
fn takes(world: &World, requests_per_second: u32) {
    world.cloud.faults().update(|faults| faults.s3.pace = Duration::from_secs(1) / requests_per_second);
}

async fn run(function: &LambdaRuntime, event: &Value) -> Invocation {
    invoke_for(function, event, TIME).await
}

/// The only waiting continuation.
#[track_caller]
pub(crate) fn continuation(world: &World) -> Value {
    let QueuedEvent { event, .. } = world.cloud.lambda().take_event().unwrap();
    assert_eq!(world.cloud.lambda().waiting(), []);
    event
}

/// The head of the vault `Notes`.
fn head(world: &World) -> Value {
    let id = world.vault("Notes").id().clone();
    world.cloud.dynamodb().item(TABLE, id.as_str()).unwrap().unwrap()
}

fn head_number(world: &World, name: &str) -> f64 {
    head(world)[name]["N"].as_str().map_or(f64::NAN, |digits| digits.parse().unwrap())
}

fn set_head(world: &World, change: impl FnOnce(&mut Value)) {
    let mut item = head(world);
    change(&mut item);
    world.cloud.dynamodb().put_item(TABLE, item).unwrap();
}

/// Runs waiting events until there are none. Returns the number of invocations.
async fn finish(world: &World, function: &LambdaRuntime) -> usize {
    world.cloud.faults().clear();
    let mut invocations = 0;
    while let Some(QueuedEvent { event, .. }) = world.cloud.lambda().take_event() {
        let invocation = invoke(function, &event).await;
        assert_ne!(answered(&invocation)["status"], "skipped", "{:?}", invocation.outcome);
        invocations += 1;
        assert!(invocations < 50);
    }
    invocations
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_holders_time() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 200);
    takes(&world, 20);
    let function = world.function();
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let at_work = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > 30).await;
        let expires = head_number(&world, "lease_expires");
        function.kill().await;
        expires
    };
    let event = sync("Notes");
    let options = InvokeOptions { timeout: Some(Duration::from_secs(6)), ..InvokeOptions::default() };
    // Warm, since its start would count.
    answered(&invoke(&function, &sync("Private")).await);
    let (_, expires) = tokio::join!(function.invoke(&event, options), at_work);
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expires <= started + 6.0 + 2.0, "{expires} {begun} {started}");
    assert!(expires < begun + 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_it_let_go_the_same_step_begins_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    let function = world.function_with(&ON);
    run(&function, &sync("Notes")).await;
    let event = continuation(&world);
    // The second update of the head without a transaction is the last write of the step.
    let updates = world.cloud.counts().of(Service::DynamoDb, "UpdateItem");
    world.cloud.faults().update(|faults| {
        faults.dynamodb.operations = vec!["UpdateItem".to_owned()];
        faults.dynamodb.hang = Chance::always().after(1);
    });
    let kill = async {
        world.cloud.wait_for(|counts| counts.of(Service::DynamoDb, "UpdateItem") > updates + 1).await;
        function.kill().await;
    };
    tokio::join!(run(&function, &event), kill);
    assert_eq!(world.cloud.lambda().waiting(), []);
    world.cloud.faults().update(|faults| faults.dynamodb = Default::default());
    // Lambda retries an event whose invocation died. It waits for the lease to end.
    let again = invoke_for(&function, &event, 15_000).await;
    let answer = answered(&again);
    assert!(matches!(answer["status"].as_str(), Some("complete" | "incomplete")), "{answer}");
    finish(&world, &function).await;
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_continuation_the_next_event_goes_on_with_the_chain() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    let function = world.function_with(&ON);
    world.cloud.faults().update(|faults| faults.lambda.hang = Chance::always());
    let kill = async {
        world.cloud.wait_for(|counts| counts.of(Service::Lambda, "Invoke") > 0).await;
        function.kill().await;
    };
    let event = sync("Notes");
    tokio::join!(run(&function, &event), kill);
    assert_eq!((head_number(&world, "chain_step"), head_number(&world, "chain_due")), (0.0, 1.0));
    assert!(head(&world).get("lease_expires").is_none(), "it had let go");
    world.cloud.faults().update(|faults| faults.lambda = Default::default());
    let next = run(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&next))["step"], json!(1), "{}", answered(&next));
    finish(&world, &function).await;
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_continuation_the_chain_goes_on_and_a_schedule_starts_no_second_one() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 200);
    takes(&world, 30);
    let function = world.function_with(&ON);
    world.cloud.faults().update(|faults| faults.lambda.unanswered = Chance::always());
    let kill = async {
        world.cloud.wait_for(|counts| counts.of(Service::Lambda, "Invoke") > 0).await;
        // It takes effect, and is not answered.
        tokio::time::sleep(Duration::from_millis(30)).await;
        function.kill().await;
    };
    let event = sync("Notes");
    tokio::join!(run(&function, &event), kill);
    world.cloud.faults().update(|faults| faults.lambda = Default::default());
    let event = continuation(&world);
    // The schedule comes first: it becomes the awaited step.
    let scheduled = run(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&scheduled))["step"], json!(1), "{}", answered(&scheduled));
    let waiting = world.cloud.lambda().waiting().len();
    let late = run(&function, &event).await;
    let answer = answered(&late);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("superseded"), &json!(true)), "{answer}");
    assert_eq!(world.cloud.lambda().waiting().len(), waiting, "it continues nothing");
    finish(&world, &function).await;
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_uploads_still_hang_at_its_end_keeps_its_lease_and_the_next_one_waits_for_that() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 40);
    vault.write("large.bin", vec![7; 12 << 20], 1_700_000_000_000).unwrap();
    // The longest time for an answer, and so the earliest continuation before the end of the lease.
    let function = world.function_with(&[ON[0], ON[1], ("LAMBDA_TIMEOUT_BUFFER", "10")]);
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["UploadPart".to_owned(), "AbortMultipartUpload".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let first = invoke_for(&function, &sync("Notes"), 20_000).await;
    let answer = answered(&first);
    assert_eq!(
        (&answer["status"], &answer["metadata"]["goes_on_by_itself"]),
        (&json!("incomplete"), &json!(true))
    );
    assert!(head(&world).get("lease_expires").is_some(), "it ends when the uploads certainly have");
    world.cloud.faults().clear();
    let next = invoke(&function, &continuation(&world)).await;
    let answer = answered(&next);
    assert_eq!((&answer["status"], &report(answer)["step"]), (&json!("complete"), &json!(1)), "{answer}");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_continuation_delivered_twice_and_once_more_at_the_end_changes_nothing() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 300);
    takes(&world, 40);
    let function = world.function_with(&ON);
    let first = run(&function, &sync("Notes")).await;
    let mut files = answered(&first)["files_count"].as_u64().unwrap();
    let (mut steps, mut events) = (1, Vec::new());
    while let Some(QueuedEvent { event, .. }) = world.cloud.lambda().take_event() {
        assert_eq!(world.cloud.lambda().waiting(), [], "one chain");
        let invocation = run(&function, &event).await;
        let answer = answered(&invocation);
        assert!(matches!(answer["status"].as_str(), Some("complete" | "incomplete")), "{answer}");
        files += answer["files_count"].as_u64().unwrap();
        let twin = run(&function, &event).await;
        assert_eq!(answered(&twin)["status"], "superseded", "{}", answered(&twin));
        events.push(event);
        steps += 1;
        assert!(steps < 30);
    }
    assert!(steps > 2, "{steps}");
    assert_eq!(files, 300);
    // Long after: the chain has ended.
    for event in &events {
        assert_eq!(answered(&run(&function, event).await)["status"], "superseded");
    }
    assert_eq!(world.cloud.lambda().waiting(), []);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_that_comes_90_s_late_goes_on_and_so_does_the_one_after_it() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 350);
    takes(&world, 30);
    let function = world.function_with(&ON);
    // Long enough for the end of each on a busy machine.
    let run = async |event: &Value| invoke_for(&function, event, 2 * TIME).await;
    run(&sync("Notes")).await;
    // As if the head had been written that long ago.
    let pass = |seconds: f64| {
        set_head(&world, |head| {
            for (name, unit) in [("chain_handed", 1000.0), ("lease_expires", 1.0)] {
                let Some(text) = head[name]["N"].as_str() else { continue };
                let then = text.parse::<f64>().unwrap() - seconds * unit;
                head[name] = json!({ "N": format!("{then:.0}") });
            }
        });
    };
    for step in 1..=2 {
        let event = continuation(&world);
        pass(90.0);
        let late = run(&event).await;
        let answer = answered(&late);
        assert!(matches!(answer["status"].as_str(), Some("complete" | "incomplete")), "{answer}");
        assert_eq!(report(answer)["step"], json!(step), "{answer}");
        // Its duplicate comes even later.
        pass(90.0);
        assert_eq!(answered(&run(&event).await)["status"], "superseded");
        if answer["status"] == "complete" {
            break;
        }
    }
    finish(&world, &function).await;
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_twin_that_comes_while_its_step_is_at_work_is_superseded() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    let (function, other) = (world.function_with(&ON), world.function_with(&ON));
    answered(&invoke(&other, &sync("Private")).await);
    run(&function, &sync("Notes")).await;
    let event = continuation(&world);
    let put = world.cloud.counts().of(Service::S3, "PutObject");
    let twin = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > put + 3).await;
        invoke_for(&other, &event, 60_000).await
    };
    let (worked, twin) = tokio::join!(invoke_for(&function, &event, 20_000), twin);
    assert_eq!(answered(&worked)["status"], "complete", "{}", answered(&worked));
    assert_eq!(answered(&twin)["status"], "superseded", "{}", answered(&twin));
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_continuation_is_sent_again_as_long_as_there_is_time() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    let function = world.function_with(&ON);
    world.cloud.faults().update(|faults| faults.lambda.throttled = Chance::next(2));
    let answer = run(&function, &sync("Notes")).await;
    assert_eq!(answered(&answer)["metadata"]["goes_on_by_itself"], json!(true), "{}", answered(&answer));
    continuation(&world);
    // It stays throttled: that is logged, and the next event continues.
    world.cloud.faults().update(|faults| faults.lambda.throttled = Chance::always());
    let answer = run(&function, &sync("Notes")).await;
    let logs = answer.logs.join("\n");
    assert_eq!(answered(&answer)["metadata"]["goes_on_by_itself"], json!(false), "{}", answered(&answer));
    assert!(logs.contains("does not go on by itself"), "{logs}");
    let ended = |line: &Value| line["ended_chains"].as_u64().unwrap_or_default();
    assert_eq!(answer.json_logs().iter().map(ended).sum::<u64>(), 1, "an alarm is raised: {logs}");
    assert!(world.cloud.counts().of(Service::Lambda, "Invoke") > 4);
    world.cloud.faults().clear();
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_from_a_queue_goes_on_through_the_queue() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    world.cloud.queues().create("work.fifo");
    let function = world.function_with(&ON);
    let message = |body: &str| {
        let record = json!({
            "messageId": "m1", "eventSource": "aws:sqs", "body": body,
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:work.fifo",
            "attributes": { "MessageGroupId": "g", "SequenceNumber": "1" },
        });
        json!({ "Records": [record] })
    };
    let mut body = sync("Notes").to_string();
    for sent in 1.. {
        assert!(sent < 20);
        // The message is done, as its successor was sent.
        let answer = run(&function, &message(&body)).await;
        assert_eq!(answered(&answer), &json!({ "batchItemFailures": [] }));
        let messages = world.cloud.queues().messages("work.fifo");
        if messages.len() < sent {
            break;
        }
        let newest = messages.last().unwrap();
        assert_eq!((messages.len(), newest.group.as_deref()), (sent, Some("g")));
        body.clone_from(&newest.body);
    }
    assert!(!world.cloud.queues().messages("work.fifo").is_empty());
    assert_eq!(world.cloud.lambda().waiting(), [], "the function was not invoked beside that");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_takes_no_message_gives_the_old_one_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 150);
    takes(&world, 30);
    let function = world.function_with(&ON);
    let record = json!({
        "messageId": "m1", "eventSource": "aws:sqs", "body": sync("Notes").to_string(),
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:gone",
    });
    let event = json!({ "Records": [record] });
    let answer = run(&function, &event).await;
    let again = json!({ "batchItemFailures": [{ "itemIdentifier": "m1" }] });
    assert_eq!(answered(&answer), &again);
    assert!(answer.logs.iter().any(|line| line.contains("does not go on by itself")));
    world.cloud.faults().clear();
    assert_eq!(answered(&invoke(&function, &event).await), &json!({ "batchItemFailures": [] }));
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_steps_that_make_nothing_durable_end_a_chain_and_say_so() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 5);
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let function = world.function_with(&ON);
    let options = InvokeOptions { timeout: Some(Duration::from_secs(3)), ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &sync("Notes"), options, 10).await.unwrap();
    assert_eq!(chain.len(), 2);
    let logs = chain[1].logs.join("\n");
    assert!(logs.contains("two invocations in a row made nothing durable"), "{logs}");
    let metrics = chain[1].json_logs();
    let line = metrics.iter().find(|line| line["message"] == "Sync metrics").unwrap();
    assert_eq!(line["ended_chains"], json!(1), "{line}");
    world.cloud.faults().clear();
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_has_no_more_invocations_in_a_day_than_it_may() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 300);
    takes(&world, 30);
    let function = world.function_with(&[ON[0], ON[1], ("OBSYNC_DAILY_INVOCATIONS", "2")]);
    let options = InvokeOptions { timeout: Some(Duration::from_secs(3)), ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &sync("Notes"), options, 10).await.unwrap();
    assert_eq!(chain.len(), 2);
    assert!(chain[1].logs.join("\n").contains("OBSYNC_DAILY_INVOCATIONS"));
    assert_eq!(head_number(&world, "invocations"), 2.0);
    // Another day.
    set_head(&world, |head| {
        let day: i64 = head["day"]["N"].as_str().unwrap().parse().unwrap();
        head["day"] = json!({ "N": (day - 1).to_string() });
    });
    let next = run(&function, &sync("Notes")).await;
    assert_eq!(answered(&next)["metadata"]["goes_on_by_itself"], json!(true), "{}", answered(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_a_newer_release_is_answered_for_and_not_tried_again() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    set_head(&world, |head| head["format"] = json!({ "N": "99" }));
    let before = head(&world);
    let invocation = invoke(&function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("failed"), &json!(false)), "{answer}");
    assert!(report(answer)["message"].as_str().unwrap().contains("newer"), "{answer}");
    let record = json!({ "messageId": "m1", "eventSource": "aws:sqs", "body": sync("Notes").to_string() });
    let invocation = invoke(&function, &json!({ "Records": [record] })).await;
    assert_eq!(answered(&invocation), &json!({ "batchItemFailures": [] }));
    assert_eq!(head(&world), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_of_a_release_that_knows_no_chains_is_gone_on_with() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 30);
    let function = world.function_with(&ON);
    let event =
        json!({ "action": "sync", "vaults": ["Notes"], "sync_type": "incremental", "continuation": 4 });
    let answer = invoke(&function, &event).await;
    assert_eq!(answered(&answer)["status"], "complete", "{}", answered(&answer));
    world.assert_exact("Notes");
    // It takes a lease and commits without a look at the chain, and its next continuation finds nothing to
    // do.
    set_head(&world, |head| {
        head["fencing"] = json!({ "N": "7" });
    });
    let event =
        json!({ "action": "sync", "vaults": ["Notes"], "sync_type": "incremental", "continuation": 5 });
    assert_eq!(answered(&invoke(&function, &event).await)["status"], "superseded");
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_90_s_ahead_or_behind_costs_a_turn_and_nothing_else() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 120);
    takes(&world, 30);
    let (function, other) = (world.function_with(&ON), world.function_with(&ON));
    answered(&invoke(&other, &sync("Private")).await);
    let shift = |seconds: f64| {
        let expires = head_number(&world, "lease_expires") + seconds;
        set_head(&world, |head| head["lease_expires"] = json!({ "N": format!("{expires:.3}") }));
    };
    // The second one's clock is ahead: the lease of the first seems to have expired.
    let ahead = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > 30).await;
        function.freeze().await;
        // The requests that it had sent take effect first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        shift(-90.0);
        let second = invoke_for(&other, &sync("Notes"), 20_000).await;
        function.thaw().await;
        second
    };
    let event = sync("Notes");
    let (first, second) = tokio::join!(invoke_for(&function, &event, 30_000), ahead);
    assert_eq!(answered(&second)["status"], "complete", "{}", answered(&second));
    assert_ne!(answered(&first)["success"], json!(false), "{}", answered(&first));
    world.cloud.faults().clear();
    vault.write("later.md", "later", 1_800_000_000_000).unwrap();
    // The second one's clock is behind: the lease of a dead one seems to last.
    set_head(&world, |head| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 92;
        head["lease_expires"] = json!({ "N": now.to_string() });
        head["lease_owner"] = json!({ "S": "the dead" });
        head["lease_id"] = json!({ "S": "0" });
    });
    let skipped = invoke(&function, &sync("Notes")).await;
    let answer = answered(&skipped);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("skipped"), &json!(true)), "{answer}");
    assert!(report(answer)["message"].as_str().unwrap().contains("its lease runs out in 9"), "{answer}");
    shift(-95.0);
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_megabyte_with_ten_thousand_vaults_or_paths_in_names_are_refused_in_a_sentence() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    let many: Vec<String> = (0..10_000).map(|number| format!("vault {number}")).collect();
    for (event, part) in [
        (json!({ "action": "sync", "vaults": many }), "it names 10000 vaults; 1000 are the most"),
        (
            json!({ "action": "sync", "vault_id": "x".repeat(1_000_000) }),
            "a vault's id or name has 1 to 1024 bytes",
        ),
        (json!({ "action": "sync", "padding": "x".repeat(1 << 20) }), "bytes; 1048576 are the most"),
    ] {
        let invocation = invoke(&function, &event).await;
        let (kind, message) = failed(&invocation);
        assert_eq!(kind, "InvalidEvent");
        assert!(message.contains(part) && message.len() < 400, "{message}");
    }
    for name in ["../../etc/passwd", "Notes/../Private", "s3://vaults/notes/Notes", "C:\\Notes"] {
        let invocation = invoke(&function, &sync(name)).await;
        let (kind, message) = failed(&invocation);
        assert_eq!(kind, "SyncFailed", "{message}");
        assert!(message.contains("no vault"), "{message}");
    }
    assert!(world.cloud.s3().files("vaults", "").is_empty());
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_come_through_is_tried_alone_then_fails_with_the_time_that_it_needs() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    vault.write("a large one.bin", vec![7; 64 << 20], 1_700_000_000_000).unwrap();
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["UploadPart".to_owned()];
        faults.s3.pace = Duration::from_millis(1500);
    });
    let function = world.function_with(&ON);
    write_notes(&vault, 20);
    let first = invoke_for(&function, &sync("Notes"), 5000).await;
    assert_eq!(answered(&first)["status"], "incomplete", "{}", answered(&first));
    vault.write("meanwhile.md", "waits for the large one", 1_700_000_000_000).unwrap();
    let alone = invoke_for(&function, &continuation(&world), 5000).await;
    let answer = answered(&alone);
    assert_eq!((&answer["status"], &answer["files_count"]), (&json!("incomplete"), &json!(0)), "{answer}");
    assert_eq!(answer["metadata"]["goes_on_by_itself"], json!(true), "{}", alone.logs.join("\n"));
    let last = invoke_for(&function, &continuation(&world), 5000).await;
    let answer = answered(&last);
    assert_eq!(answer["status"], "partial", "{answer}");
    let failure = report(answer)["failures"][0].to_string();
    assert!(failure.contains("a large one.bin") && failure.contains("needs about"), "{failure}");
    assert_eq!(report(answer)["failures"].as_array().unwrap().len(), 1, "the others went on: {answer}");
    assert_eq!(world.cloud.s3().uploads("vaults").len(), 0, "no upload is left open");
    // With more time it is tried again.
    world.cloud.faults().clear();
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

/// All of it arrives from the service, and one request puts it into the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_bucket_does_not_take_in_time_fails_as_well_with_the_time_that_it_needs() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    let function = world.function_with(&ON);
    write_notes(&vault, 5);
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    vault.write("a large one.bin", vec![7; 6 << 20], 1_700_000_000_000).unwrap();
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_secs(60);
    });
    let first = invoke_for(&function, &sync("Notes"), 5000).await;
    assert_eq!(answered(&first)["status"], "incomplete", "{}", answered(&first));
    let alone = invoke_for(&function, &continuation(&world), 5000).await;
    let answer = answered(&alone);
    assert_eq!(answer["metadata"]["goes_on_by_itself"], json!(true), "{}", alone.logs.join("\n"));
    vault.write("meanwhile.md", "comes without the large one", 1_700_000_000_000).unwrap();
    world.cloud.faults().clear();
    let last = invoke_for(&function, &continuation(&world), 5000).await;
    let answer = answered(&last);
    assert_eq!(answer["status"], "partial", "{answer}");
    let failures = &report(answer)["failures"];
    assert_eq!(failures.as_array().unwrap().len(), 1, "the others went on: {answer}");
    let failure = failures[0].to_string();
    assert!(failure.contains("a large one.bin") && failure.contains("needs about"), "{failure}");
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}
