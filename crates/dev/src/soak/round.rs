//! One round: fills an empty folder, changes the vault, and updates the folder, both times through faults.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use obsync_testkit::{Chance, Faults, PieceSizes, Server, VaultHandle};

use super::process::Process;
use super::worker::PullUsage;
use crate::check::same_as_vault;
use crate::human;

/// The parts needed for rounds.
pub(super) struct Rounds<'a> {
    pub(super) server: &'a Server,
    pub(super) vault: VaultHandle,
    pub(super) work: &'a Path,
    pub(super) process: Process,
    pub(super) seed: u64,
}

/// A successful round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    took: Duration,
    pub(super) first: PullUsage,
    /// After the changes, and so at the end of the round.
    pub(super) second: PullUsage,
    /// Number of times a fault struck.
    strikes: u64,
}

impl Rounds<'_> {
    /// The next round; the faults strike elsewhere in each.
    pub(super) async fn next(&mut self, number: u32) -> Result<Round> {
        let begun = Instant::now();
        let home = self.work.join(format!("round {number}"));
        let (folder, state) = (home.join("notes"), home.join("state.sqlite"));
        std::fs::create_dir_all(&home).context("cannot make a folder to pull to")?;
        let (first, struck_first) = self.pull(number * 2, &folder, &state).await?;
        change(&self.vault, number)?;
        let (second, struck_second) = self.pull(number * 2 + 1, &folder, &state).await?;
        std::fs::remove_dir_all(&home).context("cannot remove the pulled folder")?;
        Ok(Round { took: begun.elapsed(), first, second, strikes: struck_first + struck_second })
    }

    async fn pull(&mut self, number: u32, folder: &Path, state: &Path) -> Result<(PullUsage, u64)> {
        self.server.faults().set(faults(self.seed.wrapping_add(u64::from(number))));
        let usage = self.process.pull(folder, state).await?;
        let strikes = STRIKING.iter().map(|name| self.server.faults().strikes(name)).sum();
        same_as_vault(&self.vault, folder)?;
        Ok((usage, strikes))
    }
}

/// The names of the faults that strike.
const STRIKING: [&str; 9] = [
    "overload-pull",
    "err-answer",
    "refuse-pull",
    "drop-in-content",
    "drop-on-request",
    "drop-in-listing",
    "stall-in-content",
    "stall-request",
    "corrupt-content",
];

/// The faults: every twentieth request meets an overloaded server, many are refused, some break the
/// connection, few leave it silent.
fn faults(seed: u64) -> Faults {
    Faults {
        seed,
        pieces: PieceSizes::Random(300_000),
        overload_pull: Chance::probability(0.05),
        err_answer: Chance::probability(0.005),
        refuse_pull: Chance::probability(0.005),
        corrupt_content: Chance::probability(0.005),
        drop_in_content: Chance::probability(0.003),
        drop_on_request: Chance::probability(0.003),
        drop_in_listing: Chance::probability(0.1),
        stall_in_content: Chance::probability(0.000_5),
        stall_request: Chance::probability(0.000_5),
        ..Faults::default()
    }
}

/// The changes by other devices: of a hundred notes one is rewritten, one renamed and one removed, and some
/// are added.
fn change(vault: &VaultHandle, round: u32) -> Result<()> {
    let expected = vault.expected()?;
    for (number, file) in expected.files.iter().enumerate().filter(|(_, file)| !file.path.starts_with('.')) {
        let text = format!("written in round {round}, note {number}\n").repeat(40);
        match (number + round as usize) % 100 {
            0 => vault.write(&file.path, &text, file.mtime_ms + 1)?,
            1 => vault.rename(&file.path, &format!("Renamed {round}/{number}.md"))?,
            2 => {
                vault.delete(&file.path)?;
                vault.write(&format!("New {round}/{number}.md"), &text, file.mtime_ms)?
            }
            _ => continue,
        };
    }
    Ok(())
}

impl fmt::Display for Round {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { took, first, second, strikes } = self;
        write!(
            formatter,
            "{:>7}  {} requests, {} faults, {} connections, {} pulls, {}  resident {} (peak {}), {} descriptors, {} \
             tasks",
            human::seconds(*took),
            human::number(first.requests + second.requests),
            human::number(*strikes),
            first.connections + second.connections,
            first.attempts + second.attempts,
            human::size(first.bytes + second.bytes),
            human::size(second.resident),
            human::size(second.peak),
            second.after.descriptors,
            second.after.tasks
        )
    }
}
