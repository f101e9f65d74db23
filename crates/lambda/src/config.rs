//! The function's settings: all environment variables, read once.
//!
//! All faults are reported at once ([`ConfigError`]), each with the name of its variable, so that a
//! deployment can be corrected in one go. Errors never repeat a value: some of them are secrets.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use obsync_bucket::{AwsHttp, BucketLocation, LocationError};
use obsync_client::totp::Generator;
use obsync_client::{Client, ClientOptions, DEFAULT_API_URL, Password, Token};
use obsync_core::MaxDelete;
use obsync_core::pin::VaultKind;
use obsync_dynamodb::TableName;
use obsync_net::{Network, NetworkError};
use obsync_protocol::limits::LEAST_SPEED;
use obsync_protocol::{ConfigCategories, FileTypes, Filter, VaultPath, parse_config_dir};
use secrecy::ExposeSecret;
use url::Url;

use crate::chain::Limits;
use crate::direction::SendingSettings;
use crate::metrics::Metrics;
use crate::variables::Variables;

/// The default time before its end when an invocation stops beginning new work.
pub(crate) const TIMEOUT_BUFFER: Duration = Duration::from_secs(30);

/// The function's settings. [`Config::from_env`] has the names of the variables.
#[derive(Debug)]
pub struct Config {
    /// The place below which the vaults have their places.
    pub(crate) root: BucketLocation,
    /// Alternative destinations that events may name: these places and everything in them.
    pub(crate) destinations: Vec<BucketLocation>,
    /// The ids or names of vaults for events without names.
    pub(crate) vaults: Vec<String>,
    pub(crate) objects: ObjectSettings,
    /// The table that the states are in.
    pub(crate) table: TableName,
    /// Memory in bytes, if it differs from the platform's value.
    pub(crate) memory: Option<u64>,
    /// Most files in a checkpoint.
    pub(crate) checkpoint_files: usize,
    /// Most connections for fetching contents, and most vaults at a time.
    pub(crate) concurrency: usize,
    /// Time before its end when an invocation stops beginning new work; `None`: the default.
    pub(crate) timeout_buffer: Option<Duration>,
    /// Record progress.
    pub(crate) progress: bool,
    /// Lifetime of an interrupted run's details.
    pub(crate) resume_within: Duration,
    /// Interval of memory checks while there is enough of it.
    pub(crate) memory_check: Duration,
    /// Bytes of `/tmp` that should be free.
    pub(crate) scratch: u64,
    /// Limits of self-continuation; 0 steps: never.
    pub(crate) chains: Limits,
    /// The URL of the function's own queue, which gets a message for each of many vaults.
    pub(crate) queue: Option<String>,
    /// Dimensions of the metrics.
    pub(crate) metrics: Metrics,
    /// The URL of the queue for invalid messages.
    pub(crate) dead_letters: Option<String>,
    /// Duration of a lease without renewal.
    pub(crate) lease: Duration,
    /// Connections to the service.
    pub(crate) client: Client,
    /// Proxies and certificates.
    pub(crate) network: Network,
    /// HTTP connections to AWS through them.
    pub(crate) aws_http: AwsHttp,
    /// The account's settings from the environment.
    pub(crate) account: AccountSettings,
    /// The name or ARN of the secret with the credentials.
    pub(crate) secret: Option<String>,
    /// The only kind of encryption to accept.
    pub(crate) encryption: Option<VaultKind>,
    pub(crate) filter: Filter,
    /// Limit of deletions before they are held back.
    pub(crate) max_delete: MaxDelete,
    /// Settings of sending to vaults.
    pub(crate) sending: SendingSettings,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectSettings {
    /// The KMS key that encrypts them.
    pub(crate) sse_kms_key: Option<String>,
    /// Their storage class.
    pub(crate) storage_class: Option<String>,
    /// They stay when the vault deletes its file.
    pub(crate) keep_deleted: bool,
}

/// The account's settings from the environment.
#[derive(Default)]
pub(crate) struct AccountSettings {
    /// Email address and password.
    pub(crate) credentials: Option<(String, Password)>,
    /// Generates two-factor codes.
    pub(crate) totp: Option<Generator>,
    /// A token instead of credentials.
    pub(crate) token: Option<Token>,
    /// Opens end-to-end encrypted vaults that are not in the secret.
    pub(crate) vault_password: Option<Password>,
}

impl fmt::Debug for AccountSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountSettings")
            .field("credentials", &self.credentials.is_some())
            .field("totp", &self.totp.is_some())
            .field("token", &self.token.is_some())
            .field("vault_password", &self.vault_password.is_some())
            .finish()
    }
}

