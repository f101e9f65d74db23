//! Durability: what has to be flushed so that it outlives a power failure, and how.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Mutex;

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_protocol::VaultPath;
use rustix::fs::{Mode, OFlags};

use super::error::{Action, is_missing};
use super::root::Root;
use obsync_core::blocking::lock;

/// How files and folders are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The whole file system at once, by `syncfs` (Linux; elsewhere the same as [`EachFile`](Self::EachFile)). Far
    /// cheaper for many files, but it also waits for what other programs have written there. Where that does not reach the
    /// disk (FUSE, network drives) it is the same as [`EachFile`](Self::EachFile).
    FileSystem,
    /// Each file and each folder that changed, by `fsync`.
    EachFile,
}

impl Default for Durability {
    fn default() -> Self {
        if cfg!(target_os = "linux") { Durability::FileSystem } else { Durability::EachFile }
    }
}

impl Durability {
    /// Whether each file has to be flushed by itself.
    pub(super) fn is_by_file(self) -> bool {
        self == Durability::EachFile || cfg!(not(target_os = "linux"))
    }
}

/// What was changed and is not known to be durable.
#[derive(Debug)]
pub(super) struct Unsynced {
    durability: Durability,
    /// Other file systems that are mounted below the root, by their device.
    mounted: Mutex<HashMap<u64, File>>,
    /// Folders of which entries came or went; `None` is the root.
    folders: Mutex<HashSet<Option<VaultPath>>>,
}

impl Unsynced {
    pub(super) fn new(durability: Durability) -> Self {
        Unsynced { durability, mounted: Mutex::default(), folders: Mutex::default() }
    }

    /// Whether each file has to be flushed by itself.
    pub(super) fn each_file(&self) -> bool {
        self.durability.is_by_file()
    }
}

impl Root {
    /// Notes that an entry of `folder` came, went or changed.
    pub(super) fn touched(&self, folder: Option<&VaultPath>) {
        if self.unsynced.each_file() {
            lock(&self.unsynced.folders).insert(folder.cloned());
        }
    }

    /// Notes the file system that a folder below the root is on.
    pub(super) fn entered(&self, device: u64, dir: &Dir) -> rustix::io::Result<()> {
        if device != self.device && !self.unsynced.each_file() {
            let mut mounted = lock(&self.unsynced.mounted);
            if let Entry::Vacant(new) = mounted.entry(device) {
                new.insert(readable(dir)?);
            }
        }
        Ok(())
    }

    /// Makes durable what was written by [`Durability::FileSystem`] and every change that was [noted](Self::touched).
    pub(super) fn flush(&self) -> Result<(), DestinationError> {
        if self.unsynced.each_file() { self.flush_folders() } else { self.flush_file_systems() }
    }

    #[cfg(target_os = "linux")]
    fn flush_file_systems(&self) -> Result<(), DestinationError> {
        let failed = |error| self.errors.root_error(Action::Flush, error);
        rustix::fs::syncfs(&self.handle).map_err(failed)?;
        for handle in lock(&self.unsynced.mounted).values() {
            rustix::fs::syncfs(handle).map_err(failed)?;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn flush_file_systems(&self) -> Result<(), DestinationError> {
        self.flush_folders()
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
                Err(error) => return Err(self.errors.root_error(Action::Flush, error)),
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
