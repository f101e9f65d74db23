//! What is known of destinations: their state databases, and the folders themselves.

use std::path::{Path, PathBuf};

use obsync_core::StoreError;
use obsync_protocol::VaultInfo;
use obsync_stores::{FolderOptions, FolderStore, SqliteState, StateCatalog, StateIdentity};

use crate::context::Context;
use crate::destination::Destination;
use crate::exit::{Exit, Failed};

/// A destination and where its state is, if there is any.
#[derive(Debug)]
pub(crate) struct Known {
    catalog: StateCatalog,
    destination: Destination,
    canonical: String,
}

/// All state databases of this user.
pub(crate) fn catalog(context: &Context) -> StateCatalog {
    StateCatalog::new(context.home.state())
}

impl Known {
    /// Of a folder given by the user.
    pub(crate) fn of(destination: &Destination, context: &Context) -> Result<Self, Failed> {
        Ok(Known {
            catalog: catalog(context),
            destination: destination.clone(),
            canonical: destination.canonical()?,
        })
    }

    /// Opens the state for a pull of `vault`, and locks it unless the pull only `looks`.
    ///
    /// # Errors
    /// When the folder is another vault's, another process has the state, or it cannot be used.
    pub(crate) fn state_for(&self, vault: &VaultInfo, looks: bool) -> Result<SqliteState, Failed> {
        let database = self.catalog.path_of(&self.canonical, &vault.id);
        if let Some(other) = self.databases()?.into_iter().find(|found| *found != database) {
            return Err(self.taken_by(&other));
        }
        if looks {
            return Ok(SqliteState::read(&database)?);
        }
        let identity = StateIdentity {
            vault_id: vault.id.clone(),
            vault_name: vault.name.clone(),
            destination: self.canonical.clone(),
        };
        Ok(SqliteState::open(&database, &identity)?)
    }

    /// Opens the folder, and locks it unless it is only to be `looked` at.
    ///
    /// # Errors
    /// When it cannot be used, or another process works on it.
    pub(crate) fn folder(&self, looks: bool) -> Result<FolderStore, Failed> {
        let folder = FolderStore::open(self.destination.path(), FolderOptions::default())?;
        if !looks && !folder.lock()? {
            let location = self.destination.to_string();
            return Err(StoreError::Locked { location }.into());
        }
        Ok(folder)
    }

    /// The databases of this destination: one, unless nothing was pulled or something went wrong.
    pub(crate) fn databases(&self) -> Result<Vec<PathBuf>, Failed> {
        Ok(self.catalog.of_destination(&self.canonical)?)
    }

    /// The databases of this destination, of which there is one at least.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn databases_there(&self) -> Result<Vec<PathBuf>, Failed> {
        let databases = self.databases()?;
        if databases.is_empty() {
            let message = format!(
                "nothing was pulled to {} yet; `obsync status` lists the folders that obsync knows",
                self.destination
            );
            return Err(Failed::new(Exit::NotFound, message));
        }
        Ok(databases)
    }

    /// Forgets what one database says.
    pub(crate) fn forget(&self, database: &Path) -> Result<(), Failed> {
        Ok(self.catalog.remove(database, &self.canonical)?)
    }

    fn taken_by(&self, database: &Path) -> Failed {
        let vault = match SqliteState::read(database).map(|state| state.identity().cloned()) {
            Ok(Some(identity)) => format!("the vault {:?} ({})", identity.vault_name, identity.vault_id),
            _ => "another vault".to_owned(),
        };
        let destination = &self.destination;
        Failed::new(
            Exit::Error,
            format!(
                "{destination} holds {vault} already; pull to another folder, or give this one up for that vault \
                 first with `obsync reset {destination}`"
            ),
        )
    }
}
