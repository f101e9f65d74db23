//! A real function, written with `lambda_runtime`, run through the loopback Lambda.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use obsync_testcloud::{
    Cloud, InvokeOptions, LambdaOptions, LambdaRuntime, LogSink, MemoryLimit, Outcome as Ended, Service,
};
use serde_json::{Value, json};

use crate::client::{Outcome, cloud, code, lambda, lambda_at};

/// Turns this test program into the function.
const IS_FUNCTION: &str = "CLOUD_TEST_IS_FUNCTION";

/// Number of events seen by this process.
static EVENTS: AtomicU64 = AtomicU64::new(0);

/// Does nothing in a test run; the tests below start the program again with only this test and a variable
/// that makes it the function.
#[test]
fn the_function() -> Outcome {
    match std::env::var(IS_FUNCTION).as_deref() {
        Err(_) => return Ok(()),
        Ok("broken") => std::process::exit(9),
        Ok(_) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(lambda_runtime::run(service_fn(handle))).map_err(|error| error.to_string())?)
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let count = EVENTS.fetch_add(1, Ordering::SeqCst) + 1;
    let (event, context) = event.into_parts();
    println!("{}", json!({ "message": "event", "count": count }));
    eprintln!("{}", json!({ "message": "also here" }));
    match event["do"].as_str().unwrap_or_default() {
        "fail" => return Err("this one fails".into()),
        "sleep" => tokio::time::sleep(Duration::from_secs(3600)).await,
        "exit" => std::process::exit(3),
        "shout" => print!("{}", "a".repeat(usize::try_from(event["bytes"].as_u64().unwrap_or_default())?)),
        "hold" => hold(event["mib"].as_u64().unwrap_or_default()),
        "continue" => send_on(event["left"].as_u64().unwrap_or_default()).await?,
        _ => {}
    }
    Ok(json!({
        "count": count,
        "event": event,
        "request_id": context.request_id,
        "deadline": context.deadline,
        "function": context.env_config.function_name,
        "memory": context.env_config.memory,
        "variables": std::env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
    }))
}

/// Makes this much memory resident for a moment.
fn hold(mib: u64) {
    let block = vec![1_u8; usize::try_from(mib << 20).unwrap_or_default()];
    assert_eq!(std::hint::black_box(&block).iter().map(|byte| u64::from(*byte)).sum::<u64>(), mib << 20);
}

/// Invokes this function again, for the remaining number of times.
async fn send_on(left: u64) -> Result<(), Error> {
    if left == 0 {
        return Ok(());
    }
    let variable = |name: &str| std::env::var(name);
    let keys = Credentials::from_keys(
        variable("AWS_ACCESS_KEY_ID")?,
        variable("AWS_SECRET_ACCESS_KEY")?,
        Some(variable("AWS_SESSION_TOKEN")?),
    );
    let event = json!({ "do": "continue", "left": left - 1 }).to_string();
    lambda_at(&variable("AWS_ENDPOINT_URL_LAMBDA")?, keys)
        .invoke()
        .function_name(variable("AWS_LAMBDA_FUNCTION_NAME")?)
        .invocation_type(InvocationType::Event)
        .payload(Blob::new(event))
        .send()
        .await?;
    Ok(())
}

fn options() -> Outcome<LambdaOptions> {
    let mut options = LambdaOptions::new(std::env::current_exe()?);
    options.args = ["--exact", "functions::the_function", "--nocapture"].map(Into::into).to_vec();
    options.env = vec![(IS_FUNCTION.to_owned(), "yes".to_owned())];
    Ok(options)
}

fn function(cloud: &Cloud) -> Outcome<LambdaRuntime> {
    Ok(LambdaRuntime::new(cloud, options()?))
}

fn within(timeout: Duration) -> InvokeOptions {
    InvokeOptions { timeout: Some(timeout), ..InvokeOptions::default() }
}

