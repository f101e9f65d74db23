//! Compares the open folder with the one at its path: a disk may have been unmounted or replaced, and the
//! folder moved.

use std::path::Path;

use obsync_core::{DestinationError, MarkerFound, RandomId};

use super::context::Context;
use super::error::Action;
use super::file_system::device;
use super::root::Root;
use super::{marker, walk};

/// Identifies a folder while its file system is mounted: device and inode.
pub(super) type FolderId = (u64, u64);

/// The folder at a path; `None` if there is none.
pub(super) fn folder_at(path: &Path) -> Option<FolderId> {
    let facts = rustix::fs::stat(path).ok()?;
    rustix::fs::FileType::from_raw_mode(facts.st_mode).is_dir().then(|| id(&facts))
}

fn id(facts: &rustix::fs::Stat) -> FolderId {
    (device(facts), facts.st_ino)
}

fn is_there(context: &Context, root: &Root) -> Result<bool, DestinationError> {
    let open =
        rustix::fs::fstat(&root.handle).map_err(|error| root.errors.root_error(Action::Read, error))?;
    Ok(folder_at(&context.dest) == Some(id(&open)))
}

/// Checks that the open folder is the one at the destination's path.
pub(super) fn check(context: &Context, root: &Root) -> Result<(), DestinationError> {
    match is_there(context, root)? {
        true => Ok(()),
        false => Err(root.errors.unavailable(
            "it was moved, unmounted or replaced while obsync was working; put it back and run the same command again",
        )),
    }
}

/// The destination opened anew, if another folder than the open one is at its path now.
///
/// # Errors
///
/// If there is none, or one that is not used without a person: an empty one without a marker, or one with
/// another id than the `known` one; or if another process took the lock while the folder was away.
pub(super) fn find(context: &Context, known: Option<RandomId>) -> Result<Option<Context>, DestinationError> {
    let Some(open) = context.opened() else { return Ok(None) };
    // A handle to a file server that forgot it cannot be asked.
    if is_there(context, &open).unwrap_or(false) {
        // An earlier look released it, while another folder or none was there.
        context.lock_if_wanted(&open)?;
        return Ok(None);
    }
    let gone = || context.errors.unavailable("it was moved or unmounted; put it back");
    // A server of files may take the new handle for another process.
    open.unlock();
    let anew = context.anew();
    let root = anew.root()?.ok_or_else(gone)?;
    match (marker::read(&root)?, known) {
        (MarkerFound::Marker { marker, .. }, Some(known)) if marker.id != known => {
            Err(context.errors.unavailable(
                "another destination is at its path now; put the one back that was there, or stop obsync and start it again",
            ))
        }
        (MarkerFound::Absent, Some(_)) if walk::is_empty(&root)? => Err(context.errors.unavailable(
            "an empty folder is at its path now: is its disk not mounted? Put it back, or stop obsync and start it again to \
             fill this one",
        )),
        _ => {
            tracing::info!("the folder was replaced, and is opened anew");
            Ok(Some(anew))
        }
    }
}
