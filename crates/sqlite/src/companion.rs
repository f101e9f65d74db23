//! Small files beside the database: when a run last found the destination up to date, and how the last run went.
//!
//! They are written in each run and without a flush, which a database does not survive unharmed when the power fails. So they
//! are not in the database. What cannot be read is not known.

use std::io::{Read, Seek, Write};

use obsync_core::{LastRun, StateError};
use obsync_private::{Access, Folder};

use super::errors::Database;
use super::lock::{parts, private_folder};

/// What the names of these files have behind the database's.
pub(super) const ENDINGS: [&str; 2] = [LAST_CHECK.ending, LAST_RUN.ending];

const LAST_CHECK: Companion = Companion { ending: "-checked", most: 32, holds: "the time of a check" };
const LAST_RUN: Companion = Companion { ending: "-run", most: 64 << 10, holds: "the last run" };

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
