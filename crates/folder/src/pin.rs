//! The pin in the folder: the encryption of the vault that was last pulled to it, in `.obsync/pin.json`. It
//! has no secret and stays after a run, so that neither a lost home nor a lost state makes the next pull a
//! first contact.

use obsync_core::DestinationError;
use obsync_core::pin::Pin;
use obsync_protocol::limits;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::Action;
use super::own_file;
use super::own_folder::{OWN_FOLDER, Own, make_private, own_folder};
use super::root::Root;

/// The pin's file in [`OWN_FOLDER`].
const FILE: &str = "pin.json";

/// The stored encryption of the vault that was last pulled to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderPin {
    /// No pin.
    None,
    /// A pin.
    Pin(Box<Pin>),
    /// Unknown: `.obsync` is another user's folder, which has a pin or cannot be read.
    Hidden,
}

impl FolderPin {
    /// The pin, if there is a trusted one.
    pub fn pin(&self) -> Option<&Pin> {
        match self {
            FolderPin::Pin(pin) => Some(pin),
            FolderPin::None | FolderPin::Hidden => None,
        }
    }
}

/// Reads the pin, if there is one.
///
/// An unreadable one is an error: it must not pass for a first contact.
pub(super) fn read(root: &Root) -> Result<FolderPin, DestinationError> {
    let own = match own_folder(root)? {
        Own::Private(own) => own,
        Own::Absent => return Ok(FolderPin::None),
        // A file that others can change neither proves nor refutes anything.
        Own::Foreign => return Ok(if may_hide_pin(root) { FolderPin::Hidden } else { FolderPin::None }),
    };
    let unreadable = |reason: &str| {
        root.errors.unavailable(&format!(
            "its file {OWN_FOLDER}/{FILE}, which says how the vault was encrypted, cannot be used: {reason}. Restore the file \
             from a copy; docs/SEMANTICS.md (\"Encryption that changes\") says what else can be done"
        ))
    };
    let text = match own_file::read(&own, FILE, limits::PIN) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(FolderPin::None),
        Err(error) => return Err(unreadable(&error.to_string())),
    };
    let pin = Pin::from_text(&text).map_err(|error| unreadable(&error.to_string()))?;
    Ok(FolderPin::Pin(Box::new(pin)))
}

/// True if another user's folder has a pin, or may have one.
fn may_hide_pin(root: &Root) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&root.dir, OWN_FOLDER, flags, Mode::empty()) {
        Ok(own) => !matches!(
            rustix::fs::statat(own, FILE, AtFlags::SYMLINK_NOFOLLOW),
            Err(Errno::NOENT | Errno::NOTDIR)
        ),
        // Another use of the name.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK | Errno::NOENT) => false,
        Err(_) => true,
    }
}

/// Durably replaces the pin.
pub(super) fn write(root: &Root, pin: &Pin) -> Result<(), DestinationError> {
    let text = pin.to_text().map_err(|error| root.errors.unavailable(&format!("its pin: {error}")))?;
    make_private(root, &root.dir, OWN_FOLDER)?;
    let own = match own_folder(root)? {
        Own::Private(own) => own,
        Own::Absent => return Err(root.errors.unavailable("it was removed while obsync was working")),
        Own::Foreign => {
            tracing::warn!(
                "how the vault is encrypted is not written down in {}: {OWN_FOLDER} in it is not obsync's alone",
                root.errors.location()
            );
            return Ok(());
        }
    };
    own_file::write(root, &own, FILE, &text).map_err(|error| root.errors.root_error(Action::Write, error))
}
