//! How a run goes is written down where its state is, so that `obsync status` and whoever watches see it: in a table as the
//! function's runs are, one record whichever of them was at work last; beside a local state in a file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use obsync_core::{
    FileAction, LastRun, Mode, Phase, Problem, Progress, Report, RunOutcome, RunProgress, StateStore,
};
use obsync_dynamodb::{DynamoState, ProgressRecord, ProgressStatus, TrackedState, Tracker};
use obsync_sqlite::SqliteState;
use tokio::task::JoinHandle;

use obsync_protocol::VaultPath;

use crate::exit::{Exit, Failed};
use crate::target::states::State;
use crate::ui::progress::Display;

/// How long the last record may take. Nothing depends on it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// How often a run notes beside a local state how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// A run that is followed.
pub(crate) enum Followed {
    /// In a table.
    Table { state: Arc<DynamoState>, tracker: Arc<Tracker> },
    /// In a file beside a local state.
    Local(Local),
}

/// A run that is followed beside a local state.
pub(crate) struct Local {
    state: Arc<SqliteState>,
    run: LastRun,
    counts: Arc<Counts>,
    noting: JoinHandle<()>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.noting.abort();
    }
}

impl Followed {
    /// From now on.
    pub(crate) async fn begin(state: &State, mode: Mode) -> Result<Self, Failed> {
        let state = match state {
            State::Entry(state) => state,
            State::Database(state) => return Ok(Followed::Local(Local::begin(Arc::clone(state)).await?)),
        };
        let stored = state.progress().await?;
        // The function's words for it: a run of the one is gone on with by the other.
        let sync_type = match mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        };
        let vault = &state.key().vault_id;
        let tracker = Arc::new(Tracker::new(vault, sync_type, &stored, ProgressRecord::FRESHNESS));
        Ok(Followed::Table { state: Arc::clone(state), tracker })
    }

    /// The state, which takes note of how far the run is with each commit.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        match self {
            Followed::Table { state, tracker } => {
                Arc::new(TrackedState::new(Arc::clone(state), Arc::clone(tracker), true))
            }
            Followed::Local(local) => Arc::clone(&local.state) as Arc<dyn StateStore>,
        }
    }

    /// What is shown, and counted as well.
    pub(crate) fn progress(&self, shown: Arc<Display>) -> Arc<dyn Progress> {
        let counted: Arc<dyn Progress> = match self {
            Followed::Table { tracker, .. } => Arc::clone(tracker) as Arc<dyn Progress>,
            Followed::Local(local) => Arc::clone(&local.counts) as Arc<dyn Progress>,
        };
        Arc::new(BothProgress { shown, counted })
    }

    /// Says how the run ended, with what is left to do. If that cannot be written, it is not the run that failed.
    pub(crate) async fn end(self, result: Result<&Report, &Failed>, problem: Option<&Problem>) {
        let (state, tracker) = match self {
            Followed::Table { state, tracker } => (state, tracker),
            Followed::Local(local) => return local.end(result.ok(), problem).await,
        };
        let unfinished =
            |status, failed: &Failed| tracker.record(status, tracker.version(), Some(failed.message.clone()));
        let record = match result {
            Ok(report) => tracker.record_of(report),
            // Whoever works on the destination now has its own to say.
            Err(Failed { exit: Exit::AlreadyRunning, .. }) => return,
            Err(failed) if failed.exit == Exit::Unfinished => unfinished(ProgressStatus::Interrupted, failed),
            Err(failed) => unfinished(ProgressStatus::Failed, failed),
        };
        match tokio::time::timeout(LAST_WORD, state.write_progress(&record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("how the pull ended could not be written to the table: {error}"),
            Err(_) => tracing::warn!("the table took too long to write down how the pull ended"),
        }
    }
}

