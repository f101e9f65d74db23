//! A summary of a state database, for `obsync status`.

use obsync_core::StateError;
use rusqlite::Connection;

use super::SqliteState;
use super::identity::{self, StateIdentity};
use super::rows::{ReadError, vault_state};
use obsync_core::blocking::lock;

/// Numbers of a state database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// Its vault and destination.
    pub identity: StateIdentity,
    /// Creation time of the database, in milliseconds since the epoch.
    pub created: i64,
    /// Time of the last commit, in milliseconds since the epoch.
    pub committed: i64,
    /// Every change of the vault up to this version is applied or deferred.
    pub version: u64,
    /// True if a first listing was handled completely.
    pub listed: bool,
    /// Files in the destination.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Folders that the vault lists.
    pub folders: u64,
    /// Changes that the filter excluded.
    pub filtered: u64,
    /// Changes that could not be applied.
    pub failed: u64,
    /// Files that were kept when the vault deleted them.
    pub retained: u64,
}

impl SqliteState {
    /// Reads the numbers; `None` if there is no database yet. Blocks for a moment.
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
        failed: count(1)? + count(6)?,
        retained: count(4)?,
    })
}
