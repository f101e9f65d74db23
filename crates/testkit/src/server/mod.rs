//! The development server: one loopback port that speaks REST and WebSocket.

mod http;
mod manage;
mod pull;
mod push;
mod rest;
mod session;
mod state;
mod wire;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accounts::{AccountError, Accounts};
use crate::disk::{self, Keep, VaultFolder};
use crate::faults::{FaultControl, Faults};
use crate::stats::Stats;
use crate::vault::{Vault, VaultHandle, VaultSpec};
use http::Tasks;
use state::{Parts, ServerState};

/// The default largest file, in bytes: that of the service.
const PER_FILE_MAX: u64 = 199 * 1024 * 1024;

/// Longest wait of a test for an event.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A failure to start a server, or of a test's call to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not only this machine's: the server speaks plain HTTP and handles passwords.
    #[error("{0} is not a loopback address; the development server listens on 127.0.0.1 or [::1] only")]
    NotLoopback(SocketAddr),
    /// The port is taken, most likely.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A vault folder is unreadable or not writable.
    #[error("the vault folder {} cannot be read or written: {source}", path.display())]
    VaultFolder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// An account or a vault cannot be created.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The runtime was shut down while the server was being started.
    #[error("the server was not made: {0}")]
    Stopped(#[from] tokio::task::JoinError),
    /// There is no such vault.
    #[error("the server has no vault {0:?}")]
    NoVault(String),
    /// Two vaults have this name.
    #[error("the server has more than one vault {0:?}; name it by its id")]
    AmbiguousVault(String),
}

/// Options of a server. Created by [`Server::builder`].
#[derive(Debug)]
#[must_use]
pub struct ServerBuilder {
    address: SocketAddr,
    public_host: Option<String>,
    users: Vec<(String, SecretString, Option<String>)>,
    allow_sign_up: bool,
    single_use_codes: bool,
    vault_dirs: Vec<PathBuf>,
    data_dir: Option<PathBuf>,
    vaults: Vec<VaultSpec>,
    faults: Faults,
    per_file_max: u64,
}

impl ServerBuilder {
    /// Listens on this address, which must be a loopback one; 127.0.0.1 and any free port by default.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Lists this `host:port` as that of its vaults, for a server behind something else.
    pub fn public_host(mut self, host: impl Into<String>) -> Self {
        self.public_host = Some(host.into());
        self
    }

    /// Adds an account.
    pub fn user(mut self, email: &str, password: &str) -> Self {
        self.users.push((email.to_owned(), SecretString::from(password), None));
        self
    }

    /// Adds an account with a second factor: the secret in base32, 16 bytes or more (RFC 6238).
    pub fn user_with_totp(mut self, email: &str, password: &str, secret: &str) -> Self {
        self.users.push((email.to_owned(), SecretString::from(password), Some(secret.to_owned())));
        self
    }

    /// Accepts each two-factor code only once, as services should (RFC 6238 section 5.2).
    pub fn single_use_codes(mut self, single_use: bool) -> Self {
        self.single_use_codes = single_use;
        self
    }

    /// Creates an account for every unknown address that signs in.
    pub fn allow_sign_up(mut self, allow: bool) -> Self {
        self.allow_sign_up = allow;
        self
    }

