//! Finds the state databases of a machine: one file for each (vault, destination) in one folder.
//!
//! A file is named `<first 16 hexadecimal digits of the SHA-256 of the destination>-<vault id>.sqlite`, so
//! that those of a destination are found even if they cannot be read. If several disks are mounted
//! alternately at one path, each has its own: those after the first have `~` and 32 random digits before the
//! extension.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use obsync_core::{RandomId, StateError};
use obsync_protocol::{ContentHash, VaultId};

use super::companion;
use super::error::Database;
use super::identity::{StateIdentity, rename_destination};
use super::lock::{LOCK, StateLock, beside};

/// Digits of the destination's hash in a database's name.
const DIGITS: usize = 16;
const ENDING: &str = ".sqlite";
/// Separator before the random digits of a further disk. No vault id has it.
const DISK: char = '~';
/// Files that SQLite may leave beside a database, and other files that belong to it.
const COMPANIONS: [&str; 6] =
    ["-journal", "-wal", "-shm", companion::ENDINGS[0], companion::ENDINGS[1], companion::ENDINGS[2]];

/// The state databases in one folder.
#[derive(Clone, Debug)]
pub struct StateCatalog {
    folder: PathBuf,
}

impl StateCatalog {
    /// The databases in `folder`, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        StateCatalog { folder: folder.into() }
    }

    /// The file for the state of `vault` in `destination` (from [`canonical_destination`]). It need not
    /// exist.
    pub fn path_of(&self, destination: &str, vault: &VaultId) -> PathBuf {
        self.folder.join(format!("{}{vault}{ENDING}", prefix(destination)))
    }

    /// A file for the state of `vault` in `destination` that does not exist yet: the first one's, or that of
    /// another disk.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the system has no random numbers.
    pub fn free_path_of(&self, destination: &str, vault: &VaultId) -> Result<PathBuf, StateError> {
        let first = self.path_of(destination, vault);
        if !first.exists() {
            return Ok(first);
        }
        let random = RandomId::draw().map_err(|error| {
            Database::new(&first).unavailable(format!("the system has no random numbers ({error})"))
        })?;
        Ok(self.folder.join(format!("{}{vault}{DISK}{random}{ENDING}", prefix(destination))))
    }

    /// Renames the database of a destination that was moved to `identity.destination`.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if a process works with it, [`StateError::Unavailable`] if it cannot be
    /// renamed.
    pub fn follow(&self, database: &Path, identity: &StateIdentity) -> Result<PathBuf, StateError> {
        let moved = self.free_path_of(&identity.destination, &identity.vault_id)?;
        let open = Database::new(database);
        let lock = StateLock::take(&open, &identity.destination)?;
        rename_destination(&open, identity)?;
        let failed = |error: io::Error| open.unavailable(format!("it cannot be renamed: {error}"));
        std::fs::rename(database, &moved).map_err(failed)?;
        for ending in companion::ENDINGS {
            gone(std::fs::rename(beside(database, ending), beside(&moved, ending))).map_err(failed)?;
        }
        gone(lock.remove()).map_err(failed)?;
        Ok(moved)
    }

    /// The files of all databases, sorted.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if the folder cannot be read. A missing folder has no databases.
    pub fn databases(&self) -> Result<Vec<PathBuf>, StateError> {
        self.find(is_database)
    }

    /// The files of the databases of one destination, sorted: more than one if several vaults were pulled to
    /// it.
    ///
    /// # Errors
    ///
    /// As for [`databases`](Self::databases).
    pub fn of_destination(&self, destination: &str) -> Result<Vec<PathBuf>, StateError> {
        let prefix = prefix(destination);
        self.find(|name| is_database(name) && name.starts_with(&prefix))
    }

    /// Removes a database and its companion files; a missing one is no error. The error for a database in use
    /// names `destination`.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if a process works with it, [`StateError::Unavailable`] if it cannot be
    /// removed.
    pub fn remove(&self, database: &Path, destination: &str) -> Result<(), StateError> {
        if !database.exists() && !beside(database, LOCK).exists() {
            return Ok(());
        }
        let open = Database::new(database);
        let lock = StateLock::take(&open, destination)?;
        let failed = |error: io::Error| open.unavailable(format!("it cannot be removed: {error}"));
        // The journal last: alone it has no effect, but a database without its journal could be half written.
        gone(std::fs::remove_file(database)).map_err(failed)?;
        for companion in COMPANIONS {
            gone(std::fs::remove_file(beside(database, companion))).map_err(failed)?;
            // Left by a process that was killed while it replaced the file.
            gone(std::fs::remove_file(beside(database, &format!("{companion}.new")))).map_err(failed)?;
        }
        gone(lock.remove()).map_err(failed)
    }

    fn find(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, StateError> {
        let failed =
            |error: io::Error| Database::new(&self.folder).unavailable(format!("cannot list it: {error}"));
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(&wanted) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The canonical text of a destination folder, the same for all paths to it, before and after it is created:
/// absolute, with symbolic links resolved as far as the path exists.
///
/// # Errors
///
/// If the system does not let the path be followed, or if it goes up (`..`) from a folder that does not
/// exist.
pub fn canonical_destination(destination: &Path) -> io::Result<String> {
    let absolute = std::path::absolute(destination)?;
    let mut missing: Vec<&OsStr> = Vec::new();
    let mut existing: &Path = &absolute;
    let mut canonical = loop {
        match existing.canonicalize() {
            Ok(found) => break found,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) => match (existing.components().next_back(), existing.parent()) {
                (Some(Component::Normal(name)), Some(above)) => {
                    missing.push(name);
                    existing = above;
                }
                (Some(Component::ParentDir), _) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidInput,
                        "it goes up (..) from a folder that is not there; give the path without it",
                    ));
                }
                _ => return Err(error),
            },
        }
    };
    canonical.extend(missing.iter().rev());
    Ok(as_text(&canonical))
}

/// A path as text; a path that is no text in a form that no other path has.
fn as_text(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => format!("{} ({})", path.display(), ContentHash::of(path.as_os_str().as_encoded_bytes())),
    }
}

fn prefix(destination: &str) -> String {
    let mut digits = ContentHash::of(destination.as_bytes()).to_string();
    digits.truncate(DIGITS);
    digits + "-"
}

fn is_database(name: &str) -> bool {
    let parts = name.strip_suffix(ENDING).and_then(|name| name.split_once('-'));
    parts.is_some_and(|(digits, vault)| {
        let (vault, is_disk) = match vault.split_once(DISK) {
            Some((vault, disk)) => (vault, disk.parse::<RandomId>().is_ok()),
            None => (vault, true),
        };
        is_disk
            && digits.len() == DIGITS
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            && VaultId::try_new(vault).is_ok()
    })
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
