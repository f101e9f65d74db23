//! The operators' view of the function: logs and metrics.

use obsync_testcloud::Service;
use serde_json::{Value, json};

use crate::world::{TABLE, World, answered, invoke, report, sync, write_notes};

/// The line of an invocation with this message.
#[track_caller]
fn line(logs: &[Value], message: &str) -> Value {
    let found = logs.iter().find(|line| line["message"] == message);
    found.unwrap_or_else(|| panic!("{message:?} is not in {logs:#?}")).clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_names_its_invocation_as_powertools_does() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function_with(&[("POWERTOOLS_SERVICE_NAME", "notes")]);
    for is_cold in [true, false] {
        let invocation = invoke(&function, &sync("Notes")).await;
        answered(&invocation);
        let logs = invocation.json_logs();
        assert_eq!(logs.len(), invocation.logs.len(), "{:?}", invocation.logs);
        for line in &logs {
            for (name, value) in [
                ("service", json!("notes")),
                ("cold_start", json!(is_cold)),
                ("function_name", json!("obsync")),
                ("function_memory_size", json!(256)),
                ("function_request_id", json!(invocation.request_id)),
                ("xray_trace_id", json!("1-00000000-000000000000000000000000")),
            ] {
                assert_eq!(line[name], value, "{name} in {line}");
            }
            assert!(line["function_arn"].as_str().unwrap().ends_with(":function:obsync"), "{line}");
            assert!(
                line["timestamp"].as_str().unwrap().ends_with('Z') && line["level"].is_string(),
                "{line}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_closing_line_has_how_long_each_stage_took() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 40);
    // Each stage is slow enough to be measured.
    world.cloud.faults().update(|faults| {
        let latency = std::time::Duration::from_millis(20);
        (faults.s3.latency, faults.dynamodb.latency, faults.secrets_manager.latency) =
            (latency, latency, latency);
    });
    let function = world.function();
    let logs = invoke(&function, &sync("Notes")).await.json_logs();
    let cold = line(&logs, "the vault is done for now");
    let took = |line: &Value, name: &str| line[name].as_u64().unwrap_or_else(|| panic!("{name} in {line}"));
    for name in ["init_ms", "list_ms", "fetch_ms"] {
        assert!(took(&cold, name) <= 120_000, "{cold}");
    }
    for name in ["sign_in_ms", "publish_ms", "commit_ms"] {
        assert!(took(&cold, name) >= 20, "{name} in {cold}");
    }
    assert!(took(&cold, "duration_ms") >= took(&cold, "publish_ms"), "{cold}");
    let warm = line(&invoke(&function, &sync("Notes")).await.json_logs(), "the vault is done for now");
    // Nothing was started, fetched or published.
    for name in ["init_ms", "fetch_ms", "publish_ms"] {
        assert_eq!(took(&warm, name), 0, "{name} in {warm}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_and_format_are_the_functions() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let quiet = world.function_with(&[("AWS_LAMBDA_LOG_FORMAT", "JSON"), ("AWS_LAMBDA_LOG_LEVEL", "ERROR")]);
    let logs = invoke(&quiet, &sync("Notes")).await.json_logs();
    // Metrics do not depend on the level, and must not be dropped by it.
    let messages: Vec<&Value> = logs.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, [&json!("Sync metrics")]);
    assert_eq!(logs[0]["level"], "ERROR");
    let text = world.function_with(&[("AWS_LAMBDA_LOG_FORMAT", "Text")]);
    let invocation = invoke(&text, &sync("Notes")).await;
    let closing = invocation.logs.iter().find(|line| line.contains("the vault is done for now")).unwrap();
    assert!(
        closing.contains(&invocation.request_id) && closing.contains(" status=\"complete\""),
        "{closing}"
    );
    assert!(!closing.starts_with('{'), "{closing}");
    assert_eq!(invocation.json_logs().len(), 1, "metrics are JSON in any case");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_each_vault_are_switched_on_and_all_off() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    for (setting, dimensions) in [
        ("", json!([["function_name"]])),
        ("vaults", json!([["function_name"], ["function_name", "vault_id"]])),
        ("off", Value::Null),
    ] {
        let function = world.function_with(&[("OBSYNC_METRICS", setting)]);
        let metrics = line(&invoke(&function, &sync("Notes")).await.json_logs(), "Sync metrics");
        assert_eq!(metrics["_aws"]["CloudWatchMetrics"][0]["Dimensions"], dimensions, "{setting}");
        assert_eq!(metrics["function_name"], "obsync");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_the_oldest_success_is_measured_over_all_vaults() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    write_notes(&world.vault("Private"), 3);
    let function = world.function_with(&[("OBSYNC_VAULTS", "Notes,Private")]);
    let everything = json!({ "action": "sync" });
    answered(&invoke(&function, &everything).await);
    let (before, notes) = (world.cloud.counts(), world.vault("Notes").id().to_string());
    // Its last success was two hours ago.
    let mut head = world.cloud.dynamodb().item(TABLE, &notes).unwrap().unwrap();
    let checked: i64 = head["checked"]["N"].as_str().unwrap().parse().unwrap();
    head["checked"] = json!({ "N": (checked - 7_200_000).to_string() });
    world.cloud.dynamodb().put_item(TABLE, head).unwrap();
    let logs = invoke(&function, &json!({ "action": "sync", "vaults": ["Private"] })).await.json_logs();
    assert!(
        logs.iter().all(|line| line["message"] != "Oldest success"),
        "an event for some says nothing of all"
    );
    // Somebody else has its lease, so it is not its turn now either.
    let held = world.cloud.dynamodb().item(TABLE, &notes).unwrap().unwrap();
    let mut taken = held.clone();
    let later = (checked + 600_000).to_string();
    for (name, value) in [
        ("lease_owner", json!({ "S": "somebody else" })),
        ("lease_id", json!({ "S": "0123456789abcdef" })),
        ("lease_expires", json!({ "N": later })),
    ] {
        taken[name] = value;
    }
    world.cloud.dynamodb().put_item(TABLE, taken).unwrap();
    let logs = invoke(&function, &everything).await.json_logs();
    let oldest = line(&logs, "Oldest success");
    let age = oldest["oldest_success_age_s"].as_u64().unwrap();
    assert!((7200..7800).contains(&age), "{oldest}");
    assert_eq!((&oldest["vault_id"], &oldest["vaults"]), (&json!(notes), &json!(2)));
    assert_eq!(oldest["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Name"], "oldest_success_age_s");
    assert!(world.cloud.counts().since(&before).of(Service::DynamoDb, "BatchGetItem") > 0);
    world.cloud.dynamodb().put_item(TABLE, held).unwrap();
    let logs = invoke(&function, &everything).await.json_logs();
    let oldest = line(&logs, "Oldest success");
    assert!(oldest["oldest_success_age_s"].as_u64().unwrap() < 600, "{oldest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_counts_files_that_were_kept_apart_from_what_is_left_out() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    let function = world.function_with(&[("OBSYNC_KEEP_DELETED", "true")]);
    answered(&invoke(&function, &sync("Notes")).await);
    vault.delete("folder 0/note 0.md").unwrap();
    answered(&invoke(&function, &sync("Notes")).await);
    let status = invoke(&function, &json!({ "action": "status", "vaults": ["Notes"] })).await;
    let status = report(answered(&status)).clone();
    assert_eq!((&status["retained"], &status["filtered"]), (&json!(1), &json!(0)), "{status}");
}
