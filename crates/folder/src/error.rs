//! Converts system errors about a path into the engine's [`DestinationError`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use obsync_core::{DestinationError, KnownContent, ProblemCode};
use rustix::io::Errno;

use super::file_system::device;

/// The failed action; completes the sentence "cannot … the file".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
    Place,
    MakeFolder,
    Remove,
    SetAside,
    SetTimes,
    List,
    Flush,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::Place => "put in place",
            Action::MakeFolder => "create",
            Action::Remove => "remove",
            Action::SetAside => "set aside",
            Action::SetTimes => "set the times of",
            Action::List => "list",
            Action::Flush => "flush to disk",
        }
    }

    /// True if "invalid argument" can only mean the name: these calls have no other argument of ours.
    fn gives_name(self) -> bool {
        matches!(self, Action::Place | Action::MakeFolder | Action::SetAside)
    }
}

/// The destination's name, which is part of every error.
#[derive(Clone, Debug)]
pub(super) struct ErrorContext(Arc<str>);

impl ErrorContext {
    pub(super) fn new(location: String) -> Self {
        ErrorContext(location.into())
    }

    pub(super) fn location(&self) -> String {
        self.0.to_string()
    }

    /// The destination's name as a path, for display.
    pub(super) fn path(&self) -> &Path {
        Path::new(&*self.0)
    }

    /// True if the whole destination is read-only, as far as known.
    fn is_read_only(&self) -> bool {
        let found = rustix::fs::statvfs(self.path());
        found.map_or(true, |found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// The error for the system's answer to `action` on `path`.
    pub(super) fn error(&self, action: Action, path: &str, error: impl Into<io::Error>) -> DestinationError {
        let error = error.into();
        if is_escape(&error) {
            return self.leads_out(path);
        }
        let (path, location) = (path.to_owned(), self.location());
        match Errno::from_io_error(&error) {
            Some(Errno::NAMETOOLONG) => DestinationError::NameTooLong { path, location, said: None },
            // What is written is still in the root: only later actions are about the file's own folder.
            Some(Errno::NOSPC | Errno::DQUOT) => match self.mounted_above(&path) {
                Some(mount) if action != Action::Write => {
                    let reason =
                        format!("the file system mounted at {mount:?} is full; free some space there");
                    self.of_the_mount(action, path, &reason)
                }
                _ => DestinationError::Full { location },
            },
            Some(Errno::LOOP) => DestinationError::LeadsOut { path, location },
            Some(Errno::ILSEQ) => self.refused(&path, "its characters are not allowed there"),
            Some(Errno::INVAL) if action.gives_name() => {
                self.refused(&path, "the file system does not allow this name")
            }
            Some(Errno::ROFS) if !self.is_read_only() => {
                self.of_the_mount(action, path, "the file system of its folder can only be read")
            }
            Some(Errno::ROFS) => self.unavailable(
                "its file system can only be read; mount it for writing, or choose another destination",
            ),
            Some(Errno::ACCESS | Errno::PERM) => {
                DestinationError::PermissionDenied { action: action.text(), path, location }
            }
            Some(Errno::STALE | Errno::NODEV | Errno::NOTCONN) => match self.mounted_above(&path) {
                Some(mount) => {
                    let reason = format!(
                        "the file system mounted at {mount:?} cannot be reached any more; mount it again"
                    );
                    self.of_the_mount(action, path, &reason)
                }
                None => self.unavailable(
                    "its file system cannot be reached any more; mount it again and run the same command",
                ),
            },
            Some(Errno::MFILE | Errno::NFILE) => self.unavailable(
                "too many files are open; allow more (`ulimit -n`) and run the same command again",
            ),
            _ => DestinationError::Io { action: action.text(), path, location, source: error },
        }
    }

    /// The error for a file whose folder is on another file system, which is at fault.
    fn of_the_mount(&self, action: Action, path: String, reason: &str) -> DestinationError {
        let (location, source) = (self.location(), io::Error::other(reason));
        DestinationError::Io { action: action.text(), path, location, source }
    }

    /// The nearest folder at or above a path at which another file system than the root's is mounted. One
    /// that cannot be reached counts too, if the root can.
    fn mounted_above<'p>(&self, path: &'p str) -> Option<&'p str> {
        let device_of = |path: &Path| rustix::fs::stat(path).map(|facts| device(&facts));
        let mut above = device_of(self.path()).ok()?;
        let mut mounted = None;
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for folder in ends.map(|end| &path[..end]) {
            match device_of(&self.path().join(folder)) {
                Ok(device) if device == above => {}
                Ok(device) => (mounted, above) = (Some(folder), device),
                Err(Errno::STALE | Errno::NODEV | Errno::NOTCONN) => return mounted.or(Some(folder)),
                Err(_) => break,
            }
        }
        mounted
    }

    /// The error for a problem of the root as a whole: it ends the run.
    pub(super) fn root_error(&self, action: Action, error: impl Into<io::Error>) -> DestinationError {
        match self.error(action, ".", error) {
            fatal if fatal.is_fatal() => fatal,
            DestinationError::PermissionDenied { .. } => self.unavailable(
                "no permission to write there; check the owner and mode of the folder, or choose another destination",
            ),
            DestinationError::Io { source, .. } => self.unavailable(&format!("cannot {} it: {source}", action.text())),
            other => self.unavailable(&other.to_string()),
        }
    }

