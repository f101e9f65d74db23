//! A vault on a development server and a destination to pull it to, shared by the tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_client::{Client, ClientOptions, FetchOptions, RetryPolicy};
use obsync_conformance::SetClock;
use obsync_core::{
    Filter, MaxDelete, Mode, NoProgress, Phase, Progress, PullError, PullOptions, PullSource, Report,
    StateStore, SyncDirection, SyncOptions, Verification, pull, sync, verify,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{MasterKey, SecretString, VaultKeys};
use obsync_sqlite::{SqliteState, StateIdentity, canonical_destination};
use obsync_testkit::{Expected, Server, ServerBuilder, VaultHandle, VaultSpec};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "account password";
const VAULT: &str = "Notes";
const VAULT_PASSWORD: &str = "vault password";

/// A server with one vault, and a place to pull it to.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) vault: VaultHandle,
    pub(crate) source: PullSource,
    pub(crate) options: PullOptions,
    pub(crate) folder: FolderOptions,
    home: TempDir,
}

impl Bench {
    /// A bench with an empty vault.
    pub(crate) async fn new() -> Self {
        Self::with(|server| server).await
    }

    /// A bench with additional setup of its server.
    pub(crate) async fn with(set_up: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        Self::of(VaultSpec::end_to_end(VAULT, VAULT_PASSWORD), set_up).await
    }

    /// A bench with the same vault, empty again, on another server.
    pub(crate) async fn anew(&self) -> Self {
        Self::of(VaultSpec::end_to_end(VAULT, VAULT_PASSWORD).id(self.vault.id()), |server| server).await
    }