impl Local {
    async fn begin(state: Arc<SqliteState>) -> Result<Self, Failed> {
        let run = LastRun::begin(state.last_run().await?.as_ref());
        state.note_run(&run).await;
        let counts = Arc::new(Counts::default());
        let noting = tokio::spawn({
            let (state, run, counts) = (Arc::clone(&state), run.clone(), Arc::clone(&counts));
            async move {
                loop {
                    tokio::time::sleep(NOTE_EVERY).await;
                    state.note_run(&counts.of(&run)).await;
                }
            }
        });
        Ok(Local { state, run, counts, noting })
    }

    /// A run that failed is noted when its lock is free again ([`note_failure`]).
    async fn end(mut self, report: Option<&Report>, problem: Option<&Problem>) {
        self.noting.abort();
        // With it goes its hold on the state.
        let _ = (&mut self.noting).await;
        let Some(report) = report else { return };
        let run = self.counts.of(&self.run);
        self.state.note_run(&run.end(report.outcome.into(), problem)).await;
    }
}

/// Notes beside a local state that a run failed, which may not have come as far as to begin there.
pub(crate) async fn note_failure(state: &State, failed: &Failed, began: Timestamp) {
    let State::Database(state) = state else { return };
    // Another's run is not over because this one failed.
    let Ok(last) = state.last_run().await else { return };
    if state.is_at_work() {
        return;
    }
    let run = match last {
        Some(run) if run.ended.is_none() => run,
        last => LastRun { began, ..LastRun::begin(last.as_ref()) },
    };
    let outcome = match failed.exit {
        Exit::Unfinished => RunOutcome::Interrupted,
        _ => RunOutcome::Failed,
    };
    state.note_run(&run.end(outcome, Some(&failed.problem()))).await;
}

/// Counts what a run does.
#[derive(Debug, Default)]
struct Counts {
    files_total: AtomicU64,
    files_complete: AtomicU64,
    bytes_total: AtomicU64,
    bytes_complete: AtomicU64,
    unwatched: Mutex<Option<String>>,
}

impl Counts {
    /// What is known of a run by now.
    fn of(&self, run: &LastRun) -> LastRun {
        // Nothing that can panic runs under the lock.
        let unwatched = self.unwatched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LastRun { progress: self.get(), unwatched, ..run.clone() }
    }

    fn get(&self) -> RunProgress {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        RunProgress {
            files_total: get(&self.files_total),
            files_complete: get(&self.files_complete),
            bytes_total: get(&self.bytes_total),
            bytes_complete: get(&self.bytes_complete),
        }
    }
}

impl Progress for Counts {
    fn planned(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn placed(&self, bytes: u64) {
        self.files_complete.fetch_add(1, Ordering::Relaxed);
        self.bytes_complete.fetch_add(bytes, Ordering::Relaxed);
    }

    fn unwatched(&self, reason: &str) {
        *self.unwatched.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

/// Hands news on to the display and the count.
struct BothProgress {
    shown: Arc<Display>,
    counted: Arc<dyn Progress>,
}

impl Progress for BothProgress {
    fn phase(&self, phase: Phase) {
        self.shown.phase(phase);
        self.counted.phase(phase);
    }

    fn listed(&self, entries: u64) {
        self.shown.listed(entries);
        self.counted.listed(entries);
    }

    fn in_place(&self, files: u64, bytes: u64) {
        self.shown.in_place(files, bytes);
        self.counted.in_place(files, bytes);
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.shown.planned(files, bytes);
        self.counted.planned(files, bytes);
    }

    fn received(&self, bytes: u64) {
        self.shown.received(bytes);
        self.counted.received(bytes);
    }

    fn placed(&self, bytes: u64) {
        self.shown.placed(bytes);
        self.counted.placed(bytes);
    }

    fn file(&self, path: &VaultPath, action: FileAction) {
        self.shown.file(path, action);
    }

    fn unwatched(&self, reason: &str) {
        self.counted.unwatched(reason);
    }

    /// For people, so not counted.
    fn notice(&self, text: &str) {
        self.shown.notice(text);
    }
}