/// All faults of the environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the function's configuration is invalid: {}", list(.problems))]
pub struct ConfigError {
    /// The fault of each variable, by name.
    pub problems: BTreeMap<&'static str, String>,
}

fn list(problems: &BTreeMap<&'static str, String>) -> String {
    problems.iter().map(|(name, problem)| format!("{name} {problem}")).collect::<Vec<_>>().join("; ")
}

impl Config {
    /// Reads this process's environment.
    ///
    /// | variable | meaning | default |
    /// | --- | --- | --- |
    /// | `S3_BUCKET`, `S3_PREFIX` | where the vaults go | –, none |
    /// | `OBSYNC_VAULTS` | vaults, by id or name, that events mean which name none | see `choice` |
    /// | `OBSYNC_ALLOW_DESTINATIONS` | where events may send vaults instead | nowhere |
    /// | `S3_SSE_KMS_KEY_ID`, `S3_STORAGE_CLASS` | how objects are kept | as the bucket is set |
    /// | `STATE_TABLE_NAME` | the DynamoDB table | `obsync-state` |
    /// | `LAMBDA_MAX_MEMORY_MB` | memory to stay in | the function's |
    /// | `LAMBDA_BATCH_SIZE` | files in a checkpoint | 100 |
    /// | `LAMBDA_MAX_CONCURRENT` | connections, and vaults, at a time | 5 |
    /// | `LAMBDA_TIMEOUT_BUFFER` | seconds to end in | 30, or a fifth of the time when that is less |
    /// | `LAMBDA_ENABLE_PROGRESS` | record progress | `true` |
    /// | `OBSYNC_SECRET_NAME` | secret with account and vault credentials | – |
    /// | `OBSIDIAN_EMAIL`, `OBSIDIAN_PASSWORD`, `OBSIDIAN_TOTP_SECRET` | the account | – |
    /// | `OBSIDIAN_AUTH_TOKEN` | a token in place of them | – |
    /// | `OBSYNC_VAULT_PASSWORD` | opens vaults that the secret does not name | – |
    /// | `OBSIDIAN_PASSWORD_FILE`, … | each of the five above from a file: its name with `_FILE` | – |
    /// | `OBSYNC_ENCRYPTION` | the only kind that is opened, `standard` or `end-to-end` | either |
    /// | `OBSYNC_API_URL`, `OBSYNC_ALLOW_HOST` | the service | the official one |
    /// | `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | the way out | direct |
    /// | `OBSYNC_CA_FILE`, `AWS_CA_BUNDLE` | certificates to trust besides the system's; in place of them, for AWS | – |
    /// | `OBSYNC_FILE_TYPES`, `OBSYNC_CONFIGS`, `OBSYNC_EXCLUDE` | what is synced | everything |
    /// | `OBSYNC_MAX_DELETE` | how many files may be deleted: a number, a part (`20%`) or `none` | more than 50 and 20 %, or more than half of ten or more, are held back |
    /// | `OBSYNC_DIRECTION` | `pull`, `sync` or `push`: which way; an event can narrow it | `pull` |
    /// | `OBSYNC_BUCKET_DELETES` | `true`: an object that is missing is deleted in the vault, unless objects expire there by a rule | `false` |
    /// | `OBSYNC_PUSH_CONFIGS` | `true`: changes of the configuration folder are sent, too | `false` |
    /// | `OBSYNC_MAX_DELETE_IN_VAULT` | how many files may be deleted in a vault, as `OBSYNC_MAX_DELETE` | more than 20 and 5 %, more than 50, or more than half of ten or more, are held back |
    /// | `OBSYNC_CONFIG_DIR` | the vault's configuration folders | `.obsidian` |
    /// | `OBSYNC_MIN_SPEED` | Bytes a second that the service sends at least, over ten minutes; `0`: any | 1024 |
    /// | `OBSYNC_NO_CODE` | `true`: plugins, themes and snippets are left out | `false` |
    /// | `OBSYNC_KEEP_DELETED` | keep what the vault deletes | `false` |
    /// | `OBSYNC_SELF_CONTINUE` | go on by invoking itself | `false` |
    /// | `OBSYNC_SELF_CONTINUE_LIMIT` | how often in a row | 50 |
    /// | `OBSYNC_DAILY_INVOCATIONS` | how many invocations a vault may have in a day before it stops doing so | 2000 |
    /// | `OBSYNC_QUEUE` | URL of the function's own queue: an event for many vaults becomes a message for each | – |
    /// | `OBSYNC_METRICS` | `off`, `function` or `vaults`: of what there are metrics | `function` |
    /// | `OBSYNC_DEAD_LETTER_QUEUE` | URL of the queue for messages that cannot be understood | – |
    /// | `OBSYNC_RESUME_SECONDS` | how long the details of an interrupted run count | 3600 |
    /// | `OBSYNC_LEASE_SECONDS` | how long a dead run keeps others out | 60 |
    /// | `OBSYNC_MEMORY_CHECK_SECONDS` | how often memory is looked at | 5 |
    /// | `OBSYNC_TMP_BUDGET_MB` | how much of `/tmp` is to be free | 400 |
    ///
    /// # Errors
    /// [`ConfigError`] with all faults.
    pub fn from_env() -> Result<Self, ConfigError> {
        Config::read(|name| env::var_os(name))
    }

