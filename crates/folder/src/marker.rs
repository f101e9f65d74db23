//! The marker in the folder, `.obsync/id`: identifies a destination, whatever is mounted at its path.

use std::io;

use obsync_core::{DestinationError, Marked, Marker, MarkerError, MarkerFound};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::error::Action;
use super::own_file;
use super::own_folder::{OWN_FOLDER, Own, make_private, own_folder};
use super::root::Root;

/// The marker's file in [`OWN_FOLDER`].
const FILE: &str = "id";
/// Limit of a marker in bytes; it has some 200.
const LONGEST: usize = 4096;

/// Reads the marker.
pub(super) fn read(root: &Root) -> Result<MarkerFound, DestinationError> {
    let own = match own_folder(root)? {
        Own::Private(own) => own,
        Own::Absent => return Ok(MarkerFound::Absent),
        // A file that others can change proves nothing.
        Own::Foreign => return Ok(MarkerFound::Impossible),
    };
    let text = match own_file::read(&own, FILE, LONGEST) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(MarkerFound::Absent),
        Err(error) if is_of_the_file(&error) => {
            return Ok(MarkerFound::Damaged { reason: error.to_string() });
        }
        Err(error) => return Err(root.errors.error(Action::Read, &format!("{OWN_FOLDER}/{FILE}"), error)),
    };
    match Marker::from_text(&text) {
        Ok(marker) => Ok(MarkerFound::Marker { marker, tag: None }),
        Err(error @ MarkerError::Newer { .. }) => {
            Err(root.errors.unavailable(&format!("its marker {OWN_FOLDER}/{FILE}: {error}")))
        }
        Err(MarkerError::Damaged { reason }) => Ok(MarkerFound::Damaged { reason }),
    }
}

/// True if the file is wrong, and not the disk: it is a link, a folder, a device, or no text.
fn is_of_the_file(error: &io::Error) -> bool {
    let is_other_thing =
        matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::MLINK | Errno::ISDIR | Errno::NXIO));
    is_other_thing || matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other)
}

/// Writes the marker durably. `None` if no folder of this user's own can store it.
pub(super) fn write(root: &Root, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
    let text = marker.to_text().map_err(|error| root.errors.unavailable(&format!("its marker: {error}")))?;
    make_private(root, &root.dir, OWN_FOLDER)?;
    let own = match own_folder(root)? {
        Own::Private(own) => own,
        Own::Absent => return Err(root.errors.unavailable("it was removed while obsync was working")),
        Own::Foreign => return Ok(None),
    };
    match own_file::write(root, &own, FILE, &text) {
        Ok(()) => Ok(Some(Marked::default())),
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ISDIR)) => {
            tracing::warn!(
                "{OWN_FOLDER}/{FILE} in {} is a folder, so that the destination cannot be marked; remove it",
                root.errors.location()
            );
            Ok(None)
        }
        Err(error) => Err(root.errors.root_error(Action::Write, error)),
    }
}

/// Removes the marker durably. `false` if this user has none.
pub(super) fn remove(root: &Root) -> Result<bool, DestinationError> {
    let Own::Private(own) = own_folder(root)? else { return Ok(false) };
    match rustix::fs::unlinkat(&own, FILE, AtFlags::empty()) {
        Ok(()) => {
            rustix::fs::fsync(&own)
                .map_err(|error| root.errors.root_error(Action::Write, io::Error::from(error)))?;
            Ok(true)
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(root.errors.root_error(Action::Write, io::Error::from(error))),
    }
}
