//! Folders of a destination on which other file systems are mounted, stored in `.obsync/mounts`, one name a
//! line.
//!
//! Without its file system such a folder is an ordinary, empty one: all its files would seem to be deleted,
//! files that the vault sends for it would be written where the mount later hides them, and files that the
//! vault deletes in it would seem to be gone already. Only a list from earlier distinguishes the two: a scan
//! adds what it finds, and a run that only writes adds each mount before it first writes below it. Only the
//! user removes a line from it: records may be forgotten while the file system is away.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_core::blocking::lock;
use obsync_protocol::{VaultPath, normalize_local_name};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::context::free_bytes;
use super::error::Action;
use super::file_system::device;
use super::own_file;
use super::own_folder::{OWN_FOLDER, Own, own_folder};
use super::root::Root;

/// The list's file in [`OWN_FOLDER`].
const FILE: &str = "mounts";
/// Limit of the list in bytes.
const LONGEST: usize = 1 << 20;

/// Names of folders on which file systems were mounted, relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts(pub(super) BTreeSet<String>);

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

    /// Mounts at a path of the vault or below it.
    pub(super) fn at_or_below(&self, path: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |name| is_at_or_below(name, path) || is_at_or_below(&normal(name), path))
    }

    /// Refuses, for now, a path at or below a folder that was a mounted file system and is none.
    pub(super) fn check(
        &self,
        root: &Root,
        path: &VaultPath,
        action: Action,
    ) -> Result<(), DestinationError> {
        match self.above(path).find(|name| is_unmounted(root, name)) {
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

    /// Mounts that a path of the vault is at or below.
    fn above(&self, path: &VaultPath) -> impl Iterator<Item = &String> {
        let path = path.as_str();
        self.0.iter().filter(move |name| is_at_or_below(path, name) || is_at_or_below(path, &normal(name)))
    }
}

/// Identifies a mount: the device and, on Linux since 5.8, the number of the mount, which differs where one
/// file system is mounted twice.
pub(super) type MountId = (u64, u64);

/// The mounts below an open root.
#[derive(Debug, Default)]
pub(super) struct KnownMounts {
    /// The list, once loaded.
    list: Mutex<Option<Arc<Mounts>>>,
    /// Other mounts than the root's whose names are in the list.
    entered: Mutex<HashSet<MountId>>,
    /// This run writes, so it may also change the list.
    pub(super) are_noted: AtomicBool,
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
        let names = place.to_str().map(|place| other_mounts_below(&mounts, place, self.device));
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

/// The mount that an open folder is in.
pub(super) fn mount_of(folder: impl AsFd, device: u64) -> MountId {
    (device, mount_number(folder))
}

#[cfg(target_os = "linux")]
fn mount_number(folder: impl AsFd) -> u64 {
    use rustix::fs::{AtFlags, StatxFlags};
    // Older systems leave it 0.
    rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_or(0, |facts| facts.stx_mnt_id)
}

#[cfg(not(target_os = "linux"))]
fn mount_number(_: impl AsFd) -> u64 {
    0
}

/// Names of folders below `place`, relative to it, that are mounts of another device (proc_pid_mountinfo(5)).
#[cfg(target_os = "linux")]
fn other_mounts_below(mounts: &str, place: &str, device: u64) -> BTreeSet<String> {
    let own = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{}/", place.trim_end_matches('/'));
    let name_of = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?;
        let name = unescaped(fields.nth(1)?).strip_prefix(&place)?.to_owned();
        (device != own && !name.is_empty()).then_some(name)
    };
    mounts.lines().filter_map(name_of).collect()
}

/// Blanks, line ends and backslashes are three octal digits there.
#[cfg(target_os = "linux")]
fn unescaped(name: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.into_iter().fold(name.to_owned(), |name, (escape, plain)| name.replace(escape, plain))
}

fn normal(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { normalize_local_name(name) }
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

/// True if a folder is in another file system than its parent, or in the same one mounted once more.
pub(super) fn is_mount(folder: impl AsFd, above: impl AsFd) -> rustix::io::Result<bool> {
    let device_of = |folder| rustix::fs::fstat(folder).map(|facts| device(&facts));
    Ok(is_mount_root(&folder) || device_of(folder.as_fd())? != device_of(above.as_fd())?)
}

/// Linux reports it since 5.8: a folder that is mounted a second time has no device of its own.
#[cfg(target_os = "linux")]
fn is_mount_root(folder: impl AsFd) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
    rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .is_ok_and(|facts| facts.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
fn is_mount_root(_: impl AsFd) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn other_file_systems_below_the_root_are_found_without_a_look_at_them() {
        let device = rustix::fs::makedev(8, 1);
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 22 8:2 / /srv/notes rw - ext4 /dev/sda2 rw\n\
                      31 30 8:3 / /srv/notes/My\\040Media rw shared:2 - vfat /dev/sdb1 rw\n\
                      32 30 8:1 /same /srv/notes/Same rw - ext4 /dev/sda1 rw\n\
                      33 22 8:4 / /srv/notes2 rw - xfs /dev/sdc rw\n";
        let below = |place| Vec::from_iter(other_mounts_below(mounts, place, device));
        assert_eq!(below("/srv/notes"), ["My Media"]);
        assert_eq!(below("/"), ["srv/notes", "srv/notes/My Media", "srv/notes2"]);
    }
}
