//! Walks a destination: lists its files, and checks whether it is empty.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use obsync_core::{DestinationError, Inventory, StoredFile};
use obsync_protocol::{RepositoryPart, VaultPath};

use super::error::{Action, is_missing};
use super::own_folder::is_own_name;
use super::parents::Parents;
use super::root::Root;
use super::transplant::is_own_beside;

/// True if there is nothing but obsync's own folders.
pub(super) fn is_empty(root: &Root) -> Result<bool, DestinationError> {
    let failed = |error| root.errors.error(Action::List, ".", error);
    for entry in root.dir.entries().map_err(failed)? {
        if !entry.map_err(failed)?.file_name().to_str().is_some_and(is_own_name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// For each of the folders, the parts of a bare git repository that are directly in it. Lists the names
/// instead of looking them up, so that every spelling is found.
pub(super) fn repository_parts(
    root: &Root,
    folders: &[Option<VaultPath>],
) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
    let mut parents = Parents::new(root);
    let look = |folder: &Option<VaultPath>| {
        let Some(dir) = parents.find(folder.as_ref())? else {
            return Ok(BTreeSet::new());
        };
        let place = folder.as_ref().map_or(".", VaultPath::as_str);
        parts_in(&dir).map_err(|error| root.errors.error(Action::List, place, error))
    };
    folders.iter().map(look).collect()
}

fn parts_in(dir: &Dir) -> std::io::Result<BTreeSet<RepositoryPart>> {
    let mut parts = BTreeSet::new();
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(part) = RepositoryPart::of(&name.to_string_lossy()) else { continue };
        // Git accepts no folder as a head.
        if part == RepositoryPart::Body || !entry.file_type()?.is_dir() {
            parts.insert(part);
        }
    }
    Ok(parts)
}

/// All files and symbolic links; links are not followed. A name that is no text is converted as closely as
/// possible.
pub(super) fn list(root: &Root) -> Result<Inventory, DestinationError> {
    let mut found = Inventory::default();
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        match list_folder(root, &folder, &mut found.files, &mut pending) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !folder.as_os_str().is_empty() => {
                found.unreadable.push(folder.to_string_lossy().into_owned());
            }
            Err(error) => return Err(root.errors.error(Action::List, &folder.to_string_lossy(), error)),
        }
    }
    Ok(found)
}

fn list_folder(
    root: &Root,
    folder: &Path,
    files: &mut Vec<StoredFile>,
    pending: &mut Vec<PathBuf>,
) -> std::io::Result<()> {
    let at_root = folder.as_os_str().is_empty();
    let entries = if at_root { root.dir.entries() } else { root.dir.read_dir(folder) };
    for entry in gone_is_none(entries)?.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| (at_root && is_own_name(name)) || is_own_beside(name)) {
            continue;
        }
        // Not the type from the listing: some file systems give none.
        let Some(facts) = gone_is_none(entry.metadata())? else {
            continue;
        };
        let kind = facts.file_type();
        let path = folder.join(&name);
        if kind.is_dir() {
            pending.push(path);
        } else if kind.is_file() || kind.is_symlink() {
            files.push(StoredFile { path: path.to_string_lossy().into_owned(), size: facts.len() });
        }
    }
    Ok(())
}

/// `None` if a file was removed while it was checked.
fn gone_is_none<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