#[tokio::test]
async fn the_second_event_finds_the_process_of_the_first() -> Outcome {
    let cloud = cloud().await?;
    let function = function(&cloud)?;
    let options = InvokeOptions { request_id: Some("id-1".to_owned()), ..InvokeOptions::default() };
    let first = function.invoke(&json!({ "hello": "ä" }), options).await?;
    let answer = first.answer().ok_or_else(|| format!("{first:?}"))?;
    assert!(first.is_cold_start());
    assert_eq!(answer["event"], json!({ "hello": "ä" }));
    assert_eq!((&answer["request_id"], &answer["memory"]), (&json!("id-1"), &json!(128)));
    assert_eq!(answer["function"], "obsync");
    let second = function.invoke(&json!({}), InvokeOptions::default()).await?;
    assert!(!second.is_cold_start());
    assert_eq!(second.answer().ok_or("no answer")?["count"], 2);
    assert_ne!(second.request_id, "id-1");
    cloud.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn logs_and_memory_belong_to_their_invocation() -> Outcome {
    let cloud = cloud().await?;
    let mut options = options()?;
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    options.log_sink = Some(LogSink::new(move |_| _ = counter.fetch_add(1, Ordering::SeqCst)));
    let function = LambdaRuntime::new(&cloud, options);
    let first = function.invoke(&json!({ "do": "hold", "mib": 64 }), InvokeOptions::default()).await?;
    let second = function.invoke(&json!({}), InvokeOptions::default()).await?;
    let messages =
        |logs: Vec<Value>| -> Vec<String> { logs.iter().map(|line| line["message"].to_string()).collect() };
    assert_eq!(messages(first.json_logs()), ["\"event\"", "\"also here\""]);
    assert_eq!(second.json_logs()[0]["count"], 2);
    assert_eq!(seen.load(Ordering::SeqCst) as usize, first.logs.len() + second.logs.len());
    if cfg!(target_os = "linux") {
        let (held, after) = (first.max_rss.ok_or("no peak")?, second.max_rss.ok_or("no peak")?);
        assert!(held > 64 << 20, "{held}");
        assert!(after < held, "{after} after {held}");
    }
    Ok(())
}

#[tokio::test]
async fn a_function_has_the_variables_of_lambda_and_the_cloud_and_no_others() -> Outcome {
    let cloud = cloud().await?;
    let invocation = function(&cloud)?.invoke(&json!({}), InvokeOptions::default()).await?;
    let answer = invocation.answer().ok_or("no answer")?;
    let variables: Vec<&str> =
        answer["variables"].as_array().ok_or("no variables")?.iter().filter_map(Value::as_str).collect();
    for name in ["AWS_LAMBDA_RUNTIME_API", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "_HANDLER", IS_FUNCTION] {
        assert!(variables.contains(&name), "no {name} in {variables:?}");
    }
    for name in ["HOME", "CARGO_MANIFEST_DIR"] {
        assert!(!variables.contains(&name), "{name} in {variables:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_error_is_a_failed_invocation_and_the_process_lives_on() -> Outcome {
    let cloud = cloud().await?;
    let function = function(&cloud)?;
    let failed = function.invoke(&json!({ "do": "fail" }), InvokeOptions::default()).await?;
    assert!(
        matches!(&failed.outcome, Ended::Failed { message, .. } if message == "this one fails"),
        "{failed:?}"
    );
    let next = function.invoke(&json!({}), InvokeOptions::default()).await?;
    assert!(!next.is_cold_start() && next.answer().is_some(), "{next:?}");
    Ok(())
}

#[tokio::test]
async fn a_function_that_takes_too_long_is_killed_and_starts_cold_the_next_time() -> Outcome {
    let cloud = cloud().await?;
    let function = function(&cloud)?;
    let limit = Duration::from_millis(300);
    let late = function.invoke(&json!({ "do": "sleep" }), within(limit)).await?;
    assert_eq!(late.outcome, Ended::TimedOut { after: limit });
    assert!(late.duration >= limit);
    assert_eq!(late.json_logs().len(), 2, "what it wrote before is there");
    let next = function.invoke(&json!({}), InvokeOptions::default()).await?;
    assert!(next.is_cold_start());
    assert_eq!(next.answer().ok_or("no answer")?["count"], 1);
    Ok(())
}

#[tokio::test]
async fn a_process_that_ends_or_cannot_start_says_how() -> Outcome {
    let cloud = cloud().await?;
    let exited = function(&cloud)?.invoke(&json!({ "do": "exit" }), InvokeOptions::default()).await?;
    assert_eq!(exited.outcome, Ended::Exited { status: "exit status: 3".to_owned() });
    let mut broken = options()?;
    broken.env = vec![(IS_FUNCTION.to_owned(), "broken".to_owned())];
    let broken = LambdaRuntime::new(&cloud, broken).invoke(&json!({}), InvokeOptions::default()).await?;
    assert_eq!(broken.outcome, Ended::Exited { status: "exit status: 9".to_owned() });
    let missing = LambdaRuntime::new(&cloud, LambdaOptions::new(PathBuf::from("no/bootstrap")));
    let error = missing.invoke(&json!({}), InvokeOptions::default()).await.err().ok_or("it started")?;
    assert!(error.to_string().contains("no/bootstrap"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_function_that_does_not_start_in_its_time_has_failed() -> Outcome {
    let cloud = cloud().await?;
    let options = LambdaOptions {
        program: "/bin/sh".into(),
        args: ["-c", "sleep 60"].map(Into::into).to_vec(),
        init_timeout: Duration::from_millis(200),
        ..options()?
    };
    let ended = LambdaRuntime::new(&cloud, options).invoke(&json!({}), InvokeOptions::default()).await?;
    let Ended::InitFailed { kind, message } = &ended.outcome else { panic!("{ended:?}") };
    assert_eq!(kind, "Sandbox.Timedout");
    assert!(message.ends_with("within 200ms"), "{message}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_function_above_its_memory_is_killed_unless_it_is_measured_only() -> Outcome {
    let cloud = cloud().await?;
    let event = json!({ "do": "hold", "mib": 200 });
    let over = function(&cloud)?.invoke(&event, InvokeOptions::default()).await?;
    assert_eq!(over.outcome, Ended::OutOfMemory { limit_mb: 128 });
    let larger = InvokeOptions { memory_mb: Some(512), ..InvokeOptions::default() };
    let inside = function(&cloud)?.invoke(&event, larger).await?;
    assert_eq!(inside.answer().ok_or("no answer")?["memory"], 512);
    let measured = LambdaOptions { memory_limit: MemoryLimit::Measure, ..options()? };
    let measured = LambdaRuntime::new(&cloud, measured).invoke(&event, InvokeOptions::default()).await?;
    assert!(measured.answer().is_some() && measured.max_rss > Some(200 << 20), "{measured:?}");
    Ok(())
}

#[tokio::test]
async fn a_function_is_killed_and_frozen_at_will() -> Outcome {
    let cloud = cloud().await?;
    let function = Arc::new(function(&cloud)?);
    let lines = Arc::new(tokio::sync::Notify::new());
    let mut options = options()?;
    let told = Arc::clone(&lines);
    options.log_sink = Some(LogSink::new(move |line| {
        if line.contains("also here") {
            told.notify_one();
        }
    }));
    let watched = Arc::new(LambdaRuntime::new(&cloud, options));
    let running = Arc::clone(&watched);
    let killed = tokio::spawn(async move {
        running.invoke(&json!({ "do": "sleep" }), InvokeOptions::default()).await.map_err(|e| e.to_string())
    });
    lines.notified().await;
    watched.kill().await;
    assert_eq!(killed.await??.outcome, Ended::Killed);
    function.invoke(&json!({}), InvokeOptions::default()).await?;
    function.kill().await;
    let cold = function.invoke(&json!({}), InvokeOptions::default()).await?;
    assert!(cold.is_cold_start());
    function.thaw().await;
    function.freeze().await;
    assert!(!function.invoke(&json!({}), InvokeOptions::default()).await?.is_cold_start());
    Ok(())
}

#[tokio::test]
async fn a_function_that_invokes_itself_is_run_until_nothing_is_left() -> Outcome {
    let cloud = cloud().await?;
    let function = function(&cloud)?;
    let event = json!({ "do": "continue", "left": 3 });
    let chain = function.invoke_chain(cloud.lambda(), &event, InvokeOptions::default(), 10).await?;
    let left: Vec<_> =
        chain.iter().filter_map(|one| one.answer()).map(|answer| &answer["event"]["left"]).collect();
    assert_eq!(left, [3, 2, 1, 0]);
    assert_eq!(cloud.counts().of(Service::Lambda, "Invoke"), 3);
    let cut = function.invoke_chain(cloud.lambda(), &event, InvokeOptions::default(), 2).await?;
    assert_eq!((cut.len(), cloud.lambda().waiting().len()), (2, 1));
    Ok(())
}

#[tokio::test]
async fn only_events_for_functions_that_are_there_are_taken() -> Outcome {
    let cloud = cloud().await?;
    let invoke = |function: &str, kind| {
        lambda(&cloud).invoke().function_name(function).invocation_type(kind).payload(Blob::new("{}")).send()
    };
    assert_eq!(code(invoke("obsync", InvocationType::Event).await), "ResourceNotFoundException");
    cloud.lambda().add_function("obsync");
    assert_eq!(invoke("obsync", InvocationType::Event).await?.status_code(), 202);
    assert_eq!(invoke("obsync", InvocationType::DryRun).await?.status_code(), 204);
    let waited_for = invoke("obsync", InvocationType::RequestResponse).await;
    assert_eq!(code(waited_for), "InvalidParameterValueException");
    let queued = cloud.lambda().take_event().ok_or("nothing waits")?;
    assert_eq!((queued.function.as_str(), queued.event), ("obsync", json!({})));
    assert!(cloud.lambda().take_event().is_none());
    Ok(())
}

#[tokio::test]
async fn a_line_without_an_end_is_cut_and_holds_nothing_up() -> Outcome {
    let cloud = cloud().await?;
    let bytes = 20 << 20;
    let shouted =
        function(&cloud)?.invoke(&json!({ "do": "shout", "bytes": bytes }), InvokeOptions::default()).await?;
    assert!(shouted.answer().is_some(), "{:?}", shouted.outcome);
    let lines: Vec<usize> =
        shouted.logs.iter().map(|line| line.len()).filter(|length| *length > 1000).collect();
    assert_eq!(lines.iter().sum::<usize>(), bytes);
    assert!(lines.iter().all(|length| *length <= 300 << 10), "{lines:?}");
    cloud.shutdown().await;
    Ok(())
}
