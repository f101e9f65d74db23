//! A pull whose state is in a table is followed there as the function's runs are, so that `obsync status` and whoever
//! watches the table see one record, whichever of them was at work last.

use std::sync::Arc;
use std::time::Duration;

use obsync_core::{FileAction, Mode, Phase, Progress, Report, StateStore};
use obsync_dynamodb::{DynamoState, ProgressRecord, ProgressStatus, TrackedState, Tracker};

use obsync_protocol::VaultPath;

use crate::exit::{Exit, Failed};
use crate::target::states::State;
use crate::ui::progress::Display;

/// How long the last record may take. Nothing depends on it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// A run that is followed in a table.
pub(crate) struct Followed {
    state: Arc<DynamoState>,
    tracker: Arc<Tracker>,
}

impl Followed {
    /// From now on; `None` for a state that is not in a table.
    pub(crate) async fn begin(state: &State, mode: Mode) -> Result<Option<Self>, Failed> {
        let State::Entry(state) = state else { return Ok(None) };
        let stored = state.progress().await?;
        // The function's words for it: a run of the one is gone on with by the other.
        let sync_type = match mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        };
        let vault = &state.key().vault_id;
        let tracker = Arc::new(Tracker::new(vault, sync_type, &stored, ProgressRecord::FRESHNESS));
        Ok(Some(Followed { state: Arc::clone(state), tracker }))
    }

    /// The state, which takes note of how far the run is with each commit.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        Arc::new(TrackedState::new(Arc::clone(&self.state), Arc::clone(&self.tracker), true))
    }

    /// What is shown, and counted as well.
    pub(crate) fn progress(&self, shown: Arc<Display>) -> Arc<dyn Progress> {
        Arc::new(Both { shown, counted: Arc::clone(&self.tracker) })
    }

    /// Says how the run ended. If that cannot be written, it is not the run that failed.
    pub(crate) async fn end(&self, result: &Result<Report, Failed>) {
        let unfinished = |status, failed: &Failed| {
            self.tracker.record(status, self.tracker.version(), Some(failed.message.clone()))
        };
        let record = match result {
            Ok(report) => self.tracker.record_of(report),
            // Whoever works on the destination now has its own to say.
            Err(Failed { exit: Exit::AlreadyRunning, .. }) => return,
            Err(failed) if failed.exit == Exit::Unfinished => unfinished(ProgressStatus::Interrupted, failed),
            Err(failed) => unfinished(ProgressStatus::Failed, failed),
        };
        match tokio::time::timeout(LAST_WORD, self.state.write_progress(&record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("how the pull ended could not be written to the table: {error}"),
            Err(_) => tracing::warn!("the table took too long to write down how the pull ended"),
        }
    }
}

/// Hands news on to the display and the count.
struct Both {
    shown: Arc<Display>,
    counted: Arc<Tracker>,
}

impl Progress for Both {
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

    /// For people, so not counted.
    fn notice(&self, text: &str) {
        self.shown.notice(text);
    }
}
