//! `obsync-dev soak`: pulls a large vault repeatedly through all network faults, and checks that the
//! destination is exact each time and that no resource use grows.
//!
//! [`worker`] is the process that pulls, [`round`] one round, [`flat`] decides whether something grew.

mod flat;
mod process;
mod round;
pub(crate) mod worker;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use obsync_testkit::{GeneratorOptions, Server, VaultHandle, VaultSpec, fill_vault, generate};

use crate::args::SoakOptions;
use crate::console::say;
use crate::human;
use process::Process;
use round::{Round, Rounds};

/// The command of the pulling process.
pub(crate) const SOAKING: &str = "soaking";

const EMAIL: &str = "soak@example.com";
const PASSWORD: &str = "loopback";
const VAULT: &str = "Notes";

/// Number of large files, and the bytes of each.
const LARGE: (usize, u64) = (2, 12_000_000);

/// The fewest rounds that allow a statement about growth: three for the allocator, and three for each of the
/// two halves that are compared. With one round a half, allocator noise was mistaken for growth.
const ROUNDS_MIN: u32 = 9;

/// Pulls until the time is over.
///
/// # Errors
/// When a folder differs from the vault, or something grew.
pub(crate) async fn run(options: &SoakOptions) -> Result<()> {
    let server = Server::builder().user(EMAIL, PASSWORD).vault(VaultSpec::managed(VAULT)).start().await?;
    let vault = server.vault(VAULT)?;
    fill(&vault, options)?;
    let work = match &options.dir {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let work = work.context("cannot make a folder to pull to")?;
    let process = Process::start(&server.url(), EMAIL, PASSWORD, VAULT).await?;
    let mut rounds = Rounds { server: &server, vault, work: work.path(), process, seed: options.seed };
    let mut done: Vec<Round> = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    for number in 1.. {
        let round = rounds.next(number).await.with_context(|| format!("round {number} failed"))?;
        say(&format!("round {number:>3}  {round}"));
        done.push(round);
        if number >= ROUNDS_MIN && Instant::now() >= end {
            break;
        }
    }
    rounds.process.end().await?;
    server.shutdown().await;
    say(&flat::verdict(&done, u64::from(options.memory) * 1_000_000)?);
    Ok(())
}

/// Notes, pictures, and some files that need many pieces on the line.
fn fill(vault: &VaultHandle, options: &SoakOptions) -> Result<()> {
    let (files, seed) = (options.files, options.seed);
    let notes = GeneratorOptions { files, seed, max_size: 1_000_000, ..GeneratorOptions::default() };
    fill_vault(vault, &notes).context("cannot fill the vault")?;
    let large = GeneratorOptions {
        files: LARGE.0,
        seed,
        attachments: 1.0,
        configuration: false,
        scale: 1e12,
        max_size: LARGE.1,
        ..GeneratorOptions::default()
    };
    for (number, file) in generate(large).enumerate() {
        vault.write(&format!("Recordings/{number}.mp4"), file.content(), file.mtime)?;
    }
    let content = vault.expected()?;
    let count = human::files(content.files.len() as u64);
    say(&format!("The vault has {count}, {}.", human::size(content.total_size())));
    Ok(())
}
