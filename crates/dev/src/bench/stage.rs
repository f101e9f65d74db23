//! Sets a scenario up: a server with the vault, a cloud if there is a bucket, and devices that pull.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use obsync_testcloud::{
    Cloud, CloudFaults, CloudOptions, RequestCounts, Service, ServiceFaults, StoredObject,
};
use obsync_testkit::{Faults, Server, Stats, VaultHandle, VaultSpec};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::catalog::{Destination, Scenario};
use super::vaults;
use crate::check::{same_as_bucket, same_as_vault};
use crate::child::{Identity, Obsync};
use crate::measure::Usage;
use crate::pull::PullReport;

const EMAIL: &str = "bench@example.com";
const VAULT: &str = "Notes";
const BUCKET: &str = "vaults";
const TABLE: &str = "obsync-state";

/// Time limit for the server to notice the closed connections of a process that has ended.
const CLOSING: Duration = Duration::from_secs(10);

/// The services of one scenario. Each scenario has its own server, so that its memory is freed afterwards,
/// and its counters are the scenario's.
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) cloud: Option<Cloud>,
    /// Devices keep their states in the cloud's table.
    has_table: bool,
    pub(super) vault: VaultHandle,
    identity: Identity,
    work: TempDir,
}

/// A device's destination, and its obsync.
///
/// Folders are kept until the end of a scenario: after many deletions ext4 is slow to create files for
/// minutes, because it looks for places that were not in use lately.
pub(super) struct BenchDevice {
    home: PathBuf,
    obsync: Obsync,
    /// The prefix of its keys in the bucket.
    prefix: Option<String>,
}

/// One pull, measured.
pub(super) struct Pulled {
    pub(super) report: PullReport,
    pub(super) usage: Usage,
    /// Files and bytes of the vault at that time.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Requests to S3 and DynamoDB.
    pub(super) cloud_requests: u64,
    /// Sequential round trips before the first request for content.
    pub(super) trips: u64,
    /// The most requests under way at a time, seen by the server: connections times requests in flight.
    pub(super) under_way: u64,
}

impl Stage {
    /// Starts the services and fills the vault; folders are created below `work`.
    pub(super) async fn start(scenario: &Scenario, work: TempDir) -> Result<Self> {
        let identity = Identity {
            email: EMAIL.to_owned(),
            password: SecretString::from("the password of the account"),
            vault_password: Some(SecretString::from("the password of the vault")),
        };
        let vault_password = identity.vault_password.as_ref().map_or("", ExposeSecret::expose_secret);
        let server = Server::builder()
            .user(EMAIL, identity.password.expose_secret())
            .vault(VaultSpec::end_to_end(VAULT, vault_password))
            .faults(Faults {
                latency: scenario.round_trip,
                service_time: scenario.service_time,
                ..Faults::default()
            })
            .start()
            .await?;
        let vault = server.vault(VAULT)?;
        vaults::fill(&vault, scenario.content)?;
        let cloud = match scenario.destination {
            Destination::Folder => None,
            Destination::Bucket | Destination::BucketAndTable => Some(cloud(scenario.round_trip).await?),
        };
        let has_table = scenario.destination == Destination::BucketAndTable;
        Ok(Self { server, cloud, has_table, vault, identity, work })
    }

    /// An empty, signed-in device with this obsync (the built-in one if none is given).
    pub(super) fn new_device(&self, program: Option<&Path>) -> Result<BenchDevice> {
        let home = tempfile::tempdir_in(self.work.path()).context("cannot make a folder to pull to")?.keep();
        let mut obsync = Obsync::new(&home.join("home"), &self.server.url(), &self.identity)?;
        if let Some(program) = program {
            obsync.with_program(program);
        }
        if let Some(cloud) = &self.cloud {
            obsync.with_environment(cloud.env());
        }
        let name = home.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
        if let Some(cloud) = self.cloud.as_ref().filter(|_| self.has_table) {
            // An older program refuses a table in which a newer one has written.
            let table = format!("{TABLE}-{}", name.trim_start_matches('.'));
            cloud.dynamodb().create_table(&table)?;
            obsync.with_environment(vec![("OBSYNC_STATE".to_owned(), format!("dynamodb://{table}"))]);
        }
        obsync.login()?;
        // A pull makes its files durable and would have to wait for earlier unflushed writes.
        nix::unistd::sync();
        Ok(BenchDevice { home, obsync, prefix: self.cloud.as_ref().map(|_| name) })
    }

