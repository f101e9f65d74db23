//! Finds out whether names that differ only in letter case are one name in a destination.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};

use super::root::{Root, device};
use super::staging::OWN_FOLDER;

/// How many entries are looked at before giving up on finding one with a letter in its name.
const ENTRIES: usize = 256;

/// Whether names are folded. Looks up something that is there under its name with the case of the letters swapped; only
/// in an empty folder a name has to be made for that, which is removed at once. A destination that is not there yet is
/// judged by the folder that it would be made in.
pub(super) fn folds_names(root: Option<&Root>, dest: &Path) -> bool {
    let probed = root.and_then(|root| by_entries(&root.handle).or_else(|| by_probe(root)));
    probed.unwrap_or_else(|| seems_to_fold_names(root, dest))
}

/// The same without making anything: an empty folder is judged by its own name. (A folder can differ in this from the one
/// that it is in, but hardly any does.)
pub(super) fn seems_to_fold_names(root: Option<&Root>, dest: &Path) -> bool {
    let known = match root {
        Some(root) => by_entries(&root.handle).or_else(|| by_own_name(dest)),
        None => by_ancestor(dest),
    };
    known.unwrap_or(cfg!(target_vendor = "apple"))
}

/// By the entries of an open folder.
fn by_entries(dir: &File) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(dir, ".", flags, Mode::empty()).ok()?;
    let entries = cap_std::fs::Dir::from_std_file(File::from(readable)).entries().ok()?;
    entries.take(ENTRIES).flatten().find_map(|entry| by_entry(dir, &entry.file_name()))
}

/// By one entry; nothing when its name has no letter to swap, or when it is gone.
fn by_entry(dir: impl AsFd, name: &OsStr) -> Option<bool> {
    let swapped = swap_case(name)?;
    let entry = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match statat(&dir, &swapped, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(other) => Some(is_same(&entry, &other)),
        Err(Errno::NOENT) => Some(false),
        Err(_) => None,
    }
}

/// By making a folder and removing it again.
fn by_probe(root: &Root) -> Option<bool> {
    rustix::fs::mkdirat(&root.handle, OWN_FOLDER, Mode::from_raw_mode(0o700)).ok()?;
    let found = by_entry(&root.handle, OsStr::new(OWN_FOLDER));
    if let Err(error) = rustix::fs::unlinkat(&root.handle, OWN_FOLDER, AtFlags::REMOVEDIR) {
        tracing::debug!(%error, "a probe cannot be removed");
    }
    found
}

/// By the folder's own name in the folder above it, if that is of the same file system.
fn by_own_name(dest: &Path) -> Option<bool> {
    let path = dest.canonicalize().ok()?;
    let above = File::open(path.parent()?).ok()?;
    let same_device = device(&rustix::fs::fstat(&above).ok()?) == device(&rustix::fs::stat(&path).ok()?);
    same_device.then(|| by_entry(&above, path.file_name()?)).flatten()
}

/// By the nearest folder above that is there.
fn by_ancestor(dest: &Path) -> Option<bool> {
    let absolute: PathBuf = std::path::absolute(dest).ok()?;
    let above = absolute.ancestors().find(|above| above.is_dir())?;
    by_entries(&File::open(above).ok()?).or_else(|| by_own_name(above))
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (device(one), one.st_ino) == (device(other), other.st_ino)
}

/// The name with the case of its ASCII letters swapped; nothing when it has none.
fn swap_case(name: &OsStr) -> Option<OsString> {
    let swap = |byte: &u8| {
        if byte.is_ascii_uppercase() { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }
    };
    let swapped: Vec<u8> = name.as_bytes().iter().map(swap).collect();
    (swapped != name.as_bytes()).then(|| OsString::from_vec(swapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_of_ascii_are_swapped() {
        assert_eq!(swap_case(OsStr::new("Note é 1.md")), Some("nOTE é 1.MD".into()));
        assert_eq!(swap_case(OsStr::new("語 1.2")), None);
    }

    #[test]
    fn two_files_whose_names_differ_in_case_are_proof_that_names_are_not_folded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "").unwrap();
        // Where names are folded this is the same file once more.
        std::fs::write(folder.path().join("A"), "").unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(by_entries(&File::open(folder.path()).unwrap()), Some(files == 1));
    }
}
