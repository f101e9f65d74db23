//! A measured step of a scenario: medians of its runs beside their lower bounds.

use std::time::Duration;

use serde::Serialize;

use super::aims::Finding;
use super::catalog::Scenario;
use super::stage::Pulled;
use crate::measure::{Usage, median};
use crate::pull::PullReport;

/// The steps of a device with a vault, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// It pulls everything.
    First,
    /// Nothing is new.
    Again,
    /// One file in a hundred has new content.
    Changed,
    /// A thousand files have new names.
    Renamed,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first pull",
            Self::Again => "nothing new",
            Self::Changed => "1 % changed",
            Self::Renamed => "renamed",
        }
    }
}

/// The lower bound that a time is compared with, by part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FloorKind {
    /// Copying the files with the standard library, without making them durable.
    Copy,
    /// The same, and one flush at the end.
    DurableCopy,
    /// Decrypting and hashing their content on one processor.
    Crypto,
    /// The requests' round trips, with the actual concurrency: requests × RTT ÷ (connections × in flight).
    Latency,
    /// The service time of all requests over ten connections: requests × time ÷ 10.
    Service,
    /// The round trips before the first request for content; without changes, those to bucket and table as
    /// well.
    Trips,
    /// Bare `PutObject`s of the same bytes, as many at a time.
    Puts,
}

impl FloorKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::DurableCopy => "durable copy",
            Self::Crypto => "crypto",
            Self::Latency => "latency",
            Self::Service => "service",
            Self::Trips => "trips",
            Self::Puts => "puts",
        }
    }
}

/// A lower bound, and the ratio to it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Floor {
    pub(super) kind: FloorKind,
    pub(super) seconds: f64,
    pub(super) ratio: f64,
}

/// Measurements of another program for the same step, alternating with the row's program.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Against {
    /// The medians of its runs.
    pub(super) wall_seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) peak_memory_bytes: u64,
    /// Ratios of the row's program to the other one, of time, processor time and memory: medians over the
    /// pairs.
    pub(super) wall_ratio: f64,
    pub(super) cpu_ratio: f64,
    pub(super) memory_ratio: f64,
}

/// Measurements of one step: the medians of its runs.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    pub(super) step: Step,
    /// The scenario in words.
    pub(super) what: String,
    pub(super) round_trip_ms: u64,
    /// The server's time for each request, sequential on a connection.
    pub(super) service_time_ms: u64,
    /// Files and bytes of the vault.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The process, from its start to its end, in seconds.
    pub(super) wall_seconds: f64,
    /// Its processor time, in the program and in the system, in seconds.
    pub(super) cpu_seconds: f64,
    /// Peak resident memory, in bytes.
    pub(super) peak_memory_bytes: u64,
    pub(super) connections: u64,
    /// Contents requested.
    pub(super) requests: u64,
    /// Encrypted content received, in bytes.
    pub(super) bytes_received: u64,
    /// Requests to S3 and DynamoDB.
    pub(super) cloud_requests: u64,
    /// The lower bounds of the wall time.
    pub(super) floors: Vec<Floor>,
    /// The other program, where one was measured.
    pub(super) against: Option<Against>,
    /// The project's targets for it, and whether they are met.
    pub(super) aims: Vec<Finding>,
}

/// The runs of one step: the measurements of each pull, and its lower bounds.
#[derive(Default)]
pub(super) struct Runs {
    pulls: Vec<Pulled>,
    /// The other program's measurements beside each of these.
    against: Vec<Usage>,
    pub(super) floors: Vec<(FloorKind, Duration)>,
}

impl Runs {
    /// Records a pull, and the alternating one of the other program.
    pub(super) fn add(&mut self, pulled: Pulled, against: Option<Pulled>) {
        self.pulls.push(pulled);
        self.against.extend(against.map(|pulled| pulled.usage));
    }

    /// The medians.
    pub(super) fn row(&self, scenario: &Scenario, step: Step) -> Row {
        let usage =
            |value: fn(&Usage) -> Duration| self.median_of(|pulled| value(&pulled.usage)).as_secs_f64();
        let report = |value: fn(&PullReport) -> u64| self.median_of(|pulled| value(&pulled.report));
        let wall_seconds = usage(|usage| usage.wall);
        let row = Row {
            scenario: scenario.name,
            step,
            what: scenario.to_string(),
            round_trip_ms: u64::try_from(scenario.round_trip.as_millis()).unwrap_or(u64::MAX),
            service_time_ms: u64::try_from(scenario.service_time.as_millis()).unwrap_or(u64::MAX),
            files: self.median_of(|pulled| pulled.files),
            bytes: self.median_of(|pulled| pulled.bytes),
            wall_seconds,
            cpu_seconds: usage(|usage| usage.cpu),
            peak_memory_bytes: self.median_of(|pulled| pulled.usage.peak_memory),
            connections: report(|report| report.connections),
            requests: report(|report| report.requests),
            bytes_received: report(|report| report.bytes_received),
            cloud_requests: self.median_of(|pulled| pulled.cloud_requests),
            floors: self.floors(wall_seconds),
            against: self.against(),
            aims: Vec::new(),
        };
        Row { aims: super::aims::of(scenario, &row), ..row }
    }

    fn median_of<T: Ord + Copy + Default>(&self, value: impl Fn(&Pulled) -> T) -> T {
        median(self.pulls.iter().map(value)).unwrap_or_default()
    }

    fn against(&self) -> Option<Against> {
        let of = |value: fn(&Usage) -> u64| -> Option<(u64, f64)> {
            let other = median(self.against.iter().map(value))?;
            let pairs = self.pulls.iter().zip(&self.against);
            // In thousandths, which are ordered.
            let ratios = pairs.map(|(pulled, other)| {
                value(&pulled.usage).saturating_mul(1000).checked_div(value(other)).unwrap_or_default()
            });
            Some((other, median(ratios)? as f64 / 1000.0))
        };
        let ((wall, wall_ratio), (cpu, cpu_ratio), (peak_memory_bytes, memory_ratio)) = (
            of(|usage| u64::try_from(usage.wall.as_micros()).unwrap_or(u64::MAX))?,
            of(|usage| u64::try_from(usage.cpu.as_micros()).unwrap_or(u64::MAX))?,
            of(|usage| usage.peak_memory)?,
        );
        let seconds = |micros: u64| micros as f64 / 1e6;
        let (wall_seconds, cpu_seconds) = (seconds(wall), seconds(cpu));
        Some(Against { wall_seconds, cpu_seconds, peak_memory_bytes, wall_ratio, cpu_ratio, memory_ratio })
    }

    fn floors(&self, wall: f64) -> Vec<Floor> {
        let mut kinds: Vec<FloorKind> = self.floors.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let of_kind = |kind| self.floors.iter().filter(move |(of, _)| *of == kind).map(|(_, took)| *took);
        let floor = |kind| {
            let seconds = median(of_kind(kind))?.as_secs_f64();
            (seconds > 0.0).then_some(Floor { kind, seconds, ratio: wall / seconds })
        };
        kinds.into_iter().filter_map(floor).collect()
    }
}
