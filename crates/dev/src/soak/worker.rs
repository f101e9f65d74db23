//! The pulling process: reads orders on standard input, writes results to standard output, a line of JSON
//! each.
//!
//! Its timeouts for a silent server are far shorter than obsync's, or most of the time would be spent on
//! stalled connections; everything else is as in obsync.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use obsync_client::{Client, ClientOptions, RetryPolicy, Timeouts};
use obsync_core::{NoProgress, Outcome, PullError, PullOptions, PullSource, Report, pull};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{EncryptionVersion, MasterKey, VaultKeys};
use obsync_sqlite::{SqliteState, StateIdentity, canonical_destination};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::console::note;

/// Attempts to resume a pull before that counts as no progress.
const ATTEMPTS: u32 = 50;

/// Without a received byte for this long, a connection is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// Time limit for the remains of a pull to go: closing sockets, ending threads.
const SETTLING: Duration = Duration::from_secs(10);

/// Its account and vault: the first line. The account belongs to a server on loopback, created for this.
#[derive(Serialize, Deserialize)]
pub(super) struct WorkerSetup {
    pub(super) url: String,
    pub(super) email: String,
    pub(super) password: String,
    pub(super) vault: String,
}

/// The folder to pull to: every other line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) folder: PathBuf,
    pub(super) state: PathBuf,
}

/// The result.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct PullUsage {
    /// Number of pulls until nothing was left to do.
    pub(super) attempts: u32,
    /// Contents requested.
    pub(super) requests: u64,
    pub(super) connections: u64,
    /// Encrypted content received, in bytes.
    pub(super) bytes: u64,
    /// Memory of the process afterwards, in bytes.
    pub(super) resident: u64,
    /// Its peak, in bytes.
    pub(super) peak: u64,
    /// Resources in use before any connection.
    pub(super) idle: Resources,
    /// Resources in use afterwards.
    pub(super) after: Resources,
}

/// Resources that a pull may leave behind.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Resources {
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Tasks of its runtime.
    pub(super) tasks: u64,
}

/// Serves orders until there are no more.
pub(crate) fn serve() -> ExitCode {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let mut lines = io::stdin().lines();
        let setup = lines.next().context("there is nothing to do")??;
        let idle = Resources::now(runtime.handle())?;
        let source = runtime.block_on(source(&serde_json::from_str(&setup)?))?;
        for order in lines {
            let usage = runtime.block_on(carry_out(&source, &serde_json::from_str(&order?)?, idle))?;
            let mut output = io::stdout().lock();
            writeln!(output, "{}", serde_json::to_string(&usage)?)?;
            output.flush()?;
        }
        Ok(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("obsync-dev: the process that pulls failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Signs in, and opens the vault, whose password the server provides.
async fn source(setup: &WorkerSetup) -> Result<PullSource> {
    let timeouts = Timeouts {
        answer: SILENCE,
        silence: SILENCE,
        ping_after: SILENCE / 4,
        stall: SILENCE * 10,
        ..Timeouts::default()
    };
    let retry = RetryPolicy {
        min_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(200),
        ..RetryPolicy::default()
    };
    let new_client = || {
        let (timeouts, retry) = (timeouts.clone(), retry.clone());
        Client::new(ClientOptions { api_url: setup.url.clone(), timeouts, retry, ..ClientOptions::default() })
    };
    // A separate client: its kept-alive connection is closed with it, and hides no resource that a pull
    // leaves.
    let signing_in = new_client()?;
    let password = SecretString::from(setup.password.as_str());
    let token = signing_in.sign_in(&setup.email, &password, None).await?.token;
    let vaults = signing_in.vaults(&token).await?;
    let vault =
        vaults.into_iter().find(|vault| vault.name == setup.vault).context("there is no such vault")?;
    let password = vault.password.as_ref().context("the vault's password is not handed out")?;
    let master = MasterKey::derive(password, &vault.salt);
    let keys = VaultKeys::new(&master, EncryptionVersion::try_from(vault.encryption_version)?, &vault.salt);
    Ok(PullSource { client: new_client()?, token, vault, keys })
}

/// Pulls until nothing is left to do, and measures the remaining resources of this process.
async fn carry_out(source: &PullSource, order: &Order, idle: Resources) -> Result<PullUsage> {
    let mut usage = PullUsage::default();
    while usage.attempts < ATTEMPTS {
        usage.attempts += 1;
        match attempt(source, order).await {
            Ok(report) => {
                usage.requests += report.requests;
                usage.connections += report.connections;
                usage.bytes += report.bytes_received;
                if report.outcome == Outcome::Complete {
                    return at_rest(usage, idle).await;
                }
            }
            Err(PullError::Client(error)) if error.is_retryable() => {}
            Err(error) => return Err(error).context("a pull failed"),
        }
    }
    bail!("the vault is not there after {ATTEMPTS} pulls")
}

async fn attempt(source: &PullSource, order: &Order) -> Result<Report, PullError> {
    let destination = Arc::new(FolderDestination::open(&order.folder, FolderOptions::default())?);
    let identity = StateIdentity {
        vault_id: source.vault.id.clone(),
        vault_name: source.vault.name.clone(),
        destination: canonical_destination(&order.folder).unwrap_or_default(),
    };
    let state = Arc::new(SqliteState::open(&order.state, &identity)?);
    pull(source, destination, state, &PullOptions::default(), Arc::new(NoProgress), CancellationToken::new())
        .await
}

impl Resources {
    fn now(runtime: &Handle) -> Result<Self> {
        Ok(Self { descriptors: descriptors()?, tasks: runtime.metrics().num_alive_tasks() as u64 })
    }
}

/// Measures the process until it uses no more resources than when idle, for a moment at most; returns the
/// last measurement.
async fn at_rest(usage: PullUsage, idle: Resources) -> Result<PullUsage> {
    const STEP: Duration = Duration::from_millis(20);
    let (mut waited, mut after) = (Duration::ZERO, Resources::now(&Handle::current())?);
    while waited < SETTLING && (after.tasks > idle.tasks || after.descriptors > idle.descriptors) {
        tokio::time::sleep(STEP).await;
        waited += STEP;
        after = Resources::now(&Handle::current())?;
    }
    let status =
        fs::read_to_string("/proc/self/status").context("this system does not tell what memory is used")?;
    let (resident, peak) = (size(&status, "VmRSS:")?, size(&status, "VmHWM:")?);
    Ok(PullUsage { resident, peak, idle, after, ..usage })
}

/// Number of open descriptors of this process, without the one used for counting.
fn descriptors() -> Result<u64> {
    let folder = Path::new("/proc/self/fd");
    let open = fs::read_dir(folder).context("this system does not tell which files are open")?.count();
    ensure!(open > 0, "nothing is open");
    Ok(open as u64 - 1)
}

/// A size of `/proc/self/status` (proc(5)), in bytes.
fn size(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("the memory is not told")?;
    let kilobytes: u64 =
        line.trim().trim_end_matches("kB").trim().parse().context("the memory is no number")?;
    Ok(kilobytes * 1024)
}
