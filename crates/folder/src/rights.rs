//! The rights of a file that replaces another, or is a copy of it: its owner may have changed them, and a
//! private file stays private.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Mutex;

use cap_std::fs::Dir;
use obsync_core::blocking::lock;
use obsync_protocol::VaultPath;
use rustix::fs::{AtFlags, Gid, Mode, RawMode, Stat, Uid};
use rustix::io::Errno;

use super::entry::open_file;

/// Bits of a mode that are copied: no right to execute, as the content is another one.
const TAKEN: RawMode = 0o666;
/// The mode of a file that only its owner may use.
const OWNERS: RawMode = 0o600;
/// The group's bits of a mode.
const GROUP: RawMode = 0o060;

#[derive(Clone, Debug)]
pub(super) struct Rights {
    mode: RawMode,
    owner: Uid,
    group: Gid,
    list: Option<Vec<u8>>,
}

impl Rights {
    /// Rights of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from_stat(&rustix::fs::fstat(file)?, access_list(file)))
    }

    /// Rights of the file `name` in `dir`, if it exists. If it cannot be opened its access list is unknown:
    /// then only its owner may read the new one.
    pub(super) fn at(dir: &Dir, name: &str) -> io::Result<Option<Self>> {
        match open_file(dir, name) {
            Ok(file) => file.map(|(file, _)| Self::of(&file)).transpose(),
            Err(_) => {
                let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Some(Rights { mode: OWNERS, ..Self::from_stat(&found, None) }))
            }
        }
    }

    fn from_stat(stat: &Stat, list: Option<Vec<u8>>) -> Self {
        Rights {
            mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode() & TAKEN,
            owner: Uid::from_raw(stat.st_uid),
            group: Gid::from_raw(stat.st_gid),
            list,
        }
    }

    /// Gives `new` the owner (as a superuser), the group, the access list and the mode. If the group cannot
    /// be set, the present group gets no more rights than everybody.
    pub(super) fn give(&self, new: &File) -> io::Result<()> {
        let is = rustix::fs::fstat(new)?;
        let mode = Mode::from_raw_mode(is.st_mode).as_raw_mode();
        let is_alike = (mode, is.st_uid, is.st_gid) == (self.mode, self.owner.as_raw(), self.group.as_raw());
        if is_alike && self.list.is_none() {
            return Ok(());
        }
        match self.give_to(new, &is) {
            // A file system without modes, such as FAT, which shows the same for every file.
            Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::OPNOTSUPP) => {
                tracing::debug!("the file system does not let a file have the rights of another");
                Ok(())
            }
            given => Ok(given?),
        }
    }

    fn give_to(&self, new: &File, is: &Stat) -> Result<(), Errno> {
        let mut mode = self.mode;
        let has_owner = self.owner.as_raw() != is.st_uid
            && rustix::fs::fchown(new, Some(self.owner), Some(self.group)).is_ok();
        if !has_owner
            && self.group.as_raw() != is.st_gid
            && let Err(error) = rustix::fs::fchown(new, None, Some(self.group))
        {
            tracing::debug!(%error, "a file cannot be given to the group of another");
            let of_all = (mode & 0o006) << 3;
            mode = (mode & !GROUP) | (mode & GROUP & of_all);
        } else if let Some(list) = &self.list {
            set_access_list(new, list)?;
        }
        rustix::fs::fchmod(new, Mode::from_raw_mode(mode))
    }
}

/// Gives `new` the rights of the file `name` in `dir`, if it exists.
pub(super) fn take_over(dir: &Dir, name: &str, new: &File) -> io::Result<()> {
    let Some((old, _)) = open_file(dir, name)? else { return Ok(()) };
    Rights::of(&old)?.give(new)
}

/// Gives `copy`, which only its owner can read so far, the rights of the staged file that it was copied from.
/// A group that every file in `staging` has was not chosen: then the copy keeps the one that its folder gave
/// it.
pub(super) fn widen(staging: &Dir, staged: &File, copy: &File) -> io::Result<()> {
    let rights = Rights::of(staged)?;
    let is = rustix::fs::fstat(copy)?;
    let group = if is_chosen(staging, rights.group)? { rights.group } else { Gid::from_raw(is.st_gid) };
    Rights { group, ..rights }.give(copy)
}

/// The group of new files in a folder by its mode (set-group-ID), if files in `staging` have another.
pub(super) fn group_of_folder(staging: &Dir, folder: &Dir) -> io::Result<Option<Gid>> {
    let folder = rustix::fs::fstat(folder)?;
    if !Mode::from_raw_mode(folder.st_mode).contains(Mode::SGID) {
        return Ok(None);
    }
    let staging = rustix::fs::fstat(staging)?;
    Ok((staging.st_gid != folder.st_gid).then(|| Gid::from_raw(folder.st_gid)))
}

/// Sets this group of a staged file, unless the file has a chosen one.
pub(super) fn give_group(staging: &Dir, file: &File, group: Gid) {
    let given = (|| {
        let is = rustix::fs::fstat(file)?;
        if is_chosen(staging, Gid::from_raw(is.st_gid))? {
            Ok(())
        } else {
            rustix::fs::fchown(file, None, Some(group))
        }
    })();
    given
        .unwrap_or_else(|error| tracing::debug!(%error, "a file cannot be given to the group of its folder"));
}

/// True if a group was chosen: new files in `staging` have another one.
fn is_chosen(staging: &Dir, group: Gid) -> rustix::io::Result<bool> {
    let folder = rustix::fs::fstat(staging)?;
    Ok(group != Gid::from_raw(folder.st_gid) && group != rustix::process::getegid())
}

/// Rights of renamed files by their former path: the file that is put there gets them.
#[derive(Debug, Default)]
pub(super) struct KeptRights(Mutex<HashMap<VaultPath, Rights>>);

impl KeptRights {
    pub(super) fn note(&self, path: &VaultPath, rights: Rights) {
        lock(&self.0).insert(path.clone(), rights);
    }

    pub(super) fn of(&self, path: &VaultPath) -> Option<Rights> {
        let kept = lock(&self.0);
        if kept.is_empty() { None } else { kept.get(path).cloned() }
    }

    pub(super) fn forget(&self, path: &VaultPath) {
        lock(&self.0).remove(path);
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// The access list of a file, if it has one (POSIX.1e, in the format of Linux).
#[cfg(target_os = "linux")]
fn access_list(file: &File) -> Option<Vec<u8>> {
    let mut list = vec![0; LONGEST_LIST];
    let length = rustix::fs::fgetxattr(file, ACCESS_LIST, &mut list[..]).ok()?;
    list.truncate(length);
    (length > 0).then_some(list)
}

#[cfg(target_os = "linux")]
fn set_access_list(file: &File, list: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(file, ACCESS_LIST, list, rustix::fs::XattrFlags::empty())
}

/// The extended attribute of Linux with a file's access list.
#[cfg(target_os = "linux")]
const ACCESS_LIST: &str = "system.posix_acl_access";
/// More than 8,000 entries of eight bytes; a longer list is not copied.
#[cfg(target_os = "linux")]
const LONGEST_LIST: usize = 64 << 10;

#[cfg(not(target_os = "linux"))]
fn access_list(_: &File) -> Option<Vec<u8>> {
    None
}

#[cfg(not(target_os = "linux"))]
fn set_access_list(_: &File, _: &[u8]) -> Result<(), Errno> {
    Ok(())
}
