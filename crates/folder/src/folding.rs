//! Finds out whether names that differ only in letter case or Unicode normalisation are equal in a
//! destination.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use obsync_protocol::NameFolding;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use unicode_normalization::UnicodeNormalization;

use super::file_system::device;
use super::own_folder::OWN_FOLDER;
use super::root::Root;

/// Entries checked at most to find one whose name has another spelling.
const ENTRIES: usize = 256;
/// A name with an accent. It begins like those of staging, so that it is not taken for a file of the vault.
const ACCENTED: &str = ".obsync-\u{e9}";

/// True if names that differ in letter case are equal. Looks an existing entry up under its name with swapped
/// case; only in an empty folder an entry has to be created for that, which is removed at once. A missing
/// destination is judged by its nearest existing ancestor.
pub(super) fn folds_case(root: Option<&Root>, dest: &Path) -> bool {
    let probed = root.and_then(|root| by_entries(&root.handle, swap_case).or_else(|| by_probe(root)));
    probed.unwrap_or_else(|| seems_to_fold_case(root, dest))
}

/// True if names that differ in Unicode normalisation are equal. If no existing name decides it, one is
/// created and removed at once.
pub(super) fn folds_normalization(root: &Root) -> bool {
    let probed = by_entries(&root.handle, swap_normalization).or_else(|| by_accented_probe(root));
    probed.unwrap_or(false)
}

/// The folding rules, found without creating anything: an empty folder is judged by its own name. (A folder
/// can differ in this from its parent, but hardly any does.)
pub(super) fn seems_to_fold_names(root: Option<&Root>, dest: &Path) -> NameFolding {
    if seems_to_fold_case(root, dest) {
        return NameFolding::Case;
    }
    match root.and_then(|root| by_entries(&root.handle, swap_normalization)) {
        Some(true) => NameFolding::Normalization,
        Some(false) | None => NameFolding::Nothing,
    }
}

fn seems_to_fold_case(root: Option<&Root>, dest: &Path) -> bool {
    let known = match root {
        Some(root) => by_entries(&root.handle, swap_case).or_else(|| by_own_name(dest)),
        None => by_ancestor(dest),
    };
    known.unwrap_or(cfg!(target_vendor = "apple"))
}

/// True if an entry is found under another spelling of its name, too.
pub(super) fn has_other_spelling(dir: impl AsFd, name: &OsStr) -> bool {
    [swap_case, swap_normalization]
        .into_iter()
        .any(|respell: Respell| by_entry(&dir, name, respell) == Some(true))
}

/// Another spelling of a name; `None` if there is none.
type Respell = fn(&OsStr) -> Option<OsString>;

/// Decides by the entries of an open folder.
fn by_entries(dir: &File, respell: Respell) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(dir, ".", flags, Mode::empty()).ok()?;
    let entries = cap_std::fs::Dir::from_std_file(File::from(readable)).entries().ok()?;
    entries.take(ENTRIES).flatten().find_map(|entry| by_entry(dir, &entry.file_name(), respell))
}

/// Decides by one entry; `None` if its name has only one spelling, or it is gone.
fn by_entry(dir: impl AsFd, name: &OsStr, respell: Respell) -> Option<bool> {
    let swapped = respell(name)?;
    let entry = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match statat(&dir, &swapped, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(other) => Some(is_same(&entry, &other)),
        Err(Errno::NOENT) => Some(false),
        Err(_) => None,
    }
}

/// Decides by creating a folder and removing it again.
fn by_probe(root: &Root) -> Option<bool> {
    let name = OsStr::new(OWN_FOLDER);
    by_entry(&root.handle, name, swap_case).or_else(|| by_made(&root.handle, name, swap_case))
}

/// The same with a name that has an accent, in obsync's own folder if that exists.
fn by_accented_probe(root: &Root) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = rustix::fs::openat(&root.handle, OWN_FOLDER, flags, Mode::empty());
    let dir = own.as_ref().map_or(root.handle.as_fd(), AsFd::as_fd);
    by_made(dir, OsStr::new(ACCENTED), swap_normalization)
}

/// Decides by a folder that is created and removed again. (An existing one was left by a killed run.)
fn by_made(dir: impl AsFd, name: &OsStr, respell: Respell) -> Option<bool> {
    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(_) => return None,
    }
    let found = by_entry(&dir, name, respell);
    if let Err(error) = rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
        tracing::debug!(%error, "a probe cannot be removed");
    }
    found
}

/// Decides by the folder's own name in its parent, if that is in the same file system.
fn by_own_name(dest: &Path) -> Option<bool> {
    let path = dest.canonicalize().ok()?;
    let above = File::open(path.parent()?).ok()?;
    let same_device = device(&rustix::fs::fstat(&above).ok()?) == device(&rustix::fs::stat(&path).ok()?);
    same_device.then(|| by_entry(&above, path.file_name()?, swap_case)).flatten()
}

/// Decides by the nearest existing ancestor.
fn by_ancestor(dest: &Path) -> Option<bool> {
    let absolute: PathBuf = std::path::absolute(dest).ok()?;
    let above = absolute.ancestors().find(|above| above.is_dir())?;
    by_entries(&File::open(above).ok()?, swap_case).or_else(|| by_own_name(above))
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (device(one), one.st_ino) == (device(other), other.st_ino)
}

/// The name with the case of its ASCII letters swapped; `None` if it has none.
fn swap_case(name: &OsStr) -> Option<OsString> {
    let swap = |byte: &u8| {
        if byte.is_ascii_uppercase() { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }
    };
    let swapped: Vec<u8> = name.as_bytes().iter().map(swap).collect();
    (swapped != name.as_bytes()).then(|| OsString::from_vec(swapped))
}

/// The name with its accents as characters of their own, or the other way round; `None` if it has none.
fn swap_normalization(name: &OsStr) -> Option<OsString> {
    let name = name.to_str().filter(|name| !name.is_ascii())?;
    let forms = [name.nfd().collect::<String>(), name.nfc().collect()];
    forms.into_iter().find(|form| form != name).map(OsString::from)
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
        // Where names are folded this is the same file.
        std::fs::write(folder.path().join("A"), "").unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(by_entries(&File::open(folder.path()).unwrap(), swap_case), Some(files == 1));
    }

    #[test]
    fn accents_are_written_in_the_other_way() {
        let (composed, decomposed) = (OsStr::new("Caf\u{e9}"), OsStr::new("Cafe\u{301}"));
        assert_eq!(swap_normalization(composed).as_deref(), Some(decomposed));
        assert_eq!(swap_normalization(decomposed).as_deref(), Some(composed));
        assert_eq!(swap_normalization(OsStr::new("語.md")), None);
    }

    #[test]
    fn two_files_whose_names_differ_in_normalisation_are_proof_that_it_is_not_folded() {
        let folder = tempfile::tempdir().unwrap();
        let dir = File::open(folder.path()).unwrap();
        assert_eq!(by_entries(&dir, swap_normalization), None);
        for name in ["Caf\u{e9}", "Cafe\u{301}"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(by_entries(&dir, swap_normalization), Some(files == 1));
        // A name created for the check decides it, and is removed again.
        assert_eq!(by_made(&dir, OsStr::new(ACCENTED), swap_normalization), Some(files == 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files);
    }
}
