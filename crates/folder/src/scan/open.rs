//! Opens a file to be sent: one in the destination itself, not through a link.

use std::io;

use obsync_core::{DestinationError, OpenFile};
use obsync_protocol::{VaultPath, is_same_name};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::walk::open_folder;
use crate::context::{Context, is_own};
use crate::entry::{look, open_file};
use crate::error::Action;
use crate::root::Root;

/// Opens the file at a path. If the name does not exist, the only name with the same normal form is
/// used, if there is one.
pub(crate) fn open(context: &Context, path: &VaultPath) -> Result<OpenFile, DestinationError> {
    let errors = &context.errors;
    let missing = || errors.not_found(Action::Read, path.as_str());
    if is_own(path) {
        return Err(missing());
    }
    let root = context.root()?.ok_or_else(missing)?;
    let failed = |error: io::Error| match Errno::from_io_error(&error) {
        // It is something else.
        Some(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => errors.changed(path.as_str(), None),
        _ => errors.error(Action::Read, path.as_str(), error),
    };
    let opened = open_parent(&root, path).and_then(|folder| {
        let name = spelling(&folder, path.file_name())?;
        open_file(&folder, &name)
    });
    let (file, facts) = opened.map_err(failed)?.ok_or_else(|| errors.changed(path.as_str(), None))?;
    Ok(OpenFile { content: Box::new(tokio::fs::File::from_std(file)), facts: facts.local() })
}

fn open_parent(root: &Root, path: &VaultPath) -> io::Result<OwnedFd> {
    let mut folder = open_folder(&root.handle, ".")?;
    for segment in path.parent().iter().flat_map(VaultPath::segments) {
        let name = spelling(&folder, segment)?;
        folder = open_folder(&folder, &name)?;
    }
    Ok(folder)
}

/// The spelling of a name in a folder.
fn spelling(folder: impl AsFd, name: &str) -> io::Result<String> {
    if look(&folder, name)?.is_some() {
        return Ok(name.to_owned());
    }
    let mut spelled = None;
    for entry in rustix::fs::Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(found) = entry.file_name().to_str() else { continue };
        if is_same_name(found, name) && spelled.replace(found.to_owned()).is_some() {
            return Err(io::Error::other("two files have this name but for its normalisation; rename one"));
        }
    }
    spelled.ok_or_else(|| Errno::NOENT.into())
}