    /// Reads the environment with `get` for each variable.
    pub(crate) fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut variables = Variables::new(&get);
        let config = read_from(&mut variables);
        match (config, variables.problems()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError { problems }),
        }
    }
}

/// Reads all variables, whatever the faults of earlier ones; `None` if there is no destination.
fn read_from(variables: &mut Variables<'_>) -> Option<Config> {
    let secret = variables.text("OBSYNC_SECRET_NAME");
    let account = read_account(variables, secret.is_some());
    let root = read_root(variables);
    let objects = ObjectSettings {
        sse_kms_key: variables.text("S3_SSE_KMS_KEY_ID"),
        storage_class: variables.text("S3_STORAGE_CLASS"),
        keep_deleted: variables.flag("OBSYNC_KEEP_DELETED", false),
    };
    let table = variables.parsed("STATE_TABLE_NAME").unwrap_or_default();
    let memory = variables.number("LAMBDA_MAX_MEMORY_MB", 64..=1 << 20).map(|mib| mib << 20);
    let checkpoint_files = variables.number("LAMBDA_BATCH_SIZE", 1..=10_000).unwrap_or(100);
    let concurrency = variables.number("LAMBDA_MAX_CONCURRENT", 1..=64).unwrap_or(5);
    let timeout_buffer = variables.number("LAMBDA_TIMEOUT_BUFFER", 1..=900).map(Duration::from_secs);
    let progress = variables.flag("LAMBDA_ENABLE_PROGRESS", true);
    let seconds = |value: Option<u64>, usual| Duration::from_secs(value.unwrap_or(usual));
    let resume_within = seconds(variables.number("OBSYNC_RESUME_SECONDS", 0..=86_400), 3600);
    let lease = seconds(variables.number("OBSYNC_LEASE_SECONDS", 1..=900), 60);
    let memory_check = seconds(variables.number("OBSYNC_MEMORY_CHECK_SECONDS", 1..=60), 5);
    let scratch = variables.number("OBSYNC_TMP_BUDGET_MB", 0..=10_240).unwrap_or(400) << 20;
    let limit = variables.number("OBSYNC_SELF_CONTINUE_LIMIT", 1..=1000).unwrap_or(50);
    let daily = variables.number("OBSYNC_DAILY_INVOCATIONS", 1..=1_000_000).unwrap_or(2000);
    let continues = variables.flag("OBSYNC_SELF_CONTINUE", false);
    let dead_letters = read_queue(variables, "OBSYNC_DEAD_LETTER_QUEUE");
    let queue = read_queue(variables, "OBSYNC_QUEUE");
    let metrics = variables.parsed("OBSYNC_METRICS").unwrap_or_default();
    let network = read_network(variables);
    let aws_http =
        AwsHttp::new(&network).map_err(|error| variables.refuse("HTTPS_PROXY", refused(&error))).ok();
    let client = read_service(variables, &network);
    let filter = read_filter(variables);
    let max_delete = variables.parsed("OBSYNC_MAX_DELETE").unwrap_or_default();
    let sending = SendingSettings::read(variables);
    let encryption = variables.parsed("OBSYNC_ENCRYPTION");
    let destinations = read_destinations(variables);
    let vaults = items(&variables.text("OBSYNC_VAULTS").unwrap_or_default()).map(str::to_owned).collect();
    Some(Config {
        root: root?,
        destinations,
        vaults,
        objects,
        table,
        memory,
        checkpoint_files: usize::try_from(checkpoint_files).unwrap_or(usize::MAX),
        concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
        timeout_buffer,
        progress,
        resume_within,
        memory_check,
        scratch,
        chains: Limits { steps: if continues { u32::try_from(limit).unwrap_or(u32::MAX) } else { 0 }, daily },
        queue,
        metrics,
        dead_letters,
        lease,
        client: client?,
        network,
        aws_http: aws_http?,
        account,
        secret,
        encryption,
        filter,
        max_delete,
        sending,
    })
}

