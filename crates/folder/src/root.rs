//! The root of a destination: its handle, beneath which all paths are resolved, and its lock.

use std::fs::{self, DirBuilder, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_core::conflicted_copy::DeviceName;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::{Action, ErrorContext, is_missing};
use super::file_system::{self, device};
use super::lock::FolderLock;
use super::mount_list::{KnownMounts, MountId, mount_of};
use super::options::Durability;
use super::options::FolderOptions;
use super::steps::Steps;
use super::unsynced::Unsynced;

/// The longest segment that most file systems accept, in bytes.
pub(super) const COMMON_NAME_MAX: usize = 255;

/// An open destination. Paths are resolved beneath its handle and nowhere else.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) errors: ErrorContext,
    /// The folder, as the parent of its entries.
    pub(super) dir: Arc<Dir>,
    /// The same open file, for locking and flushing, which a [`Dir`] does not do.
    pub(super) handle: File,
    /// Device of its file system.
    pub(super) device: u64,
    pub(super) mount: MountId,
    pub(super) known_mounts: KnownMounts,
    pub(super) steps: Steps,
    /// Changes that are not known to be durable.
    pub(super) unsynced: Unsynced,
    name_max: usize,
    device_name: DeviceName,
    pub(super) lock: Mutex<Option<FolderLock>>,
    /// The lock is taken for writing, as far as there is one.
    pub(super) claimed: AtomicBool,
}

impl Root {
    /// Opens the folder; `None` if it does not exist.
    pub(super) fn open(
        errors: &ErrorContext,
        dest: &Path,
        options: FolderOptions,
    ) -> Result<Option<Self>, DestinationError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = match rustix::fs::open(dest, flags, Mode::empty()) {
            Ok(handle) => File::from(handle),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR) => return Err(errors.unavailable(&not_a_folder(dest))),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Err(errors.unavailable("no permission to read it; check its owner and mode"));
            }
            Err(error) => return Err(errors.root_error(Action::Read, error)),
        };
        let facts = rustix::fs::fstat(&handle).map_err(|error| errors.root_error(Action::Read, error))?;
        let clone = handle.try_clone().map_err(|error| errors.root_error(Action::Read, error))?;
        let limit = || rustix::fs::fstatvfs(&handle).map_or(0, |facts| facts.f_namemax);
        let name_max = options.name_max.unwrap_or_else(|| longest_name(limit()));
        let durability = match file_system::is_flushed_by_file(&handle) {
            true => Durability::EachFile,
            false => options.durability,
        };
        Ok(Some(Root {
            errors: errors.clone(),
            dir: Arc::new(Dir::from_std_file(clone)),
            device: device(&facts),
            mount: mount_of(&handle, device(&facts)),
            known_mounts: KnownMounts::default(),
            steps: Steps::default(),
            handle,
            unsynced: Unsynced::new(durability),
            name_max,
            device_name: options.device,
            lock: Mutex::default(),
            claimed: AtomicBool::new(false),
        }))
    }

    /// Creates the folder with its parents.
    pub(super) fn create(errors: &ErrorContext, dest: &Path) -> Result<(), DestinationError> {
        let missing: Vec<PathBuf> = dest
            .ancestors()
            .take_while(|above| {
                !above.as_os_str().is_empty() && fs::symlink_metadata(above).is_err_and(|e| is_missing(&e))
            })
            .map(Path::to_owned)
            .collect();
        DirBuilder::new().recursive(true).create(dest).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR | Errno::EXIST) => errors.unavailable(&not_a_folder(dest)),
                Some(Errno::ACCESS | Errno::PERM) => errors.unavailable(
                    "no permission to create it; check the owner and mode of the folder above it",
                ),
                _ => errors.root_error(Action::MakeFolder, error),
            }
        })?;
        for folder in missing {
            // So that a folder with durable files can itself be found after a power failure.
            let above =
                folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(above).and_then(|above| above.sync_all()).unwrap_or_else(
                |error| tracing::debug!(%error, "the folder above the destination cannot be flushed"),
            );
        }
        Ok(())
    }

    /// The name of this device, for the names of conflicted copies.
    pub(super) fn device_name(&self) -> DeviceName {
        self.device_name
    }

    /// Limit of a segment here, in bytes.
    pub(super) fn name_max(&self) -> usize {
        self.name_max
    }
}

fn not_a_folder(dest: &Path) -> String {
    match dest.ancestors().find(|above| fs::symlink_metadata(above).is_ok()) {
        Some(above) if above == dest => "it is not a folder; choose another destination".to_owned(),
        Some(above) => format!("{} is not a folder; choose another destination", above.display()),
        None => "it is not in a folder; choose another destination".to_owned(),
    }
}

/// Limit of a name in bytes, if the file system reports one; some do not.
fn longest_name(limit: u64) -> usize {
    match usize::try_from(limit) {
        Ok(0) | Err(_) => COMMON_NAME_MAX,
        Ok(limit) => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_long_as_the_file_system_says() {
        for (limit, expected) in [(0, COMMON_NAME_MAX), (143, 143), (255, 255), (1530, 1530)] {
            assert_eq!(longest_name(limit), expected);
        }
    }
}
