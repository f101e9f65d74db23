//! Changes that are not known to be durable.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use cap_std::fs::Dir;
use obsync_protocol::VaultPath;

use super::file_system;
use super::options::Durability;

/// Changes that are not known to be durable.
#[derive(Debug)]
pub(super) struct Unsynced {
    durability: Durability,
    /// Other file systems mounted below the root, by their device.
    pub(super) mounted: Mutex<HashMap<u64, Mounted>>,
    /// True if one of them has to be flushed file by file.
    pub(super) has_by_file: AtomicBool,
    /// Decides which do; tests have no such file system.
    pub(super) is_flushed_by_file: fn(&Dir) -> bool,
    /// Folders whose entries were added or removed; `None` is the root.
    pub(super) folders: Mutex<HashSet<Option<VaultPath>>>,
}

/// Flush method of a file system below the root.
#[derive(Debug)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "no file system is flushed as a whole there")
)]
pub(super) enum Mounted {
    AsAWhole(File),
    ByFile,
}

impl Unsynced {
    pub(super) fn new(durability: Durability) -> Self {
        Unsynced {
            durability,
            mounted: Mutex::default(),
            has_by_file: AtomicBool::new(false),
            is_flushed_by_file: |dir| file_system::is_flushed_by_file(dir),
            folders: Mutex::default(),
        }
    }

    /// True if each file has to be flushed by itself.
    pub(super) fn each_file(&self) -> bool {
        self.durability.is_by_file()
    }
}
