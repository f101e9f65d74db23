//! Measures the steps of a scenario, in order and repeatedly, each beside its lower bounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::catalog::Scenario;
use super::row::{FloorKind, Row, Runs, Step};
use super::stage::{BenchDevice, Pulled, Stage};
use super::{bare_puts, floor, vaults};

/// The measured programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The rows' program; `None`: the built-in one.
    pub(super) measured: Option<PathBuf>,
    /// Another one, which alternates with it.
    pub(super) against: Option<PathBuf>,
}

/// Measures a scenario: a row for each step.
pub(super) async fn measure(
    scenario: &Scenario,
    work: TempDir,
    runs: u32,
    programs: Programs,
) -> Result<Vec<Row>> {
    let stage = Arc::new(Stage::start(scenario, work).await?);
    let steps = BTreeMap::new();
    let measuring = Measuring { scenario: *scenario, stage: Arc::clone(&stage), programs, steps };
    // Away from the runtime, where the server is.
    let rows =
        tokio::task::spawn_blocking(move || measuring.run(runs)).await.context("the measurement failed")?;
    if let Some(stage) = Arc::into_inner(stage) {
        stage.shutdown().await;
    }
    rows
}

struct Measuring {
    scenario: Scenario,
    stage: Arc<Stage>,
    programs: Programs,
    steps: BTreeMap<Step, Runs>,
}

/// The devices of one round.
struct Devices {
    measured: BenchDevice,
    /// The other program's device.
    against: Option<BenchDevice>,
    /// The other program comes first in this round.
    is_other_first: bool,
}

impl Devices {
    /// Runs an action on each of them, one after the other.
    fn each<T>(&self, mut act: impl FnMut(&BenchDevice) -> Result<T>) -> Result<(T, Option<T>)> {
        let other =
            |act: &mut dyn FnMut(&BenchDevice) -> Result<T>| self.against.as_ref().map(act).transpose();
        if self.is_other_first {
            let against = other(&mut act)?;
            return Ok((act(&self.measured)?, against));
        }
        Ok((act(&self.measured)?, other(&mut act)?))
    }
}

impl Measuring {
    fn run(mut self, runs: u32) -> Result<Vec<Row>> {
        for round in 0..runs {
            let devices = self.devices(round)?;
            self.first(&devices)?;
            let pulled = self.step(Step::Again, &devices)?;
            ensure!(pulled, "a pull with nothing new did something");
            vaults::change_one_percent(&self.stage.vault, round)?;
            self.step(Step::Changed, &devices)?;
            if self.scenario.is_of_small_files() {
                vaults::rename(&self.stage.vault, round)?;
                self.step(Step::Renamed, &devices)?;
            }
        }
        Ok(self.steps.iter().map(|(step, runs)| runs.row(&self.scenario, *step)).collect())
    }

    fn devices(&self, round: u32) -> Result<Devices> {
        let new = |program: Option<&Path>| self.stage.new_device(program);
        Ok(Devices {
            measured: new(self.programs.measured.as_deref())?,
            against: self.programs.against.as_deref().map(|other| new(Some(other))).transpose()?,
            is_other_first: round % 2 == 1,
        })
    }

    /// The first pull of a device, and the lower bounds for it.
    fn first(&mut self, devices: &Devices) -> Result<()> {
        let (pulled, against) = devices.each(|device| self.stage.pull(device))?;
        let device = &devices.measured;
        let mut floors = Vec::new();
        match &self.stage.cloud {
            // With waits for round trips, these are the lower bound.
            None if !self.scenario.is_near() => {}
            None => {
                let keys = self.stage.vault.keys()?;
                floors.extend(floor::of(keys, &device.folder(), &device.copy())?);
            }
            Some(cloud) => {
                let puts = Handle::current().block_on(bare_puts::of(
                    cloud,
                    self.scenario.round_trip.is_zero(),
                    self.stage.objects(device),
                ))?;
                floors.push((FloorKind::Puts, puts));
            }
        }
        if self.scenario.service_time.is_zero() {
            floors.push((FloorKind::Latency, self.latency(&pulled)));
        } else {
            floors.push((FloorKind::Service, self.service(&pulled)));
        }
        let runs = self.steps.entry(Step::First).or_default();
        runs.add(pulled, against);
        runs.floors.extend(floors);
        Ok(())
    }

    /// A later pull. Returns true if it found nothing to do.
    fn step(&mut self, step: Step, devices: &Devices) -> Result<bool> {
        let (pulled, against) = devices.each(|device| self.stage.pull(device))?;
        let is_unchanged = pulled.report.is_unchanged();
        // Without changes, requests to a bucket and a table are sequential, too.
        let trips = pulled.trips + if is_unchanged { pulled.cloud_requests } else { 0 };
        let trip = self.scenario.round_trip + self.scenario.service_time;
        let trips = trip.saturating_mul(u32::try_from(trips)?);
        let runs = self.steps.entry(step).or_default();
        runs.add(pulled, against);
        runs.floors.push((FloorKind::Trips, trips));
        Ok(is_unchanged)
    }

    /// The service time of all requests over the most connections allowed.
    fn service(&self, pulled: &Pulled) -> Duration {
        const CONNECTIONS: f64 = 10.0;
        self.scenario.service_time.mul_f64(pulled.report.requests as f64 / CONNECTIONS)
    }

    /// The round trips of all requests, with as many requests in flight on a connection as the server saw in
    /// that pull, and with the connections that a pull begins with: adding more is a gain, not a lower bound.
    fn latency(&self, pulled: &Pulled) -> Duration {
        const CONNECTIONS: u64 = 4;
        let connections = pulled.report.connections.max(1);
        let in_flight = pulled.under_way as f64 / connections as f64 * connections.min(CONNECTIONS) as f64;
        self.scenario.round_trip.mul_f64(pulled.report.requests as f64 / in_flight)
    }
}