    pub(super) fn unavailable(&self, reason: &str) -> DestinationError {
        DestinationError::Unavailable {
            location: self.location(),
            reason: reason.to_owned(),
            code: ProblemCode::Destination,
        }
    }

    pub(super) fn leads_out(&self, path: &str) -> DestinationError {
        DestinationError::LeadsOut { path: path.to_owned(), location: self.location() }
    }

    pub(super) fn changed(&self, path: &str, found: Option<KnownContent>) -> DestinationError {
        DestinationError::Changed { path: path.to_owned(), location: self.location(), found, version: None }
    }

    pub(super) fn too_long(&self, path: &str) -> DestinationError {
        DestinationError::NameTooLong { path: path.to_owned(), location: self.location(), said: None }
    }

    pub(super) fn refused(&self, path: &str, reason: &str) -> DestinationError {
        DestinationError::NameRefused {
            path: path.to_owned(),
            location: self.location(),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn not_found(&self, action: Action, path: &str) -> DestinationError {
        self.error(action, path, Errno::NOENT)
    }
}

/// True if a path led out of the root: cap-std has an error of its own for it, without an error number.
pub(super) fn is_escape(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// True if there is nothing at a path: it does not exist, or one of its parents is not a folder.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// A copy of an error, for the other members of a batch.
pub(super) fn again(error: &DestinationError) -> DestinationError {
    match error {
        DestinationError::NameTooLong { path, location, said } => DestinationError::NameTooLong {
            path: path.clone(),
            location: location.clone(),
            said: said.clone(),
        },
        DestinationError::ContentNeeded { path, location, reason } => DestinationError::ContentNeeded {
            path: path.clone(),
            location: location.clone(),
            reason: reason.clone(),
        },
        DestinationError::NameRefused { path, location, reason } => DestinationError::NameRefused {
            path: path.clone(),
            location: location.clone(),
            reason: reason.clone(),
        },
        DestinationError::InTheWay { path, occupant } => {
            DestinationError::InTheWay { path: path.clone(), occupant: occupant.clone() }
        }
        DestinationError::Changed { path, location, found, version } => DestinationError::Changed {
            path: path.clone(),
            location: location.clone(),
            found: *found,
            version: *version,
        },
        DestinationError::LeadsOut { path, location } => {
            DestinationError::LeadsOut { path: path.clone(), location: location.clone() }
        }
        DestinationError::PermissionDenied { action, path, location } => {
            DestinationError::PermissionDenied { action, path: path.clone(), location: location.clone() }
        }
        DestinationError::Locked { location } => DestinationError::Locked { location: location.clone() },
        DestinationError::Full { location } => DestinationError::Full { location: location.clone() },
        DestinationError::Stopped { location } => DestinationError::Stopped { location: location.clone() },
        DestinationError::Unavailable { location, reason, code } => {
            DestinationError::Unavailable { location: location.clone(), reason: reason.clone(), code: *code }
        }
        DestinationError::Io { action, path, location, source } => DestinationError::Io {
            action,
            path: path.clone(),
            location: location.clone(),
            source: match source.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(source.kind(), source.to_string()),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_for(action: Action, errno: Errno) -> DestinationError {
        ErrorContext::new("vault".to_owned()).error(action, "a.md", errno)
    }

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_both_full() {
        assert!(matches!(error_for(Action::Write, Errno::NOSPC), DestinationError::Full { .. }));
        assert!(matches!(error_for(Action::Place, Errno::DQUOT), DestinationError::Full { .. }));
    }

    /// Memory is mounted at `/dev/shm` in every container in which this is tested.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_mounted_folder_that_is_full_or_dead_is_about_its_files_and_named() {
        let root = ErrorContext::new("/".to_owned());
        for (errno, said) in [
            (Errno::NOSPC, "is full"),
            (Errno::DQUOT, "is full"),
            (Errno::STALE, "cannot be reached"),
            (Errno::NODEV, "cannot be reached"),
            (Errno::NOTCONN, "cannot be reached"),
        ] {
            let error = root.error(Action::Place, "dev/shm/not there/a.md", errno);
            let text = error.to_string();
            assert!(!error.is_fatal() && text.contains("\"dev/shm\"") && text.contains(said), "{text}");
            assert!(root.error(Action::Place, "etc/a.md", errno).is_fatal(), "it is in the root's own");
            assert!(root.root_error(Action::Place, errno).is_fatal());
        }
        let staged = root.error(Action::Write, "dev/shm/a.md", Errno::NOSPC);
        assert!(matches!(staged, DestinationError::Full { .. }), "the staging area is in the root");
    }

    #[test]
    fn an_invalid_argument_means_the_name_only_where_a_name_is_given() {
        assert!(matches!(error_for(Action::Place, Errno::INVAL), DestinationError::NameRefused { .. }));
        assert!(matches!(error_for(Action::Read, Errno::INVAL), DestinationError::Io { .. }));
        assert!(matches!(error_for(Action::Read, Errno::ILSEQ), DestinationError::NameRefused { .. }));
    }

    #[test]
    fn a_read_only_file_system_ends_the_run_but_one_forbidden_file_does_not() {
        assert!(error_for(Action::Place, Errno::ROFS).is_fatal());
        assert!(!error_for(Action::Place, Errno::ACCESS).is_fatal());
        assert!(ErrorContext::new("vault".to_owned()).root_error(Action::Write, Errno::ACCESS).is_fatal());
    }
}
