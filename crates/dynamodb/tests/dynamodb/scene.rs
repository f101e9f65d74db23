//! A table of a loopback cloud, and helpers for the setup of most tests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Region};
use aws_sdk_dynamodb::types::TimeToLiveSpecification;
use obsync_bucket::AwsHttp;
use obsync_conformance::{SetClock, StateStoreUnderTest, at};
use obsync_core::{
    Commit, Deferred, DeferredCause, DeferredKey, FileMeta, Record, RecordKind, StateError, VaultState,
};
use obsync_dynamodb::{DynamoOptions, DynamoState, DynamoTable, LeaseOptions, StateKey, TableName};
use obsync_net::Network;
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultId};
use obsync_testcloud::{Cloud, CloudOptions, RequestCounts, Service};
use serde_json::{Value, json};

/// The table of the tests.
pub(crate) const TABLE: &str = "obsync-state";
/// The vault of the tests.
pub(crate) const VAULT: &str = "vault-1";
/// The vault's first destination.
pub(crate) const DESTINATION: &str = "s3://bucket/prefix";

/// A cloud with one table.
pub(crate) struct Scene {
    pub(crate) cloud: Cloud,
    pub(crate) lease: Duration,
    /// The clock of all runs: the test controls waits for a lease.
    pub(crate) clock: Arc<SetClock>,
}

impl Scene {
    /// A cloud with the table.
    pub(crate) async fn new() -> Self {
        let scene = Self::without_table().await;
        scene.cloud.dynamodb().create_table(TABLE).unwrap();
        scene
    }

    /// A cloud without the table.
    pub(crate) async fn without_table() -> Self {
        let cloud = Cloud::start(CloudOptions::default()).await.unwrap();
        Scene { cloud, lease: Duration::from_secs(60), clock: SetClock::new() }
    }

    /// A client as a program would have it.
    pub(crate) fn client(&self) -> Client {
        client(&self.cloud.endpoint(Service::DynamoDb), self.cloud.region(), self.cloud.credentials())
    }

    /// Makes DynamoDB remove expired items, as the installer does.
    pub(crate) async fn expire_items(&self) {
        let name = DynamoTable::EXPIRY_ATTRIBUTE;
        let specification = TimeToLiveSpecification::builder().attribute_name(name).enabled(true);
        let request = self.client().update_time_to_live().table_name(TABLE);
        request.time_to_live_specification(specification.build().unwrap()).send().await.unwrap();
    }

    /// The table, with quick retries.
    pub(crate) fn table(&self) -> DynamoTable {
        self.table_with(quick())
    }

    pub(crate) fn table_with(&self, options: DynamoOptions) -> DynamoTable {
        self.table_over(&self.client(), options)
    }

    /// The table with a given client.
    pub(crate) fn table_over(&self, client: &Client, options: DynamoOptions) -> DynamoTable {
        DynamoTable::new(client, TableName::default(), options).with_clock(self.clock.clone())
    }

    /// The state, opened by a run with this name.
    pub(crate) async fn try_open(&self, owner: &str) -> Result<DynamoState, StateError> {
        DynamoState::open(&self.table(), key(DESTINATION), &self.lease_of(owner)).await
    }

    pub(crate) async fn state(&self) -> DynamoState {
        self.try_open("a test").await.unwrap()
    }

    pub(crate) fn lease_of(&self, owner: &str) -> LeaseOptions {
        LeaseOptions { duration: self.lease, ..LeaseOptions::new(owner) }
    }

    /// Opens the state, after the duration of a lease that another run may have.
    pub(crate) async fn state_after(&self, owner: &str) -> DynamoState {
        self.try_open_after(owner).await.unwrap()
    }

    pub(crate) async fn try_open_after(&self, owner: &str) -> Result<DynamoState, StateError> {
        match self.try_open(owner).await {
            Err(StateError::Locked { .. }) => {
                self.clock.advance(self.lease + Duration::from_millis(1));
                self.try_open(owner).await
            }
            outcome => outcome,
        }
    }

    /// Requests made since then.
    pub(crate) fn requests_since(&self, earlier: &RequestCounts) -> RequestCounts {
        self.cloud.counts().since(earlier)
    }

