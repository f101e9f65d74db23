//! Options of writing to a folder.

use obsync_core::conflicted_copy::DeviceName;
use obsync_protocol::NameFolding;

/// How a [`FolderDestination`](crate::FolderDestination) works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// Which names are one name; found out when it is `None`.
    pub folds_names: Option<NameFolding>,
    /// Whether names must not have a colon; found out by the type of the file system when it is `None`.
    pub refuses_colons: Option<bool>,
    /// Bytes that a name may have; what the file system says when it is `None`.
    pub name_max: Option<usize>,
    /// How files and folders are made durable.
    pub durability: Durability,
    /// Whether what is replaced or removed is kept in `.obsync/trash` for 30 days.
    pub trash: bool,
    /// Whether files stay that the vault deletes, or renames, under their old name.
    pub keep_deleted: bool,
    /// The name of this device, for the names of conflicted copies.
    pub device: DeviceName,
}

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
