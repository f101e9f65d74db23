//! `obsync-dev cloud`: the loopback cloud for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use obsync_testcloud::Service;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::CloudOptions;
use crate::console::say;
use crate::human;
use crate::services::{EMAIL, FUNCTION, PASSWORD, SECRET, Services, Setup, VAULT, requests};

/// The largest text that a secret may have, in bytes (Secrets Manager quotas).
const SECRET_MAX: usize = 65_536;

/// Runs the cloud until Ctrl-C or SIGTERM.
///
/// # Errors
/// When it cannot start, or the secret is unreadable.
pub(crate) async fn run(options: &CloudOptions) -> Result<()> {
    let secret = options.secret.as_deref().map(read_secret).transpose()?;
    // Before anything is served: an early signal must not be lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let services = Services::start(Setup {
        bucket: options.bucket.0.clone(),
        table: options.table.clone(),
        port: options.port,
        secret,
        files: options.server.then_some(options.fill),
        event: None,
        api_url: options.api_url.clone(),
    })
    .await?;
    say(&welcome(&services));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let goodbye = farewell(&services);
    services.shutdown().await;
    say(&format!("\n{goodbye}"));
    Ok(())
}

/// Reads the text of the secret, which must be JSON.
fn read_secret(path: &Path) -> Result<String> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("the secret {shown} cannot be read"))?;
    if text.len() > SECRET_MAX {
        bail!("the secret {shown} has {} bytes; a secret has at most {SECRET_MAX}", text.len());
    }
    // Only the position of a fault is reported: the parser's error may repeat a part of the text.
    serde_json::from_str::<serde_json::Value>(&text).map_err(|error| {
        anyhow::anyhow!("the secret {shown} is not JSON (line {}, column {})", error.line(), error.column())
    })?;
    Ok(text)
}

/// Prints all addresses, and the next commands to type.
fn welcome(services: &Services) -> String {
    let Services { cloud, bucket, table, .. } = services;
    let mut lines = vec![
        "The cloud listens on this machine only, and forgets everything when it ends. Ctrl-C ends it."
            .to_owned(),
        String::new(),
    ];
    let secrets = if services.has_secret { format!("secret {SECRET}") } else { "no secret".to_owned() };
    for (service, has) in [
        (Service::S3, format!("bucket {bucket}")),
        (Service::DynamoDb, format!("table {table}")),
        (Service::SecretsManager, secrets),
        (Service::Lambda, format!("function {FUNCTION}; its events are kept, not run")),
    ] {
        lines.push(format!("  {:<15}  {}  {has}", service.to_string(), cloud.endpoint(service)));
    }
    if let Some(server) = &services.server {
        let account = format!("account {EMAIL}, password {PASSWORD}, vault {VAULT}");
        lines.push(format!("  {:<15}  {}  {account}", "Obsidian Sync", server.url()));
    }
    lines.push("\nPoint obsync, the function and any other client of AWS at it:".to_owned());
    let variables = cloud.env().into_iter().chain(services.variables());
    lines.extend(variables.map(|(name, value)| format!("  export {name}={}", quoted(&value))));
    lines.push(format!("\nThen:\n  {}", next(services).join("\n  ")));
    lines.join("\n")
}

/// The commands to type once the variables are set.
fn next(services: &Services) -> Vec<String> {
    let mut commands = Vec::new();
    if !services.has_secret {
        commands.push("export OBSIDIAN_EMAIL=… OBSIDIAN_PASSWORD=…".to_owned());
    }
    commands.push(r#"echo '{"action":"sync"}' | obsync-dev invoke -"#.to_owned());
    if services.server.is_some() {
        commands.push(format!("obsync login --email {EMAIL}"));
    }
    let vault = if services.server.is_some() { VAULT } else { "VAULT" };
    let Services { bucket, table, .. } = services;
    commands.push(format!("obsync pull {vault} s3://{bucket}/{vault} --state dynamodb://{table}"));
    commands
}

/// The value, quoted for a shell.
fn quoted(value: &str) -> String {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-_./:@%+=,".contains(one);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// The requests to each service, and the events that were never run.
fn farewell(services: &Services) -> String {
    let mut lines = vec![format!("Served requests: {}.", requests(&services.cloud.counts()))];
    let waiting = services.cloud.lambda().waiting().len() as u64;
    if waiting > 0 {
        let events = human::counted(waiting, "event was", "events were");
        lines.push(format!("{events} sent to the function {FUNCTION} and not run."));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_a_shell_would_change_them() {
        assert_eq!(quoted("http://127.0.0.1:80/a-b"), "http://127.0.0.1:80/a-b");
        assert_eq!(quoted("a b$c"), "'a b$c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn nothing_of_a_secret_is_repeated_when_it_is_not_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.json");
        fs::write(&path, "hunter2").unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("is not JSON (line 1") && !error.contains("hunter2"), "{error}");
    }
}
