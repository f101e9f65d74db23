//! A vault on a development server, and a bucket of the loopback cloud as its destination.

use std::path::Path;
use std::sync::Arc;

use obsync_client::{Client, ClientOptions, FetchOptions};
use obsync_core::{
    Mode, NoProgress, Progress, PullError, PullOptions, PullSource, Report, StateError, StateStore,
    Verification, pull, verify,
};
use obsync_protocol::{ContentHash, MasterKey, SecretString, VaultKeys};
use obsync_sqlite::{SqliteState, StateIdentity};
use obsync_testkit::{Server, VaultHandle, VaultSpec};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::buckets::{S3Bucket, location};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "account password";
const VAULT: &str = "Notes";
const VAULT_PASSWORD: &str = "vault password";

/// A server with one vault, and a bucket to pull it to.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) vault: VaultHandle,
    pub(crate) bucket: S3Bucket,
    pub(crate) options: PullOptions,
    pub(crate) source: PullSource,
    pub(crate) home: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(S3Bucket::new().await).await
    }

    pub(crate) async fn with(bucket: S3Bucket) -> Self {
        let spec = VaultSpec::end_to_end(VAULT, VAULT_PASSWORD);
        let server = Server::builder().user(EMAIL, PASSWORD).vault(spec).start().await.unwrap();
        let vault = server.vault(VAULT).unwrap();
        let source = source_at(&server.url()).await;
        let options = PullOptions {
            fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
            ..PullOptions::default()
        };
        Bench { server, vault, bucket, options, source, home: TempDir::new().unwrap() }
    }

    /// Opens (and locks) the destination's state anew; waits until a dropped run has released it.
    pub(crate) async fn state(&self) -> Arc<SqliteState> {
        loop {
            match open_state(self.home.path(), &self.source) {
                Ok(state) => return Arc::new(state),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// Deletes the destination's state.
    pub(crate) fn lose_state(&self) {
        for file in std::fs::read_dir(self.home.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    pub(crate) async fn try_pull(&self) -> Result<Report, PullError> {
        self.pull_with(Arc::new(NoProgress), CancellationToken::new()).await
    }

    /// Pulls, which must succeed.
    pub(crate) async fn pull(&self) -> Report {
        self.try_pull().await.unwrap()
    }

    /// Pulls with an observer and a way to stop.
    pub(crate) async fn pull_with(
        &self,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        self.pull_to(self.state().await, progress, stop).await
    }

    /// The same with this state.
    pub(crate) async fn pull_to(
        &self,
        state: Arc<dyn StateStore>,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        let store = Arc::new(self.bucket.store().await);
        pull(&self.source, store, state, &self.options, progress, stop).await
    }

    /// Pulls with a full check.
    pub(crate) async fn pull_full(&mut self) -> Report {
        self.options.mode = Mode::Full;
        let report = self.pull().await;
        self.options.mode = Mode::Incremental;
        report
    }

    /// Asserts that the bucket contains exactly the vault's files with their metadata and no open uploads,
    /// and that the state agrees.
    pub(crate) async fn assert_exact(&self) {
        let expected = self.vault.expected().unwrap();
        let paths: Vec<String> = expected.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(self.bucket.keys(), paths);
        for file in &expected.files {
            let object = self.bucket.object(&file.path).unwrap();
            assert_eq!(ContentHash::of(&object.content).to_string(), file.sha256, "{}", file.path);
            assert_eq!(object.metadata["sha256"], file.sha256, "{}", file.path);
            assert_eq!(object.metadata["mtime"], file.mtime_ms.to_string(), "{}", file.path);
            assert!(object.metadata.contains_key("ctime") && object.metadata.contains_key("uid"));
        }
        assert_eq!(self.bucket.open_uploads(), 0);
        let verification = self.verify().await;
        assert!(verification.is_clean(), "{verification:#?}");
        assert_eq!(self.state().await.load().await.unwrap().version, self.vault.version().0);
    }

    /// Compares destination and state.
    pub(crate) async fn verify(&self) -> Verification {
        verify(&self.bucket.store().await, self.state().await.as_ref(), false, &NoProgress).await.unwrap()
    }
}

/// Opens the state of the destination in this folder.
pub(crate) fn open_state(home: &Path, source: &PullSource) -> Result<SqliteState, StateError> {
    let identity = StateIdentity {
        vault_id: source.vault.id.clone(),
        vault_name: VAULT.to_owned(),
        destination: location().to_string(),
    };
    SqliteState::open(&home.join("state.sqlite"), &identity)
}

/// The vault on the server at this address.
pub(crate) async fn source_at(url: &str) -> PullSource {
    let options = ClientOptions { api_url: url.to_owned(), ..ClientOptions::default() };
    let client = Client::new(options).unwrap();
    let token = client.sign_in(EMAIL, &SecretString::from(PASSWORD), None).await.unwrap().token;
    let vault = client.vaults(&token).await.unwrap().into_iter().find(|vault| vault.name == VAULT).unwrap();
    let master = MasterKey::derive(&SecretString::from(VAULT_PASSWORD), &vault.salt);
    let keys = VaultKeys::new(&master, vault.encryption().unwrap(), &vault.salt);
    PullSource { client, token, vault, keys }
}
