//! Complete syncs that do not fit into one invocation.

use std::time::Duration;

use obsync_testcloud::InvokeOptions;
use serde_json::json;

use crate::handing_on::ON;
use crate::world::{BUCKET, World, answered, invoke, invoke_for, report, sync, write_notes};

/// Time of an invocation, in milliseconds: enough to answer in on a busy machine.
const TIME_MS: u64 = 12_000;

/// Half of that time is for the end of an invocation, so that it has ended long before it would be killed.
const VARIABLES: [(&str, &str); 2] = [("LAMBDA_BATCH_SIZE", "20"), ("LAMBDA_TIMEOUT_BUFFER", "6")];

/// Makes looking at an object slow: 400 of them, 16 at a time, take longer than an invocation works.
fn look_slowly(world: &World) {
    world.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["HeadObject".to_owned()];
        faults.s3.latency = Duration::from_millis(400);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_sync_that_takes_several_invocations_comes_to_its_end() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 700);
    let function = world.function_with(&VARIABLES);
    answered(&invoke(&function, &sync("Notes")).await);
    // Checked last, as it is the newest.
    world.cloud.s3().delete(BUCKET, "notes/Notes/folder 6/note 699.md");
    look_slowly(&world);
    let event = json!({ "action": "sync", "vault_id": "Notes", "sync_type": "complete" });
    let mut invocations = 0;
    loop {
        invocations += 1;
        let invocation = invoke_for(&function, &event, TIME_MS).await;
        let answer = answered(&invocation);
        if answer["status"] == "complete" {
            break;
        }
        assert_eq!(
            (&answer["status"], &answer["files_count"]),
            (&json!("incomplete"), &json!(0)),
            "{answer}"
        );
        assert!(invocations < 15, "no invocation looks at everything again: {answer}");
    }
    assert!(invocations > 2, "the test wants several invocations");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_a_complete_sync_comes_to_its_end_though_its_steps_only_check() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 700);
    let function = world.function_with(&[ON[0], VARIABLES[0], VARIABLES[1]]);
    answered(&invoke(&function, &sync("Notes")).await);
    // Checked last, as it is the newest.
    world.cloud.s3().delete(BUCKET, "notes/Notes/folder 6/note 699.md");
    look_slowly(&world);
    let event = json!({ "action": "sync", "vault_id": "Notes", "sync_type": "complete" });
    let options = InvokeOptions { timeout: Some(Duration::from_millis(TIME_MS)), ..InvokeOptions::default() };
    let chain = function.invoke_chain(world.cloud.lambda(), &event, options, 15).await.unwrap();
    assert!(chain.len() > 2, "the test wants several invocations");
    let last = answered(&chain[chain.len() - 1]);
    assert_eq!(last["status"], "complete", "{} invocations: {last}", chain.len());
    let lines = chain.iter().flat_map(|invocation| invocation.json_logs());
    assert!(lines.into_iter().all(|line| line["ended_chains"].as_u64().unwrap_or_default() == 0));
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_sync_goes_on_with_a_complete_one_that_was_cut_short() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 400);
    let function = world.function_with(&VARIABLES);
    answered(&invoke(&function, &sync("Notes")).await);
    world.cloud.s3().delete(BUCKET, "notes/Notes/folder 0/note 399.md");
    look_slowly(&world);
    let event = json!({ "action": "sync", "vault_id": "Notes", "sync_type": "complete" });
    assert_eq!(answered(&invoke_for(&function, &event, TIME_MS).await)["status"], "incomplete");
    world.cloud.faults().clear();
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(report(answered(&invocation))["status"], "complete");
    world.assert_exact("Notes");
}
