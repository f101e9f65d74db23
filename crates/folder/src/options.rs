//! Options of writing to a folder.

use obsync_core::conflicted_copy::DeviceName;
use obsync_protocol::NameFolding;

/// Options of a [`FolderDestination`](crate::FolderDestination).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// Folding rules of names; detected if `None`.
    pub folds_names: Option<NameFolding>,
    /// True if names must not have a colon; if `None`, decided by the type of the file system.
    pub refuses_colons: Option<bool>,
    /// Limit of a name in bytes; if `None`, that of the file system.
    pub name_max: Option<usize>,
    /// Method of making files and folders durable.
    pub durability: Durability,
    /// Keep replaced and removed files in `.obsync/trash` for 30 days.
    pub trash: bool,
    /// Keep files that the vault deletes, or renames, under their old name.
    pub keep_deleted: bool,
    /// The name of this device, for the names of conflicted copies.
    pub device: DeviceName,
}

/// Method of making files and folders durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The whole file system at once, by `syncfs` (Linux; elsewhere the same as
    /// [`EachFile`](Self::EachFile)). Far cheaper for many files, but it also waits for writes of other
    /// programs. If that does not reach the disk (FUSE, network drives) it is the same as
    /// [`EachFile`](Self::EachFile).
    FileSystem,
    /// Each changed file and folder, by `fsync`.
    EachFile,
}

impl Default for Durability {
    fn default() -> Self {
        if cfg!(target_os = "linux") { Durability::FileSystem } else { Durability::EachFile }
    }
}

impl Durability {
    /// True if each file has to be flushed by itself.
    pub(super) fn is_by_file(self) -> bool {
        self == Durability::EachFile || cfg!(not(target_os = "linux"))
    }
}
