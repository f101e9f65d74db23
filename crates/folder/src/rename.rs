//! Renames without overwriting: a file that appeared at the new name in the meantime is never lost.

use rustix::fd::AsFd;
use rustix::fs::AtFlags;
use rustix::io::{Errno, Result};

/// Moves `from` to `to`, which must be free; otherwise [`Errno::EXIST`].
pub(super) fn rename_new(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match exclusive(&from_dir, from, &to_dir, to) {
        // The file system or the kernel does not support it. (Or it rejects the name: the other way shows
        // that.)
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => by_link(&from_dir, from, &to_dir, to),
        result => result,
    }
}

/// Exchanges two files in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn swap(one_dir: impl AsFd, one: &str, other_dir: impl AsFd, other: &str) -> Result<()> {
    rustix::fs::renameat_with(one_dir, one, other_dir, other, rustix::fs::RenameFlags::EXCHANGE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn swap(_: impl AsFd, _: &str, _: impl AsFd, _: &str) -> Result<()> {
    Err(Errno::NOSYS)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exclusive(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    rustix::fs::renameat_with(from_dir, from, to_dir, to, rustix::fs::RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exclusive(_: impl AsFd, _: &str, _: impl AsFd, _: &str) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Creates a second name for the file, which never replaces another; then removes the first name.
fn by_link(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match rustix::fs::linkat(&from_dir, from, &to_dir, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(&from_dir, from, AtFlags::empty()),
        Err(error @ (Errno::EXIST | Errno::NOENT | Errno::XDEV | Errno::NOSPC | Errno::NAMETOOLONG)) => {
            Err(error)
        }
        // Folders cannot have a second name, and some file systems have no links.
        Err(_) => after_a_look(&from_dir, from, &to_dir, to),
    }
}

/// The last resort: another process could act between the check and the rename.
fn after_a_look(from_dir: impl AsFd, from: &str, to_dir: impl AsFd, to: &str) -> Result<()> {
    match rustix::fs::statat(&to_dir, to, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from_dir, from, to_dir, to),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    /// A folder with a file `a` ("new"), a file `b` ("old") and a folder `c`.
    fn folder() -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "new").unwrap();
        fs::write(folder.path().join("b"), "old").unwrap();
        fs::create_dir(folder.path().join("c")).unwrap();
        let handle = File::open(folder.path()).unwrap();
        (folder, handle)
    }

    #[test]
    fn every_way_of_renaming_leaves_an_occupied_name_alone() {
        let (folder, dir) = folder();
        assert_eq!(rename_new(&dir, "a", &dir, "b"), Err(Errno::EXIST));
        assert_eq!(by_link(&dir, "a", &dir, "b"), Err(Errno::EXIST));
        assert_eq!(after_a_look(&dir, "a", &dir, "b"), Err(Errno::EXIST));
        assert_eq!(fs::read_to_string(folder.path().join("b")).unwrap(), "old");
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "new");
    }

    #[test]
    fn every_way_of_renaming_moves_to_a_free_name() {
        let (folder, dir) = folder();
        rename_new(&dir, "a", &dir, "x").unwrap();
        by_link(&dir, "x", &dir, "y").unwrap();
        by_link(&dir, "c", &dir, "d").unwrap();
        after_a_look(&dir, "y", &dir, "z").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("z")).unwrap(), "new");
        assert!(folder.path().join("d").is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
