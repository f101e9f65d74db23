//! Durability: flushes what must survive a power failure.

use std::collections::hash_map::Entry;
use std::fs::File;
use std::sync::atomic::Ordering;

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_protocol::VaultPath;
use rustix::fs::{Mode, OFlags};

use super::error::{Action, is_missing};
use super::file_system::device;
use super::root::Root;
use super::unsynced::Mounted;
use obsync_core::blocking::lock;

impl Root {
    /// Notes that an entry of `folder` was added, removed or changed.
    pub(super) fn touched(&self, folder: Option<&VaultPath>) {
        if self.unsynced.each_file() || self.unsynced.has_by_file.load(Ordering::Acquire) {
            lock(&self.unsynced.folders).insert(folder.cloned());
        }
    }

    /// Notes the file system of a folder below the root.
    pub(super) fn entered(&self, device: u64, dir: &Dir) -> rustix::io::Result<()> {
        if device != self.device && !self.unsynced.each_file() {
            let mut mounted = lock(&self.unsynced.mounted);
            if let Entry::Vacant(new) = mounted.entry(device) {
                let is_by_file = (self.unsynced.is_flushed_by_file)(dir);
                new.insert(if is_by_file { Mounted::ByFile } else { Mounted::AsAWhole(readable(dir)?) });
                self.unsynced.has_by_file.fetch_or(is_by_file, Ordering::Release);
            }
        }
        Ok(())
    }

    /// True if each file in a folder that was [entered](Self::entered) has to be flushed by itself.
    pub(super) fn flushes_each_file_in(&self, dir: &Dir) -> bool {
        if self.unsynced.each_file() || !self.unsynced.has_by_file.load(Ordering::Acquire) {
            return self.unsynced.each_file();
        }
        let Ok(facts) = rustix::fs::fstat(dir) else { return true };
        matches!(lock(&self.unsynced.mounted).get(&device(&facts)), Some(Mounted::ByFile))
    }

    /// Makes writes with [`Durability::FileSystem`] and all [noted](Self::touched) changes durable.
    pub(super) fn flush(&self) -> Result<(), DestinationError> {
        if self.unsynced.each_file() { self.flush_folders() } else { self.flush_file_systems() }
    }

    #[cfg(target_os = "linux")]
    fn flush_file_systems(&self) -> Result<(), DestinationError> {
        let failed = |error| self.errors.root_error(Action::Flush, error);
        rustix::fs::syncfs(&self.handle).map_err(failed)?;
        for mounted in lock(&self.unsynced.mounted).values() {
            if let Mounted::AsAWhole(handle) = mounted {
                rustix::fs::syncfs(handle).map_err(failed)?;
            }
        }
        // Only noted if a file system needs it.
        self.flush_folders()
    }

    #[cfg(not(target_os = "linux"))]
    fn flush_file_systems(&self) -> Result<(), DestinationError> {
        self.flush_folders()
    }

    /// The error for a folder that cannot be flushed: it ends the run, since nobody knows what is lost.
    fn unflushed(&self, folder: Option<&VaultPath>, error: std::io::Error) -> DestinationError {
        let Some(folder) = folder else { return self.errors.root_error(Action::Flush, error) };
        match self.errors.error(Action::Flush, folder.as_str(), error) {
            fatal if fatal.is_fatal() => fatal,
            other => self.errors.unavailable(&other.to_string()),
        }
    }

    fn flush_folders(&self) -> Result<(), DestinationError> {
        let folders = std::mem::take(&mut *lock(&self.unsynced.folders));
        for folder in folders {
            let flushed = match &folder {
                None => self.handle.sync_all(),
                Some(folder) => self
                    .dir
                    .open_dir(folder.as_str())
                    .and_then(|dir| readable(&dir).map_err(Into::into))
                    .and_then(|handle| handle.sync_all()),
            };
            match flushed {
                Ok(()) => {}
                // It was removed since, and its own parent was noted for that.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(self.unflushed(folder.as_ref(), error)),
            }
        }
        Ok(())
    }
}

/// A handle of the folder that can be flushed; the one that cap-std opens may be good for lookups only.
fn readable(dir: &Dir) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(dir, ".", flags, Mode::empty()).map(File::from)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::error::ErrorContext;
    use super::super::options::{Durability, FolderOptions};
    use super::super::unsynced::Unsynced;
    use super::*;

    #[test]
    fn below_a_mount_that_is_flushed_file_by_file_files_and_folders_are() {
        let home = tempfile::tempdir().unwrap();
        let errors = ErrorContext::new("here".to_owned());
        let mut root = Root::open(&errors, home.path(), FolderOptions::default()).unwrap().unwrap();
        if root.unsynced.each_file() {
            return;
        }
        std::fs::create_dir(home.path().join("mounted")).unwrap();
        let path = VaultPath::parse("mounted").unwrap();
        let dir = root.dir.open_dir("mounted").unwrap();
        // The folder is treated as the other file system, so the root is not one.
        root.device += 1;
        let own = device(&rustix::fs::fstat(&dir).unwrap());
        for (is_by_file, noted) in [(false, 0), (true, 1)] {
            root.unsynced = Unsynced::new(Durability::FileSystem);
            root.unsynced.is_flushed_by_file = if is_by_file { |_| true } else { |_| false };
            root.entered(own, &dir).unwrap();
            root.touched(Some(&path));
            assert_eq!(root.flushes_each_file_in(&dir), is_by_file);
            assert_eq!(lock(&root.unsynced.folders).len(), noted, "by file: {is_by_file}");
            root.flush().unwrap();
            assert_eq!(lock(&root.unsynced.folders).len(), 0);
        }
    }
}