fn read_account(variables: &mut Variables<'_>, has_secret: bool) -> AccountSettings {
    // Line breaks and spaces around these come from the files that they were copied from.
    let email = variables.word("OBSIDIAN_EMAIL", "OBSIDIAN_EMAIL_FILE");
    let email = email.map(|email| email.expose_secret().to_owned());
    let password = variables.password("OBSIDIAN_PASSWORD", "OBSIDIAN_PASSWORD_FILE");
    let token = variables.word("OBSIDIAN_AUTH_TOKEN", "OBSIDIAN_AUTH_TOKEN_FILE").map(Token::new);
    let totp = variables.word("OBSIDIAN_TOTP_SECRET", "OBSIDIAN_TOTP_SECRET_FILE");
    let totp = match totp.map(|secret| Generator::new(&secret)).transpose() {
        Ok(totp) => totp,
        Err(error) => {
            variables.refuse("OBSIDIAN_TOTP_SECRET", error.to_string());
            None
        }
    };
    match (&email, &password) {
        (Some(_), None) => variables.refuse("OBSIDIAN_PASSWORD", "is not set, though OBSIDIAN_EMAIL is"),
        (None, Some(_)) => variables.refuse("OBSIDIAN_EMAIL", "is not set, though OBSIDIAN_PASSWORD is"),
        (None, None) if token.is_none() && !has_secret => variables.refuse(
            "OBSYNC_SECRET_NAME",
            "is not set; set it to the secret that holds the credentials, or set OBSIDIAN_EMAIL and \
             OBSIDIAN_PASSWORD",
        ),
        _ => {}
    }
    let vault_password = variables.password("OBSYNC_VAULT_PASSWORD", "OBSYNC_VAULT_PASSWORD_FILE");
    AccountSettings { credentials: email.zip(password), totp, token, vault_password }
}

fn read_root(variables: &mut Variables<'_>) -> Option<BucketLocation> {
    let prefix = variables.text("S3_PREFIX").unwrap_or_default();
    let bucket = variables.text("S3_BUCKET");
    if bucket.is_none() {
        variables.refuse("S3_BUCKET", "is not set; set it to the name of the bucket that the vaults go to");
    }
    // With any bucket name, parsing shows whether the prefix is valid.
    match location(bucket.as_deref().unwrap_or("any-bucket"), &prefix) {
        Ok(root) => bucket.map(|_| root),
        Err(LocationError::BadPrefix { source, .. }) => {
            variables.refuse("S3_PREFIX", format!("cannot begin the keys of objects: {source}"));
            None
        }
        Err(_) => {
            variables.refuse(
                "S3_BUCKET",
                "is not the name of a bucket (3 to 63 letters, digits, dots and hyphens)",
            );
            None
        }
    }
}

fn read_destinations(variables: &mut Variables<'_>) -> Vec<BucketLocation> {
    let mut destinations = Vec::new();
    for item in items(&variables.text("OBSYNC_ALLOW_DESTINATIONS").unwrap_or_default()) {
        let (bucket, prefix) = item.split_once('/').unwrap_or((item, ""));
        match location(bucket, prefix) {
            Ok(place) if !item.contains('*') => destinations.push(place),
            _ => variables.refuse(
                "OBSYNC_ALLOW_DESTINATIONS",
                "has something else than BUCKET or BUCKET/PREFIX, separated by commas, without wildcards: each allows \
                 whatever lies in it",
            ),
        }
    }
    destinations
}

fn read_queue(variables: &mut Variables<'_>, name: &'static str) -> Option<String> {
    let url = variables.text(name)?;
    let is_url = Url::parse(&url)
        .is_ok_and(|url| matches!(url.scheme(), "https" | "http") && url.has_host() && url.path().len() > 1);
    if !is_url {
        variables.refuse(name, "is not the URL of a queue (https://sqs.REGION.amazonaws.com/ACCOUNT/NAME)");
    }
    Some(url).filter(|_| is_url)
}