    /// Serves the vault of a fixture folder to every account; changes stay in memory only.
    pub fn vault_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.vault_dirs.push(dir.as_ref().to_path_buf());
        self
    }

    /// Stores accounts and vaults in this folder, which is created if it does not exist, and serves its
    /// content.
    pub fn data_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.data_dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Creates a vault, unless the data folder has one of this name already.
    pub fn vault(mut self, spec: VaultSpec) -> Self {
        self.vaults.push(spec);
        self
    }

    /// Sets these faults from the start.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Accepts files up to this many bytes of plaintext.
    pub fn per_file_max(mut self, bytes: u64) -> Self {
        self.per_file_max = bytes;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When the address is not a loopback one or taken, or a folder is unreadable or not writable.
    pub async fn start(self) -> Result<Server, ServerError> {
        if !self.address.ip().is_loopback() {
            return Err(ServerError::NotLoopback(self.address));
        }
        let listen_error = |source| ServerError::Listen { address: self.address, source };
        let listener = TcpListener::bind(self.address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let shutdown = CancellationToken::new();
        let host = self.public_host.clone().unwrap_or_else(|| host_of(address));
        let state = Arc::new(self.build(host, shutdown.clone()).await?);
        let tasks = Tasks { tracker: TaskTracker::new(), shutdown };
        serve(listener, &state, &tasks);
        tracing::info!(%address, "the development server listens");
        Ok(Server { address, state, tasks })
    }

    /// Reads and creates everything, on a blocking thread: key derivation takes a while.
    async fn build(self, host: String, shutdown: CancellationToken) -> Result<ServerState, ServerError> {
        tokio::task::spawn_blocking(move || self.build_blocking(host, shutdown)).await?
    }

    fn build_blocking(self, host: String, shutdown: CancellationToken) -> Result<ServerState, ServerError> {
        let mut vaults = Vec::new();
        let mut accounts_file = None;
        if let Some(data) = &self.data_dir {
            accounts_file = Some(data.join("accounts.json"));
            vaults =
                open_data(data).map_err(|source| ServerError::VaultFolder { path: data.clone(), source })?;
        }
        for dir in &self.vault_dirs {
            let (record, entries) = disk::load(dir, Keep::InMemory)
                .map_err(|source| ServerError::VaultFolder { path: dir.clone(), source })?;
            vaults.push(Arc::new(Vault::new(record, entries, None)));
        }
        let accounts = Accounts::open(accounts_file)?.with_single_use_codes(self.single_use_codes);
        for (email, password, secret) in &self.users {
            accounts.add(email, password, secret.as_deref())?;
        }
        let parts = Parts {
            accounts,
            faults: FaultControl::new(self.faults),
            allow_sign_up: self.allow_sign_up,
            per_file_max: self.per_file_max,
            host,
            data_dir: self.data_dir,
            shutdown,
        };
        let known: HashSet<String> = vaults.iter().map(|vault| vault.record.name.clone()).collect();
        let state = ServerState::new(parts, vaults);
        for spec in self.vaults.into_iter().filter(|spec| !known.contains(spec.name())) {
            state.add_vault(spec.build()?)?;
        }
        Ok(state)
    }
}

/// A function of its own: the code of a task is compiled where it is spawned, and `start` is compiled in each
/// test program.
fn serve(listener: TcpListener, state: &Arc<ServerState>, tasks: &Tasks) {
    tasks.tracker.spawn(http::accept(listener, Arc::clone(state), tasks.clone()));
}

/// The vaults of a data folder, which is created if it does not exist.
fn open_data(data: &Path) -> io::Result<Vec<Arc<Vault>>> {
    std::fs::create_dir_all(data)?;
    let mut vaults = Vec::new();
    for dir in disk::vault_folders(data)? {
        let (record, entries) = disk::load(&dir, Keep::OnDisk)?;
        vaults.push(Arc::new(Vault::new(record, entries, Some(VaultFolder::open(&dir)?))));
    }
    Ok(vaults)
}

/// The server's host in `/vault/list`: clients speak `ws://` only to these two names.
fn host_of(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => format!("127.0.0.1:{}", address.port()),
        _ => format!("localhost:{}", address.port()),
    }
}

/// A running development server. Dropping it stops it; [`Server::shutdown`] also waits for that.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<ServerState>,
    tasks: Tasks,
}

