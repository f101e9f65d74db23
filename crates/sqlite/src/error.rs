//! Translates errors of SQLite into the engine's [`StateError`].

use std::io;
use std::path::{Path, PathBuf};

use obsync_core::{ProblemCode, StateError};
use obsync_private::LockError;
use rusqlite::{ErrorCode, ffi};

use super::commit::WriteError;
use super::lock::{no_locks, refusal};
use super::rows::ReadError;

/// A database's file, named in every error.
#[derive(Clone, Debug)]
pub(super) struct Database(PathBuf);

impl Database {
    pub(super) fn new(path: &Path) -> Self {
        Database(path.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> StateError {
        StateError::Corrupt { database: self.text(), reason: reason.into() }
    }

    pub(super) fn newer(&self, found: i64, known: i64) -> StateError {
        StateError::Newer { database: self.text(), found, known }
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StateError {
        StateError::Unavailable { database: self.text(), reason: reason.into(), code: ProblemCode::State }
    }

    /// The error for SQLite's answer.
    pub(super) fn error(&self, error: &rusqlite::Error) -> StateError {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.corrupt(error.to_string()),
            // The statements are ours: if one cannot be parsed, tables are missing or different.
            Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
                self.corrupt(error.to_string())
            }
            Some(ErrorCode::DiskFull) => self.unavailable(
                "no space is left; free some and run the same command again, it goes on where it stopped",
            ),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => match refusal(self) {
                Some(refusal) => no_locks(self, &refusal),
                None => self.unavailable(
                    "another program keeps it locked; close it and run the same command again (if there is none, it is on a \
                     network drive whose locks do not work)",
                ),
            },
            Some(_) if is_of_locks(error) => no_locks(self, &LockError::NoLocks(io::Error::other(error.to_string()))),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                self.unavailable(format!("{error}; check the owner and mode of the file and its folder"))
            }
            Some(_) => self.unavailable(error.to_string()),
            // Not from SQLite but from converting its values.
            None => self.corrupt(error.to_string()),
        }
    }

    pub(super) fn read_error(&self, error: ReadError) -> StateError {
        match error {
            ReadError::Sqlite(error) => self.error(&error),
            ReadError::Value(reason) => self.corrupt(reason),
        }
    }

    pub(super) fn write_error(&self, error: WriteError) -> StateError {
        match error {
            WriteError::Sqlite(error) => self.error(&error),
            WriteError::Read(error) => self.read_error(error),
            WriteError::OutOfRange(what) => self.unavailable(format!("{what} is larger than it can hold")),
        }
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

/// True if SQLite failed to take or release a lock, other than because another process has it.
fn is_of_locks(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        matches!(
            error.extended_code,
            ffi::SQLITE_IOERR_LOCK
                | ffi::SQLITE_IOERR_RDLOCK
                | ffi::SQLITE_IOERR_UNLOCK
                | ffi::SQLITE_IOERR_CHECKRESERVEDLOCK
        )
    })
}
