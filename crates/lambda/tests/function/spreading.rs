//! Many vaults: a message for each in the function's queue, and ten concurrent invocations that serve them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_protocol::MasterKey;
use obsync_testcloud::{LambdaRuntime, Outcome, Queues, SentMessage, Service};
use obsync_testkit::{Chance, VaultSpec};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, answered, invoke, sync, write_notes};

/// The function's queue.
const QUEUE: &str = "obsync-vaults";
/// Concurrent invocations.
const CONCURRENCY: usize = 10;
/// The salt of all vaults; they share one password, and therefore one key.
const SALT: &str = "one salt for all vaults";
/// Most deliveries of a message: the template allows many times that.
const DELIVERIES: usize = 8;

/// Number of vaults: 2,000 with `OBSYNC_TEST_LARGE`, which takes minutes, or the value of
/// `OBSYNC_TEST_VAULTS`.
fn vaults() -> usize {
    let usual = if std::env::var_os("OBSYNC_TEST_LARGE").is_some() { 2000 } else { 200 };
    std::env::var("OBSYNC_TEST_VAULTS").map_or(usual, |vaults| vaults.parse().unwrap())
}

fn name(number: usize) -> String {
    format!("vault {number}")
}

async fn world() -> Arc<World> {
    let count = vaults();
    let specs = (0..count).map(|number| VaultSpec::end_to_end(&name(number), VAULT_PASSWORD).salt(SALT));
    let world = World::with(|builder| specs.fold(builder, |builder, spec| builder.vault(spec))).await;
    // Deriving a key for each would take more time than everything else.
    let key = MasterKey::derive(&VAULT_PASSWORD.into(), SALT).expose_hex().expose_secret().to_owned();
    let keys: Map<String, Value> = (0..count)
        .map(|number| (name(number), json!({ "key": key, "encryption_version": 3, "salt": SALT })))
        .collect();
    world.put_secret(&json!({ "auth": { "email": EMAIL, "password": PASSWORD }, "vaults": keys }));
    for number in 0..count {
        let content = format!("the note of {}", name(number));
        world.vault(&name(number)).write("note.md", content, 1_700_000_000_000).unwrap();
    }
    Arc::new(world)
}

fn vault_of(message: &SentMessage) -> String {
    let body: Value = serde_json::from_str(&message.body).unwrap();
    assert_eq!((&body["action"], body["vaults"].as_array().unwrap().len()), (&json!("sync"), 1), "{body}");
    body["vaults"][0].as_str().unwrap().to_owned()
}