    /// Pulls, and compares the result with the vault.
    pub(super) fn pull(&self, device: &BenchDevice) -> Result<Pulled> {
        self.nobody_is_connected()?;
        self.server.begin_maxima_anew();
        let (before, cloud_before) = (self.server.stats(), self.cloud_counts());
        let (report, usage) = device.obsync.pull(self.vault.name(), device.destination())?;
        let asked = self.cloud_counts().since(&cloud_before);
        let cloud_requests = asked.total(Service::S3) + asked.total(Service::DynamoDb);
        let after = self.server.stats();
        let trips = trips(&before, &after);
        let under_way = after.max_open_websockets.max(1) * after.max_pulls_in_flight.max(1);
        match &device.prefix {
            None => same_as_vault(&self.vault, &device.folder())?,
            Some(prefix) => same_as_bucket(&self.vault, &self.objects(device), &format!("{prefix}/"))?,
        }
        let content = self.vault.expected()?;
        let (files, bytes) = (content.files.len() as u64, content.total_size());
        Ok(Pulled { report, usage, files, bytes, cloud_requests, trips, under_way })
    }

    /// Separates the server's counters of one pull from the next.
    fn nobody_is_connected(&self) -> Result<()> {
        Handle::current().block_on(async {
            let closed = self.server.wait_for(|stats| stats.open_websockets == 0);
            tokio::time::timeout(CLOSING, closed).await.context("a connection of the last pull is still open")
        })
    }

    /// The device's objects in the bucket.
    pub(super) fn objects(&self, device: &BenchDevice) -> Vec<StoredObject> {
        match (&self.cloud, &device.prefix) {
            (Some(cloud), Some(prefix)) => cloud.s3().files(BUCKET, &format!("{prefix}/")),
            _ => Vec::new(),
        }
    }

    fn cloud_counts(&self) -> RequestCounts {
        self.cloud.as_ref().map(Cloud::counts).unwrap_or_default()
    }

    /// Ends the services.
    pub(super) async fn shutdown(self) {
        self.server.shutdown().await;
        if let Some(cloud) = self.cloud {
            cloud.shutdown().await;
        }
    }
}

impl BenchDevice {
    pub(super) fn folder(&self) -> PathBuf {
        self.home.join("notes")
    }

    /// The folder for copies of the pulled files.
    pub(super) fn copy(&self) -> PathBuf {
        self.home.join("copy")
    }

    fn destination(&self) -> OsString {
        match &self.prefix {
            None => self.folder().into_os_string(),
            Some(prefix) => format!("s3://{BUCKET}/{prefix}").into(),
        }
    }
}

/// A cloud with this latency, with the bucket and the table.
async fn cloud(latency: Duration) -> Result<Cloud> {
    let late = ServiceFaults { latency, ..ServiceFaults::default() };
    let faults = CloudFaults { s3: late.clone(), dynamodb: late, ..CloudFaults::default() };
    let cloud = Cloud::start(CloudOptions { faults, ..CloudOptions::default() }).await?;
    cloud.s3().create_bucket(BUCKET);
    Ok(cloud)
}

/// The REST calls, and of the first connection the handshake and `init`; further connections are opened
/// meanwhile.
fn trips(before: &Stats, after: &Stats) -> u64 {
    let opened = after.websocket_connections - before.websocket_connections;
    after.rest_requests - before.rest_requests + if opened > 0 { 2 } else { 0 }
}
