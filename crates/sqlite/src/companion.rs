//! Small files beside the database: when a run last found the destination up to date, how the last run went, and the deletions
//! that somebody confirmed while another process had the database.
//!
//! The first two are written in each run and without a flush, which a database does not survive unharmed when the power fails.
//! So they are not in the database. What cannot be read is not known.

use std::collections::HashSet;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use obsync_core::{LastRun, StateError};
use obsync_private::{Access, Folder};

use super::error::Database;
use super::lock::{parts, private_folder};

/// What the names of these files have behind the database's.
pub(super) const ENDINGS: [&str; 3] = [LAST_CHECK.ending, LAST_RUN.ending, CONFIRMED.ending];

const LAST_CHECK: Companion = Companion { ending: "-checked", most: 32, holds: "the time of a check" };
const LAST_RUN: Companion = Companion { ending: "-run", most: 64 << 10, holds: "the last run" };
/// How long a confirmation counts that no run takes over: what is deleted again after that is another question.
const COUNTS: Duration = Duration::from_secs(7 * 24 * 3600);
/// The uids of deletions, one a line.
const CONFIRMED: Companion = Companion { ending: "-confirmed", most: 64 << 20, holds: "confirmed deletions" };

struct Companion {
    ending: &'static str,
    /// What is read of it, in bytes.
    most: u64,
    holds: &'static str,
}

impl Companion {
    fn read(&self, database: &Database) -> Option<String> {
        let (folder, name) = parts(database).ok()?;
        let opened = Folder::open(folder).ok()??.file(&(name + self.ending), Access::Read).ok()??;
        let mut text = String::new();
        opened.file.take(self.most).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The same, unless it was written longer ago.
    fn read_young(&self, database: &Database, most: Duration) -> Option<String> {
        let (folder, name) = parts(database).ok()?;
        let opened = Folder::open(folder).ok()??.file(&(name + self.ending), Access::Read).ok()??;
        let written = opened.file.metadata().ok()?.modified().ok()?;
        // A clock that was set back makes nothing old.
        (written.elapsed().unwrap_or_default() < most).then(|| self.read(database))?
    }

    fn write(&self, database: &Database, text: &str) -> Result<(), StateError> {
        let failed = |error| self.failed(database, &error);
        let (folder, name) = private_folder(database)?;
        let Some(mut opened) = folder.file(&(name + self.ending), Access::Write).map_err(failed)? else {
            return Ok(());
        };
        let mut write = || -> std::io::Result<()> {
            opened.file.rewind()?;
            opened.file.set_len(0)?;
            opened.file.write_all(format!("{text}\n").as_bytes())
        };
        write().map_err(failed)
    }

    /// Durably, the whole or nothing.
    fn replace(&self, database: &Database, text: &str) -> Result<(), StateError> {
        let (folder, name) = private_folder(database)?;
        let replaced = folder.replace(&(name + self.ending), text.as_bytes());
        replaced.map_err(|error| self.failed(database, &error))
    }

    fn failed(&self, database: &Database, error: &std::io::Error) -> StateError {
        database.unavailable(format!("{}: {error}", self.holds))
    }
}

/// When a run last found the destination up to date, milliseconds since the epoch.
pub(super) fn last_check(database: &Database) -> Option<i64> {
    LAST_CHECK.read(database)?.trim().parse().ok()
}

/// Notes such a time.
pub(super) fn note_check(database: &Database, at: i64) -> Result<(), StateError> {
    LAST_CHECK.write(database, &at.to_string())
}

/// How the last run went.
pub(super) fn last_run(database: &Database) -> Option<LastRun> {
    serde_json::from_str(&LAST_RUN.read(database)?).ok()
}

/// Notes a run.
pub(super) fn note_run(database: &Database, run: &LastRun) -> Result<(), StateError> {
    let text = serde_json::to_string(run)
        .map_err(|error| LAST_RUN.failed(database, &std::io::Error::from(error)))?;
    LAST_RUN.write(database, &text)
}

/// The uids of the deletions that were confirmed in the last days and not taken over yet.
pub(super) fn confirmations(database: &Database) -> Vec<u64> {
    let text = CONFIRMED.read_young(database, COUNTS).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Adds to them.
pub(super) fn leave_confirmations(database: &Database, uids: &[u64]) -> Result<(), StateError> {
    let mut all = confirmations(database);
    all.extend(uids);
    CONFIRMED.replace(database, &lines(all))
}

/// Takes from them. One that is left in this very moment can be lost: its deletion stays held back, and can be confirmed again.
pub(super) fn forget_confirmations(database: &Database, uids: &[u64]) -> Result<(), StateError> {
    let all = confirmations(database);
    if all.is_empty() {
        return Ok(());
    }
    let gone: HashSet<u64> = uids.iter().copied().collect();
    CONFIRMED.replace(database, &lines(all.into_iter().filter(|uid| !gone.contains(uid))))
}

fn lines(uids: impl IntoIterator<Item = u64>) -> String {
    uids.into_iter().map(|uid| format!("{uid}\n")).collect()
}