/// Delivers messages of the queue to functions, as an event source mapping does, until none is left. Returns
/// the number of deliveries of each.
async fn serve(world: &Arc<World>, batch: usize) -> BTreeMap<String, usize> {
    let deliveries: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let under_way = Arc::new(AtomicUsize::new(0));
    let mut pollers = JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (world, deliveries, under_way) = (world.clone(), deliveries.clone(), under_way.clone());
        pollers.spawn(async move {
            let function = world.function();
            loop {
                under_way.fetch_add(1, Ordering::SeqCst);
                let messages = world.cloud.queues().take(QUEUE, batch);
                if messages.is_empty() {
                    if under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                let again = hand_over(&function, &messages).await;
                for (number, message) in messages.into_iter().enumerate() {
                    let mut deliveries = deliveries.lock().unwrap();
                    let count = deliveries.entry(vault_of(&message)).or_default();
                    *count += 1;
                    if again.contains(&number) && *count < DELIVERIES {
                        world.cloud.queues().give_back(QUEUE, message);
                    }
                }
                under_way.fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
    while let Some(ended) = pollers.join_next().await {
        ended.unwrap();
    }
    deliveries.lock().unwrap().clone()
}

/// Runs a function with these messages; returns the numbers of those that are to come again.
async fn hand_over(function: &LambdaRuntime, messages: &[SentMessage]) -> BTreeSet<usize> {
    let record = |(number, message): (usize, &SentMessage)| {
        json!({
            "messageId": number.to_string(), "eventSource": "aws:sqs", "eventSourceARN": Queues::arn(QUEUE),
            "body": message.body,
        })
    };
    let records: Vec<Value> = messages.iter().enumerate().map(record).collect();
    let invocation = invoke(function, &json!({ "Records": records })).await;
    match &invocation.outcome {
        Outcome::Answer(answer) => {
            let failures = answer["batchItemFailures"].as_array().unwrap().iter();
            failures.map(|item| item["itemIdentifier"].as_str().unwrap().parse().unwrap()).collect()
        }
        // Then all come again.
        _ => (0..messages.len()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_vaults_are_served_ten_at_a_time_and_none_starves() {
    let (count, batch) = (vaults(), if vaults() > 100 { 10 } else { 2 });
    let world = world().await;
    let queue = world.cloud.queues().create(QUEUE);
    let dispatcher = world.function_with(&[("OBSYNC_QUEUE", &queue)]);
    world.cloud.faults().update(|faults| {
        faults.sqs.throttled = Chance::probability(0.3);
        faults.s3.throttled = Chance::probability(0.05);
        faults.dynamodb.throttled = Chance::probability(0.05);
    });
    // No event names more than a thousand.
    for first in (0..count).step_by(1000) {
        let names: Vec<String> = (first..count.min(first + 1000)).map(name).collect();
        let invocation = invoke(&dispatcher, &json!({ "action": "sync", "vaults": names })).await;
        let answer = answered(&invocation);
        assert_eq!((&answer["status"], &answer["success"]), (&json!("queued"), &json!(true)), "{answer}");
        assert_eq!(answer["metadata"]["queued"], json!(names.len()));
    }
    // One message for each vault, ten in a request, and those that were throttled again.
    let sent = world.cloud.queues().messages(QUEUE);
    let wanted: BTreeSet<String> =
        (0..count).map(|number| world.vault(&name(number)).id().to_string()).collect();
    assert_eq!(sent.iter().map(vault_of).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(sent.len(), count);
    assert!(world.cloud.counts().of(Service::Sqs, "SendMessageBatch") >= count.div_ceil(10) as u64);
    // A schedule that comes before they are served adds nothing.
    let early = invoke(&dispatcher, &json!({ "action": "sync" })).await;
    let answer = answered(&early);
    assert_eq!((&answer["status"], &answer["metadata"]["queued"]), (&json!("queued"), &json!(0)), "{answer}");
    assert_eq!(answer["metadata"]["goes_on_by_itself"], json!(false), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("still wait in the queue"), "{answer}");
    assert!(early.logs.iter().any(|line| line.contains("still wait in the queue")), "{:?}", early.logs);
    assert_eq!(world.cloud.queues().messages(QUEUE).len(), count);

    // An unknown vault, whose message comes again and again, holds nobody up.
    let unknown = SentMessage {
        body: json!({ "action": "sync", "vaults": ["no such vault"] }).to_string(),
        ..sent[0].clone()
    };
    world.cloud.queues().give_back(QUEUE, unknown);
    let mut deliveries = serve(&world, batch).await;
    assert_eq!(deliveries.remove("no such vault"), Some(DELIVERIES));
    assert_eq!(deliveries.keys().cloned().collect::<BTreeSet<_>>(), wanted);
    let too_often = deliveries.iter().filter(|(_, times)| **times >= DELIVERIES).count();
    assert_eq!(too_often, 0, "of {count} vaults");
    for number in 0..count {
        let vault = name(number);
        let expected = world.vault(&vault).expected().unwrap();
        assert_eq!(world.differences(&vault, &expected), [""; 0], "{vault}");
    }

    // From now on the schedule means all of them, and each is up to date.
    world.cloud.faults().clear();
    let scheduled = invoke(&dispatcher, &json!({})).await;
    assert_eq!(answered(&scheduled)["metadata"]["queued"], json!(count));
    assert_eq!(world.cloud.queues().waiting(QUEUE), count);
    let logs = scheduled.json_logs();
    let oldest = logs.iter().find(|line| line["message"] == "Oldest success").unwrap();
    assert_eq!((&oldest["vaults"], &oldest["not_begun"]), (&json!(count), &json!(0)), "{oldest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_vaults_that_begin_together_share_the_reading_of_the_table() {
    let world = world().await;
    let function = world.function();
    // Long enough that others have their leases meanwhile.
    world.cloud.faults().update(|faults| {
        faults.dynamodb.operations = vec!["Scan".to_owned()];
        faults.dynamodb.latency = Duration::from_millis(500);
    });
    let names: Vec<String> = (0..12).map(name).collect();
    let answer = invoke(&function, &json!({ "action": "sync", "vaults": names })).await;
    assert_eq!(answered(&answer)["vaults_synced"], json!(12), "{}", answered(&answer));
    let scans = world.cloud.counts().of(Service::DynamoDb, "Scan");
    assert!((1..=6).contains(&scans), "{scans} for 12 vaults");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_said_and_one_vault_needs_no_message() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let absent = format!("{}/123456789012/absent", world.cloud.endpoint(Service::Sqs));
    let function = world.function_with(&[("OBSYNC_QUEUE", &absent), ("OBSYNC_VAULTS", "Notes,Private")]);
    let answer = invoke(&function, &sync("Notes")).await;
    assert_eq!(answered(&answer)["status"], "complete");
    let invocation = invoke(&function, &json!({})).await;
    let answer = answered(&invocation);
    assert_eq!(
        (&answer["status"], &answer["metadata"]["queued"]),
        (&json!("incomplete"), &json!(0)),
        "{answer}"
    );
    let messages =
        answer["vaults"].as_array().unwrap().iter().map(|vault| vault["message"].as_str().unwrap());
    assert!(
        messages.clone().count() == 2 && messages.clone().all(|text| text.contains("QueueDoesNotExist")),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_queue_that_name_one_vault_are_served_and_others_become_one_for_each() {
    let world = World::new().await;
    let queue = world.cloud.queues().create(QUEUE);
    let function = world.function_with(&[("OBSYNC_QUEUE", &queue), ("OBSYNC_VAULTS", "Notes,Private")]);
    let body =
        |event: &Value| SentMessage { body: event.to_string(), attributes: BTreeMap::new(), group: None };
    let named = [body(&sync("Notes")), body(&sync("Private"))];
    assert_eq!(hand_over(&function, &named).await, BTreeSet::new());
    assert_eq!(world.cloud.queues().messages(QUEUE), []);
    for several in [json!({ "action": "sync" }), json!({ "action": "sync", "vaults": ["Notes", "Private"] })]
    {
        // Beside one that is served at once.
        assert_eq!(hand_over(&function, &[body(&several), body(&sync("Notes"))]).await, BTreeSet::new());
        let sent = world.cloud.queues().take(QUEUE, 10);
        let wanted = ["Notes", "Private"].map(|name| world.vault(name).id().to_string());
        assert_eq!(sent.iter().map(vault_of).collect::<BTreeSet<_>>(), BTreeSet::from(wanted));
    }
    // One that also names a vault that does not exist.
    let odd = body(&json!({ "action": "sync", "vaults": ["Notes", "Private", "no such vault"] }));
    assert_eq!(hand_over(&function, &[odd]).await, BTreeSet::new(), "it does not bring the others again");
    let sent: BTreeSet<String> = world.cloud.queues().take(QUEUE, 10).iter().map(vault_of).collect();
    assert!(sent.len() == 3 && sent.contains("no such vault"), "{sent:?}");
    let alone = body(&json!({ "action": "sync", "vaults": ["no such vault"] }));
    assert_eq!(hand_over(&function, &[alone]).await, BTreeSet::from([0]));
}
