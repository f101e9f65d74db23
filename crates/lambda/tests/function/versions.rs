//! Functions of several releases on one table.
//!
//! A later release is simulated by this program and by editing the table: attributes that this release does
//! not know are added. The first release is simulated by items of its format, as in
//! `crates/dynamodb/tests/data/format-first.json`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use obsync_testcloud::{Invocation, LambdaRuntime, Service};
use obsync_testkit::VaultHandle;
use serde_json::{Value, json};

use crate::world::{BUCKET, PREFIX, TABLE, World, answered, invoke, report, sync, write_notes};

/// Items of the first release.
const FIRST: &str = include_str!("../../../dynamodb/tests/data/format-first.json");

/// The key of the head of the vault `Notes`.
fn head_key(world: &World) -> String {
    world.vault("Notes").id().to_string()
}

fn head(world: &World) -> Value {
    world.cloud.dynamodb().item(TABLE, &head_key(world)).unwrap().unwrap()
}

/// All items by their keys.
fn items(world: &World) -> BTreeMap<String, Value> {
    let items = world.cloud.dynamodb().items(TABLE).unwrap();
    items.into_iter().map(|item| (item["vault_id"]["S"].as_str().unwrap().to_owned(), item)).collect()
}

fn put(world: &World, item: Value) {
    world.cloud.dynamodb().put_item(TABLE, item).unwrap();
}

fn set_head(world: &World, change: impl FnOnce(&mut Value)) {
    let mut item = head(world);
    change(&mut item);
    put(world, item);
}

/// Seconds since the epoch.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Keys and contents of all objects.
fn objects(world: &World) -> BTreeMap<String, Vec<u8>> {
    let objects = world.cloud.s3().objects(BUCKET, PREFIX);
    objects.into_iter().map(|object| (object.key, object.content.to_vec())).collect()
}

/// The items of the state of the vault `Notes`, without items that several vaults share.
fn state(world: &World) -> BTreeMap<String, Value> {
    let mut items = items(world);
    items.retain(|key, _| key.contains(&head_key(world)));
    items
}

/// A path for which no object can be made, so that its change waits in the table; and its folder's path.
fn too_long() -> String {
    format!("{}/x.md", vec!["a long name".repeat(20); 5].join("/"))
}

fn delete_too_long(vault: &VaultHandle) {
    let path = too_long();
    let folders = path.match_indices('/').map(|(end, _)| &path[..end]).collect::<Vec<_>>();
    for path in std::iter::once(path.as_str()).chain(folders.into_iter().rev()) {
        vault.delete(path).unwrap();
    }
}

/// Asserts that the waiting change, and nothing else, has failed.
#[track_caller]
fn assert_only_what_is_too_long_failed(answer: &Value) {
    assert_eq!(answer["status"], "partial", "{answer}");
    let failures = report(answer)["failures"].as_array().unwrap();
    let is_known = |failure: &Value| failure["path"].as_str().unwrap().starts_with("a long name");
    assert!(!failures.is_empty() && failures.iter().all(is_known), "{answer}");
}

