//! The rights of a file that takes another's place: its owner may have changed them, and they stay as they were.

use std::fs::File;
use std::io;

use cap_std::fs::Dir;
use rustix::fs::{Gid, Mode, RawMode, Stat, Uid};
use rustix::io::Errno;

use super::entry::open_file;

/// What of a mode is taken over: nobody's right to run it, as the content is another one.
const TAKEN: RawMode = 0o666;
/// The group's part of a mode.
const GROUP: RawMode = 0o060;

/// Gives `new` the owner (as a superuser), the group, the access list and the mode of the file `name` in `dir`. Where the group
/// cannot be given, the group that it has may do no more than everybody.
pub(super) fn take_over(dir: &Dir, name: &str, new: &File) -> io::Result<()> {
    let Some((old, _)) = open_file(dir, name)? else { return Ok(()) };
    let (was, is) = (rustix::fs::fstat(&old)?, rustix::fs::fstat(new)?);
    let list = access_list(&old);
    let is_alike = (was.st_mode, was.st_uid, was.st_gid) == (is.st_mode, is.st_uid, is.st_gid);
    if is_alike && list.is_none() {
        return Ok(());
    }
    match give(new, &was, &is, list) {
        // A file system without modes, such as FAT, which shows the same for every file.
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::OPNOTSUPP) => {
            tracing::debug!(
                "the file system does not let a file have the rights of the one that it replaces"
            );
            Ok(())
        }
        given => Ok(given?),
    }
}

fn give(new: &File, was: &Stat, is: &Stat, list: Option<Vec<u8>>) -> Result<(), Errno> {
    let mut mode = Mode::from_raw_mode(was.st_mode).as_raw_mode() & TAKEN;
    let (owner, group) = (Uid::from_raw(was.st_uid), Gid::from_raw(was.st_gid));
    let has_owner = was.st_uid != is.st_uid && rustix::fs::fchown(new, Some(owner), Some(group)).is_ok();
    if !has_owner
        && was.st_gid != is.st_gid
        && let Err(error) = rustix::fs::fchown(new, None, Some(group))
    {
        tracing::debug!(%error, "a file cannot be given to the group of the one that it replaces");
        let of_all = (mode & 0o006) << 3;
        mode = (mode & !GROUP) | (mode & GROUP & of_all);
    } else if let Some(list) = list {
        set_access_list(new, &list)?;
    }
    rustix::fs::fchmod(new, Mode::from_raw_mode(mode))
}

/// The access list of a file, if it has one (POSIX.1e, as Linux keeps it).
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

/// Where Linux keeps a file's access list.
#[cfg(target_os = "linux")]
const ACCESS_LIST: &str = "system.posix_acl_access";
/// More than 8,000 entries of eight bytes; a longer one is not taken over.
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
