//! Faults of everything around the function: each has a clear message, and nothing is lost.

use obsync_testcloud::{LambdaRuntime, Refusal, Service};
use obsync_testkit::Chance;
use obsync_testkit::network::{ConnectProxy, ProxyRules};
use serde_json::{Value, json};

use crate::world::{
    BUCKET, EMAIL, PASSWORD, SECRET, TABLE, VAULT_PASSWORD, World, answered, failed, invoke, invoke_for,
    report, sync, write_notes,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_wrong_is_told_as_a_whole() {
    let world = World::new().await;
    let wrong = [("S3_BUCKET", ""), ("LAMBDA_BATCH_SIZE", "many"), ("LAMBDA_TIMEOUT_BUFFER", "-1")];
    let invocation = invoke(&world.function_with(&wrong), &json!({})).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "InvalidConfiguration");
    assert!(wrong.iter().all(|(name, _)| message.contains(name)), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_action_is_told_with_those_there_are() {
    let world = World::new().await;
    let invocation = invoke(&world.function(), &json!({ "action": "dance" })).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "InvalidEvent");
    assert!(message.contains("\"dance\"") && message.contains("\"sync\""), "{message}");
    assert_eq!(world.cloud.counts().total(Service::SecretsManager), 0, "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_forbidden_or_malformed() {
    let world = World::new().await;
    world.cloud.secrets().remove(SECRET);
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    assert!(failed(&invocation).1.contains("there is no secret obsync"), "{:?}", invocation.outcome);
    for text in ["hunter2", "{\"auth\":{\"email\":\"hunter2\"}}"] {
        world.cloud.secrets().put(SECRET, text);
        let invocation = invoke(&world.function(), &sync("Notes")).await;
        let (kind, message) = failed(&invocation);
        assert_eq!(kind, "SecretUnavailable");
        assert!(message.contains("is malformed") && !message.contains("hunter2"), "{message}");
        assert!(!invocation.logs.join("\n").contains("hunter2"));
    }
    world.cloud.faults().update(|faults| faults.secrets_manager.forbidden = Chance::always());
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    assert!(failed(&invocation).1.contains("secretsmanager:GetSecretValue"), "{:?}", invocation.outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_fail_before_the_vaults_are_listed_are_counted_of_those_that_the_table_knows() {
    let world = World::new().await;
    for vault in ["Notes", "Private"] {
        write_notes(&world.vault(vault), 1);
        answered(&invoke(&world.function(), &sync(vault)).await);
    }
    let last_run = async |vault: &str| {
        let event = json!({ "action": "status", "vaults": [vault] });
        let invocation = invoke(&world.function(), &event).await;
        let status = report(answered(&invocation)).clone();
        let (run, word) = (&status["last_run"], status["status"].clone());
        (word, run["failures_in_a_row"].as_u64().unwrap(), run["last_error"]["code"].clone())
    };
    world.cloud.faults().update(|faults| faults.secrets_manager.forbidden = Chance::always());
    for event in [json!({}), sync("Notes")] {
        assert_eq!(failed(&invoke(&world.function(), &event).await).0, "SecretUnavailable");
    }
    world.cloud.faults().clear();
    let (failure, denied) = (json!("failed"), json!("access_denied"));
    assert_eq!(last_run("Notes").await, (failure.clone(), 2, denied.clone()));
    assert_eq!(
        last_run("Private").await,
        (failure.clone(), 1, denied.clone()),
        "the other event meant Notes alone"
    );

    let secret = |password: &str| {
        json!({
            "auth": { "email": EMAIL, "password": password },
            "vaults": { "Private": { "password": VAULT_PASSWORD } },
        })
    };
    // Another run works on one of them, and continues although this one failed.
    let private = world.vault("Private").id().to_string();
    let free = world.cloud.dynamodb().item(TABLE, &private).unwrap().unwrap();
    let mut held = free.clone();
    held["lease_owner"] = json!({ "S": "somebody else" });
    held["lease_id"] = json!({ "S": "0123456789abcdef" });
    held["lease_expires"] = json!({ "N": "99999999999999" });
    world.cloud.dynamodb().put_item(TABLE, held).unwrap();
    world.put_secret(&secret("not the password"));
    assert_eq!(failed(&invoke(&world.function(), &json!({})).await).0, "SignInFailed");
    world.put_secret(&secret(PASSWORD));
    world.cloud.dynamodb().put_item(TABLE, free).unwrap();
    assert_eq!(last_run("Notes").await, (failure.clone(), 3, json!("sign_in")));
    assert_eq!(last_run("Private").await, (failure, 1, denied));

    answered(&invoke(&world.function(), &sync("Notes")).await);
    let (word, failures, _) = last_run("Notes").await;
    assert_eq!((word, failures), (json!("complete"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_or_forbidden() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    world.cloud.faults().update(|faults| faults.s3.forbidden = Chance::always());
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(failed(&invocation).0, "SyncFailed");
    world.cloud.faults().clear();
    world.cloud.s3().remove_bucket(BUCKET);
    let invocation = invoke(&function, &sync("Notes")).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "SyncFailed");
    assert!(message.contains("bucket"), "{message}");
    world.cloud.s3().create_bucket(BUCKET);
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_disappears_midway_is_gone_on_with_once_it_is_back() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 100);
    let function = world.function_with(&[("LAMBDA_BATCH_SIZE", "10")]);
    world.cloud.faults().update(|faults| faults.bucket_vanishes_after = Some(30));
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(failed(&invocation).0, "SyncFailed");
    world.cloud.faults().clear();
    assert!(world.cloud.s3().restore_bucket(BUCKET));
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_or_forbidden() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let function = world.function();
    world.cloud.faults().update(|faults| faults.dynamodb.forbidden = Chance::always());
    let invocation = invoke(&function, &sync("Notes")).await;
    assert_eq!(failed(&invocation).0, "StateUnavailable");
    world.cloud.faults().clear();
    world.cloud.dynamodb().delete_table(TABLE).unwrap();
    let invocation = invoke(&function, &sync("Notes")).await;
    let (kind, message) = failed(&invocation);
    assert_eq!(kind, "StateUnavailable");
    assert!(
        message.contains("there is no table obsync-state") && message.contains("obsync aws init"),
        "{message}"
    );
    assert!(world.cloud.s3().files(BUCKET, "").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_borne() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 100);
    world.cloud.faults().update(|faults| {
        faults.s3.throttled = Chance::probability(0.1);
        faults.dynamodb.throttled = Chance::probability(0.1);
        faults.unprocessed = Chance::probability(0.2);
    });
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    assert_eq!(answered(&invocation)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_without_end_is_answered_in_time_and_gone_on_with() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 20);
    let function = world.function_with(&[("OBSYNC_LEASE_SECONDS", "1")]);
    world.cloud.faults().update(|faults| faults.s3.throttled = Chance::always());
    let invocation = invoke_for(&function, &sync("Notes"), 4000).await;
    assert_eq!(answered(&invocation)["status"], "incomplete");
    world.cloud.faults().clear();
    world.cloud.faults().update(|faults| faults.dynamodb.throttled = Chance::always());
    let invocation = invoke_for(&function, &sync("Notes"), 4000).await;
    let (kind, message) = failed(&invocation);
    assert!(matches!(kind, "TimeOver" | "StateUnavailable" | "SyncFailed"), "{kind}: {message}");
    world.cloud.faults().clear();
    world.end_lease("Notes");
    assert_eq!(answered(&invoke(&function, &sync("Notes")).await)["status"], "complete");
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_too_long_fails_alone() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 3);
    vault
        .write(&format!("{}/x.md", ["the long name of a folder"; 60].join("/")), "x", 1_700_000_000_000)
        .unwrap();
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["status"], &answer["success"]), (&json!("partial"), &json!(false)), "{answer}");
    assert_eq!(answer["vaults"][0]["pulled"]["files"], 3);
    let reason = answer["vaults"][0]["failures"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("too long"), "{reason}");
    for error in [&answer["error"], &answer["vaults"][0]["error"]] {
        assert_eq!((&error["code"], &error["retryable"]), (&json!("failures"), &json!(false)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_a_later_run_may_resolve_is_retryable() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    let invocation = invoke(&world.function(), &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!(answer["outcome"], "failures", "{answer}");
    for error in [&answer["error"], &answer["vaults"][0]["error"]] {
        assert_eq!((&error["code"], &error["retryable"]), (&json!("failures"), &json!(true)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vault_that_fails_does_not_hold_the_others_back() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 3);
    let event = json!({ "action": "sync", "vaults": ["Notes", "No such vault"] });
    let function = world.function_with(&[("OBSYNC_METRICS", "vaults")]);
    let invocation = invoke(&function, &event).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["status"], &answer["vaults_synced"]), (&json!("partial"), &json!(1)), "{answer}");
    assert!(answer["errors"][0].as_str().unwrap().contains("no vault of this id or name"), "{answer}");
    let measured = invocation.json_logs().into_iter().filter(|line| line["message"] == "Sync metrics");
    let failures: Vec<u64> = measured.map(|line| line["failures"].as_u64().unwrap()).collect();
    assert_eq!(failures, [1, 0], "a vault that is not there, or was renamed, rings the alarm on failures");
    let of_nobody = &invocation.json_logs();
    let of_nobody = of_nobody.iter().find(|line| line["message"] == "Sync metrics").unwrap();
    let dimensions = &of_nobody["_aws"]["CloudWatchMetrics"][0]["Dimensions"];
    assert_eq!(dimensions, &json!([["function_name"]]), "and whatever an event says makes no metric");
    let invocation = invoke(&world.function(), &sync("No such vault")).await;
    assert_eq!(failed(&invocation).0, "SyncFailed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_progress_record_that_is_damaged_costs_nothing() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 5);
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    let key = format!("progress#{}", vault.id());
    for data in ["not json", "{}", "{\"vault_id\":1}"] {
        let item = json!({ "vault_id": { "S": key }, "data": { "S": data }, "ttl": { "N": "99999999999" } });
        world.cloud.dynamodb().put_item(TABLE, item).unwrap();
        let invocation = invoke(&function, &sync("Notes")).await;
        assert_eq!(
            (&answered(&invocation)["status"], &answered(&invocation)["files_count"]),
            (&json!("complete"), &json!(0))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_inside_another_vaults_is_refused_both_ways() {
    let world = World::new().await;
    let function = world.function();
    let (notes, private) = (world.vault("Notes"), world.vault("Private"));
    write_notes(&notes, 3);
    write_notes(&private, 3);
    // Functions that share a table.
    let below = |prefix: &str| world.function_with(&[("S3_PREFIX", prefix)]);
    answered(&invoke(&function, &sync("Notes")).await);
    answered(&invoke(&below("deep/Notes"), &sync("Private")).await);
    for (vault, prefix, relation) in [
        ("Private", "notes/Notes", "it is inside s3://vaults/notes/Notes"),
        ("Notes", "deep", "it holds s3://vaults/deep/Notes/Private"),
    ] {
        // The second time it has a place in the table.
        for _ in 0..2 {
            let invocation = invoke(&below(prefix), &sync(vault)).await;
            let (kind, message) = failed(&invocation);
            assert_eq!(kind, "SyncFailed");
            let ids = [notes.id(), private.id()];
            assert!(
                message.contains(relation) && ids.iter().all(|id| message.contains(id.as_str())),
                "{message}"
            );
        }
        assert!(
            world
                .cloud
                .s3()
                .files(BUCKET, &format!("{prefix}/{vault}/"))
                .iter()
                .all(|object| { object.key.starts_with("deep/Notes/Private/") })
        );
    }
    answered(&invoke(&below("notes/Notes 2"), &sync("Private")).await);
    answered(&invoke(&function, &sync("Notes")).await);
    world.assert_exact("Notes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_older_on_the_server_is_told_and_measured_and_nothing_is_removed() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, 20);
    let function = world.function();
    answered(&invoke(&function, &sync("Notes")).await);
    world.server.faults().update(|faults| faults.set("ready-version=3").unwrap());
    let invocation = invoke(&function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!((&answer["success"], &answer["status"]), (&json!(false), &json!("partial")), "{answer}");
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("vault_older"), &json!(11)), "{answer}");
    let vault = report(answer);
    assert_eq!((&vault["older_vault"], &vault["deleted"]["files"]), (&json!(3), &json!(0)), "{answer}");
    let metrics = invocation.json_logs().into_iter().find(|line| line["message"] == "Sync metrics").unwrap();
    assert_eq!((&metrics["older_vaults"], &metrics["success"]), (&json!(1), &json!(false)), "{metrics}");
    world.assert_exact("Notes");
}

/// The answer to an HTTP request for a sync of `Notes`. It has the reason, of which a failed invocation has
/// only a sentence: outcome, exit status and code, as in the command.
async fn answer_over_http(function: &LambdaRuntime) -> (Value, Value, Value) {
    let request = json!({ "httpMethod": "POST", "requestContext": {}, "body": sync("Notes").to_string() });
    let invocation = invoke(function, &request).await;
    let answer: Value = serde_json::from_str(answered(&invocation)["body"].as_str().unwrap()).unwrap();
    (answer["outcome"].clone(), answer["exit_code"].clone(), answer["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_and_table_that_cannot_be_used_have_the_code_and_the_exit_status_of_the_command() {
    let world = World::new().await;
    write_notes(&world.vault("Notes"), 30);
    let failed = |code: &str| (json!("failed"), json!(1), json!(code));
    let nowhere = "127.0.0.1:9".parse().unwrap();
    for (password, status, code) in
        [(Some("me:pr0xy".to_owned()), None, "proxy"), (None, Some(502), "unreachable")]
    {
        let proxy = ConnectProxy::start(ProxyRules { server: nowhere, password, status }).await.unwrap();
        let url = format!("http://me:wr0ng@{}", proxy.address());
        for (variable, endpoint) in [
            ("AWS_ENDPOINT_URL_S3", "https://s3.test"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.test"),
        ] {
            let function = world.function_with(&[(variable, endpoint), ("HTTPS_PROXY", &url)]);
            let request =
                json!({ "httpMethod": "POST", "requestContext": {}, "body": sync("Notes").to_string() });
            let invocation = invoke_for(&function, &request, 20_000).await;
            let body = answered(&invocation)["body"].as_str().unwrap().to_owned();
            let answer: Value = serde_json::from_str(&body).unwrap();
            let end = (&answer["exit_code"], &answer["error"]["code"]);
            // A repeated failure is retried as long as there is time.
            let is_over = [json!("timed_out"), json!("interrupted")].contains(&answer["error"]["code"]);
            assert!(end == (&json!(1), &json!(code)) || (status.is_some() && is_over), "{variable}: {body}");
            assert!(!body.contains("wr0ng") && !invocation.logs.join("\n").contains("wr0ng"), "{body}");
        }
    }
    let function = world.function();
    for (status, code) in [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")] {
        let refusal = |operation: &str| Refusal::new(operation, status, code, "another region");
        world.cloud.faults().update(|faults| {
            faults.s3_manners.refusals =
                ["ListObjectsV2", "PutObject", "HeadObject", "GetObject"].map(refusal).to_vec();
        });
        assert_eq!(answer_over_http(&function).await, failed("region"), "{code}");
    }
    let read_only = Refusal {
        chance: Chance::always().after(10),
        ..Refusal::new("PutObject", 403, "AccessDenied", "Access Denied")
    };
    world.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![read_only]);
    assert_eq!(answer_over_http(&function).await, failed("destination"));
    world.cloud.faults().clear();
    world.cloud.faults().update(|faults| faults.dynamodb.forbidden = Chance::always());
    assert_eq!(answer_over_http(&function).await, failed("access_denied"));
    world.cloud.faults().clear();
    assert_eq!(answer_over_http(&function).await, (json!("complete"), json!(0), Value::Null));
    world.assert_exact("Notes");
}
