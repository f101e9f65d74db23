//! How the last run went, in a file beside the database.
//!
//! As the time of the last check it is written in each run and without a flush, and what cannot be read is not known.

use std::io::{Read, Seek, Write};

use obsync_core::{LastRun, StateError};
use obsync_private::{Access, Folder};

use super::errors::Database;
use super::lock::{parts, private_folder};

/// What the file's name has behind the database's.
pub(super) const ENDING: &str = "-run";
/// What is read of it, in bytes.
const LONGEST: u64 = 64 << 10;

/// The last run.
pub(super) fn read(database: &Database) -> Option<LastRun> {
    let (folder, name) = parts(database).ok()?;
    let opened = Folder::open(folder).ok()??.file(&(name + ENDING), Access::Read).ok()??;
    let mut text = String::new();
    opened.file.take(LONGEST).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Notes a run.
pub(super) fn write(database: &Database, run: &LastRun) -> Result<(), StateError> {
    let failed = |error: std::io::Error| database.unavailable(format!("the last run: {error}"));
    let text = serde_json::to_string(run).map_err(|error| failed(error.into()))?;
    let (folder, name) = private_folder(database)?;
    let Some(mut opened) = folder.file(&(name + ENDING), Access::Write).map_err(failed)? else {
        return Ok(());
    };
    let mut write = || -> std::io::Result<()> {
        opened.file.rewind()?;
        opened.file.set_len(0)?;
        opened.file.write_all(format!("{text}\n").as_bytes())
    };
    write().map_err(failed)
}
