//! `obsync-dev invoke`: runs the function like AWS Lambda.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use obsync_testcloud::{Invocation, Lambda, LambdaOptions, LambdaRuntime, LogSink, Outcome};
use obsync_testkit::Server;
use serde_json::{Value, json};

use crate::args::InvokeOptions;
use crate::console::{note, say};
use crate::function::{self, Program};
use crate::human;
use crate::services::{EMAIL, Services, Setup, requests};

/// The largest event, in bytes (Lambda quotas, synchronous invocation).
const EVENT_MAX: u64 = 6 * 1024 * 1024;

/// Invokes the function, and prints its answers.
///
/// # Errors
/// When there is no event or no function, or an invocation fails.
pub(crate) async fn run(options: &InvokeOptions) -> Result<()> {
    let event = read_event(&options.event)?;
    let program = Program::find(options.function.as_deref())?;
    let mut function = program.options(options.memory, options.timeout);
    function.log_sink = Some(LogSink::new(note));
    note(&format!(
        "{program}: {} MB ({}), {} for each invocation",
        options.memory,
        function::limit(&function.memory_limit),
        human::seconds(options.timeout)
    ));
    if !options.local {
        function.env = function::variables()?;
        let runtime = LambdaRuntime::elsewhere(function);
        return invoke_all(&runtime, None, event, options.invocations).await;
    }
    let services = start_services(options.files, &event).await?;
    function.env = local_variables(&services)?;
    let result = invoke_local(&services, function, event, options.invocations).await;
    note(&format!("requests: {}", requests(&services.cloud.counts())));
    services.shutdown().await;
    result
}

/// Reads the event from a file, or from standard input for `-`.
fn read_event(path: &Path) -> Result<Value> {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let source: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).with_context(|| format!("the event {shown} cannot be read"))?),
    };
    let mut text = Vec::new();
    let read = source.take(EVENT_MAX + 1).read_to_end(&mut text);
    read.with_context(|| format!("the event {shown} cannot be read"))?;
    if text.len() as u64 > EVENT_MAX {
        bail!("the event {shown} is larger than the {EVENT_MAX} bytes that Lambda takes");
    }
    serde_json::from_slice(&text).with_context(|| format!("the event {shown} is not JSON"))
}

async fn start_services(files: usize, event: &Value) -> Result<Services> {
    let services = Services::start(Setup {
        bucket: "vaults".to_owned(),
        table: "obsync-state".to_owned(),
        port: 0,
        secret: None,
        files: Some(files),
        event: Some(event.clone()),
        api_url: None,
    })
    .await?;
    let files = human::files(files as u64);
    let vaults = services.server.iter().flat_map(Server::vaults);
    let vaults: Vec<String> = vaults.map(|vault| format!("the vault {}", vault.name())).collect();
    note(&format!(
        "a cloud and a sync server on this machine, with {} of {EMAIL} ({files} each)",
        vaults.join(", ")
    ));
    Ok(services)
}

/// The settings of this process, with addresses and credentials replaced by those of the local services.
fn local_variables(services: &Services) -> Result<Vec<(String, String)>> {
    let mut variables = function::variables()?;
    let is_place = |name: &str| {
        let level = name.starts_with("AWS_LAMBDA_");
        (name.starts_with("AWS_") && !level) || name.starts_with("OBSIDIAN_")
    };
    variables.retain(|(name, _)| !is_place(name));
    variables.extend(services.variables());
    Ok(variables)
}

async fn invoke_local(services: &Services, function: LambdaOptions, event: Value, most: u32) -> Result<()> {
    let runtime = LambdaRuntime::new(&services.cloud, function);
    invoke_all(&runtime, Some(services.cloud.lambda()), event, most).await?;
    let objects = services.cloud.s3().files(&services.bucket, "");
    let bytes = objects.iter().map(|object| object.content.len() as u64).sum();
    let count = human::counted(objects.len() as u64, "object", "objects");
    note(&format!("the bucket {} has {count} ({}) now", services.bucket, human::size(bytes)));
    Ok(())
}

/// Invokes the function until it has nothing left to do, `most` times at most. Events that it sends to itself
/// come first.
async fn invoke_all(runtime: &LambdaRuntime, lambda: Option<&Lambda>, event: Value, most: u32) -> Result<()> {
    let mut result = Ok(());
    for number in 1..=most {
        let queued = lambda.and_then(Lambda::take_event).map(|queued| queued.event);
        let event = queued.as_ref().unwrap_or(&event);
        let invocation = runtime.invoke(event, obsync_testcloud::InvokeOptions::default()).await?;
        note(&format!(
            "invocation {number}: {}",
            function::summary(&invocation, runtime.options().memory_mb)
        ));
        result = tell(number, &invocation);
        let is_incomplete =
            invocation.answer().and_then(function::status).is_some_and(|it| it == "incomplete");
        if !is_incomplete {
            break;
        }
    }
    runtime.kill().await;
    result
}

/// Prints the result for the invoker: the function's answer, or its error in Lambda's format.
fn tell(number: u32, invocation: &Invocation) -> Result<()> {
    if let Some(answer) = invocation.answer() {
        say(&serde_json::to_string_pretty(answer)?);
        return Ok(());
    }
    if let Outcome::Failed { kind, message } = &invocation.outcome {
        let error = json!({ "errorType": kind, "errorMessage": message });
        say(&serde_json::to_string_pretty(&error)?);
    }
    bail!("invocation {number} {}", function::outcome(&invocation.outcome))
}
