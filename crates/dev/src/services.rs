//! The services for the function on this machine: a cloud with a bucket, a table and a secret, and a sync
//! server with a vault where one is wanted.

use anyhow::{Context, Result};
use obsync_testcloud::{Cloud, CloudOptions, RequestCounts, Service};
use obsync_testkit::{GeneratorOptions, Server, VaultSpec, fill_vault};
use serde_json::{Value, json};

use crate::human;

/// The account of the sync server, if one is started.
pub(crate) const EMAIL: &str = "me@example.com";
/// Its password, which guards nothing.
pub(crate) const PASSWORD: &str = "loopback";
pub(crate) const VAULT: &str = "Notes";
/// The vaults that the events in `deploy/events` name.
const VAULTS_OF_SAMPLES: [&str; 2] = ["My Vault", "Work"];
/// The bucket that one of them names.
const BUCKET_OF_SAMPLES: &str = "another-bucket";
/// The name of the secret.
pub(crate) const SECRET: &str = "obsync";
/// The name of the function.
pub(crate) const FUNCTION: &str = "obsync";

/// The services to start.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The bucket to create.
    pub(crate) bucket: String,
    /// The table to create.
    pub(crate) table: String,
    /// The first of four ports; any that are free when it is 0.
    pub(crate) port: u16,
    /// The text of the secret to create.
    pub(crate) secret: Option<String>,
    /// Number of generated files in the sync server's vault; no sync server without.
    pub(crate) files: Option<usize>,
    /// The event for the function: for one of `deploy/events`, the vaults and buckets that it names are
    /// created, too.
    pub(crate) event: Option<Value>,
    /// Another sync server.
    pub(crate) api_url: Option<String>,
}

/// The started services.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) cloud: Cloud,
    pub(crate) server: Option<Server>,
    pub(crate) bucket: String,
    pub(crate) table: String,
    pub(crate) has_secret: bool,
    has_bucket_of_samples: bool,
    api_url: Option<String>,
}

impl Services {
    /// Starts everything.
    ///
    /// # Errors
    /// When a port is taken, or the table's name is invalid.
    pub(crate) async fn start(setup: Setup) -> Result<Self> {
        let event = setup.event.map(|event| event.to_string()).unwrap_or_default();
        let has_bucket_of_samples = event.contains(BUCKET_OF_SAMPLES);
        let server = match setup.files {
            Some(files) => Some(serve_vaults(files, &event).await?),
            None => None,
        };
        let options = CloudOptions { first_port: Some(setup.port), ..CloudOptions::default() };
        let cloud = Cloud::start(options).await.context("cannot start the cloud")?;
        cloud.s3().create_bucket(&setup.bucket);
        if has_bucket_of_samples {
            cloud.s3().create_bucket(BUCKET_OF_SAMPLES);
        }
        let table = cloud.dynamodb().create_table(&setup.table);
        table.with_context(|| format!("cannot make the table {:?}", setup.table))?;
        cloud.lambda().add_function(FUNCTION);
        let secret = setup.secret.or_else(|| server.is_some().then(secret_of_the_account));
        if let Some(text) = &secret {
            cloud.secrets().put(SECRET, text);
        }
        let api_url = server.as_ref().map(Server::url).or(setup.api_url);
        let has_secret = secret.is_some();
        let Setup { bucket, table, .. } = setup;
        Ok(Self { cloud, server, bucket, table, has_secret, has_bucket_of_samples, api_url })
    }

    /// The function's own variables for these services.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let secret = self.has_secret.then_some(("OBSYNC_SECRET_NAME", SECRET));
        let api_url = self.api_url.as_deref().map(|url| ("OBSYNC_API_URL", url));
        // A standard vault is synced only if it is named.
        let vaults = self.server.is_some().then_some(("OBSYNC_VAULTS", VAULT));
        let always = [("S3_BUCKET", self.bucket.as_str()), ("STATE_TABLE_NAME", self.table.as_str())];
        let other = self.has_bucket_of_samples.then_some(("OBSYNC_ALLOW_DESTINATIONS", BUCKET_OF_SAMPLES));
        let all = always.into_iter().chain(secret).chain(api_url).chain(vaults).chain(other);
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Ends everything.
    pub(crate) async fn shutdown(self) {
        self.cloud.shutdown().await;
        if let Some(server) = self.server {
            server.shutdown().await;
        }
    }
}

async fn serve_vaults(files: usize, event: &str) -> Result<Server> {
    let samples = VAULTS_OF_SAMPLES.into_iter().filter(|name| event.contains(name));
    let names: Vec<&str> = [VAULT].into_iter().chain(samples).collect();
    let mut builder = Server::builder().user(EMAIL, PASSWORD);
    for name in &names {
        builder = builder.vault(VaultSpec::managed(name));
    }
    let server = builder.start().await.context("cannot start the sync server")?;
    for (seed, name) in (0..).zip(names) {
        let generated = GeneratorOptions { files, seed, max_size: 2_000_000, ..GeneratorOptions::default() };
        fill_vault(&server.vault(name)?, &generated).context("cannot fill the vault")?;
    }
    Ok(server)
}

fn secret_of_the_account() -> String {
    json!({ "auth": { "email": EMAIL, "password": PASSWORD } }).to_string()
}

/// Requests by service, and by operation the most frequent first: `S3 312 (PutObject 300, …), DynamoDB 24 (…)`.
pub(crate) fn requests(counts: &RequestCounts) -> String {
    let services = [Service::S3, Service::DynamoDb, Service::SecretsManager, Service::Lambda, Service::Sqs];
    let lines: Vec<String> = services
        .into_iter()
        .filter(|service| counts.total(*service) > 0)
        .map(|service| {
            let mut operations: Vec<(&str, u64)> = counts
                .iter()
                .filter(|(of, _, _)| *of == service)
                .map(|(_, operation, count)| (operation, count))
                .collect();
            operations.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            let operations: Vec<String> =
                operations.iter().map(|(name, count)| format!("{name} {}", human::number(*count))).collect();
            format!("{service} {} ({})", human::number(counts.total(service)), operations.join(", "))
        })
        .collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join(", ") }
}