/// Adds attributes that this release does not know to all items of the table, and to each row in them.
fn add_what_is_later(world: &World) {
    for (_, mut item) in items(world) {
        item["later"] = json!({ "M": { "depth": { "N": "2" }, "names": { "SS": ["a", "b"] } } });
        item["later_number"] = json!({ "N": "7" });
        if let Some(Ok(Value::Array(mut rows))) = item["data"]["S"].as_str().map(serde_json::from_str) {
            for row in &mut rows {
                row["later"] = json!({ "deep": [1, 2] });
            }
            item["data"] = json!({ "S": Value::Array(rows).to_string() });
        }
        put(world, item);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_release_of_this_format_adds_to_the_items_is_read_past_and_stays_in_the_head() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 12);
    let (kept, sending) = (world.function(), world.function_with(&[("OBSYNC_DIRECTION", "sync")]));
    answered(&invoke(&kept, &sync("Notes")).await);
    vault.write(&too_long(), "x", 1_700_000_000_000).unwrap();
    assert_only_what_is_too_long_failed(answered(&invoke(&kept, &sync("Notes")).await));
    assert!(state(&world).keys().any(|key| key.starts_with("failed#")));
    for round in 0..2 {
        for (function, path) in [(&kept, "pulled.md"), (&sending, "synced.md")] {
            add_what_is_later(&world);
            let later = head(&world)["later"].clone();
            vault.write(path, format!("round {round}"), 1_800_000_000_000).unwrap();
            let invocation = invoke(function, &sync("Notes")).await;
            let answer = answered(&invocation);
            assert_only_what_is_too_long_failed(answer);
            assert_eq!(answer["files_count"], 1, "{answer}");
            assert_eq!(head(&world)["later"], later);
        }
    }
    delete_too_long(&vault);
    assert_eq!(answered(&invoke(&kept, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

/// Asserts that a state of a later release ends an invocation for its vault at once, and is unchanged.
async fn assert_is_left_alone(world: &World, function: &LambdaRuntime) {
    let (before, objects_before) = (state(world), objects(world));
    let counts = world.cloud.counts();
    let invocation = invoke(function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("failed"), &json!(false)), "{answer}");
    let vault = report(answer);
    let message = vault["message"].as_str().unwrap();
    assert!(message.contains("newer") && message.contains('4') && message.contains('3'), "{message}");
    assert_eq!(vault["error"]["code"], "state_newer", "{vault}");
    let requests = world.cloud.counts().since(&counts);
    assert!(requests.total(Service::DynamoDb) <= 3, "it is not asked for again and again: {requests}");
    assert_eq!(
        requests.of(Service::S3, "PutObject") + requests.of(Service::S3, "DeleteObjects"),
        0,
        "{requests}"
    );
    // Nor does a queue deliver it again, and nothing is handed on.
    let record = json!({ "messageId": "m1", "eventSource": "aws:sqs", "body": sync("Notes").to_string() });
    let from_queue = invoke(function, &json!({ "Records": [record] })).await;
    assert_eq!(answered(&from_queue), &json!({ "batchItemFailures": [] }));
    assert_eq!(world.cloud.lambda().waiting(), []);
    assert_eq!(state(world), before);
    assert_eq!(objects(world), objects_before);
}

/// Lets one function work on the vault `Notes` until it has put something into the bucket, freezes it, does
/// something meanwhile, and thaws it.
async fn meanwhile(world: &World, function: &LambdaRuntime, what: impl FnOnce()) -> Invocation {
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_millis(300);
    });
    let event = sync("Notes");
    let before = world.cloud.counts().of(Service::S3, "PutObject");
    let during = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > before + 5).await;
        function.freeze().await;
        // The requests that it had sent take effect first.
        tokio::time::sleep(Duration::from_millis(500)).await;
        what();
        function.thaw().await;
    };
    let (invocation, ()) = tokio::join!(invoke(function, &event), during);
    world.cloud.faults().clear();
    invocation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_release_that_takes_over_ends_this_one_which_changes_nothing_of_its_state() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 60);
    write_notes(&world.vault("Private"), 3);
    let on = [("OBSYNC_SELF_CONTINUE", "true"), ("LAMBDA_BATCH_SIZE", "5")];
    let function = world.function_with(&on);
    let mut written = None;
    let overtaken = meanwhile(&world, &function, || {
        // Its head and records have their own format, and it is at work.
        for (key, mut item) in items(&world) {
            if key.starts_with("file#") {
                item["kind"] = json!({ "S": "symlink" });
                if let Some(hash) = item.as_object_mut().unwrap().remove("hash") {
                    item["content"] = hash;
                }
                put(&world, item);
            }
        }
        set_head(&world, |head| {
            let fencing: u64 = head["fencing"]["N"].as_str().unwrap().parse().unwrap();
            head["format"] = json!({ "N": "4" });
            head["fencing"] = json!({ "N": (fencing + 1).to_string() });
            head["lease_id"] = json!({ "S": "the lease of a later release" });
            head["lease_owner"] = json!({ "S": "a later release" });
            head["lease_expires"] = json!({ "N": (now() + 60.0).to_string() });
            head["roots"] = json!({ "L": [{ "S": "a" }] });
        });
        written = Some(state(&world));
    })
    .await;
    let answer = answered(&overtaken);
    let vault = report(answer);
    let message = vault["message"].as_str().unwrap();
    // It noticed either the lease or the format first.
    assert!(matches!(vault["status"].as_str(), Some("skipped" | "failed")), "{answer}");
    assert!(message.contains("another") || message.contains("newer"), "{message}");
    assert_eq!(Some(state(&world)), written, "nothing of the later release's state is changed");
    assert_eq!(world.cloud.lambda().waiting(), [], "nothing is handed on");

    assert_is_left_alone(&world, &function).await;
    // Nor when the later one is done, in a new process.
    set_head(&world, |head| {
        for name in ["lease_id", "lease_owner", "lease_expires"] {
            head.as_object_mut().unwrap().remove(name);
        }
    });
    let restarted = world.function_with(&on);
    assert_is_left_alone(&world, &restarted).await;
    // Other vaults of the table are served.
    let both = invoke(&restarted, &json!({ "action": "sync", "vaults": ["Notes", "Private"] })).await;
    let answer = answered(&both);
    let of = |name: &str| {
        let mut vaults = answer["vaults"].as_array().unwrap().iter();
        vaults.find(|vault| vault["vault"] == name).unwrap()["status"].clone()
    };
    assert_eq!((of("Notes"), of("Private")), (json!("failed"), json!("complete")), "{answer}");
    world.assert_exact("Private");
}

