//! The steps of a scenario, in order and as often as they are to be measured, each beside its floors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::catalog::Scenario;
use super::row::{FloorKind, Row, Runs, Step};
use super::stage::{BenchDevice, Pulled, Stage};
use super::{bare_puts, floor, vaults};

/// Measures a scenario: a row for each step.
pub(super) async fn measure(scenario: &Scenario, work: TempDir, runs: u32) -> Result<Vec<Row>> {
    let stage = Arc::new(Stage::start(scenario, work).await?);
    let measuring = Measuring { scenario: *scenario, stage: Arc::clone(&stage), steps: BTreeMap::new() };
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
    steps: BTreeMap<Step, Runs>,
}

impl Measuring {
    fn run(mut self, runs: u32) -> Result<Vec<Row>> {
        for round in 0..runs {
            let device = self.stage.new_device()?;
            self.first(&device)?;
            let pulled = self.step(Step::Again, &device)?;
            ensure!(pulled, "a pull with nothing new did something");
            vaults::change_one_percent(&self.stage.vault, round)?;
            self.step(Step::Changed, &device)?;
            if self.scenario.is_of_small_files() {
                vaults::rename(&self.stage.vault, round)?;
                self.step(Step::Renamed, &device)?;
            }
        }
        Ok(self.steps.iter().map(|(step, runs)| runs.row(&self.scenario, *step)).collect())
    }

    /// The first pull of a device, and the floors for it.
    fn first(&mut self, device: &BenchDevice) -> Result<()> {
        let pulled = self.stage.pull(device)?;
        let mut floors = Vec::new();
        match &self.stage.cloud {
            // Where round trips are waited for, they are the floor.
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
        runs.pulls.push(pulled);
        runs.floors.extend(floors);
        Ok(())
    }

    /// A later pull; whether it found nothing to do.
    fn step(&mut self, step: Step, device: &BenchDevice) -> Result<bool> {
        let pulled = self.stage.pull(device)?;
        let is_unchanged = pulled.report.is_unchanged();
        // What is asked of a bucket and a table where there is nothing to do is asked one after the other, too.
        let trips = pulled.trips + if is_unchanged { pulled.cloud_requests } else { 0 };
        let trip = self.scenario.round_trip + self.scenario.service_time;
        let trips = trip.saturating_mul(u32::try_from(trips)?);
        let runs = self.steps.entry(step).or_default();
        runs.pulls.push(pulled);
        runs.floors.push((FloorKind::Trips, trips));
        Ok(is_unchanged)
    }

    /// The service time of all requests over the most connections that there may be.
    fn service(&self, pulled: &Pulled) -> Duration {
        const CONNECTIONS: f64 = 10.0;
        self.scenario.service_time.mul_f64(pulled.report.requests as f64 / CONNECTIONS)
    }

    /// The round trips of all requests, with as many requests in flight on a connection as the server saw in that pull, and
    /// with the connections that a pull begins with: that more are added is a gain, not a lower floor.
    fn latency(&self, pulled: &Pulled) -> Duration {
        const CONNECTIONS: u64 = 4;
        let connections = pulled.report.connections.max(1);
        let in_flight = pulled.under_way as f64 / connections as f64 * connections.min(CONNECTIONS) as f64;
        self.scenario.round_trip.mul_f64(pulled.report.requests as f64 / in_flight)
    }
}
