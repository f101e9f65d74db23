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

/// The largest file that the server takes unless told otherwise, in bytes: that of the service.
const PER_FILE_MAX: u64 = 199 * 1024 * 1024;

/// How long a test waits for something to happen.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A server that cannot start or do what a test asks of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is not one of this machine alone: the server speaks plain HTTP and knows passwords.
    #[error("{0} is not a loopback address; the development server listens on 127.0.0.1 or [::1] only")]
    NotLoopback(SocketAddr),
    /// The port is taken, most likely.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A vault folder cannot be read or written.
    #[error("the vault folder {} cannot be read or written: {source}", path.display())]
    VaultFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An account or a vault cannot be made.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The runtime was shut down while the server was being made.
    #[error("the server was not made: {0}")]
    Stopped(#[from] tokio::task::JoinError),
    /// There is no such vault.
    #[error("the server has no vault {0:?}")]
    NoVault(String),
    /// Two vaults have this name.
    #[error("the server has more than one vault {0:?}; name it by its id")]
    AmbiguousVault(String),
}

/// What a server is to be. Made by [`Server::builder`].
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

    /// Names this `host:port` as that of its vaults, for a server that something else stands in front of.
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

    /// Accepts each two-factor code once only, as services should (RFC 6238 section 5.2).
    pub fn single_use_codes(mut self, single_use: bool) -> Self {
        self.single_use_codes = single_use;
        self
    }

    /// Makes an account for every unknown address that signs in.
    pub fn allow_sign_up(mut self, allow: bool) -> Self {
        self.allow_sign_up = allow;
        self
    }

    /// Serves the vault of a fixture folder to every account; changes are kept in memory only.
    pub fn vault_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.vault_dirs.push(dir.as_ref().to_path_buf());
        self
    }

    /// Keeps accounts and vaults in this folder, made if it is not there, and serves what is in it.
    pub fn data_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.data_dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// Makes a vault, unless the data folder has one of this name already.
    pub fn vault(mut self, spec: VaultSpec) -> Self {
        self.vaults.push(spec);
        self
    }

    /// Does these things wrong from the start.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Takes files up to this many bytes of plaintext.
    pub fn per_file_max(mut self, bytes: u64) -> Self {
        self.per_file_max = bytes;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// When the address is not a loopback one or taken, or a folder cannot be read or written.
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
        tasks.tracker.spawn(http::accept(listener, Arc::clone(&state), tasks.clone()));
        tracing::info!(%address, "the development server listens");
        Ok(Server { address, state, tasks })
    }

    /// Reads and makes everything, away from the runtime: keys take a while to derive.
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

/// The vaults of a data folder, which is made if it is not there.
fn open_data(data: &Path) -> io::Result<Vec<Arc<Vault>>> {
    std::fs::create_dir_all(data)?;
    let mut vaults = Vec::new();
    for dir in disk::vault_folders(data)? {
        let (record, entries) = disk::load(&dir, Keep::OnDisk)?;
        vaults.push(Arc::new(Vault::new(record, entries, Some(VaultFolder::open(&dir)?))));
    }
    Ok(vaults)
}

/// How `/vault/list` names the server: clients speak `ws://` only to these two names.
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
    /// A server with nothing in it, in memory, on any free port of 127.0.0.1.
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

    /// Where REST calls go: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where sessions are, as `/vault/list` gives it: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.state.host.clone()
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.state.recorder.snapshot()
    }

    /// Begins the maxima of [`Stats`] anew, with what is open now; everything else is counted on.
    pub fn begin_maxima_anew(&self) {
        self.state.recorder.begin_maxima_anew();
    }

    /// Waits until what happened meets a condition, for a minute at most.
    ///
    /// # Panics
    /// When the minute is over: what the test waits for does not happen.
    pub async fn wait_for(&self, condition: impl Fn(&Stats) -> bool) {
        let met = self.state.recorder.wait_for(condition);
        if tokio::time::timeout(WAIT_LIMIT, met).await.is_err() {
            panic!("what was waited for did not happen; what did: {:?}", self.stats());
        }
    }

    /// What the server does wrong, to be changed at any time.
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

    /// Every vault, in the order in which they were made.
    pub fn vaults(&self) -> Vec<VaultHandle> {
        self.state.vaults().into_iter().map(VaultHandle::new).collect()
    }

    /// Makes a vault; deriving its keys takes tens of milliseconds.
    ///
    /// # Errors
    /// When the data folder cannot be written.
    pub fn create_vault(&self, spec: VaultSpec) -> Result<VaultHandle, ServerError> {
        Ok(VaultHandle::new(self.state.add_vault(spec.build()?)?))
    }

    /// The code that the second factor of an account gives now; none without a second factor.
    pub fn totp_code(&self, email: &str) -> Option<String> {
        self.state.accounts.code(email)
    }

    /// Sets the server's clock this many seconds ahead of this machine's: two-factor codes and the date of answers follow.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.state.accounts.set_clock_ahead(seconds);
    }

    /// How many tokens of an account are valid.
    pub fn tokens(&self, email: &str) -> usize {
        self.state.accounts.tokens(email)
    }

    /// Makes every token invalid.
    ///
    /// # Errors
    /// When the accounts file cannot be written.
    pub fn expire_tokens(&self) -> Result<(), ServerError> {
        Ok(self.state.accounts.expire_tokens()?)
    }

    /// Makes the subscription of every account expired, or not.
    ///
    /// # Errors
    /// When the accounts file cannot be written.
    pub fn set_subscription_expired(&self, expired: bool) -> Result<(), ServerError> {
        Ok(self.state.accounts.set_subscription_expired(expired)?)
    }

    /// Drops every connection there is; new ones are taken.
    pub fn disconnect_all(&self) {
        self.state.disconnect_all();
    }

    /// Stops the server and waits until every task of it has ended and the port is free.
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
