//! The lock on a destination: an advisory lock on the file `.obsync/lock`, which only this user can read. It dies with its
//! holder; the file stays. (A lock on the destination itself could be taken by whoever may read it.)
//!
//! A run that finds nothing to do writes nothing. So a file that is not there is made, and the holder's name written to it,
//! by the first write of a run. Until then the lock has no name, and none is held where there was no file.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use obsync_core::DestinationError;
use obsync_private::{Access, Folder, LockError, try_lock};

use super::error::{Action, ErrorContext};
use super::file_system::is_flushed_by_file;
use super::root::Root;
use super::staging::{OWN_FOLDER, Own, make_private, own_folder};

/// The file in [`OWN_FOLDER`].
const FILE: &str = "lock";
/// What is read of a holder's name, in bytes.
const NAME: u64 = 512;

/// The lock of one destination, held until this is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
    named: AtomicBool,
}

impl FolderLock {
    /// Takes the lock; `None` where there is none to take: the file is not there and is not to be made, or the file system
    /// has no locks, or `.obsync` is another user's.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Locked`] with the holder's name if another process has it.
    pub(super) fn take(root: &Root, access: Access) -> Result<Option<Self>, DestinationError> {
        let Some((folder, mut file)) = open(root, access)? else {
            return Ok(None);
        };
        match try_lock(&file).map_err(|error| error.judged_in(&folder)) {
            Ok(()) => {
                let lock = FolderLock { file, named: AtomicBool::new(false) };
                lock.clear();
                Ok(Some(lock))
            }
            Err(LockError::Held) => {
                let is_remote = is_flushed_by_file(&file);
                let location = held_by(&root.errors, name_in(&mut file));
                Err(DestinationError::Locked { location: with_hint(location, is_remote) })
            }
            // The state's lock keeps out other runs with the same home.
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

    /// Says in the file who holds the lock. It is for people, so that nothing depends on it.
    pub(super) fn name(&self) {
        if self.named.swap(true, Ordering::AcqRel) {
            return;
        }
        let host = rustix::system::uname();
        let since = jiff::Timestamp::now().strftime("%F %T UTC");
        let host = host.nodename().to_string_lossy();
        let name = format!("host {host}, process {} since {since}\n", std::process::id());
        if let Err(error) = (&self.file).write_all(name.as_bytes()) {
            tracing::debug!(%error, "the holder of the lock cannot be named");
        }
    }

    /// Removes the name of a holder that did not live to do it.
    fn clear(&self) {
        let is_empty = self.file.metadata().is_ok_and(|facts| facts.len() == 0);
        if !is_empty && let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the name of an earlier holder of the lock stays");
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if self.named.load(Ordering::Acquire) {
            self.clear();
        }
        // To close the file would not do while a child that this process is just starting has a copy of the handle.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock stays until its file is closed");
        }
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

/// What to do about a lock that a file server keeps for a computer that is gone: it would be in the way for ever.
fn with_hint(location: String, is_remote: bool) -> String {
    match is_remote {
        true => format!(
            "{location}, or its file server still keeps the lock of a computer that is gone: if no obsync runs on it anywhere, \
             remove {OWN_FOLDER}/{FILE} there"
        ),
        false => location,
    }
}

/// The destination with who holds its lock, as far as a file says that.
pub(super) fn location_with_holder(root: &Root) -> String {
    held_by(&root.errors, holder(root))
}

/// Who holds the lock, as far as its file says that.
pub(super) fn holder(root: &Root) -> Option<String> {
    name_in(&mut open(root, Access::Read).ok().flatten()?.1)
}

fn held_by(errors: &ErrorContext, holder: Option<String>) -> String {
    match holder {
        Some(holder) => format!("{} (held by {holder})", errors.location()),
        None => errors.location(),
    }
}

fn name_in(file: &mut File) -> Option<String> {
    let mut name = Vec::new();
    file.rewind().ok()?;
    file.take(NAME).read_to_end(&mut name).ok()?;
    let name: String = String::from_utf8_lossy(&name).trim().chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
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
