//! Invocations that are too short, and invocations that die.

use std::time::Duration;

use obsync_testcloud::{InvokeOptions, Service};
use obsync_testkit::{Chance, Faults, VaultSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::slow_destination::{idle, stretch};
use crate::world::{
    BUCKET, EMAIL, PASSWORD, TABLE, VAULT_PASSWORD, World, answered, failed, invoke, invoke_for, report,
    sync, write_notes,
};

/// A slow server, so that small vaults need several invocations.
fn slow(world: &World) {
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_millis(300);
    });
}

/// Concurrent object writes, at first and at most.
const WIDTH: [u64; 2] = [16, 64];
/// Duration of one write, in milliseconds.
const WRITE_MS: u64 = 400;
/// Time limit of an invocation, in milliseconds. A fifth of it is reserved for its end.
const TIME_MS: u64 = 5000;

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_needs_about_ten_invocations_gets_there_in_about_that_many() {
    const FILES: u64 = 3000;
    let world = World::new().await;
    write_notes(&world.vault("Notes"), FILES as usize);
    let function = world.function();
    // The first start of the program is not measured.
    answered(&invoke(&function, &sync("Private")).await);
    let (mut files, mut invocations, mut put) = (0, 0, 0);
    loop {
        invocations += 1;
        // On a busy machine, all times are stretched by the same factor.
        let stretch = stretch(idle(&world, &function).await, Duration::from_millis(TIME_MS / 20));
        let stretched = |milliseconds: u64| Duration::from_millis(milliseconds).mul_f64(stretch);
        world.cloud.faults().update(|faults| {
            faults.s3.operations = vec!["PutObject".to_owned()];
            faults.s3.latency = stretched(WRITE_MS);
        });
        let before = world.cloud.counts();
        let time = stretched(TIME_MS).as_millis() as u64;
        let invocation = invoke_for(&function, &sync("Notes"), time).await;
        put += world.cloud.counts().since(&before).of(Service::S3, "PutObject");
        let answer = answered(&invocation);
        let done = answer["files_count"].as_u64().unwrap();
        files += done;
        if answer["status"] == "complete" {
            break;
        }
        assert_eq!((&answer["status"], &answer["success"]), (&json!("incomplete"), &json!(true)), "{answer}");
        assert!(done > 0, "each invocation makes progress: {answer}");
        assert_eq!(report(answer)["remaining"]["files"], json!(FILES - files), "{answer}");
        assert!(invocations < 40);
    }
    let [most, least] = WIDTH.map(|width| (FILES.div_ceil(width) * WRITE_MS).div_ceil(TIME_MS * 4 / 5));
    assert!((least..=most).contains(&invocations), "{invocations} invocations, at least {least} needed");
    assert_eq!(files, FILES);
    world.assert_exact("Notes");
    // Writes under way at the end of an invocation may be given up and repeated.
    assert!(put <= FILES + WIDTH[1] * invocations, "{put} objects were put in {invocations} invocations");
    let id = world.vault("Notes").id().clone();
    let item = world.cloud.dynamodb().item(TABLE, &format!("progress#{id}")).unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_str(item["data"]["S"].as_str().unwrap()).unwrap();
    let counts = (&record["status"], &record["files_total"], &record["files_complete"]);
    assert_eq!(counts, (&json!("complete"), &json!(FILES), &json!(FILES)));
    assert_eq!(record["invocations"], json!(invocations));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_take_longer_than_the_end_of_an_invocation_are_gone_on_with() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 60);
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_millis(1300);
    });
    let function = world.function();
    let (mut files, mut invocations) = (0, 0);
    let mut is_complete = false;
    while !is_complete {
        invocations += 1;
        assert!(invocations < 12, "each invocation makes progress");
        let invocation = invoke_for(&function, &sync("Notes"), 4000).await;
        let answer = answered(&invocation);
        files += answer["files_count"].as_u64().unwrap();
        is_complete = answer["status"] == "complete";
    }
    assert!(invocations > 1);
    assert_eq!(files, 60);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_goes_on_by_itself_where_it_is_set_to() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 300);
    slow(&world);
    let function = world.function_with(&[("OBSYNC_SELF_CONTINUE", "true"), ("LAMBDA_BATCH_SIZE", "20")]);
    let options = InvokeOptions { timeout: Some(Duration::from_secs(3)), ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &sync("Notes"), options, 30).await.unwrap();
    assert!(chain.len() > 1);
    assert_eq!(answered(chain.last().unwrap())["status"], "complete");
    assert!(world.cloud.lambda().waiting().is_empty());
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_no_longer_than_it_may_be() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 400);
    slow(&world);
    let limit =
        [("OBSYNC_SELF_CONTINUE", "true"), ("OBSYNC_SELF_CONTINUE_LIMIT", "1"), ("LAMBDA_BATCH_SIZE", "10")];
    let function = world.function_with(&limit);
    let options = InvokeOptions { timeout: Some(Duration::from_secs(3)), ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &sync("Notes"), options, 10).await.unwrap();
    assert_eq!(chain.len(), 2);
    assert_eq!(answered(&chain[1])["status"], "incomplete");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_it_at_random_moments_loses_nothing_and_leaves_nothing_behind() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    let mut random = ChaCha8Rng::seed_from_u64(7);
    // With this memory, parts have 5 MiB.
    let variables = [("LAMBDA_BATCH_SIZE", "10"), ("LAMBDA_MAX_MEMORY_MB", "128")];
    let function = world.function_with(&variables);
    world.cloud.faults().update(|faults| faults.s3.latency = Duration::from_millis(20));
    let event = sync("Notes");
    let mut orphans = 0;
    for round in 0..30 {
        write_notes(&vault, 10 + round * 4);
        let large = vec![u8::try_from(round).unwrap(); 11 << 20];
        vault.write(&format!("large {}.bin", round % 4), large, 1_700_000_000_000).unwrap();
        let began = world.cloud.counts().of(Service::S3, "CreateMultipartUpload");
        let kill = async {
            // Every other time while a large file is under way.
            if round % 2 == 0 {
                world.cloud.wait_for(|counts| counts.of(Service::S3, "CreateMultipartUpload") > began).await;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
            } else {
                tokio::time::sleep(Duration::from_millis(random.random_range(20..900))).await;
            }
            function.kill().await;
        };
        let (_, ()) = tokio::join!(invoke(&function, &event), kill);
        orphans += world.cloud.s3().uploads(BUCKET).len();
        // Requests in flight when it died arrive.
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.end_lease("Notes");
    }
    assert!(orphans > 0, "the test wants uploads that the dead leave open");
    let invocation = invoke(&function, &event).await;
    assert_eq!(answered(&invocation)["status"], "complete", "{}", answered(&invocation));
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_in_time_even_when_nothing_moves() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 5);
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let invocation = invoke_for(&world.function(), &sync("Notes"), 4000).await;
    let answer = answered(&invocation);
    assert_eq!(answer["status"], "incomplete", "{answer}");
    world.cloud.faults().clear();
    answered(&invoke(&world.function_with(&[("OBSYNC_LEASE_SECONDS", "60")]), &sync("Notes")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_server_that_stalls_does_not_keep_the_answer_waiting() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 5);
    world.server.faults().set(Faults { stall_in_content: Chance::always(), ..Faults::default() });
    let invocation = invoke_for(&world.function(), &sync("Notes"), 4000).await;
    assert_eq!(answered(&invocation)["status"], "incomplete");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_does_not_come_does_not_keep_the_answer_waiting() {
    let world = World::new().await;
    let vaults = json!({ "Private": { "password": "wrong" } });
    world.put_secret(&json!({ "auth": { "email": EMAIL, "password": PASSWORD }, "vaults": vaults }));
    let function = world.function();
    failed(&invoke(&function, &sync("Private")).await);
    // It is read again, since the password may have been corrected.
    world.cloud.faults().update(|faults| faults.secrets_manager.hang = Chance::always());
    let invocation = invoke_for(&function, &sync("Private"), 4000).await;
    assert_eq!(answered(&invocation)["status"], "incomplete");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_derived_for_a_vault_whose_turn_comes_after_the_time_is_over() {
    let world = World::with(|builder| {
        let names = ["One", "Two", "Three"].into_iter();
        names.fold(builder, |builder, name| builder.vault(VaultSpec::end_to_end(name, VAULT_PASSWORD)))
    })
    .await;
    let password = json!({ "password": VAULT_PASSWORD });
    let vaults = json!({ "One": password, "Two": password, "Three": password });
    world.put_secret(&json!({ "auth": { "email": EMAIL, "password": PASSWORD }, "vaults": vaults }));
    for name in ["One", "Two", "Three"] {
        write_notes(&world.vault(name), 5);
    }
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let function = world.function_with(&[("LAMBDA_MAX_CONCURRENT", "1")]);
    let invocation = invoke_for(&function, &json!({}), 5000).await;
    assert_eq!(answered(&invocation)["status"], "incomplete");
    assert_eq!(world.server.stats().rest_by_path["/vault/access"], 1);
}
