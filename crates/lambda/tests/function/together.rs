//! Two invocations for one vault.

use std::time::Duration;

use obsync_testcloud::Service;
use serde_json::json;

use crate::world::{World, answered, invoke, report, sync, write_notes};

/// Long enough for another invocation to come in between.
fn slow(world: &World) {
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_millis(400);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn one_works_and_the_other_answers_skipped() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 60);
    slow(&world);
    // The test shows that the lease keeps the other out, so it must not expire meanwhile.
    let lease = [("OBSYNC_LEASE_SECONDS", "900")];
    let (first, second) = (world.function_with(&lease), world.function_with(&lease));
    let event = sync("Notes");
    let later = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > 0).await;
        // In the middle of its work, however long the other takes to start.
        first.freeze().await;
        let answer = invoke(&second, &event).await;
        first.thaw().await;
        answer
    };
    let (worked, skipped) = tokio::join!(invoke(&first, &event), later);
    assert_eq!(answered(&worked)["status"], "complete");
    let answer = answered(&skipped);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("skipped"), &json!(true)), "{answer}");
    assert!(report(answer)["message"].as_str().unwrap().contains("another obsync is working"), "{answer}");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_dies_the_next_takes_over_after_the_lease_ran_out() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 60);
    slow(&world);
    let lease = [("OBSYNC_LEASE_SECONDS", "900")];
    let (first, second) = (world.function_with(&lease), world.function_with(&lease));
    let event = sync("Notes");
    let kill = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > 0).await;
        first.kill().await;
    };
    tokio::join!(invoke(&first, &event), kill);
    let answer = invoke(&second, &event).await;
    assert_eq!(answered(&answer)["status"], "skipped");
    world.end_lease("Notes");
    let answer = invoke(&second, &event).await;
    assert_eq!(answered(&answer)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revived_zombie_writes_no_state() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 60);
    slow(&world);
    let lease = [("OBSYNC_LEASE_SECONDS", "1"), ("LAMBDA_BATCH_SIZE", "5")];
    let (zombie, living) = (world.function_with(&lease), world.function_with(&lease));
    let event = sync("Notes");
    let meanwhile = async {
        world.cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") > 0).await;
        zombie.freeze().await;
        world.end_lease("Notes");
        world.cloud.faults().clear();
        let answer = invoke(&living, &event).await;
        assert_eq!(answered(&answer)["status"], "complete");
        vault.write("after.md", "after", 1_800_000_000_000).unwrap();
        let answer = invoke(&living, &event).await;
        assert_eq!(answered(&answer)["status"], "complete");
        zombie.thaw().await;
    };
    let (zombies, ()) = tokio::join!(invoke(&zombie, &event), meanwhile);
    let told = format!("{:?}", zombies.outcome);
    assert!(told.contains("took over") || told.contains("lease") || told.contains("another"), "{told}");
    world.assert_exact("Notes");
    let answer = invoke(&living, &event).await;
    let answer = answered(&answer);
    assert_eq!((&answer["status"], &answer["files_count"]), (&json!("complete"), &json!(0)), "{answer}");
}