/// Reduces the state to what the first release would have written, which has fewer attributes and no other
/// items.
fn as_the_first_release(world: &World) {
    let first: Vec<Value> = serde_json::from_str(FIRST).unwrap();
    let key_of = |item: &Value| item["vault_id"]["S"].as_str().unwrap().to_owned();
    let known = |is_kind: &dyn Fn(&str) -> bool| -> Vec<String> {
        let of_kind = first.iter().filter(|item| is_kind(&key_of(item)));
        of_kind.flat_map(|item| item.as_object().unwrap().keys().cloned()).collect()
    };
    let of_heads = known(&|key| !key.contains('#'));
    let mut of_files = known(&|key| key.starts_with("file#"));
    // It also recorded files: by these attributes, as in its announced ones.
    of_files.extend(["hash", "size", "mtime", "ctime"].map(str::to_owned));
    for (key, mut item) in items(world) {
        let kind = key.split_once('#').map(|(kind, _)| kind.to_owned());
        let attributes = item.as_object_mut().unwrap();
        match kind.as_deref() {
            None => {
                attributes.insert("format".to_owned(), json!({ "N": "1" }));
                let place = attributes["place"].clone();
                attributes.insert("destination".to_owned(), place);
                attributes.retain(|name, _| of_heads.contains(name));
            }
            Some("file") => attributes.retain(|name, _| of_files.contains(name)),
            Some("failed" | "filtered" | "announced") => {}
            Some(_) => {
                let key = json!({ "vault_id": { "S": key } });
                world.cloud.dynamodb().delete_item(TABLE, key).unwrap();
                continue;
            }
        }
        put(world, item);
    }
    // Nor did it leave a marker in the bucket.
    for key in objects(world).into_keys().filter(|key| key.contains("/.obsync")) {
        world.cloud.s3().delete(BUCKET, &key);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_waits_for_one_of_the_first_release_and_goes_on_where_that_one_died() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 40);
    let function = world.function_with(&[("LAMBDA_BATCH_SIZE", "5")]);
    vault.write("in the middle.md", "of the first release", 1_700_000_000_000).unwrap();
    vault.write(&too_long(), "x", 1_700_000_000_000).unwrap();
    assert_only_what_is_too_long_failed(answered(&invoke(&function, &sync("Notes")).await));
    // The work of the first release when it was killed: files are in place, one more is announced.
    as_the_first_release(&world);
    let hash = obsync_protocol::ContentHash::of(b"announced").to_string();
    vault.write("announced.md", "announced", 1_800_000_000_000).unwrap();
    let uid = vault.version();
    let file =
        json!({ "hash": hash, "size": 9, "mtime": 1_800_000_000_000_u64, "ctime": 1_800_000_000_000_u64 });
    let rows = json!([{ "path": "announced.md", "uid": uid, "file": file }]);
    put(
        &world,
        json!({
            "vault_id": { "S": format!("announced#{}", head_key(&world)) }, "data": { "S": rows.to_string() },
        }),
    );
    set_head(&world, |head| {
        head["announced_pages"] = json!({ "N": "1" });
        head["lease_id"] = json!({ "S": "8faf9ee0f3801826af4cb1f1f777784f" });
        head["lease_owner"] = json!({ "S": "a function of the first release" });
        head["lease_expires"] = json!({ "N": format!("{:.3}", now() + 60.0) });
    });
    let before = state(&world);

    // It is at work.
    let skipped = invoke(&function, &sync("Notes")).await;
    let answer = answered(&skipped);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("skipped"), &json!(true)), "{answer}");
    let message = report(answer)["message"].as_str().unwrap();
    assert!(message.contains("a function of the first release"), "{message}");
    assert_eq!(state(&world), before, "its state is as it left it");

    // It died.
    set_head(&world, |head| head["lease_expires"] = json!({ "N": format!("{:.3}", now() - 1.0) }));
    let invocation = invoke(&function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_only_what_is_too_long_failed(answer);
    assert_eq!(head(&world)["format"], json!({ "N": "3" }));
    delete_too_long(&vault);
    vault.write("later.md", "later", 1_800_000_000_000).unwrap();
    let last = invoke(&function, &sync("Notes")).await;
    let answer = answered(&last);
    assert_eq!((&answer["status"], &answer["files_count"]), (&json!("complete"), &json!(1)), "{answer}");
    world.assert_exact("Notes");
}
