//! Pulls that are measured: of everything, by a device that has nothing yet; and again, when nothing is new.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use obsync_testkit::{VaultHandle, VaultSpec};
use secrecy::ExposeSecret;
use serde::Serialize;
use tempfile::TempDir;

use super::floor::{self, Floor};
use crate::check::same_as_vault;
use crate::child::{Identity, Obsync};
use crate::measure::{Usage, median};
use crate::pull::PullReport;

/// Where and how often pulls are measured.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    work: Arc<TempDir>,
    url: String,
    identity: Identity,
    runs: u32,
}

/// What one scenario took: the medians of its runs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What was done.
    pub(super) scenario: String,
    /// Files and bytes of the vault.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The process, from its start to its end, in seconds.
    pub(super) wall_seconds: f64,
    /// Its processor time, in the program and in the system, in seconds.
    pub(super) cpu_seconds: f64,
    /// The most memory that it had resident, in bytes.
    pub(super) peak_memory_bytes: u64,
    pub(super) connections: u64,
    /// Contents asked for.
    pub(super) requests: u64,
    /// Encrypted content received, in bytes.
    pub(super) bytes_received: u64,
    /// The least that such a pull could take; none where there is nothing to do.
    pub(super) floor: Option<Floor>,
}

/// One pull, measured.
type Sample = (PullReport, Usage);

/// A folder that was pulled to, and the obsync that did it.
///
/// Both stay until all is measured: ext4 is slow to make files for minutes after many were deleted, because it looks
/// for places that were not in use lately.
struct Device {
    home: PathBuf,
    obsync: Obsync,
}

impl Bench {
    pub(super) fn new(work: TempDir, url: String, identity: Identity, runs: u32) -> Self {
        Self { work: Arc::new(work), url, identity, runs }
    }

    /// A vault that the identity can open.
    pub(super) fn vault(&self, name: &str) -> VaultSpec {
        match &self.identity.vault_password {
            Some(password) => VaultSpec::end_to_end(name, password.expose_secret()),
            None => VaultSpec::managed(name),
        }
    }

    /// Pulls a vault as often as is to be measured, each time to a new folder, and with `again` a second time to each.
    pub(super) fn measure(&self, vault: &VaultHandle, name: &str, again: bool) -> Result<Vec<Row>> {
        let (mut first, mut second, mut floors) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let device = self.new_device()?;
            first.push(device.pull(vault)?);
            same_as_vault(vault, &device.folder())?;
            if again {
                let sample = device.pull(vault)?;
                ensure!(sample.0.is_unchanged(), "a pull with nothing new did something: {:?}", sample.0);
                second.push(sample);
            }
            floors.push(floor::of(vault.keys()?, &device.folder(), &device.home.join("copy"))?);
        }
        let floor = Floor::median(&floors);
        let mut rows = vec![self.row(vault, format!("first pull, {name}"), &first, floor)?];
        if again {
            rows.push(self.row(vault, "pull again, nothing new".to_owned(), &second, None)?);
        }
        Ok(rows)
    }

    /// A device that has signed in and has nothing yet.
    fn new_device(&self) -> Result<Device> {
        let home = tempfile::tempdir_in(self.work.path()).context("cannot make a folder to pull to")?.keep();
        let obsync = Obsync::new(&home.join("home"), &self.url, &self.identity)?;
        obsync.login()?;
        // A pull makes its files durable and would have to wait for what others, the last copying too, left to write.
        nix::unistd::sync();
        Ok(Device { home, obsync })
    }

    fn row(
        &self,
        vault: &VaultHandle,
        scenario: String,
        samples: &[Sample],
        floor: Option<Floor>,
    ) -> Result<Row> {
        let content = vault.expected()?;
        let of_usage = |value: fn(&Usage) -> Duration| median(samples.iter().map(|(_, usage)| value(usage)));
        let of_report =
            |value: fn(&PullReport) -> u64| median(samples.iter().map(|(report, _)| value(report)));
        Ok(Row {
            scenario,
            files: content.files.len() as u64,
            bytes: content.total_size(),
            wall_seconds: of_usage(|usage| usage.wall).unwrap_or_default().as_secs_f64(),
            cpu_seconds: of_usage(|usage| usage.cpu).unwrap_or_default().as_secs_f64(),
            peak_memory_bytes: median(samples.iter().map(|(_, usage)| usage.peak_memory)).unwrap_or_default(),
            connections: of_report(|report| report.connections).unwrap_or_default(),
            requests: of_report(|report| report.requests).unwrap_or_default(),
            bytes_received: of_report(|report| report.bytes_received).unwrap_or_default(),
            floor,
        })
    }
}

impl Device {
    fn folder(&self) -> PathBuf {
        self.home.join("notes")
    }

    fn pull(&self, vault: &VaultHandle) -> Result<Sample> {
        self.obsync.pull(vault.name(), Path::new(&self.folder()))
    }
}
