//! `obsync-dev bench`: what pulls take on this machine, beside what is the least that they could take.
//!
//! [`scenario`] pulls, [`floor`] measures the least, [`table`] shows both, [`machine`] says where it was.

mod floor;
mod machine;
mod scenario;
mod table;

use anyhow::{Context, Result};
use obsync_testkit::{GeneratorOptions, Server, VaultHandle, fill_vault, generate};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::args::BenchOptions;
use crate::child::Identity;
use crate::console::{note, say};
use crate::human;
use machine::Machine;
use scenario::{Bench, Row};

const EMAIL: &str = "bench@example.com";
const SMALL: &str = "Small files";
const LARGE: &str = "One large file";

/// No generated small file is larger than this, in bytes.
const SMALL_FILE: u64 = 64 * 1024;

/// What was measured, and where.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    /// How often each figure was measured; the medians are given.
    runs: u32,
    rows: Vec<Row>,
}

/// Measures, and prints the table or JSON.
///
/// # Errors
/// When a pull fails, or its folder is not what the vault holds.
pub(crate) async fn run(options: &BenchOptions) -> Result<()> {
    let identity = Identity {
        email: EMAIL.to_owned(),
        password: SecretString::from("the password of the account"),
        vault_password: Some(SecretString::from("the password of the vault")),
    };
    let server = Server::builder().user(EMAIL, identity.password.expose_secret()).start().await?;
    let work = match &options.dir {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let work = work.context("cannot make a folder to pull to")?;
    let machine = Machine::describe(work.path());
    if !options.json {
        note(&machine.to_string());
    }
    let bench = Bench::new(work, server.url(), identity, options.runs);
    let mut rows = Vec::new();
    if options.files > 0 {
        let vault = small_files(&server, &bench, options.files)?;
        let name = human::files(options.files as u64);
        rows.extend(measure(&bench, vault, name, true).await?);
    }
    if options.large_mb > 0 {
        let vault = large_file(&server, &bench, options.large_mb * 1_000_000)?;
        rows.extend(measure(&bench, vault, format!("one file of {} MB", options.large_mb), false).await?);
    }
    server.shutdown().await;
    let results = Results { machine, runs: options.runs, rows };
    say(&if options.json {
        serde_json::to_string_pretty(&results)?
    } else {
        table::of(&results.rows, results.runs)
    });
    Ok(())
}

/// Measures away from the runtime, where the server is.
async fn measure(bench: &Bench, vault: VaultHandle, name: String, again: bool) -> Result<Vec<Row>> {
    note(&format!("pulling {name} ..."));
    let bench = bench.clone();
    tokio::task::spawn_blocking(move || bench.measure(&vault, &name, again))
        .await
        .context("the measurement failed")?
}

/// A vault of notes: half of them shorter than 2 KiB, none longer than 64 KiB.
fn small_files(server: &Server, bench: &Bench, files: usize) -> Result<VaultHandle> {
    let vault = server.create_vault(bench.vault(SMALL))?;
    let options =
        GeneratorOptions { files, attachments: 0.0, max_size: SMALL_FILE, ..GeneratorOptions::default() };
    fill_vault(&vault, &options)?;
    Ok(vault)
}

/// A vault of one file of this many bytes.
fn large_file(server: &Server, bench: &Bench, bytes: u64) -> Result<VaultHandle> {
    let vault = server.create_vault(bench.vault(LARGE))?;
    // A picture or sound with a size beyond all bounds has the largest size.
    let options = GeneratorOptions {
        files: 1,
        attachments: 1.0,
        configuration: false,
        scale: 1e12,
        max_size: bytes,
        ..GeneratorOptions::default()
    };
    for file in generate(options) {
        vault.write("Recording.mp4", file.content(), file.mtime)?;
    }
    Ok(vault)
}
