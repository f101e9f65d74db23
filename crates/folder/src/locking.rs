//! Takes the lock on a destination, and names its holder.

use std::fs::File;
use std::io;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use obsync_core::DestinationError;
use obsync_core::blocking as mutex;
use obsync_private::{Access, Folder, LockError, holder as name_in, try_lock};

use super::error::{Action, ErrorContext};
use super::file_system::is_served;
use super::lock::FolderLock;
use super::own_folder::{OWN_FOLDER, Own, make_private, own_folder};
use super::root::Root;

/// The file in [`OWN_FOLDER`].
const FILE: &str = "lock";

impl Root {
    /// Takes the lock if its file exists. It lasts as long as this root is open and ends with the process.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Locked`] if another process has it.
    pub(super) fn lock(&self) -> Result<(), DestinationError> {
        self.take_lock(Access::Update).map(drop)
    }

    /// Takes the lock, creating its file if needed, and writes the holder to it. To be called before any
    /// write.
    ///
    /// # Errors
    ///
    /// As for [`lock`](Self::lock).
    pub(super) fn claim(&self) -> Result<(), DestinationError> {
        if self.claimed.load(Ordering::Acquire) {
            return Ok(());
        }
        let guard = self.take_lock(Access::Write)?;
        if let Some(lock) = &*guard {
            lock.name();
        }
        self.claimed.store(true, Ordering::Release);
        Ok(())
    }

    /// Releases the lock. Another one is taken before the next write.
    pub(super) fn unlock(&self) {
        *mutex::lock(&self.lock) = None;
        self.claimed.store(false, Ordering::Release);
    }

    fn take_lock(&self, access: Access) -> Result<MutexGuard<'_, Option<FolderLock>>, DestinationError> {
        let mut guard = mutex::lock(&self.lock);
        if guard.is_none() {
            *guard = take(self, access)?;
        }
        Ok(guard)
    }
}

/// Takes the lock; `None` if there is none to take: the file does not exist and should not be created, or the
/// file system has no locks, or `.obsync` is another user's.
///
/// # Errors
///
/// [`DestinationError::Locked`] with the holder's name if another process has it.
fn take(root: &Root, access: Access) -> Result<Option<FolderLock>, DestinationError> {
    let Some((folder, file)) = open(root, access)? else {
        return Ok(None);
    };
    match try_lock(&file).map_err(|error| error.judged_in(&folder)) {
        Ok(()) => Ok(Some(FolderLock::of(file))),
        Err(LockError::Held) => {
            let is_remote = is_served(&file);
            let location = held_by(&root.errors, name_in(&file));
            Err(DestinationError::Locked { location: with_hint(location, is_remote) })
        }
        // The state's lock excludes other runs with the same home.
        Err(LockError::NoLocks(error)) => {
            tracing::warn!(
                "the file system of {} refuses locks ({error}), so that nothing keeps out a run on another computer or \
                 with another home; do not let two of them pull to it at once",
                root.errors.location()
            );
            Ok(None)
        }
        Err(LockError::Other(error)) => Err(root.errors.root_error(Action::Read, error)),
    }
}

fn open(root: &Root, access: Access) -> Result<Option<(Folder, File)>, DestinationError> {
    if access == Access::Write {
        make_private(root, &root.dir, OWN_FOLDER)?;
    }
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(_) => root.errors.root_error(Action::Write, error),
        None => root.errors.unavailable(&format!("it cannot be locked: {error}")),
    };
    let dir = match own_folder(root)? {
        Own::Private(dir) => dir,
        Own::Absent => return Ok(None),
        Own::Foreign => {
            if access == Access::Write {
                tracing::warn!(
                    "{OWN_FOLDER} in {} belongs to another user, or can be written by others, so that nothing keeps two \
                     runs with different homes apart; remove it",
                    root.errors.location()
                );
            }
            return Ok(None);
        }
    };
    let handle = dir.into_std_file().into();
    let folder = Folder::of(handle, root.errors.path().join(OWN_FOLDER));
    let opened = folder.file(FILE, access).map_err(failed)?;
    Ok(opened.map(|opened| (folder, opened.file)))
}

/// The destination with the holder of its lock, if a file has it.
pub(super) fn location_with_holder(root: &Root) -> String {
    held_by(&root.errors, holder(root))
}

/// The holder of the lock, according to its file.
pub(super) fn holder(root: &Root) -> Option<String> {
    name_in(&open(root, Access::Read).ok().flatten()?.1)
}

/// Adds a hint about a lock that a file server keeps for a dead computer: it would block for ever.
fn with_hint(location: String, is_remote: bool) -> String {
    match is_remote {
        true => format!(
            "{location}, or its file server still keeps the lock of a computer that is gone: if no obsync runs on it anywhere, \
             remove {OWN_FOLDER}/{FILE} there"
        ),
        false => location,
    }
}

fn held_by(errors: &ErrorContext, holder: Option<String>) -> String {
    match holder {
        Some(holder) => format!("{} (held by {holder})", errors.location()),
        None => errors.location(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_on_a_file_server_comes_with_the_way_out_and_one_on_a_disk_does_not() {
        let remote =
            DestinationError::Locked { location: with_hint("/srv/notes".to_owned(), true) }.to_string();
        assert!(remote.contains("if no obsync runs on it anywhere, remove .obsync/lock there"), "{remote}");
        let local =
            DestinationError::Locked { location: with_hint("/srv/notes".to_owned(), false) }.to_string();
        assert!(!local.contains("remove"), "{local}");
    }
}
