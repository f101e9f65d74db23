//! State shared by all connections of a server: accounts, vaults, faults, counters.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use obsync_protocol::PushRequest;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::accounts::{Accounts, Person};
use crate::disk::VaultFolder;
use crate::faults::FaultControl;
use crate::stats::Recorder;
use crate::vault::{Content, Standing, Vault, VaultRecord};

/// A received push that is to be recorded later.
#[derive(Debug)]
pub(crate) struct LatePush {
    /// The device that sent it.
    pub(crate) device: String,
    pub(crate) request: PushRequest,
    pub(crate) content: Option<Content>,
    /// Remaining requests for a listing or a history before that.
    requests: u64,
}

#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) accounts: Accounts,
    pub(crate) faults: FaultControl,
    pub(crate) recorder: Recorder,
    pub(crate) allow_sign_up: bool,
    /// The largest file in bytes of plaintext, unless the faults set another.
    own_per_file_max: u64,
    /// The address of sessions, as in `/vault/list`: `127.0.0.1:PORT`.
    pub(crate) host: String,
    pub(crate) data_dir: Option<PathBuf>,
    vaults: Mutex<Vec<Arc<Vault>>>,
    /// Received pushes that are to be recorded later.
    late_pushes: Mutex<Vec<LatePush>>,
    /// Ends all present connections; it is replaced by a new one then.
    connections: Mutex<CancellationToken>,
    shutdown: CancellationToken,
}

/// The parts of a server besides its vaults.
pub(crate) struct Parts {
    pub(crate) accounts: Accounts,
    pub(crate) faults: FaultControl,
    pub(crate) allow_sign_up: bool,
    pub(crate) per_file_max: u64,
    pub(crate) host: String,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) shutdown: CancellationToken,
}

impl ServerState {
    pub(crate) fn new(parts: Parts, vaults: Vec<Arc<Vault>>) -> Self {
        Self {
            accounts: parts.accounts,
            faults: parts.faults,
            recorder: Recorder::default(),
            allow_sign_up: parts.allow_sign_up,
            own_per_file_max: parts.per_file_max,
            host: parts.host,
            data_dir: parts.data_dir,
            vaults: Mutex::new(vaults),
            late_pushes: Mutex::default(),
            connections: Mutex::new(parts.shutdown.child_token()),
            shutdown: parts.shutdown,
        }
    }

    /// The largest file, in bytes of plaintext.
    pub(crate) fn per_file_max(&self) -> u64 {
        self.faults.read(|faults| faults.per_file_max).unwrap_or(self.own_per_file_max)
    }

    /// Adds a vault, with its own folder if the server stores its data.
    pub(crate) fn add_vault(&self, record: VaultRecord) -> Result<Arc<Vault>, ServerError> {
        let folder = match &self.data_dir {
            Some(data) => {
                let dir = data.join(record.id.as_str());
                let folder = VaultFolder::create(&dir, &record);
                Some(folder.map_err(|source| ServerError::VaultFolder { path: dir, source })?)
            }
            None => None,
        };
        let vault = Arc::new(Vault::new(record, Vec::new(), folder));
        self.lock_vaults().push(Arc::clone(&vault));
        Ok(vault)
    }

    /// Removes one of the person's own vaults. Its data on disk stays.
    pub(crate) fn remove_vault(&self, id: &str, person: &Person) -> bool {
        let mut vaults = self.lock_vaults();
        let before = vaults.len();
        vaults.retain(|vault| {
            vault.record.id.as_str() != id || vault.record.standing(&person.email) != Standing::Own
        });
        vaults.len() < before
    }

    /// All vaults, in the order in which they were added.
    pub(crate) fn vaults(&self) -> Vec<Arc<Vault>> {
        self.lock_vaults().clone()
    }

    /// The vault with this id, if the person may see it.
    pub(crate) fn visible_vault(&self, id: &str, person: &Person) -> Option<Arc<Vault>> {
        let vaults = self.lock_vaults();
        let visible = |vault: &&Arc<Vault>| {
            vault.record.id.as_str() == id && vault.record.standing(&person.email) != Standing::Hidden
        };
        vaults.iter().find(visible).cloned()
    }

    /// Stores a push that is to be recorded later.
    pub(crate) fn push_later(&self, device: String, request: PushRequest, content: Option<Content>) {
        let requests = self.faults.read(|faults| faults.late_after);
        self.lock_late_pushes().push(LatePush { device, request, content, requests });
    }

    /// Number of pushes that are to be recorded later.
    pub(crate) fn late_pushes(&self) -> usize {
        self.lock_late_pushes().len()
    }

    /// Forgets them.
    pub(crate) fn forget_late_pushes(&self) {
        self.lock_late_pushes().clear();
    }

    /// Counts a request for a listing or a history. Returns the pushes that are to be recorded now.
    pub(crate) fn due_pushes(&self) -> Vec<LatePush> {
        let mut late = self.lock_late_pushes();
        late.iter_mut().for_each(|push| push.requests = push.requests.saturating_sub(1));
        late.extract_if(.., |push| push.requests == 0).collect()
    }

    /// Cancelled when the present connections are to end.
    pub(crate) fn connection_token(&self) -> CancellationToken {
        self.lock_connections().clone()
    }

    /// Ends all present connections.
    pub(crate) fn disconnect_all(&self) {
        let mut connections = self.lock_connections();
        connections.cancel();
        *connections = self.shutdown.child_token();
    }

    fn lock_vaults(&self) -> MutexGuard<'_, Vec<Arc<Vault>>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_late_pushes(&self) -> MutexGuard<'_, Vec<LatePush>> {
        self.late_pushes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_connections(&self) -> MutexGuard<'_, CancellationToken> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
