//! One process at a time: an advisory lock on a file beside the database. It dies with its holder, and the file stays.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use obsync_core::StateError;

use super::errors::Database;

/// How often a lock file that is removed by another process at this very moment is made anew.
const ATTEMPTS: u32 = 8;

/// The lock of one database, held until this is dropped.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
    path: PathBuf,
}

impl StateLock {
    /// Takes the lock of `database`, making its folder if need be. `destination` is told when another process has it.
    pub(super) fn take(database: &Database, destination: &str) -> Result<Self, StateError> {
        let path = beside(database.path(), ".lock");
        let unusable =
            |error: io::Error| database.unavailable(format!("{} cannot be locked: {error}", path.display()));
        if let Some(folder) = path.parent() {
            make_private_folder(folder).map_err(|error| {
                database.unavailable(format!(
                    "its folder cannot be made ({error}); set OBSYNC_HOME to a folder that can"
                ))
            })?;
        }
        for _ in 0..ATTEMPTS {
            let file = private_file().create(true).open(&path).map_err(unusable)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(StateError::Locked { destination: destination.to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
            // A lock on a file that was removed in between would keep nobody out.
            if is_at(&file, &path) {
                return Ok(StateLock { file, path });
            }
        }
        Err(StateError::Locked { destination: destination.to_owned() })
    }

    /// Removes the lock's file and lets go.
    pub(super) fn remove(self) -> io::Result<()> {
        let removed = std::fs::remove_file(&self.path);
        drop(self.file);
        removed
    }
}

/// The path with `ending` added to its last segment.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(ending);
    PathBuf::from(text)
}

/// Makes a folder that only its owner may enter; one that is there stays as it is.
fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Options to open a file for writing that only its owner may read, should it be made.
pub(super) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}