/// The location of an S3 bucket and a prefix. Slashes around the prefix are ignored.
pub(crate) fn location(bucket: &str, prefix: &str) -> Result<BucketLocation, LocationError> {
    if bucket.contains('/') {
        return Err(LocationError::BadName { text: bucket.to_owned() });
    }
    BucketLocation::parse(&format!("s3://{bucket}/{}", prefix.trim_matches('/')))
}

/// Proxies and certificates. Unusable ones are left out: with a fault nothing is begun anyway.
fn read_network(variables: &mut Variables<'_>) -> Network {
    let names =
        ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "AWS_CA_BUNDLE"];
    let read: BTreeMap<_, _> = names.iter().filter_map(|&name| Some((name, variables.text(name)?))).collect();
    let network = Network::read(|name| read.get(name).cloned()).unwrap_or_else(|error| {
        variables.refuse("HTTPS_PROXY", refused(&error));
        Network::default()
    });
    let network = Network { ca_file: variables.text("OBSYNC_CA_FILE").map(PathBuf::from), ..network };
    match network.check_files() {
        Ok(()) => network,
        Err(error) => {
            let name = if network.ca_file.is_some() { "OBSYNC_CA_FILE" } else { "AWS_CA_BUNDLE" };
            variables.refuse(name, refused(&error));
            Network { ca_file: None, aws_ca_bundle: None, ..network }
        }
    }
}

fn refused(error: &NetworkError) -> String {
    format!("cannot be used: {error}")
}

fn read_service(variables: &mut Variables<'_>, network: &Network) -> Option<Client> {
    let hosts = variables.text("OBSYNC_ALLOW_HOST").unwrap_or_default();
    let options = ClientOptions {
        api_url: variables.text("OBSYNC_API_URL").unwrap_or_else(|| DEFAULT_API_URL.to_owned()),
        allow_hosts: items(&hosts).map(str::to_owned).collect(),
        device: "obsync-lambda".to_owned(),
        min_speed: variables.number("OBSYNC_MIN_SPEED", 0..=u64::MAX).unwrap_or(LEAST_SPEED),
        network: network.clone(),
        ..ClientOptions::default()
    };
    let only_hosts = ClientOptions { api_url: DEFAULT_API_URL.to_owned(), ..options.clone() };
    match Client::new(options) {
        Ok(client) => Some(client),
        Err(error) => {
            // With the default address, the hosts are at fault.
            let hosts_are_wrong = !hosts.is_empty() && Client::new(only_hosts).is_err();
            let name = if hosts_are_wrong { "OBSYNC_ALLOW_HOST" } else { "OBSYNC_API_URL" };
            variables.refuse(name, format!("cannot be used: {error}"));
            None
        }
    }
}

fn read_filter(variables: &mut Variables<'_>) -> Filter {
    let mut filter = Filter::default();
    if let Some(types) = variables.parsed::<FileTypes>("OBSYNC_FILE_TYPES") {
        filter.file_types = types;
    }
    if let Some(configs) = variables.parsed::<ConfigCategories>("OBSYNC_CONFIGS") {
        filter.configs = configs;
    }
    filter.code = !variables.flag("OBSYNC_NO_CODE", false);
    let config_dirs = read_config_dirs(variables);
    if !config_dirs.is_empty() {
        filter.config_dirs = config_dirs;
    }
    for folder in items(&variables.text("OBSYNC_EXCLUDE").unwrap_or_default()) {
        match VaultPath::parse(folder.trim_end_matches('/')) {
            Ok(folder) => filter.excluded.push(folder),
            Err(error) => {
                variables.refuse("OBSYNC_EXCLUDE", format!("has a folder that cannot be one: {error}"))
            }
        }
    }
    filter
}

fn read_config_dirs(variables: &mut Variables<'_>) -> Vec<String> {
    let text = variables.text("OBSYNC_CONFIG_DIR").unwrap_or_default();
    let folders: Result<Vec<String>, _> = items(&text).map(parse_config_dir).collect();
    folders.unwrap_or_else(|_| {
        variables.refuse(
            "OBSYNC_CONFIG_DIR",
            "has something else than names of folders at the vault's root, such as .obsidian,.obsidian-mobile",
        );
        Vec::new()
    })
}

/// The items of a list that is separated by commas.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
