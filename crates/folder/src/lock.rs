//! The lock on a destination: an advisory lock on the file `.obsync/lock`, which only this user can read. It
//! ends with its process; the file stays. (A lock on the destination itself could be taken by anyone who may
//! read it.)
//!
//! A run that finds nothing to do writes nothing. So a missing lock file is created, and the holder's name is
//! written to it, by the first write of a run. Until then the lock has no name, and without a file there is
//! no lock.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use obsync_private::{forget_holder, name_holder};

/// The lock of one destination, released on drop.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
    named: AtomicBool,
}

impl FolderLock {
    /// Wraps a locked file and clears the name of a dead holder.
    pub(super) fn of(file: File) -> Self {
        let lock = FolderLock { file, named: AtomicBool::new(false) };
        lock.clear();
        lock
    }

    /// Writes the holder's name to the file. It is for people; nothing depends on it.
    pub(super) fn name(&self) {
        if self.named.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = name_holder(&self.file) {
            tracing::debug!(%error, "the holder of the lock cannot be named");
        }
    }

    /// Removes the name of a dead holder.
    fn clear(&self) {
        if let Err(error) = forget_holder(&self.file) {
            tracing::debug!(%error, "the name of an earlier holder of the lock stays");
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if self.named.load(Ordering::Acquire) {
            self.clear();
        }
        // Closing the file is not enough while a child that this process is just starting has a copy of the
        // handle.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock stays until its file is closed");
        }
    }
}