impl Server {
    /// An empty server, in memory, on any free port of 127.0.0.1.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_host: None,
            users: Vec::new(),
            allow_sign_up: false,
            single_use_codes: false,
            vault_dirs: Vec::new(),
            data_dir: None,
            vaults: Vec::new(),
            faults: Faults::default(),
            per_file_max: PER_FILE_MAX,
        }
    }

    /// The address of REST calls: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address of sessions, as in `/vault/list`: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.state.host.clone()
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The statistics so far.
    pub fn stats(&self) -> Stats {
        self.state.recorder.snapshot()
    }

    /// Resets the maxima of [`Stats`] to the present values; all other counters continue.
    pub fn begin_maxima_anew(&self) {
        self.state.recorder.begin_maxima_anew();
    }

    /// Waits until the statistics meet a condition, for a minute at most.
    ///
    /// # Panics
    /// When the minute is over: the awaited event does not happen.
    pub async fn wait_for(&self, condition: impl Fn(&Stats) -> bool) {
        let met = self.state.recorder.wait_for(condition);
        if tokio::time::timeout(WAIT_LIMIT, met).await.is_err() {
            panic!("what was waited for did not happen; what did: {:?}", self.stats());
        }
    }

    /// The faults, which can be changed at any time.
    pub fn faults(&self) -> &FaultControl {
        &self.state.faults
    }

    /// The vault with this name or id.
    ///
    /// # Errors
    /// When there is none, or more than one has the name.
    pub fn vault(&self, name_or_id: &str) -> Result<VaultHandle, ServerError> {
        let vaults = self.vaults();
        if let Some(vault) = vaults.iter().find(|vault| vault.id().as_str() == name_or_id) {
            return Ok(vault.clone());
        }
        let mut named = vaults.into_iter().filter(|vault| vault.name() == name_or_id);
        match (named.next(), named.next()) {
            (Some(vault), None) => Ok(vault),
            (None, _) => Err(ServerError::NoVault(name_or_id.to_owned())),
            (Some(_), Some(_)) => Err(ServerError::AmbiguousVault(name_or_id.to_owned())),
        }
    }

    /// Every vault, in order of creation.
    pub fn vaults(&self) -> Vec<VaultHandle> {
        self.state.vaults().into_iter().map(VaultHandle::new).collect()
    }

    /// Creates a vault; deriving its keys takes tens of milliseconds.
    ///
    /// # Errors
    /// When the data folder is not writable.
    pub fn create_vault(&self, spec: VaultSpec) -> Result<VaultHandle, ServerError> {
        Ok(VaultHandle::new(self.state.add_vault(spec.build()?)?))
    }

    /// The present two-factor code of an account; `None` without a second factor.
    pub fn totp_code(&self, email: &str) -> Option<String> {
        self.state.accounts.code(email)
    }

    /// Sets the server's clock this many seconds ahead of this machine's: affects two-factor codes and the
    /// date of answers.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.state.accounts.set_clock_ahead(seconds);
    }

    /// Number of valid tokens of an account.
    pub fn tokens(&self, email: &str) -> usize {
        self.state.accounts.tokens(email)
    }

    /// Makes every token invalid.
    ///
    /// # Errors
    /// When the accounts file is not writable.
    pub fn expire_tokens(&self) -> Result<(), ServerError> {
        Ok(self.state.accounts.expire_tokens()?)
    }

    /// Marks the subscription of every account as expired, or not.
    ///
    /// # Errors
    /// When the accounts file is not writable.
    pub fn set_subscription_expired(&self, expired: bool) -> Result<(), ServerError> {
        Ok(self.state.accounts.set_subscription_expired(expired)?)
    }

    /// Number of received pushes that are to be recorded later.
    pub fn late_pushes(&self) -> usize {
        self.state.late_pushes()
    }

    /// Forgets the pushes that are to be recorded later.
    pub fn forget_late_pushes(&self) {
        self.state.forget_late_pushes();
    }

    /// Drops every present connection; new ones are accepted.
    pub fn disconnect_all(&self) {
        self.state.disconnect_all();
    }

    /// Stops the server and waits until all its tasks have ended and the port is free.
    pub async fn shutdown(self) {
        self.tasks.shutdown.cancel();
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.shutdown.cancel();
    }
}
