//! Names and numbers of mounts: the list of folders on which file systems are mounted, in memory, and what the
//! system says of an open folder. [`mounts`](super::mounts) reads, checks and extends it.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use obsync_protocol::normalize_local_name;
use rustix::fd::AsFd;

use super::file_system::device;

/// Names of folders on which file systems were mounted, relative to the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts(pub(super) BTreeSet<String>);

impl Mounts {
    /// Mounts at a path of the vault or below it.
    pub(super) fn at_or_below(&self, path: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter(move |name| is_at_or_below(name, path) || is_at_or_below(&normal(name), path))
    }

    /// Mounts that a path of the vault is at or below.
    pub(super) fn above(&self, path: &str) -> impl Iterator<Item = &String> {
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
    pub(super) list: Mutex<Option<Arc<Mounts>>>,
    /// Other mounts than the root's whose names are in the list.
    pub(super) entered: Mutex<HashSet<MountId>>,
    /// This run writes, so it may also change the list.
    pub(super) are_noted: AtomicBool,
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
pub(super) fn other_mounts_below(mounts: &str, place: &str, device: u64) -> BTreeSet<String> {
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

pub(super) fn normal(name: &str) -> String {
    if name.is_ascii() { name.to_owned() } else { normalize_local_name(name) }
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
