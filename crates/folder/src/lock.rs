//! The lock on a destination: an advisory lock on the file `.obsync/lock`, which only this user can read. It dies with its
//! holder; the file stays. (A lock on the destination itself could be taken by whoever may read it.)
//!
//! A run that finds nothing to do writes nothing. So a file that is not there is made, and the holder's name written to it,
//! by the first write of a run. Until then the lock has no name, and none is held where there was no file.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use obsync_private::{forget_holder, name_holder};

/// The lock of one destination, held until this is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    file: File,
    named: AtomicBool,
}

impl FolderLock {
    /// Of a file that is locked: the name of a holder that did not live to remove it goes.
    pub(super) fn of(file: File) -> Self {
        let lock = FolderLock { file, named: AtomicBool::new(false) };
        lock.clear();
        lock
    }

    /// Says in the file who holds the lock. It is for people, so that nothing depends on it.
    pub(super) fn name(&self) {
        if self.named.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = name_holder(&self.file) {
            tracing::debug!(%error, "the holder of the lock cannot be named");
        }
    }

    /// Removes the name of a holder that did not live to do it.
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
        // To close the file would not do while a child that this process is just starting has a copy of the handle.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the lock stays until its file is closed");
        }
    }
}