    /// An item in the table.
    pub(crate) fn item(&self, key: &str) -> Option<Value> {
        self.cloud.dynamodb().item(TABLE, key).unwrap()
    }

    /// The keys of all items, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let items = self.cloud.dynamodb().items(TABLE).unwrap();
        let mut keys: Vec<String> =
            items.iter().map(|item| item["vault_id"]["S"].as_str().unwrap().to_owned()).collect();
        keys.sort();
        keys
    }

    /// Sets an attribute of an item, as no obsync would.
    pub(crate) fn spoil(&self, key: &str, attribute: &str, value: Value) {
        let mut item = self.item(key).unwrap_or_else(|| json!({ "vault_id": { "S": key } }));
        item[attribute] = value;
        self.cloud.dynamodb().put_item(TABLE, item).unwrap();
    }

    /// Takes an attribute from an item, as no obsync would.
    pub(crate) fn take(&self, key: &str, attribute: &str) -> Value {
        let mut item = self.item(key).unwrap();
        let taken = item.as_object_mut().and_then(|item| item.remove(attribute)).unwrap();
        self.cloud.dynamodb().put_item(TABLE, item).unwrap();
        taken
    }
}

/// A scene for the suite: every opening is a new run, after the previous one died and its lease ended.
#[async_trait]
impl StateStoreUnderTest for Scene {
    type State = DynamoState;

    async fn open(&self) -> DynamoState {
        self.state_after("a run").await
    }

    async fn look(&self) -> DynamoState {
        DynamoState::read(&self.table(), key(DESTINATION)).await.unwrap()
    }
}

pub(crate) fn client(endpoint: &str, region: &str, (key, secret): (&str, &str)) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::from_keys(key, secret, None))
        .http_client(AwsHttp::new(&Network::default()).unwrap().client());
    Client::from_conf(config.build())
}

/// Options with quick retries.
pub(crate) fn quick() -> DynamoOptions {
    DynamoOptions {
        attempts: 6,
        min_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(10),
        answer: Duration::from_secs(10),
        ..DynamoOptions::default()
    }
}

/// The vault's state for a destination.
pub(crate) fn key(destination: &str) -> StateKey {
    StateKey {
        vault_id: VaultId::try_new(VAULT).unwrap(),
        vault_name: "My Vault".to_owned(),
        destination: destination.to_owned(),
    }
}

/// A file of this many bytes.
pub(crate) fn file(path: &str, uid: u64) -> Record {
    let meta = FileMeta {
        hash: ContentHash::of(&uid.to_le_bytes()),
        size: 10,
        mtime: 1_700_000_000_123,
        ctime: -1,
        uid: Uid(uid),
    };
    Record::new(at(path), RecordKind::File(meta))
}

/// Files `0.md` and so on, with their number as version.
pub(crate) fn files(count: u64) -> Vec<Record> {
    (0..count).map(|number| file(&format!("folder/{number}.md"), number)).collect()
}

/// A change that could not be applied, for the path that its number names.
pub(crate) fn failure(number: u64) -> Deferred {
    change(number, DeferredCause::Failed { reason: "the disk is on fire".to_owned() })
}

/// A change that the filter left out.
pub(crate) fn left_out(number: u64) -> Deferred {
    change(number, DeferredCause::Filtered)
}

fn change(number: u64, cause: DeferredCause) -> Deferred {
    let message =
        PushMessage { uid: Uid(number), path: format!("{number:0500x}").into(), ..PushMessage::default() };
    Deferred { key: change_key(number), message, cause }
}

/// The key of such a change.
pub(crate) fn change_key(number: u64) -> DeferredKey {
    DeferredKey::plain(&at(&format!("folder/{number}.md")))
}

pub(crate) fn version(version: u64) -> VaultState {
    VaultState { version, listed: true, filter: Some("everything".to_owned()), ..VaultState::default() }
}

/// A commit of records that brings the vault to a version.
pub(crate) fn commit_of(records: Vec<Record>, at_version: u64) -> Commit {
    Commit { records, state: version(at_version), ..Commit::default() }
}
