//! Opens states in databases of this computer or in a DynamoDB table.

use std::path::PathBuf;
use std::sync::Arc;

use obsync_core::{ProblemCode, StateError, StateStore};
use obsync_dynamodb::{DynamoState, DynamoTable, FoundState, StateKey};
use obsync_protocol::VaultInfo;
use obsync_sqlite::{SqliteState, StateCatalog, StateIdentity};

use crate::context::Context;
use crate::exit::Failed;
use crate::target::aws;
use crate::target::disks::{self, DatabaseChoice, Present};
use crate::target::state_place::StatePlace;

/// All states in one place.
#[derive(Debug)]
pub(crate) enum Registry {
    /// Those of this user on this computer.
    Local(StateCatalog),
    /// Those in a table.
    Table(DynamoTable),
}

/// A state that was found and not opened yet.
#[derive(Debug)]
pub(crate) enum Found {
    /// A database.
    Database(PathBuf),
    /// An entry of a table.
    Entry(Box<FoundState>),
}

/// An open state.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// A database.
    Database(Arc<SqliteState>),
    /// An entry of a table; with its lease, unless it was opened for reading.
    Entry(Arc<DynamoState>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateVault {
    pub(crate) id: String,
    /// Its name at the last pull.
    pub(crate) name: String,
}

impl Registry {
    /// The states in this place. Sends no request yet.
    ///
    /// # Errors
    /// When certificates or proxy are unusable, or a local state has no home.
    pub(crate) async fn of(place: &StatePlace, context: &Context) -> Result<Registry, Failed> {
        Ok(match place {
            StatePlace::Local => {
                context.home.require()?;
                Registry::Local(StateCatalog::new(context.home.state()))
            }
            StatePlace::Table(name) => {
                let table = aws::table(context.aws().await?, name, context.table_retries());
                hurry_when_stopped(&table, context);
                Registry::Table(table)
            }
        })
    }

    /// All non-empty states.
    pub(crate) async fn all(&self) -> Result<Vec<Found>, Failed> {
        Ok(match self {
            Registry::Local(catalog) => catalog.databases()?.into_iter().map(Found::Database).collect(),
            Registry::Table(table) => {
                let states = table.states().await?;
                let said = states.into_iter().filter(|state| !state.is_blank());
                said.map(|state| Found::Entry(Box::new(state))).collect()
            }
        })
    }

    /// The states of one destination, by its canonical text: one, unless nothing was pulled or something went
    /// wrong. Of several disks that take turns there, that of the one with this id.
    pub(crate) async fn of_destination(
        &self,
        canonical: &str,
        present: Present,
    ) -> Result<Vec<Found>, Failed> {
        match self {
            Registry::Local(catalog) => {
                let databases = disks::of_present(catalog, canonical, present).await?;
                Ok(databases.into_iter().map(Found::Database).collect())
            }
            Registry::Table(_) => {
                let mut all = self.all().await?;
                all.retain(
                    |found| matches!(found, Found::Entry(state) if state.key.destination == canonical),
                );
                Ok(all)
            }
        }
    }

    /// The state of another vault in the same destination.
    pub(crate) async fn other_vault(
        &self,
        vault: &VaultInfo,
        canonical: &str,
        present: Present,
    ) -> Result<Option<Found>, Failed> {
        match self {
            Registry::Local(catalog) => {
                Ok(match disks::choose(catalog, &identity(vault, canonical), present).await? {
                    DatabaseChoice::Taken(other) => Some(Found::Database(other)),
                    DatabaseChoice::Own(_) | DatabaseChoice::Moved(_) => None,
                })
            }
            Registry::Table(table) => {
                let state = DynamoState::read(table, entry_key(vault, canonical)).await?;
                self.other_entry(&state, canonical).await
            }
        }
    }

    /// Opens the state of a vault in a destination with this id, and locks it unless it is only `looked` at.
    /// `Err` inside `Ok` is the state of another vault in that destination.
    pub(crate) async fn open(
        &self,
        vault: &VaultInfo,
        canonical: &str,
        present: Present,
        looks: bool,
    ) -> Result<Result<State, Found>, Failed> {
        match self {
            Registry::Local(catalog) => {
                let identity = identity(vault, canonical);
                let database = match disks::choose(catalog, &identity, present).await? {
                    DatabaseChoice::Own(database) => database,
                    DatabaseChoice::Taken(other) => return Ok(Err(Found::Database(other))),
                    // A read-only run leaves it where it is: an empty state is as good.
                    DatabaseChoice::Moved(database) if looks => database,
                    DatabaseChoice::Moved(database) => catalog.follow(&database, &identity)?,
                };
                let state = match looks {
                    true => SqliteState::read(&database)?,
                    false => {
                        disks::prune(catalog, canonical, &database)?;
                        SqliteState::open(&database, &identity)?
                    }
                };
                Ok(Ok(State::Database(Arc::new(state))))
            }
            Registry::Table(table) => self.open_entry(table, vault, canonical, looks).await,
        }
    }

    async fn open_entry(
        &self,
        table: &DynamoTable,
        vault: &VaultInfo,
        canonical: &str,
        looks: bool,
    ) -> Result<Result<State, Found>, Failed> {
        let key = entry_key(vault, canonical);
        let state = DynamoState::read(table, key.clone()).await?;
        if let Some(other) = self.other_entry(&state, canonical).await? {
            return Ok(Err(other));
        }
        let state = match looks {
            true => state,
            false => DynamoState::open(table, key, &aws::lease()?).await?,
        };
        Ok(Ok(State::Entry(Arc::new(state))))
    }

    /// The entry of another vault in this destination.
    async fn other_entry(&self, state: &DynamoState, canonical: &str) -> Result<Option<Found>, Failed> {
        // All others are examined only if this is the first pull: that reads the whole table.
        if state.summary().await?.is_some() {
            return Ok(None);
        }
        let own = &state.key().vault_id;
        let is_other = |found: &Found| matches!(found, Found::Entry(other) if other.key.vault_id != *own);
        Ok(self.of_destination(canonical, Present::Bucket).await?.into_iter().find(is_other))
    }

    /// Opens a state for reading.
    pub(crate) async fn read(&self, found: &Found) -> Result<State, StateError> {
        match (self, found) {
            (Registry::Table(table), Found::Entry(state)) => {
                Ok(State::Entry(Arc::new(DynamoState::read(table, state.key.clone()).await?)))
            }
            (_, Found::Database(database)) => Ok(State::Database(Arc::new(SqliteState::read(database)?))),
            (Registry::Local(_), Found::Entry(state)) => Err(StateError::Unavailable {
                database: state.key.destination.clone(),
                reason: "it is in a table".to_owned(),
                code: ProblemCode::State,
            }),
        }
    }

    /// Opens a state that was found, and locks it.
    pub(crate) async fn open_found(&self, found: &Found) -> Result<State, Failed> {
        if let (Registry::Table(table), Found::Entry(state)) = (self, found) {
            let state = DynamoState::open(table, state.key.clone(), &aws::lease()?).await?;
            return Ok(State::Entry(Arc::new(state)));
        }
        let state = self.read(found).await?;
        let (Found::Database(database), State::Database(read)) = (found, &state) else { return Ok(state) };
        let Some(identity) = read.identity().cloned() else { return Ok(state) };
        Ok(State::Database(Arc::new(SqliteState::open(database, &identity)?)))
    }

    /// Removes a state of this destination.
    pub(crate) async fn forget(&self, found: &Found, canonical: &str) -> Result<(), Failed> {
        match (self, found) {
            (Registry::Table(table), Found::Entry(state)) => {
                Ok(table.reset(&state.key, &aws::lease()?).await?)
            }
            (Registry::Local(catalog), Found::Database(database)) => Ok(catalog.remove(database, canonical)?),
            // A state found in the other kind of place does not exist here.
            _ => Ok(()),
        }
    }
}

/// The identity of a database's state.
fn identity(vault: &VaultInfo, canonical: &str) -> StateIdentity {
    StateIdentity {
        vault_id: vault.id.clone(),
        vault_name: vault.name.clone(),
        destination: canonical.to_owned(),
    }
}

/// The identity of an entry in a table.
fn entry_key(vault: &VaultInfo, canonical: &str) -> StateKey {
    StateKey { vault_id: vault.id.clone(), vault_name: vault.name.clone(), destination: canonical.to_owned() }
}

/// Ends calls to a table soon after Ctrl-C. None is dropped: only a call's answer shows whether there is a
/// lease to release.
fn hurry_when_stopped(table: &DynamoTable, context: &Context) {
    let (table, stop) = (table.clone(), context.stop.clone());
    tokio::spawn(async move {
        stop.cancelled().await;
        table.hurry();
    });
}

impl State {
    /// The state for the engine.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        match self {
            State::Database(state) => state.clone(),
            State::Entry(state) => state.clone(),
        }
    }

    /// The vault of the state; `None` if it is empty.
    pub(crate) fn vault(&self) -> Option<StateVault> {
        let vault = |id: &obsync_protocol::VaultId, name: &str| StateVault {
            id: id.to_string(),
            name: name.to_owned(),
        };
        match self {
            State::Database(state) => {
                state.identity().map(|identity| vault(&identity.vault_id, &identity.vault_name))
            }
            State::Entry(state) => Some(vault(&state.key().vault_id, &state.key().vault_name)),
        }
    }

    /// The destination's canonical text; `None` if the state is empty.
    pub(crate) fn destination(&self) -> Option<String> {
        match self {
            State::Database(state) => state.identity().map(|identity| identity.destination.clone()),
            State::Entry(state) => Some(state.key().destination.clone()),
        }
    }

    /// # Errors
    /// When a process works on the destination, or the state is unreadable.
    pub(crate) async fn refuse_while_at_work(&self) -> Result<(), StateError> {
        let holder = match self {
            State::Database(state) => state.is_at_work().then(|| state.holder()),
            State::Entry(state) => {
                state.summary().await?.and_then(|summary| summary.holder).map(|holder| Some(holder.owner))
            }
        };
        match (self.destination(), holder) {
            (Some(destination), Some(holder)) => Err(StateError::locked(&destination, holder)),
            _ => Ok(()),
        }
    }

    /// Returns when another process has taken the destination over, with the error for that. The lock of a
    /// database cannot be taken from its holder.
    pub(crate) async fn lost(&self) -> StateError {
        match self {
            State::Database(_) => std::future::pending().await,
            State::Entry(state) => {
                state.lost().await;
                StateError::LeaseLost { destination: state.key().destination.clone() }
            }
        }
    }

    /// Releases the destination, so that the next process can begin at once. The lock of a database is
    /// released with it.
    pub(crate) async fn close(&self) {
        if let State::Entry(state) = self
            && let Err(error) = state.close().await
        {
            tracing::warn!("the lease could not be given back, so it has to run out: {error}");
        }
    }
}
