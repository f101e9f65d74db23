//! `obsync-dev server`: the development server of the testkit, for people.

use anyhow::{Context, Result, bail};
use obsync_testkit::{GeneratorOptions, Server, Stats, VaultHandle, VaultSpec, fill_vault};
use secrecy::ExposeSecret;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ServerOptions;
use crate::console::say;
use crate::human;
use crate::values::Fault;

/// Runs the server until Ctrl-C or SIGTERM.
///
/// # Errors
/// When it cannot start, or a vault cannot be created.
pub(crate) async fn run(options: &ServerOptions) -> Result<()> {
    if options.user.is_empty() && !options.sign_up && options.data.is_none() {
        bail!("nobody could sign in; give --user EMAIL:PASSWORD, or --sign-up for any address and password");
    }
    // Before anything is served: an early signal must not be lost.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = start(options).await?;
    make_vaults(&server, options)?;
    say(&welcome(&server, options));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let stats = server.stats();
    server.shutdown().await;
    say(&format!("\n{}", farewell(&stats)));
    Ok(())
}

async fn start(options: &ServerOptions) -> Result<Server> {
    let mut builder = Server::builder()
        .listen(options.listen.0)
        .allow_sign_up(options.sign_up)
        .faults(Fault::all(&options.fault)?);
    for account in &options.user {
        let password = account.password.expose_secret();
        builder = match &account.totp_secret {
            Some(secret) => builder.user_with_totp(&account.email, password, secret.expose_secret()),
            None => builder.user(&account.email, password),
        };
    }
    for folder in &options.vault {
        builder = builder.vault_dir(folder);
    }
    if let Some(folder) = &options.data {
        builder = builder.data_dir(folder);
    }
    builder.start().await.context("cannot start the development server")
}

/// Creates the requested vaults, except those that the data folder has already, and fills the empty ones.
fn make_vaults(server: &Server, options: &ServerOptions) -> Result<()> {
    let managed = options.managed.iter().map(|name| VaultSpec::managed(name));
    let specs = managed.chain(options.create.iter().map(|vault| vault.spec()));
    let names = options.managed.iter().chain(options.create.iter().map(|vault| &vault.name));
    for (seed, (name, spec)) in names.zip(specs).enumerate() {
        let there = server.vaults().into_iter().find(|vault| vault.name() == name);
        let vault = match there {
            Some(vault) => vault,
            None => server.create_vault(spec).with_context(|| format!("cannot make the vault {name:?}"))?,
        };
        if let Some(files) = options.fill.filter(|_| vault.version().0 == 0) {
            let generated = GeneratorOptions { files, seed: seed as u64, ..GeneratorOptions::default() };
            fill_vault(&vault, &generated).with_context(|| format!("cannot fill the vault {name:?}"))?;
        }
    }
    Ok(())
}

/// Prints the server's address and contents, and the next commands to type.
fn welcome(server: &Server, options: &ServerOptions) -> String {
    let mut lines = vec![
        format!("The development server listens on {} (this machine only). Ctrl-C ends it.", server.url()),
        String::new(),
    ];
    for account in &options.user {
        let second = if account.totp_secret.is_some() { ", with two-factor authentication" } else { "" };
        lines.push(format!("  account  {}{second}", account.email));
    }
    if options.sign_up {
        lines.push("  account  any address that signs in, with the password it gives first".to_owned());
    }
    lines.extend(server.vaults().iter().map(|vault| format!("  vault    {}", described(vault))));
    lines.extend(options.fault.iter().map(|fault| format!("  fault    {fault}")));
    let email = options.user.first().map_or("you@example.com", |account| account.email.as_str());
    let vault = server.vaults().first().map_or_else(|| "VAULT".to_owned(), |vault| vault.name().to_owned());
    lines.push(format!(
        "\nPoint obsync at it:\n  export OBSYNC_API_URL={}\n  obsync login --email {email}\n  obsync pull \"{vault}\" ./notes",
        server.url()
    ));
    lines.join("\n")
}

fn described(vault: &VaultHandle) -> String {
    let encryption = format!("encryption version {}", vault.encryption_version().number());
    match vault.expected() {
        Ok(content) => format!(
            "{} (id {}, {encryption}, {}, {})",
            vault.name(),
            vault.id(),
            human::files(content.files.len() as u64),
            human::size(content.total_size())
        ),
        // Only its creator knows its password.
        Err(_) => format!("{} (id {}, {encryption})", vault.name(), vault.id()),
    }
}

/// The server's statistics.
fn farewell(stats: &Stats) -> String {
    format!(
        "Served {}, {}, {} and {}: {} sent, {} received.",
        human::counted(stats.rest_requests, "REST call", "REST calls"),
        human::counted(stats.websocket_connections, "session", "sessions"),
        human::counted(stats.pulls, "pull", "pulls"),
        human::counted(stats.pushes, "push", "pushes"),
        human::size(stats.content_bytes),
        human::size(stats.content_bytes_received)
    )
}
