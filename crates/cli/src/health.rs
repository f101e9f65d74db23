//! Reports the health of runs and followers: pings to a monitor, a file or HTTP for Prometheus, `sd_notify`
//! for systemd.
//!
//! Nothing here fails a run once it has begun. Followers report as an [`Observer`], other runs by their
//! report.

mod metrics;
mod ping;
mod readiness;
mod server;
mod service_manager;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use obsync_core::{FileAction, Following, Observer, Outcome, Phase, Progress, Report};
use obsync_protocol::{Uid, VaultPath};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::args::Pull;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::target::state_place::StatePlace;
use crate::ui::console::Console;
use crate::ui::{pull_report, shell};
use metrics::{Labels, Metrics, MetricsFile};
use ping::{Ping, Signal};
use readiness::Readiness;
use server::HttpAnswer;
use service_manager::ServiceManager;

/// Pings of a follower with the same news are this far apart.
const PING_EVERY: Duration = Duration::from_secs(60);
/// A follower that cannot reach the service for this long is a failure for the monitor.
const OUTAGE: Duration = Duration::from_secs(300);
/// Requested extension of a service's start, and how often it is repeated: the first run takes as long as it
/// takes.
const STARTING: Duration = Duration::from_secs(60);
const STARTING_EVERY: Duration = Duration::from_secs(20);
/// Time limit of the last pings.
const LAST_PINGS: Duration = Duration::from_secs(40);
/// The same if the program is to end.
const LAST_PINGS_STOPPED: Duration = Duration::from_millis(700);

/// The health of a run, or a follower.
pub(crate) struct Health {
    console: Arc<Console>,
    stop: CancellationToken,
    /// The command that confirms held-back deletions.
    confirm: String,
    metrics: Metrics,
    file: Option<MetricsFile>,
    /// Locked while the file is written.
    writing: tokio::sync::Mutex<()>,
    /// Somebody reads the metrics.
    is_measured: bool,
    /// Wakes the task that writes the file.
    changed: Arc<Notify>,
    ping: Option<Ping>,
    notified: Mutex<Notified>,
    follower: Option<Follower>,
    /// Held for its Drop: ends the tasks.
    _tasks: DropGuard,
}

/// State of a follower only.
#[derive(Debug)]
struct Follower {
    readiness: Readiness,
    manager: ServiceManager,
}

/// The last news for the monitor.
#[derive(Debug, Default)]
struct Notified {
    /// The report of the last run.
    report: Option<String>,
    /// Success and time of a follower's last ping.
    last: Option<(bool, Instant)>,
    /// Since when a follower cannot reach the service.
    unreachable: Option<Instant>,
}

