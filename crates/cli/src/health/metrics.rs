//! The numbers of a destination for Prometheus: served by a follower, or written to a file of node exporter's textfile
//! collector.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use obsync_core::{Outcome, Report};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::exit::{Exit, Failed};
use crate::target::state_row::is_in_the_future;

/// The media type of the text.
pub(super) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// The numbers, and how they are written.
#[derive(Debug)]
pub(super) struct Metrics {
    numbers: Arc<Numbers>,
    /// All of them, as they are now.
    live: Registry,
    /// Without those that are true only now: nobody corrects a file after its program ended.
    in_file: Registry,
}

/// The numbers for one kind of reader.
#[derive(Debug)]
struct Numbered {
    numbers: Arc<Numbers>,
    is_live: bool,
}

/// The labels of all metrics.
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) vault: String,
    pub(super) destination: String,
    pub(super) command: &'static str,
}

#[derive(Debug, Default)]
struct Numbers(Mutex<Values>);

/// The values; unknown ones are left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    /// When the destination was last found in step with the vault, or brought so: milliseconds since the epoch.
    pub(super) last_check: Option<i64>,
    /// When the last run ended: milliseconds since the epoch.
    last_run: Option<i64>,
    exit: Option<Exit>,
    /// Seconds.
    duration: Option<f64>,
    pub(super) version: Option<u64>,
    /// Versions that the vault was ahead of the destination when the last run ended.
    lag: Option<u64>,
    pending: u64,
    failures: Option<u64>,
    held_back: Option<u64>,
    received: Option<u64>,
    sent: Option<u64>,
    /// Of a follower, since it began.
    pub(super) totals: Option<Totals>,
}

/// The counters of a follower.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    runs: u64,
    received: u64,
    sent: u64,
    pub(super) is_ready: bool,
    /// Changes of the folder are noticed late.
    pub(super) is_unwatched: bool,
}

impl Values {
    /// The last check; 0 if that is in the future: it would look recent for years, and a missing metric
    /// triggers no alert.
    fn checked(&self, now: i64) -> Option<i64> {
        self.last_check.map(|checked| if is_in_the_future(checked, now) { 0 } else { checked })
    }
}

impl Metrics {
    pub(super) fn new(labels: Labels, follows: bool) -> Self {
        let values = Values { totals: follows.then(Totals::default), ..Values::default() };
        let numbers = Arc::new(Numbers(Mutex::new(values)));
        let labels = [
            ("vault", Cow::Owned(labels.vault)),
            ("destination", Cow::Owned(labels.destination)),
            ("command", Cow::Borrowed(labels.command)),
        ];
        let registry = |is_live| {
            let labels = labels.clone().into_iter().map(|(name, value)| (Cow::Borrowed(name), value));
            let mut registry = Registry::with_prefix_and_labels("obsync", labels);
            registry.register_collector(Box::new(Numbered { numbers: Arc::clone(&numbers), is_live }));
            registry
        };
        let (live, in_file) = (registry(true), registry(false));
        Metrics { numbers, live, in_file }
    }

    /// The values, to be changed.
    pub(super) fn values(&self) -> MutexGuard<'_, Values> {
        self.numbers.lock()
    }

    /// Records the report of a run.
    pub(super) fn ran(&self, report: &Report, now: Timestamp) {
        let mut values = self.values();
        let (received, sent) = (report.bytes_received, report.pushed.bytes);
        if report.outcome == Outcome::Complete {
            values.last_check = Some(now.as_millisecond());
        }
        values.last_run = Some(now.as_millisecond());
        values.duration = Some(report.duration_ms as f64 / 1000.0);
        values.version = Some(report.version);
        values.lag = Some(report.vault_version.saturating_sub(report.version));
        values.failures = Some(report.failed());
        values.held_back = Some(report.held_back());
        (values.received, values.sent) = (Some(received), Some(sent));
        if report.outcome != Outcome::Interrupted {
            values.pending = 0;
        }
        if let Some(totals) = &mut values.totals {
            totals.runs += 1;
            totals.received = totals.received.saturating_add(received);
            totals.sent = totals.sent.saturating_add(sent);
        }
    }

    /// Records how a run ended.
    pub(super) fn ended(&self, exit: Exit, now: Timestamp) {
        let mut values = self.values();
        values.last_run = Some(now.as_millisecond());
        values.exit = Some(exit);
    }

    /// This many files are to be transferred.
    pub(super) fn planned(&self, files: u64) {
        self.values().pending = files;
    }

    /// One of them is in place.
    pub(super) fn placed(&self) {
        let mut values = self.values();
        values.pending = values.pending.saturating_sub(1);
    }

    /// All of them in the text format of Prometheus.
    pub(super) fn text(&self) -> String {
        encode(&self.live)
    }

    /// The same for a file, which outlives the program.
    pub(super) fn text_in_file(&self) -> String {
        encode(&self.in_file)
    }
}

fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = prometheus_text::encode(&mut text, registry);
    text
}

impl Numbers {
    fn lock(&self) -> MutexGuard<'_, Values> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Numbered {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let values = self.numbers.lock().clone();
        let mut writer = Writer(encoder);
        writer.run(&values)?;
        writer.state(&values)?;
        let Some(totals) = &values.totals else { return Ok(()) };
        if self.is_live {
            writer.now(&values, totals)?;
        }
        writer.totals(totals)
    }
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    /// The metrics of the last run.
    fn run(&mut self, values: &Values) -> fmt::Result {
        self.time("last_run_timestamp_seconds", "When the last run ended", values.last_run)?;
        let success = values.exit.map(|exit| if is_success(exit) { 1.0 } else { 0.0 });
        self.gauge("last_run_success", "Whether the last run did all of its work", success)?;
        let code = values.exit.map(|exit| f64::from(exit.code()));
        self.gauge("last_run_exit_status", "Exit status, as obsync --help has it", code)?;
        self.gauge("last_run_duration_seconds", "How long the last run took", values.duration)?;
        let received = values.received.map(float);
        self.gauge("last_run_received_bytes", "Content that the last run got from the service", received)?;
        self.gauge(
            "last_run_sent_bytes",
            "Content that the last run sent to the vault",
            values.sent.map(float),
        )
    }

    /// The metrics of the destination.
    fn state(&mut self, values: &Values) -> fmt::Result {
        let help = "When the destination was last found in step with the vault, or brought so; 0 if that is in the future";
        let checked = values.checked(Timestamp::now().as_millisecond());
        self.time("last_check_timestamp_seconds", help, checked)?;
        let version = values.version.map(float);
        self.gauge("vault_version", "The vault's version that the destination is complete up to", version)?;
        let lag = values.lag.map(float);
        self.gauge("version_lag", "How many versions the vault was ahead when the last run ended", lag)?;
        let pending = Some(float(values.pending));
        self.gauge(
            "pending_files",
            "Files that the run at work, or cut off, has yet to bring or send",
            pending,
        )?;
        self.gauge("failed_changes", "Changes that could not be applied", values.failures.map(float))?;
        let held_back = values.held_back.map(float);
        self.gauge("held_back_deletions", "Deletions that wait for obsync confirm", held_back)
    }

    /// The metrics of a follower that are true only while it runs.
    fn now(&mut self, values: &Values, totals: &Totals) -> fmt::Result {
        let now = Timestamp::now().as_millisecond();
        let age = values.checked(now).map(|checked| now.saturating_sub(checked).max(0) as f64 / 1000.0);
        self.gauge("last_check_age_seconds", "How long ago the last check was", age)?;
        let ready = Some(if totals.is_ready { 1.0 } else { 0.0 });
        let help = "Whether the follower is connected, its first run is done, and the vault is not older than the destination";
        self.gauge("ready", help, ready)?;
        let unwatched = Some(if totals.is_unwatched { 1.0 } else { 0.0 });
        let help = "Whether changes of the folder may be seen only when it is scanned, each minute";
        self.gauge("folder_unwatched", help, unwatched)
    }

    fn totals(&mut self, totals: &Totals) -> fmt::Result {
        self.counter("runs", "Runs since the follower began", totals.runs)?;
        self.counter("received_bytes", "Content from the service since the follower began", totals.received)?;
        self.counter("sent_bytes", "Content sent to the vault since the follower began", totals.sent)
    }

    fn time(&mut self, name: &str, help: &str, milliseconds: Option<i64>) -> fmt::Result {
        self.gauge(name, help, milliseconds.map(|milliseconds| milliseconds as f64 / 1000.0))
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

/// Exact up to 2^53, which no count here reaches.
fn float(count: u64) -> f64 {
    count as f64
}

/// True if a monitor has no reason to alert. Another obsync at work is no failure: it does this run's work.
pub(super) fn is_success(exit: Exit) -> bool {
    matches!(exit, Exit::Done | Exit::AlreadyRunning)
}

/// A file that node exporter's textfile collector reads.
#[derive(Clone, Debug)]
pub(super) struct MetricsFile(PathBuf);

impl MetricsFile {
    /// A file in this place.
    ///
    /// # Errors
    /// When its folder is not there.
    pub(super) fn at(path: &Path) -> Result<Self, Failed> {
        let file = MetricsFile(path.to_owned());
        match file.folder().is_dir() {
            true => Ok(file),
            false => {
                let message = format!("--metrics-file: there is no folder {}", file.folder().display());
                Err(Failed::new(Exit::Usage, message))
            }
        }
    }

    fn folder(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }
    }

    /// Replaces the file atomically, so that a reader sees the old or the new text. Its reader is another
    /// user.
    pub(super) fn write(&self, text: &str) -> Result<(), Failed> {
        let write = || {
            let mut file = tempfile::Builder::new()
                .prefix(".obsync-metrics-")
                .permissions(std::fs::Permissions::from_mode(0o644))
                .tempfile_in(self.folder())?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.0).map_err(|error| error.error)
        };
        match write() {
            Ok(_) => Ok(()),
            Err(error) => Err(Failed::cannot(format_args!("write {}", self.0.display()), &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    /// The value of a metric of a follower whose last check was this many milliseconds ago.
    fn value_after(passed: i64, name: &str) -> f64 {
        let labels = Labels { vault: "v".to_owned(), destination: "d".to_owned(), command: "sync" };
        let metrics = Metrics::new(labels, true);
        metrics.values().last_check = Some(Timestamp::now().as_millisecond() - passed);
        let text = metrics.text();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    #[test]
    fn a_file_says_nothing_that_is_true_only_while_the_follower_runs() {
        let labels = Labels { vault: "v".to_owned(), destination: "d".to_owned(), command: "sync" };
        let metrics = Metrics::new(labels, true);
        metrics.values().last_check = Some(Timestamp::now().as_millisecond());
        let (live, in_file) = (metrics.text(), metrics.text_in_file());
        for name in ["obsync_ready{", "obsync_folder_unwatched{", "obsync_last_check_age_seconds{"] {
            assert!(live.contains(name) && !in_file.contains(name), "{name}: {in_file}");
        }
        for name in ["obsync_last_check_timestamp_seconds{", "obsync_runs_total{"] {
            assert!(live.contains(name) && in_file.contains(name), "{name}: {in_file}");
        }
    }

    #[test]
    fn a_check_of_the_future_looks_as_old_as_can_be() {
        for (passed, is_believed) in [(0, true), (HOUR, true), (-HOUR, true), (-25 * HOUR, false)] {
            let age = value_after(passed, "obsync_last_check_age_seconds");
            let checked = value_after(passed, "obsync_last_check_timestamp_seconds");
            assert_eq!(checked > 0.0, is_believed, "{passed}");
            // Generous, because a test may be slow; alerts use a day or more.
            assert_eq!(age < 7200.0, is_believed, "{passed}: {age}");
        }
    }
}
