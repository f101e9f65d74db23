//! Small files beside the database: the time of the last check that found the destination up to date, the
//! last run, and the deletions that a user confirmed while another process had the database.
//!
//! The first two are written by every run, also by one that commits nothing. They are not in the database, so
//! that such a run does not change it. The second one is replaced as a whole and durably: `verify` reads from
//! it whether a run was cut short.

use std::collections::HashSet;
use std::io::{self, Read, Write as _};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use obsync_core::{LastRun, StateError};
use obsync_private::{Access, Folder};

use super::error::Database;
use super::lock::{parts, private_folder};

/// Suffixes of these files' names after the database's.
pub(super) const ENDINGS: [&str; 3] = [LAST_CHECK.ending, LAST_RUN.ending, CONFIRMED.ending];

const LAST_CHECK: Companion = Companion { ending: "-checked", most: 32, holds: "the time of a check" };
const LAST_RUN: Companion = Companion { ending: "-run", most: 64 << 10, holds: "the last run" };
/// Lifetime of a confirmation that no run takes over: a deletion after that needs a new one.
const COUNTS: Duration = Duration::from_secs(7 * 24 * 3600);
/// The uids of deletions, one a line.
const CONFIRMED: Companion = Companion { ending: "-confirmed", most: 64 << 20, holds: "confirmed deletions" };

struct Companion {
    ending: &'static str,
    /// Limit of its size, in bytes.
    most: u64,
    holds: &'static str,
}

/// Contents of such a file.
struct Written {
    /// Time of writing; the epoch if unknown.
    at: SystemTime,
    /// `None` if it cannot be read.
    text: Option<String>,
}

impl Companion {
    fn find(&self, database: &Database) -> Option<Written> {
        let Ok((folder, name)) = parts(database) else { return None };
        let opened = Folder::open(folder).and_then(|folder| match folder {
            Some(folder) => folder.file(&(name + self.ending), Access::Read),
            None => Ok(None),
        });
        let Ok(opened) = opened else { return Some(Written { at: SystemTime::UNIX_EPOCH, text: None }) };
        let file = opened?.file;
        let at = file.metadata().and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut text = String::new();
        let read = file.take(self.most).read_to_string(&mut text);
        Some(Written { at, text: read.is_ok().then_some(text) })
    }

    fn read(&self, database: &Database) -> Option<String> {
        self.find(database)?.text
    }

    /// The same, unless it was written longer ago.
    fn read_young(&self, database: &Database, most: Duration) -> Option<String> {
        let written = self.find(database)?;
        // A clock that was set back makes nothing old.
        (written.at.elapsed().unwrap_or_default() < most).then_some(written.text)?
    }

    /// Truncates it, which needs no space.
    fn empty(&self, database: &Database) -> io::Result<()> {
        let Ok((folder, name)) = parts(database) else { return Ok(()) };
        let Some(folder) = Folder::open(folder)? else { return Ok(()) };
        match folder.file(&(name + self.ending), Access::Update)? {
            Some(opened) => opened.file.set_len(0).and_then(|()| opened.file.sync_all()),
            None => Ok(()),
        }
    }

    /// Replaces it durably and atomically.
    fn replace(&self, database: &Database, text: &str) -> Result<(), StateError> {
        let (folder, name) = private_folder(database)?;
        let replaced = folder.replace(&(name + self.ending), text.as_bytes());
        replaced.map_err(|error| self.failed(database, &error))
    }

    /// The same without a flush: after a power failure it may be empty.
    fn replace_unflushed(&self, database: &Database, text: &str) -> Result<(), StateError> {
        let (folder, name) = private_folder(database)?;
        let replaced = folder.replace_unflushed(&(name + self.ending), text.as_bytes());
        replaced.map_err(|error| self.failed(database, &error))
    }

    /// Overwrites the file in place, without a flush, if it has the length of the text. Returns whether it had.
    ///
    /// A text of a few bytes is in one sector: after a power failure the file has the former text or this one.
    fn overwrite(&self, database: &Database, text: &str) -> io::Result<bool> {
        let Ok((folder, name)) = parts(database) else { return Ok(false) };
        let Some(folder) = Folder::open(folder)? else { return Ok(false) };
        let Some(mut opened) = folder.file(&(name + self.ending), Access::Update)? else { return Ok(false) };
        if opened.file.metadata()?.len() != text.len() as u64 {
            return Ok(false);
        }
        opened.file.write_all(text.as_bytes())?;
        Ok(true)
    }

    fn failed(&self, database: &Database, error: &io::Error) -> StateError {
        database.unavailable(format!("{}: {error}", self.holds))
    }
}

/// Time when a run last found the destination up to date, in milliseconds since the epoch.
pub(super) fn last_check(database: &Database) -> Option<i64> {
    LAST_CHECK.read(database)?.trim().parse().ok()
}

/// Stores such a time, without a flush: after a power failure the time of the check before is true as well.
pub(super) fn note_check(database: &Database, at: i64) -> Result<(), StateError> {
    let text = format!("{at}\n");
    if LAST_CHECK.overwrite(database, &text).unwrap_or(false) {
        return Ok(());
    }
    LAST_CHECK.replace(database, &text)
}

/// The last run. If the file cannot be parsed, that run may have been cut short.
pub(super) fn last_run(database: &Database) -> Option<LastRun> {
    let Written { at, text } = LAST_RUN.find(database)?;
    let run = text.and_then(|text| serde_json::from_str(&text).ok());
    Some(run.unwrap_or_else(|| LastRun::of_unknown_end(Timestamp::try_from(at).unwrap_or_default())))
}

/// Stores a run, without a flush: each run does it twice, and a flush takes as long as all else in a run that
/// finds nothing new. A power failure leaves an earlier run or one that counts as cut short.
pub(super) fn note_run(database: &Database, run: &LastRun) -> Result<(), StateError> {
    let text =
        serde_json::to_string(run).map_err(|error| LAST_RUN.failed(database, &io::Error::from(error)))?;
    LAST_RUN.replace_unflushed(database, &format!("{text}\n")).inspect_err(|_| {
        // The end of the run before must not count as the end of this one.
        if run.ended.is_none() {
            let _ = LAST_RUN.empty(database);
        }
    })
}

/// Uids of the deletions that were confirmed in the last days and not taken over yet.
pub(super) fn confirmations(database: &Database) -> Vec<u64> {
    let text = CONFIRMED.read_young(database, COUNTS).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Adds confirmations.
pub(super) fn leave_confirmations(database: &Database, uids: &[u64]) -> Result<(), StateError> {
    let mut all = confirmations(database);
    all.extend(uids);
    CONFIRMED.replace(database, &lines(all))
}

/// Removes confirmations. One that is stored at this very moment can be lost: its deletion stays held back,
/// and can be confirmed again.
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
