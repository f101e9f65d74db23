//! The lock on a destination: an advisory lock on the file `.obsync/lock`, which only this user can read. It dies with its
//! holder; the file stays. (A lock on the destination itself could be taken by whoever may read it.)
//!
//! A run that finds nothing to do writes nothing. So a file that is not there is made, and the holder's name written to it,
//! by the first write of a run. Until then the lock has no name, and none is held where there was no file.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

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
