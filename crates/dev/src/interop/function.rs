//! Runs the function in AWS's runtime interface emulator, against the cloud on loopback.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use obsync_testkit::Server;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};

use super::pulls::{EMAIL, PASSWORD, change, change_again, own_password, serve_vaults};
use crate::args::InteropFunction;
use crate::check::same_as_bucket;
use crate::services::{Services, Setup};

/// Timeout until the emulator listens.
const START: Duration = Duration::from_secs(20);
/// Timeout of an invocation, in seconds.
const TIMEOUT: u64 = 60;
const BUCKET: &str = "vaults";

/// Syncs every vault in the emulator, three times, with changes between, and describes the result.
///
/// # Errors
/// When a bucket differs from its vault, or an invocation fails.
pub(super) async fn sync_everything(options: &InteropFunction) -> Result<String> {
    let server = serve_vaults().await?;
    let services = Services::start(Setup {
        bucket: BUCKET.to_owned(),
        table: "obsync-state".to_owned(),
        port: 0,
        secret: Some(secret(&server)),
        files: None,
        event: None,
        api_url: Some(server.url()),
    })
    .await?;
    let (mut emulator, url) = start(options, &services).await?;
    let synced = sync_thrice(&server, &services, &url).await;
    emulator.kill().await?;
    let objects = synced?;
    services.shutdown().await;
    let vaults = server.vaults().len();
    server.shutdown().await;
    Ok(format!("exact ({vaults} vaults, {objects} objects)"))
}

fn secret(server: &Server) -> String {
    let mut vaults = Map::new();
    for vault in server.vaults() {
        if let Some(password) = own_password(&vault) {
            let password = password.expose_secret();
            vaults.insert(vault.name().to_owned(), json!({ "password": password }));
        }
    }
    json!({ "auth": { "email": EMAIL, "password": PASSWORD }, "vaults": vaults }).to_string()
}

/// Starts the emulator with the function and only the variables of the services.
async fn start(options: &InteropFunction, services: &Services) -> Result<(Child, String)> {
    let [address, runtime] = free_addresses()?;
    let emulator = Command::new(&options.emulator)
        .args([
            "--log-level",
            "error",
            "--runtime-interface-emulator-address",
            &address,
            "--runtime-api-address",
            &runtime,
        ])
        .arg(&options.function)
        .arg("handler")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(services.cloud.env())
        .envs(services.variables())
        .env("AWS_LAMBDA_FUNCTION_TIMEOUT", TIMEOUT.to_string())
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
        .env("AWS_LAMBDA_FUNCTION_NAME", "obsync")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", options.emulator.display()))?;
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        ensure!(begun.elapsed() < START, "the emulator does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((emulator, format!("http://{address}/2015-03-31/functions/function/invocations")))
}

/// Two addresses of this machine that nobody listens on.
fn free_addresses() -> Result<[String; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [first, second] = listeners.map(|listener| listener.local_addr().map(|address| address.to_string()));
    Ok([first?, second?])
}

async fn sync_thrice(server: &Server, services: &Services, url: &str) -> Result<usize> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(TIMEOUT + 10)).build()?;
    sync_all(&client, server, services, url).await.context("the first sync")?;
    for changes in [change, change_again] {
        server.vaults().iter().try_for_each(changes)?;
        sync_all(&client, server, services, url).await.context("a sync of changes")?;
    }
    Ok(services.cloud.s3().files(BUCKET, "").len())
}

async fn sync_all(client: &reqwest::Client, server: &Server, services: &Services, url: &str) -> Result<()> {
    let names: Vec<String> = server.vaults().iter().map(|vault| vault.name().to_owned()).collect();
    let event = json!({ "action": "sync", "vaults": names }).to_string();
    let answer = client.post(url).body(event).send().await?.text().await?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| format!("no JSON: {answer}"))?;
    if answer["status"] != "complete" {
        bail!("the function answered {answer}");
    }
    for vault in server.vaults() {
        let place =
            answer["vaults"].as_array().into_iter().flatten().find(|one| one["vault"] == vault.name());
        let place =
            place.and_then(|one| one["destination"].as_str()).context("no destination in the answer")?;
        let place = format!("{}/", place.strip_prefix("s3://vaults/").unwrap_or(place));
        same_as_bucket(&vault, &services.cloud.s3().files(BUCKET, &place), &place)?;
    }
    Ok(())
}
