//! The identity of a database: its vault and its destination.

use obsync_core::StateError;
use obsync_protocol::VaultId;
use rusqlite::Connection;

use super::error::Database;
use super::rows::ReadError;
use super::schema::{self, Access};

/// The vault and the destination of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateIdentity {
    /// The vault.
    pub vault_id: VaultId,
    /// The vault's name, for people. It may change.
    pub vault_name: String,
    /// The destination, from [`canonical_destination`](super::canonical_destination).
    pub destination: String,
}

impl StateIdentity {
    /// Checks that a database with the identity `found` belongs to this vault and destination.
    pub(super) fn check(&self, found: &StateIdentity, database: &Database) -> Result<(), StateError> {
        if (&found.vault_id, &found.destination) == (&self.vault_id, &self.destination) {
            return Ok(());
        }
        Err(database.unavailable(format!(
            "it is the state of {} pulled from the vault {}, not of {} pulled from {}; move it away",
            found.destination, found.vault_id, self.destination, self.vault_id
        )))
    }
}

/// Changes the destination stored in a database.
pub(super) fn rename_destination(database: &Database, identity: &StateIdentity) -> Result<(), StateError> {
    let Some(mut connection) = schema::open(database, Access::Write)? else {
        return Err(database.unavailable("it is not there any more"));
    };
    let mut rename = || -> rusqlite::Result<()> {
        schema::migrate(&mut connection)?;
        connection.execute("UPDATE vault SET destination = ?1 WHERE id = 1", [&identity.destination])?;
        Ok(())
    };
    rename().map_err(|error| database.error(&error))
}

/// Reads the identity of a database.
pub(super) fn read(database: &Database, connection: &Connection) -> Result<StateIdentity, StateError> {
    query(connection).map_err(|error| database.read_error(error))
}

pub(super) fn query(connection: &Connection) -> Result<StateIdentity, ReadError> {
    let sql = "SELECT vault_id, vault_name, destination FROM vault WHERE id = 1";
    let (id, vault_name, destination): (String, String, String) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let vault_id =
        VaultId::try_new(id).map_err(|_| ReadError::Value("its vault has no valid id".to_owned()))?;
    Ok(StateIdentity { vault_id, vault_name, destination })
}