impl Health {
    /// Starts reporting, before anything else is done. A dry run reports nothing.
    ///
    /// # Errors
    /// When an address is unavailable, a file has no folder, or certificates are unusable.
    pub(crate) async fn begin(
        options: &Pull,
        command: &'static str,
        context: &Context,
    ) -> Result<Arc<Self>, Failed> {
        let monitoring = &options.monitoring;
        let file = monitoring.metrics_file.as_deref().filter(|_| !options.dry_run);
        let file = file.map(MetricsFile::at).transpose()?;
        let url = if options.dry_run { None } else { monitoring.ping()? };
        let console = &context.console;
        let ping = url.map(|url| Ping::to(&url, context.network(), Arc::clone(console))).transpose()?;
        let listener = match monitoring.listen {
            Some(address) => Some(server::listen(address).await?),
            None => None,
        };
        let destination = options.destination.text();
        let labels = Labels { vault: options.vault.clone(), destination, command };
        let tasks = CancellationToken::new();
        let health = Arc::new(Health {
            console: Arc::clone(console),
            stop: context.stop.clone(),
            confirm: confirm_command(options),
            metrics: Metrics::new(labels, options.follow),
            is_measured: file.is_some() || listener.is_some(),
            file,
            writing: tokio::sync::Mutex::default(),
            changed: Arc::default(),
            ping,
            notified: Mutex::default(),
            follower: options
                .follow
                .then(|| Follower { readiness: Readiness::new(), manager: ServiceManager::default() }),
            _tasks: tasks.clone().drop_guard(),
        });
        health.ping(Signal::Start);
        if let Some((listener, address)) = listener {
            console.note(&format!("obsync: listening at http://{address}"));
            let answering = Arc::downgrade(&health);
            let answer = move |path: &str| match answering.upgrade() {
                Some(health) => health.answer(path),
                None => HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "it ends\n"),
            };
            tokio::spawn(tasks.clone().run_until_cancelled_owned(server::serve(listener, answer)));
        }
        health.spawn_followers_tasks(&tasks);
        Ok(health)
    }

    /// The tasks of a follower: writes the file after every change, and feeds the watchdog as long as nothing
    /// hangs.
    fn spawn_followers_tasks(self: &Arc<Self>, tasks: &CancellationToken) {
        let Some(follower) = &self.follower else { return };
        if self.file.is_some() {
            let (health, changed) = (Arc::downgrade(self), Arc::clone(&self.changed));
            tokio::spawn(tasks.clone().run_until_cancelled_owned(async move {
                loop {
                    changed.notified().await;
                    let Some(health) = health.upgrade() else { return };
                    health.write_file().await;
                }
            }));
        }
        if follower.manager.is_there() {
            let health = Arc::downgrade(self);
            tokio::spawn(tasks.clone().run_until_cancelled_owned(async move {
                while let Some(health) = health.upgrade().filter(|health| health.extend_start()) {
                    drop(health);
                    tokio::time::sleep(STARTING_EVERY).await;
                }
            }));
        }
        if let Some(every) = follower.manager.watchdog() {
            let health = Arc::downgrade(self);
            tokio::spawn(tasks.clone().run_until_cancelled_owned(async move {
                while let Some(health) = health.upgrade() {
                    health.feed_watchdog();
                    drop(health);
                    tokio::time::sleep(every).await;
                }
            }));
        }
    }

    /// Asks for more time for the first run, as long as that does not hang. Returns true if that is still
    /// needed.
    fn extend_start(&self) -> bool {
        let Some(Follower { readiness, manager }) = &self.follower else { return false };
        if readiness.is_alive(Instant::now()) {
            manager.starting(STARTING);
        }
        !manager.is_ready()
    }

    fn feed_watchdog(&self) {
        if let Some(Follower { readiness, manager }) = &self.follower
            && readiness.is_alive(Instant::now())
        {
            manager.alive();
        }
    }

    /// Loads the results of earlier runs to a destination, so that a failed run does not hide them.
    pub(crate) async fn remember(&self, known: &Known) {
        if !self.is_measured {
            return;
        }
        // The run itself reports an unreadable state.
        let Ok(state) = known.only_state().await else { return };
        let state = state.store();
        let (checked, loaded) = (state.last_check().await, state.load().await);
        let mut values = self.metrics.values();
        values.last_check = checked.ok().flatten();
        values.version = loaded.ok().map(|state| state.version);
    }

    pub(crate) fn progress(self: &Arc<Self>, shown: Arc<dyn Progress>) -> Arc<dyn Progress> {
        match self.is_measured || self.follower.is_some() {
            true => Arc::new(Counted { shown, health: Arc::clone(self) }),
            false => shown,
        }
    }

    /// The command that confirms held-back deletions.
    pub(crate) fn confirm(&self) -> &str {
        &self.confirm
    }

    /// Records the report of a run without a follower.
    pub(crate) fn reported(&self, report: &Report) {
        self.metrics.ran(report, Timestamp::now());
        self.notified().report = Some(self.text_of(report));
    }

    /// Reports the end, and waits for delivery for a while.
    pub(crate) async fn end(&self, result: &Result<Exit, Failed>) {
        if let Some(Follower { manager, .. }) = &self.follower {
            manager.stopping();
        }
        let exit = match result {
            Ok(exit) => *exit,
            Err(failed) => failed.exit,
        };
        self.metrics.ended(exit, Timestamp::now());
        self.write_file().await;
        let report = self.notified().report.take();
        match result {
            // It was cancelled, which is no news for a monitor.
            _ if self.follower.is_some() && self.stop.is_cancelled() => {}
            Ok(exit) if metrics::is_success(*exit) => self.ping(Signal::Success(report.unwrap_or_default())),
            Err(failed) if metrics::is_success(failed.exit) => {
                self.ping(Signal::Success(failed.message.clone()));
            }
            Ok(exit) => self.ping(Signal::Failure(failure(*exit, &report.unwrap_or_default()))),
            Err(failed) => self.ping(Signal::Failure(failure(failed.exit, &failed.message))),
        }
        if let Some(ping) = &self.ping {
            ping.finish(self.patience()).await;
        }
    }

    /// Waits as long as the last pings may take.
    async fn patience(&self) {
        if self.stop.run_until_cancelled(tokio::time::sleep(LAST_PINGS)).await.is_none()
            && self.follower.is_none()
        {
            tokio::time::sleep(LAST_PINGS_STOPPED).await;
        }
    }

    fn ping(&self, signal: Signal) {
        if let Some(ping) = &self.ping {
            ping.send(signal);
        }
    }

    /// Pings for a follower, unless the monitor got the same news recently.
    fn ping_for_follower(&self, is_success: bool, report: &str) {
        {
            let now = Instant::now();
            let mut notified = self.notified();
            if notified.last.is_some_and(|(last, at)| last == is_success && now - at < PING_EVERY) {
                return;
            }
            notified.last = Some((is_success, now));
        }
        self.ping(match is_success {
            true => Signal::Success(report.to_owned()),
            false => Signal::Failure(report.to_owned()),
        });
    }

    /// A report for people.
    fn text_of(&self, report: &Report) -> String {
        let is_doubtful = report.older_vault.is_some() || report.doubt.is_some() || report.vault_restored;
        let parts = [
            is_doubtful.then(|| report.warnings.join("\n")),
            Some(pull_report::sentences(report)),
            pull_report::failures(report),
            pull_report::held_back(report, &self.confirm),
            pull_report::not_taken_back(report),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    async fn write_file(&self) {
        let Some(file) = self.file.clone() else { return };
        // One after the other: an older text must not replace a newer one.
        let _one = self.writing.lock().await;
        let text = self.metrics.text_in_file();
        let written = tokio::task::spawn_blocking(move || file.write(&text)).await;
        if let Ok(Err(failed)) = written {
            self.console.warn(&failed.message);
        }
    }

    /// The answer to a request for a path.
    fn answer(&self, path: &str) -> HttpAnswer {
        let Some(Follower { readiness, .. }) = &self.follower else {
            return HttpAnswer::text(StatusCode::NOT_FOUND, "nothing is followed\n");
        };
        match path {
            "/healthz" if readiness.is_alive(Instant::now()) => HttpAnswer::text(StatusCode::OK, "alive\n"),
            "/healthz" => HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "it hangs\n"),
            "/readyz" => match readiness.missing(Instant::now()) {
                None => HttpAnswer::text(StatusCode::OK, format!("{}\n", readiness.ready())),
                Some(missing) => {
                    let since = missing.since.strftime("%Y-%m-%dT%H:%M:%SZ");
                    let body = format!("not ready since {since}: {}\n", missing.reason);
                    HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, body)
                }
            },
            "/metrics" => {
                let is_ready = readiness.missing(Instant::now()).is_none();
                if let Some(totals) = &mut self.metrics.values().totals {
                    totals.is_ready = is_ready;
                    totals.is_unwatched = !readiness.is_watched();
                }
                let body = self.metrics.text();
                HttpAnswer { status: StatusCode::OK, content_type: metrics::CONTENT_TYPE, body }
            }
            _ => HttpAnswer::text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }

    fn notified(&self) -> std::sync::MutexGuard<'_, Notified> {
        // Nothing that can panic runs under the lock.
        self.notified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// News of a follower.
impl Observer for Health {
    fn following(&self, following: &Following) {
        let Some(Follower { readiness, manager }) = &self.follower else { return };
        let reason = match following {
            Following::Reconnecting { reason, .. } | Following::Retrying { reason, .. } => {
                self.console.printable(reason).replace('\n', " ")
            }
            Following::Running | Following::Waiting => String::new(),
        };
        let now = Instant::now();
        readiness.following(following, &reason, (now, Timestamp::now()));
        match following {
            Following::Running | Following::Reconnecting { .. } => {}
            Following::Waiting => self.notified().unreachable = None,
            Following::Retrying { .. } => {
                let since = *self.notified().unreachable.get_or_insert_with(Instant::now);
                if since.elapsed() >= OUTAGE {
                    self.ping_for_follower(false, &reason);
                }
            }
        }
        let missing = readiness.missing(now);
        let is_ready = missing.is_none();
        match missing {
            Some(missing) => {
                let since = missing.since.strftime("%Y-%m-%d %H:%M:%S UTC");
                manager.status(&format!("not ready since {since}: {}", missing.reason));
            }
            None if matches!(following, Following::Running) => manager.status("running"),
            None => {
                manager.ready();
                manager.status(&readiness.waiting());
            }
        }
        if let Some(totals) = &mut self.metrics.values().totals {
            totals.is_ready = is_ready;
            totals.is_unwatched = !readiness.is_watched();
        }
        if !matches!(following, Following::Running) {
            self.changed.notify_one();
        }
    }

    fn ran(&self, report: &Report) {
        let exit = match report.outcome {
            Outcome::Complete | Outcome::DryRun => Exit::Done,
            Outcome::Failures => Exit::Failures,
            Outcome::HeldBack => Exit::HeldBack,
            Outcome::VaultOlder => Exit::VaultOlder,
            // The next attempt reports the reason.
            Outcome::Interrupted => Exit::Unfinished,
        };
        if let Some(Follower { readiness, .. }) = &self.follower {
            readiness.ran(report.outcome, report.failed(), report.held_back());
        }
        self.metrics.ran(report, Timestamp::now());
        self.metrics.ended(exit, Timestamp::now());
        self.changed.notify_one();
        if exit != Exit::Unfinished {
            self.ping_for_follower(exit == Exit::Done, &self.text_of(report));
        }
    }
}

/// Counts the shown progress.
struct Counted {
    shown: Arc<dyn Progress>,
    health: Arc<Health>,
}

impl Counted {
    /// There is progress: a follower's run does not hang.
    fn progressed(&self) {
        if let Some(Follower { readiness, .. }) = &self.health.follower {
            readiness.progressed(Instant::now());
        }
    }
}

impl Progress for Counted {
    fn phase(&self, phase: Phase) {
        self.shown.phase(phase);
        if let Some(Follower { readiness, .. }) = &self.health.follower {
            readiness.phase(phase, (Instant::now(), Timestamp::now()));
        }
    }

    fn listed(&self, entries: u64) {
        self.shown.listed(entries);
        self.progressed();
    }

    fn in_place(&self, files: u64, bytes: u64) {
        self.shown.in_place(files, bytes);
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.shown.planned(files, bytes);
        self.health.metrics.planned(files);
        self.progressed();
    }

    fn received(&self, bytes: u64) {
        self.shown.received(bytes);
        self.progressed();
    }

    fn receiving(&self, uid: Uid, received: u64, bytes: u64) {
        self.shown.receiving(uid, received, bytes);
    }

    fn sending(&self, bytes: u64) {
        self.shown.sending(bytes);
        self.progressed();
    }

    fn placed(&self, bytes: u64) {
        self.shown.placed(bytes);
        self.health.metrics.placed();
        self.progressed();
    }

    fn file(&self, path: &VaultPath, action: FileAction) {
        self.shown.file(path, action);
        self.progressed();
    }

    fn unwatched(&self, reason: &str) {
        self.shown.unwatched(reason);
        if let Some(Follower { readiness, .. }) = &self.health.follower {
            readiness.unwatched(&self.health.console.printable(reason).replace('\n', " "));
        }
    }

    fn notice(&self, text: &str) {
        self.shown.notice(text);
    }
}

/// A failure for the monitor.
fn failure(exit: Exit, report: &str) -> String {
    format!("exit status {}\n{report}", exit.code())
}

/// The command that confirms held-back deletions.
fn confirm_command(options: &Pull) -> String {
    let place = match &options.state.place {
        StatePlace::Local => None,
        table @ StatePlace::Table(_) => Some(table.to_string()),
    };
    let state: Vec<&str> = place.iter().flat_map(|table| ["--state", table.as_str()]).collect();
    shell::command("confirm", &[&options.destination.text()], &state)
}
