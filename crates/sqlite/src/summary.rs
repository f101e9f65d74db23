//! A state database at a glance, for `obsync status`.

use obsync_core::StateError;
use rusqlite::Connection;

use super::SqliteState;
use super::identity::{self, StateIdentity};
use super::rows::{ReadError, vault_state};
use obsync_core::blocking::lock;

/// What a state database says, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// Whose state it is.
    pub identity: StateIdentity,
    /// When the database was made, milliseconds since the epoch.
    pub created: i64,
    /// When something was last recorded, milliseconds since the epoch.
    pub committed: i64,
    /// Every change of the vault up to this version is applied or deferred.
    pub version: u64,
    /// Whether a first listing was handled to its end.
    pub listed: bool,
    /// Files in the destination.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders that the vault has as such.
    pub folders: u64,
    /// Changes that the filter left out.
    pub filtered: u64,
    /// Changes that could not be applied.
    pub failed: u64,
    /// Files that were kept when the vault deleted them.
    pub retained: u64,
}

impl SqliteState {
    /// What the database says, in numbers; `None` when there is none yet. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`StateError::Corrupt`] or [`StateError::Unavailable`] if it cannot be read.
    pub fn summary(&self) -> Result<Option<StateSummary>, StateError> {
        let connection = lock(&self.inner.connection);
        let summary = connection.as_ref().map(summary).transpose();
        summary.map_err(|error| self.inner.database.read_error(error))
    }
}

pub(super) fn summary(connection: &Connection) -> Result<StateSummary, ReadError> {
    let state = vault_state(connection)?;
    let (created, committed) =
        connection.query_row("SELECT created, committed FROM vault WHERE id = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let sql = "SELECT COUNT(hash), COUNT(*) - COUNT(hash), COALESCE(SUM(size), 0) FROM records";
    let (files, folders, bytes): (u64, u64, i64) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let count = |cause: i64| -> rusqlite::Result<u64> {
        connection.query_row("SELECT COUNT(*) FROM deferred WHERE cause = ?1", [cause], |row| row.get(0))
    };
    Ok(StateSummary {
        identity: identity::query(connection)?,
        created,
        committed,
        version: state.version,
        listed: state.listed,
        files,
        bytes: u64::try_from(bytes)
            .map_err(|_| ReadError::Value("the sizes of its files are negative".to_owned()))?,
        folders,
        filtered: count(0)?,
        failed: count(1)?,
        retained: count(4)?,
    })
}
