//! Changes that are not known to be durable.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use cap_std::fs::Dir;
use obsync_protocol::VaultPath;

use super::file_system;
use super::options::Durability;

/// What was changed and is not known to be durable.
#[derive(Debug)]
pub(super) struct Unsynced {
    durability: Durability,
    /// Other file systems that are mounted below the root, by their device.
    pub(super) mounted: Mutex<HashMap<u64, Mounted>>,
    /// Whether one of them has to be flushed file by file.
    pub(super) has_by_file: AtomicBool,
    /// Tells which do; tests have no such file system.
    pub(super) is_flushed_by_file: fn(&Dir) -> bool,
    /// Folders of which entries came or went; `None` is the root.
    pub(super) folders: Mutex<HashSet<Option<VaultPath>>>,
}

/// How a file system below the root is flushed.
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

    /// Whether each file has to be flushed by itself.
    pub(super) fn each_file(&self) -> bool {
        self.durability.is_by_file()
    }
}