    async fn of(spec: VaultSpec, set_up: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Self {
        let server = set_up(Server::builder().user(EMAIL, PASSWORD).vault(spec)).start().await.unwrap();
        let vault = server.vault(VAULT).unwrap();
        let source = source(&server).await;
        let options = PullOptions {
            fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
            // Held-back deletions have tests of their own.
            max_delete: MaxDelete::Unlimited,
            ..PullOptions::default()
        };
        Bench {
            server,
            vault,
            source,
            options,
            folder: FolderOptions::default(),
            home: TempDir::new().unwrap(),
        }
    }

    /// Makes all runs use a clock that the test moves.
    pub(crate) async fn set_clock(&mut self) -> Arc<SetClock> {
        let clock = SetClock::new();
        self.source = source_with(&self.server.url(), |options| options.clock = clock.clone()).await;
        clock
    }

    /// The same bench with its destination and state at another, empty place.
    pub(crate) fn at(self, place: &Path) -> Self {
        Bench { home: TempDir::new_in(place).unwrap(), ..self }
    }

    /// The same bench with the destination and the state of another.
    pub(crate) fn with_destination_of(self, other: Bench) -> Self {
        Bench { home: other.home, ..self }
    }

    /// Deletes the state.
    pub(crate) fn lose_state(&self) {
        std::fs::remove_file(self.home.path().join("state.sqlite")).unwrap();
    }

    /// The folder that the vault is pulled to.
    pub(crate) fn dest(&self) -> PathBuf {
        self.home.path().join("notes")
    }

    pub(crate) fn identity(&self) -> StateIdentity {
        identity(&self.source, &self.dest())
    }

    /// The folder that has the destination and the state.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The destination's state, opened (and locked) anew.
    pub(crate) fn state(&self) -> Arc<SqliteState> {
        Arc::new(SqliteState::open(&self.home.path().join("state.sqlite"), &self.identity()).unwrap())
    }

    /// The destination, opened anew.
    pub(crate) fn store(&self) -> Arc<FolderDestination> {
        Arc::new(FolderDestination::open(&self.dest(), self.folder).unwrap())
    }

    /// Waits for the remaining work of a pull whose future was dropped: blocking calls end with a killed
    /// process, but not with a dropped future.
    pub(crate) async fn until_dead(&self) {
        while self.store().lock().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let identity = self.identity();
        while SqliteState::open(&self.home.path().join("state.sqlite"), &identity).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn try_pull(&self) -> Result<Report, PullError> {
        self.pull_with(Arc::new(NoProgress), CancellationToken::new()).await
    }

    /// Pulls and asserts success.
    pub(crate) async fn pull(&self) -> Report {
        self.try_pull().await.unwrap()
    }

    /// Pulls with a progress and a cancellation token.
    pub(crate) async fn pull_with(
        &self,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        pull(&self.source, self.store(), self.state(), &self.options, progress, stop).await
    }

    /// Syncs both ways, without a pause before deletions.
    pub(crate) async fn try_sync(&self) -> Result<Report, PullError> {
        self.sync_with(|_| {}).await
    }

    /// Syncs with other options.
    pub(crate) async fn sync_with(&self, change: impl FnOnce(&mut SyncOptions)) -> Result<Report, PullError> {
        self.sync_recorded_by(self.state(), change).await
    }

    /// Syncs with other options and the given state.
    pub(crate) async fn sync_recorded_by(
        &self,
        state: Arc<dyn StateStore>,
        change: impl FnOnce(&mut SyncOptions),
    ) -> Result<Report, PullError> {
        let mut options = self.sync_options();
        change(&mut options);
        let (progress, stop) = (Arc::new(NoProgress), CancellationToken::new());
        sync(&self.source, self.store(), state, &options, progress, stop).await
    }

    /// Syncs with other options until stopped.
    pub(crate) async fn sync_until(
        &self,
        stop: CancellationToken,
        change: impl FnOnce(&mut SyncOptions),
    ) -> Result<Report, PullError> {
        let mut options = self.sync_options();
        change(&mut options);
        sync(&self.source, self.store(), self.state(), &options, Arc::new(NoProgress), stop).await
    }

    fn sync_options(&self) -> SyncOptions {
        SyncOptions {
            pull: self.options.clone(),
            max_delete_in_vault: MaxDelete::Unlimited,
            second_look: Duration::ZERO,
            ..SyncOptions::default()
        }
    }

    /// Syncs with the given destination, progress and cancellation token.
    pub(crate) async fn sync_through(
        &self,
        destination: FolderDestination,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        let options = self.sync_options();
        sync(&self.source, Arc::new(destination), self.state(), &options, progress, stop).await
    }

    /// Syncs; `act` runs when everything is ready to be sent.
    pub(crate) async fn sync_while(&self, act: impl FnOnce() + Send + 'static) -> Result<Report, PullError> {
        let destination = FolderDestination::open(&self.dest(), self.folder).unwrap();
        self.sync_through(destination, before_sending(act), CancellationToken::new()).await
    }

    /// Pushes; `act` runs when everything is ready to be sent.
    pub(crate) async fn push_while(&self, act: impl FnOnce() + Send + 'static) -> Result<Report, PullError> {
        let direction = SyncDirection::Push { mirrors: false };
        let options = SyncOptions { direction, ..self.sync_options() };
        let (progress, stop) = (before_sending(act), CancellationToken::new());
        sync(&self.source, self.store(), self.state(), &options, progress, stop).await
    }

    /// Syncs and asserts success.
    pub(crate) async fn sync(&self) -> Report {
        self.try_sync().await.unwrap()
    }

    /// Asserts that destination, vault and state are equal.
    pub(crate) async fn assert_in_step(&self) {
        let differences = self.vault.expected().unwrap().differences(&self.dest()).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
        assert_eq!(self.state().load().await.unwrap().version, self.vault.version().0);
    }

    /// Pulls with everything checked again.
    pub(crate) async fn pull_full(&mut self) -> Report {
        self.options.mode = Mode::Full;
        let report = self.pull().await;
        self.options.mode = Mode::Incremental;
        report
    }

    /// Pulls under another filter from now on.
    pub(crate) fn filter(&mut self, filter: Filter) {
        self.options.filter = filter;
    }

    /// Asserts that the destination has exactly the vault's files, and the state records them.
    pub(crate) async fn assert_exact(&self) {
        let differences = self.vault.expected().unwrap().differences(&self.dest()).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
        let verification = self.verify().await;
        assert!(verification.is_clean(), "{verification:#?}");
        assert_eq!(self.state().load().await.unwrap().version, self.vault.version().0);
    }

    /// Compares destination and state.
    pub(crate) async fn verify(&self) -> Verification {
        verify(self.store().as_ref(), self.state().as_ref(), false, &NoProgress).await.unwrap()
    }

    /// All files and folders of the destination.
    pub(crate) fn tree(&self) -> Expected {
        Expected::of_directory(&self.dest()).unwrap()
    }

    /// The paths of all files of the destination.
    pub(crate) fn files(&self) -> Vec<String> {
        self.tree().files.into_iter().map(|file| file.path).collect()
    }

    /// All files of the destination by path, each as the SHA-256 of its content.
    pub(crate) fn contents(&self) -> BTreeMap<String, String> {
        self.tree().files.into_iter().map(|file| (file.path, file.sha256)).collect()
    }

    /// The text of a file of the destination.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.dest().join(path)).unwrap()
    }

    /// Writes a file of the destination, as its user would.
    pub(crate) fn edit(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.dest().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Runs an action once a session for writing is open and nothing is sent yet.
struct BeforeSending {
    is_sending: AtomicBool,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn before_sending(act: impl FnOnce() + Send + 'static) -> Arc<BeforeSending> {
    Arc::new(BeforeSending { is_sending: AtomicBool::new(false), act: Mutex::new(Some(Box::new(act))) })
}

impl Progress for BeforeSending {
    fn phase(&self, phase: Phase) {
        self.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
    }

    fn planned(&self, _files: u64, _bytes: u64) {
        if self.is_sending.load(Ordering::Relaxed)
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
    }
}

/// The identity in the state of a destination.
pub(crate) fn identity(source: &PullSource, dest: &Path) -> StateIdentity {
    StateIdentity {
        vault_id: source.vault.id.clone(),
        vault_name: VAULT.to_owned(),
        destination: canonical_destination(dest).unwrap(),
    }
}

async fn source(server: &Server) -> PullSource {
    source_at(&server.url()).await
}

/// The vault on the server at this address.
pub(crate) async fn source_at(url: &str) -> PullSource {
    source_with(url, |_| {}).await
}

/// The same, with other options.
pub(crate) async fn source_with(url: &str, change: impl FnOnce(&mut ClientOptions)) -> PullSource {
    // As many retries as by default, but with short delays.
    let (min_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(20));
    let retry = RetryPolicy { min_delay, max_delay, ..RetryPolicy::default() };
    let mut options = ClientOptions { api_url: url.to_owned(), retry, ..ClientOptions::default() };
    change(&mut options);
    let client = Client::new(options).unwrap();
    let token = client.sign_in(EMAIL, &SecretString::from(PASSWORD), None).await.unwrap().token;
    let vault = client.vaults(&token).await.unwrap().into_iter().find(|vault| vault.name == VAULT).unwrap();
    let master = MasterKey::derive(&SecretString::from(VAULT_PASSWORD), &vault.salt);
    let keys = VaultKeys::new(&master, vault.encryption().unwrap(), &vault.salt);
    PullSource { client, token, vault, keys }
}
