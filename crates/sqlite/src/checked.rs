//! When a run last found the destination up to date, in a file beside the database.
//!
//! It is written in each run and without a flush, which a database does not survive unharmed when the power fails. So it is not
//! in the database. What cannot be read is not known.

use std::io::{Read, Seek, Write};

use obsync_core::StateError;
use obsync_private::{Access, Folder};

use super::errors::Database;
use super::lock::{parts, private_folder};

/// What the file's name has behind the database's.
pub(super) const ENDING: &str = "-checked";
/// The digits of a time, in bytes.
const LONGEST: u64 = 32;

/// The time, milliseconds since the epoch.
pub(super) fn read(database: &Database) -> Option<i64> {
    let (folder, name) = parts(database).ok()?;
    let opened = Folder::open(folder).ok()??.file(&(name + ENDING), Access::Read).ok()??;
    let mut text = String::new();
    opened.file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Notes a time.
pub(super) fn write(database: &Database, at: i64) -> Result<(), StateError> {
    let failed = |error: std::io::Error| database.unavailable(format!("the time of a check: {error}"));
    let (folder, name) = private_folder(database)?;
    let Some(mut opened) = folder.file(&(name + ENDING), Access::Write).map_err(failed)? else {
        return Ok(());
    };
    let mut write = || -> std::io::Result<()> {
        opened.file.rewind()?;
        opened.file.set_len(0)?;
        opened.file.write_all(format!("{at}\n").as_bytes())
    };
    write().map_err(failed)
}
