//! One process at a time: an advisory lock on a file beside the database. It ends with its process, and the
//! file stays.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use obsync_core::StateError;
use obsync_private::{
    Access, Folder, LockError, Opened, forget_holder, holder, is_locked, look_for_records, name_holder,
    try_lock_beside_records,
};

use super::error::Database;

/// Suffix of the lock file's name after the database's.
pub(super) const LOCK: &str = ".lock";
/// Attempts to create a lock file that another process removes at this very moment.
const ATTEMPTS: u32 = 8;

/// The lock of one database, released on drop.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
    path: PathBuf,
}

impl StateLock {
    /// Takes the lock of `database`, creating its folder if needed. The error names `destination` if another
    /// process has it.
    pub(super) fn take(database: &Database, destination: &str) -> Result<Self, StateError> {
        let (folder, name) = private_folder(database)?;
        let name = name + LOCK;
        let path = folder.path().join(&name);
        let unusable =
            |error: io::Error| database.unavailable(format!("{} cannot be locked: {error}", path.display()));
        for _ in 0..ATTEMPTS {
            let Some(Opened { file, .. }) = folder.file(&name, Access::Write).map_err(unusable)? else {
                continue;
            };
            // SQLite's own locks are of the other kind. It takes them at the first commit, when files are in
            // place already.
            match try_lock_beside_records(&file, &folder) {
                Ok(()) => {}
                Err(LockError::Held) => return Err(StateError::locked(destination, holder(&file))),
                Err(LockError::Other(error)) => return Err(unusable(error)),
                Err(error @ LockError::NoLocks(_)) => return Err(no_locks(database, &error)),
            }
            // A lock on a file that was removed in between would exclude nobody.
            if is_at(&file, &path) {
                if let Err(error) = name_holder(&file) {
                    tracing::debug!(%error, "the holder of the lock cannot be named");
                }
                return Ok(StateLock { file, path });
            }
        }
        Err(StateError::locked(destination, None))
    }

    /// Removes the lock's file and releases the lock.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        if let Err(error) = forget_holder(&self.file) {
            tracing::debug!(%error, "the name of the holder of the lock stays");
        }
        // Closing the file is not enough while a child that this process is just starting has a copy of the
        // handle.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock stays until its file is closed");
        }
    }
}

/// True if a process has the lock of a database. The lock is not taken, so that no process is excluded.
pub(super) fn is_held(database: &Database) -> bool {
    open(database).is_some_and(|file| is_locked(&file))
}

/// The process that has the lock of a database, or had it last and was killed.
pub(super) fn holder_of(database: &Database) -> Option<String> {
    holder(&open(database)?)
}

/// The lock's file, if there is one.
fn open(database: &Database) -> Option<File> {
    let (folder, name) = parts(database).ok()?;
    Some(Folder::open(folder).ok()??.file(&(name + LOCK), Access::Read).ok()??.file)
}

/// The error for a database in a folder without locks.
pub(super) fn no_locks(database: &Database, refusal: &LockError) -> StateError {
    database.unavailable(format!("{refusal}; set OBSYNC_HOME or XDG_STATE_HOME to a folder on a local disk"))
}

/// The refusal of the file system, if SQLite finds a database locked and the file system has no locks.
pub(super) fn refusal(database: &Database) -> Option<LockError> {
    let (folder, name) = parts(database).ok()?;
    // Never the database's own file: closing a second handle of it releases SQLite's locks.
    let lock = Folder::open(folder).ok()??.file(&(name + LOCK), Access::Read).ok()??;
    look_for_records(&lock.file).err()
}

/// The path with `ending` added to its last segment.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(ending);
    PathBuf::from(text)
}

/// The folder of a database, created if needed, and the database's name in it.
pub(super) fn private_folder(database: &Database) -> Result<(Folder, String), StateError> {
    let (folder, name) = parts(database)?;
    let folder = Folder::make(folder).map_err(|error| {
        database
            .unavailable(format!("its folder cannot be used ({error}); set OBSYNC_HOME to a folder that can"))
    })?;
    Ok((folder, name))
}

/// The path of a database's folder, and the database's name in it.
pub(super) fn parts(database: &Database) -> Result<(&Path, String), StateError> {
    let (path, name) = (database.path(), database.path().file_name().and_then(OsStr::to_str));
    let name = name.ok_or_else(|| database.unavailable("its name is not UTF-8 text"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")), name.to_owned()))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}
