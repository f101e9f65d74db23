//! Folders of a destination on which other file systems are mounted, stored in `.obsync/mounts`, one name a
//! line.
//!
//! Without its file system such a folder is an ordinary, empty one: all its files would seem to be deleted,
//! files that the vault sends for it would be written where the mount later hides them, and files that the
//! vault deletes in it would seem to be gone already. Only a list from earlier distinguishes the two: a scan
//! adds what it finds, and a run that only writes adds each mount before it first writes below it. Only the
//! user removes a line from it: records may be forgotten while the file system is away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_core::blocking::lock;
use obsync_protocol::VaultPath;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::context::free_bytes;
use super::error::Action;
use super::mount_list::{MountId, Mounts, is_mount, normal};
use super::own_file;
use super::own_folder::{OWN_FOLDER, Own, own_folder};
use super::root::Root;

/// The list's file in [`OWN_FOLDER`].
const FILE: &str = "mounts";
/// Limit of the list in bytes.
const LONGEST: usize = 1 << 20;

impl Mounts {
    /// Reads the stored list.
    ///
    /// An unreadable list is an error: without it an unmounted folder would pass for an emptied one.
    pub(super) fn read(root: &Root) -> Result<Self, DestinationError> {
        let Own::Private(own) = own_folder(root)? else { return Ok(Mounts::default()) };
        let text = own_file::read(&own, FILE, LONGEST)
            .map_err(|error| root.errors.root_error(Action::Read, error))?
            .unwrap_or_default();
        Ok(Mounts(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()))
    }

    /// Stores them. Without a folder of this user's own they cannot be stored.
    pub(super) fn write(&self, root: &Root) {
        let text: String = self.0.iter().flat_map(|name| [name, "\n"]).collect();
        let written = match own_folder(root) {
            Ok(Own::Private(own)) if text.len() <= LONGEST => own_file::write(root, &own, FILE, &text),
            _ => return,
        };
        if let Err(error) = written {
            let location = root.errors.location();
            tracing::warn!(%error, "{OWN_FOLDER}/{FILE} in {location}, the list of mounted folders, cannot be written");
        }
    }

    /// Refuses, for now, a path at or below a folder that was a mounted file system and is none.
    pub(super) fn check(
        &self,
        root: &Root,
        path: &VaultPath,
        action: Action,
    ) -> Result<(), DestinationError> {
        match self.above(path.as_str()).find(|name| is_unmounted(root, name)) {
            None => Ok(()),
            Some(name) => Err(root.errors.error(
                action,
                path.as_str(),
                std::io::Error::other(format!(
                    "the file system of {name:?} is not mounted; mount it again, or remove its line from {OWN_FOLDER}/{FILE} if it \
                     is an ordinary folder from now on"
                )),
            )),
        }
    }
}

impl Root {
    /// The known mounts.
    pub(super) fn mounts(&self) -> Result<Arc<Mounts>, DestinationError> {
        let mut mounts = lock(&self.known_mounts.list);
        if mounts.is_none() {
            *mounts = Some(Arc::new(Mounts::read(self)?));
        }
        Ok(mounts.clone().unwrap_or_default())
    }

    /// The same, read again: the user may have changed the list.
    pub(super) fn read_mounts(&self) -> Result<Arc<Mounts>, DestinationError> {
        *lock(&self.known_mounts.list) = None;
        self.mounts()
    }

    /// Stores the mounts.
    pub(super) fn remember_mounts(&self, mounts: Mounts) {
        mounts.write(self);
        *lock(&self.known_mounts.list) = Some(Arc::new(mounts));
    }

    /// Adds the mounts at and above a folder that is about to be written to.
    pub(super) fn note_mounts(&self, folder: &VaultPath, id: MountId) -> io::Result<()> {
        let known = &self.known_mounts;
        let is_known = || lock(&known.entered).contains(&id);
        if id == self.mount || !known.are_noted.load(Ordering::Acquire) || is_known() {
            return Ok(());
        }
        let mut mounts = (*self.mounts().map_err(io::Error::other)?).clone();
        let before = mounts.0.len();
        mounts.0.extend(self.mounts_on_the_way(folder)?);
        if mounts.0.len() > before {
            self.remember_mounts(mounts);
        }
        lock(&known.entered).insert(id);
        Ok(())
    }

    /// Folders at which another file system is mounted now, listed or not, without a look at them.
    #[cfg(target_os = "linux")]
    pub(super) fn mounted_folders(&self) -> Result<Vec<VaultPath>, DestinationError> {
        use std::os::fd::AsRawFd;
        let own = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo");
        let (Ok(place), Ok(mounts)) = (std::fs::read_link(own), mounts) else { return Ok(Vec::new()) };
        let names =
            place.to_str().map(|place| super::mount_list::other_mounts_below(&mounts, place, self.device));
        Ok(names.into_iter().flatten().filter_map(|name| VaultPath::parse(&normal(&name)).ok()).collect())
    }

    /// The same according to the list.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn mounted_folders(&self) -> Result<Vec<VaultPath>, DestinationError> {
        Ok(self.mounts()?.0.iter().filter_map(|name| VaultPath::parse(&normal(name)).ok()).collect())
    }

    /// Bytes that can be written below a mounted folder, if that is known.
    pub(super) fn free_space_below(&self, folder: &VaultPath) -> Option<u64> {
        let dir = self.dir.open_dir(folder.as_str()).ok()?;
        free_bytes(&rustix::fs::fstatvfs(&dir).ok()?)
    }

    fn mounts_on_the_way(&self, folder: &VaultPath) -> io::Result<Vec<String>> {
        let mut folders: Vec<VaultPath> = folder.ancestors().collect();
        folders.reverse();
        folders.push(folder.clone());
        let mut above = self.dir.clone();
        let mut mounts = Vec::new();
        for folder in folders {
            let dir: Arc<Dir> = Arc::new(self.dir.open_dir(folder.as_str())?);
            if is_mount(&*dir, &*above)? {
                mounts.push(folder.to_string());
            }
            above = dir;
        }
        Ok(mounts)
    }
}

/// True if a folder is no file system of its own. It may be missing together with its file system, and so may
/// its parents. Other errors show when the folder is opened.
fn is_unmounted(root: &Root, name: &str) -> bool {
    let above = name.rsplit_once('/').map_or(".", |(above, _)| above);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |name| rustix::fs::openat(&root.handle, name, flags, Mode::empty());
    let folders = open(above).and_then(|above| Ok((open(name)?, above)));
    match folders {
        Ok((folder, above)) => is_mount(&folder, &above).is_ok_and(|is_mount| !is_mount),
        Err(error) => matches!(error, Errno::NOENT | Errno::NOTDIR),
    }
}
