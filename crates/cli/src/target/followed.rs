//! Records the progress of a run with its state, for `obsync status` and monitors: in a table like the
//! function's runs, one record whichever of them worked last; beside a local state in a file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use jiff::Timestamp;
use obsync_core::blocking::lock;
use obsync_core::{
    Bringing, DestinationError, Direction, FileAction, Following, LastRun, Mode, Observer, Phase, Problem,
    ProblemCode, Progress, PullError, Report, RunOutcome, RunProgress, StateStore,
};
use obsync_dynamodb::{DynamoState, ProgressRecord, ProgressStatus, TrackedState, Tracker};
use obsync_protocol::VaultPath;
use obsync_sqlite::SqliteState;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};
use crate::target::states::State;
use crate::ui::progress::Display;

/// Time limit of the last record. Nothing depends on it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The same for the records of a follower that is to end.
const LAST_WORD_STOPPED: Duration = Duration::from_millis(700);

/// Interval of progress records beside a local state.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// A recorded run, or the runs of a follower (`--follow`).
pub(crate) struct Followed {
    sink: ProgressSink,
    /// Records the progress beside a local state from time to time.
    noting: Option<Noting>,
    /// The runs of a follower are recorded one by one.
    notes: Option<(Notes, Noting)>,
}

/// A recording task, which ends when this is dropped.
struct Noting(JoinHandle<()>);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Noting {
    /// Waits for the last records, for a moment only if the program is to end. The task's reference to the
    /// state is released then.
    async fn finish(mut self, stop: &CancellationToken) {
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_WORD_STOPPED).await;
        };
        let is_done = tokio::select! {
            biased;
            _ = &mut self.0 => true,
            () = patience => false,
        };
        if !is_done {
            tracing::warn!("the state takes too long to record how the last run ended");
            self.0.abort();
            let _ = (&mut self.0).await;
        }
    }
}

/// Where it is recorded.
#[derive(Clone)]
enum ProgressSink {
    /// In a table.
    Table { state: Arc<DynamoState>, tracker: Arc<Tracker> },
    /// In a file beside a local state.
    Local(Local),
}

/// A run recorded beside a local state.
#[derive(Clone)]
struct Local {
    state: Arc<SqliteState>,
    /// The last record.
    run: Arc<Mutex<LastRun>>,
    counts: Arc<Counts>,
}

impl Followed {
    /// Starts recording. `left_to_do` returns the problem that a follower's report leaves.
    pub(crate) async fn begin(
        state: &State,
        mode: Mode,
        direction: Direction,
        follows: bool,
        left_to_do: fn(&Report) -> Option<Problem>,
    ) -> Result<Self, Failed> {
        let (sink, noting) = match state {
            State::Entry(state) => (ProgressSink::of_table(state, mode, direction).await?, None),
            State::Database(state) => {
                let local = Local::begin(Arc::clone(state), direction, follows).await?;
                let noting = Noting(tokio::spawn(local.clone().note_from_time_to_time()));
                (ProgressSink::Local(local), Some(noting))
            }
        };
        let notes = follows.then(|| Notes::begin(sink.clone(), left_to_do));
        Ok(Followed { sink, noting, notes })
    }

    /// The state, wrapped to record the progress with each commit.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        match &self.sink {
            ProgressSink::Table { state, tracker } => {
                Arc::new(TrackedState::new(Arc::clone(state), Arc::clone(tracker), true))
            }
            ProgressSink::Local(local) => Arc::clone(&local.state) as Arc<dyn StateStore>,
        }
    }

    /// A progress receiver that shows and counts.
    pub(crate) fn progress(&self, shown: Arc<Display>) -> Arc<dyn Progress> {
        let counted: Arc<dyn Progress> = match &self.sink {
            ProgressSink::Table { tracker, .. } => Arc::clone(tracker) as Arc<dyn Progress>,
            ProgressSink::Local(local) => Arc::clone(&local.counts) as Arc<dyn Progress>,
        };
        Arc::new(BothProgress { shown, counted })
    }

    /// Records the runs of a follower.
    pub(crate) fn observer(&self) -> Notes {
        self.notes.as_ref().map_or_else(Notes::default, |(notes, _)| notes.clone())
    }

    /// Records how the run ended, with its problem. A failure to write that does not fail the run.
    pub(crate) async fn end(
        self,
        result: Result<&Report, &Failed>,
        problem: Option<&Problem>,
        stop: &CancellationToken,
    ) {
        let is_follower = self.notes.is_some();
        if let Some((notes, noting)) = self.notes {
            notes.take(Note::Over);
            noting.finish(stop).await;
        }
        match self.sink {
            // Each of its runs was recorded.
            ProgressSink::Table { .. } if is_follower => {}
            ProgressSink::Table { state, tracker } => end_in_table(&state, &tracker, result).await,
            ProgressSink::Local(local) => local.end(result.ok().filter(|_| !is_follower), problem).await,
        }
        if let Some(mut noting) = self.noting {
            noting.0.abort();
            let _ = (&mut noting.0).await;
        }
    }
}

async fn end_in_table(state: &DynamoState, tracker: &Tracker, result: Result<&Report, &Failed>) {
    let record = match result {
        Ok(report) => tracker.record_of(report),
        // The new holder of the destination has its own record.
        Err(Failed { exit: Exit::AlreadyRunning, .. }) => return,
        Err(failed) => {
            let status = match failed.exit {
                Exit::Unfinished => ProgressStatus::Interrupted,
                _ => ProgressStatus::Failed,
            };
            tracker.record(status, tracker.version(), Some(&failed.problem()))
        }
    };
    write(state, &record).await;
}

async fn write(state: &DynamoState, record: &ProgressRecord) {
    match tokio::time::timeout(LAST_WORD, state.write_progress(record)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("how the run ended could not be written to the table: {error}"),
        Err(_) => tracing::warn!("the table took too long to record how the run ended"),
    }
}

impl ProgressSink {
    async fn of_table(state: &Arc<DynamoState>, mode: Mode, direction: Direction) -> Result<Self, Failed> {
        let stored = state.progress().await?;
        // The function's names for it: each can resume the other's run.
        let sync_type = match mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        };
        let vault = &state.key().vault_id;
        let tracker = Tracker::new(vault, sync_type, direction, &stored, ProgressRecord::FRESHNESS);
        let tracker = Arc::new(tracker);
        Ok(ProgressSink::Table { state: Arc::clone(state), tracker })
    }

    /// The next activity to record, until the follower ends. A table may be slow: of several ended runs that
    /// wait for it, only the newest is recorded.
    async fn next(&self, notes: &mut UnboundedReceiver<Note>) -> Option<Note> {
        let mut next = notes.recv().await.filter(|note| !matches!(note, Note::Over))?;
        while let ProgressSink::Table { .. } = self
            && let Ok(newer) = notes.try_recv()
        {
            match newer {
                Note::Began => {}
                Note::Ran(_) | Note::Failed(..) => next = newer,
                // Asked for again after this record.
                Note::Over => notes.close(),
            }
        }
        Some(next)
    }

    /// Records the activity of a follower.
    async fn note(&self, note: Note, left_to_do: fn(&Report) -> Option<Problem>) {
        match self {
            ProgressSink::Local(local) => match note {
                Note::Over => {}
                Note::Began => local.begin_next().await,
                Note::Ran(report) => {
                    local.note_end(report.outcome.into(), left_to_do(&report).as_ref()).await
                }
                Note::Failed(outcome, problem) => local.note_end(outcome, Some(&problem)).await,
            },
            ProgressSink::Table { state, tracker } => {
                let record = match note {
                    Note::Began | Note::Over => return,
                    Note::Ran(report) => tracker.record_of(&report),
                    Note::Failed(outcome, problem) => {
                        let status = match outcome {
                            RunOutcome::Interrupted => ProgressStatus::Interrupted,
                            _ => ProgressStatus::Failed,
                        };
                        tracker.record(status, tracker.version(), Some(&problem))
                    }
                };
                tracker.begin_again(&record);
                write(state, &record).await;
            }
        }
    }
}

impl Local {
    async fn begin(state: Arc<SqliteState>, direction: Direction, follows: bool) -> Result<Self, Failed> {
        let run = LastRun::begin(state.last_run().await?.as_ref());
        let bringing = Bringing::begin(direction, run.cut_short);
        let run = LastRun { of_follower: follows, ..run.with(bringing) };
        state.note_run(&run).await;
        Ok(Local { state, run: Arc::new(Mutex::new(run)), counts: Arc::new(Counts::new(bringing)) })
    }

    async fn note_from_time_to_time(self) {
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            let run = self.run.lock().await;
            // A run that ended is recorded already.
            if run.ended.is_none() {
                self.state.note_run(&self.counts.so_far(&run)).await;
            }
        }
    }

    /// The next run of a follower begins. The first one began with the follower.
    async fn begin_next(&self) {
        let mut run = self.run.lock().await;
        if run.ended.is_none() {
            return;
        }
        let next = LastRun { of_follower: true, ..LastRun::begin(Some(&run)) };
        let bringing = self.counts.begin_again(next.cut_short);
        *run = next.with(bringing);
        self.state.note_run(&run).await;
    }

    async fn note_end(&self, outcome: RunOutcome, problem: Option<&Problem>) {
        let mut run = self.run.lock().await;
        *run = self.counts.so_far(&run).end(outcome, problem);
        self.state.note_run(&run).await;
    }

    /// A failure is recorded when its lock is free again ([`note_failure`]), and the runs of a follower were
    /// recorded already.
    async fn end(self, report: Option<&Report>, problem: Option<&Problem>) {
        if let Some(report) = report {
            return self.note_end(report.outcome.into(), problem).await;
        }
        let run = self.run.lock().await;
        if run.ended.is_none() {
            self.state.note_run(&self.counts.so_far(&run)).await;
        }
    }
}

/// News of a follower.
enum Note {
    Began,
    Ran(Box<Report>),
    Failed(RunOutcome, Problem),
    /// It ends.
    Over,
}

/// Records the runs of a follower.
#[derive(Clone, Default)]
pub(crate) struct Notes(Option<UnboundedSender<Note>>);

impl Notes {
    fn begin(sink: ProgressSink, left_to_do: fn(&Report) -> Option<Problem>) -> (Self, Noting) {
        let (sender, mut notes) = unbounded_channel();
        let noting = tokio::spawn(async move {
            while let Some(note) = sink.next(&mut notes).await {
                sink.note(note, left_to_do).await;
            }
        });
        (Notes(Some(sender)), Noting(noting))
    }

    fn take(&self, note: Note) {
        if let Some(notes) = &self.0 {
            // It ends with the follower.
            let _ = notes.send(note);
        }
    }
}

impl Observer for Notes {
    fn following(&self, following: &Following) {
        if matches!(following, Following::Running) {
            self.take(Note::Began);
        }
    }

    fn ran(&self, report: &Report) {
        self.take(Note::Ran(Box::new(report.clone())));
    }

    fn failed(&self, error: &PullError) {
        let outcome = match error {
            PullError::Store(DestinationError::Stopped { .. }) => RunOutcome::Interrupted,
            _ => RunOutcome::Failed,
        };
        self.take(Note::Failed(outcome, Problem::new(ProblemCode::from(error), error.to_string())));
    }
}

/// Records a failed run, which may not have opened its state at all, with that state.
pub(crate) async fn note_failure(state: &State, failed: &Failed, began: Timestamp) {
    // Another's run continues although this one failed.
    if state.refuse_while_at_work().await.is_err() {
        return;
    }
    match state {
        State::Database(state) => note_local_failure(state, failed, began).await,
        State::Entry(state) => {
            let status = match failed.exit {
                Exit::Unfinished => ProgressStatus::Interrupted,
                _ => ProgressStatus::Failed,
            };
            match tokio::time::timeout(LAST_WORD, state.note_failure(status, &failed.problem(), began)).await
            {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "that the run failed could not be written to the table")
                }
                Err(_) => tracing::debug!("the table took too long to record that the run failed"),
            }
        }
    }
}

async fn note_local_failure(state: &SqliteState, failed: &Failed, began: Timestamp) {
    let Ok(last) = state.last_run().await else { return };
    let outcome = match failed.exit {
        Exit::Unfinished => RunOutcome::Interrupted,
        _ => RunOutcome::Failed,
    };
    let problem = failed.problem();
    let run = match last {
        Some(run) if run.ended.is_none() && run.began >= began => run.end(outcome, Some(&problem)),
        // A follower recorded it.
        Some(run) if run.ended.is_some_and(|ended| ended >= began) && run.outcome == outcome => return,
        last => {
            let run = LastRun { began, ..LastRun::begin(last.as_ref()) };
            // It did not come far enough to leave anything undone.
            LastRun { cut_short: run.cut_short, ..run.end(outcome, Some(&problem)) }
        }
    };
    state.note_run(&run).await;
}

/// Counts a run's progress.
#[derive(Debug)]
struct Counts {
    files_total: AtomicU64,
    files_complete: AtomicU64,
    bytes_total: AtomicU64,
    bytes_complete: AtomicU64,
    bringing: StdMutex<Bringing>,
    /// Why not every change of the destination is noticed at once.
    unwatched: StdMutex<Option<String>>,
}

impl Counts {
    fn new(bringing: Bringing) -> Self {
        Counts {
            files_total: AtomicU64::default(),
            files_complete: AtomicU64::default(),
            bytes_total: AtomicU64::default(),
            bytes_complete: AtomicU64::default(),
            bringing: StdMutex::new(bringing),
            unwatched: StdMutex::default(),
        }
    }

    /// For the next run of a follower; `cut_short`: an earlier one was.
    fn begin_again(&self, cut_short: bool) -> Bringing {
        for count in [&self.files_total, &self.files_complete, &self.bytes_total, &self.bytes_complete] {
            count.store(0, Ordering::Relaxed);
        }
        let mut bringing = lock(&self.bringing);
        *bringing = bringing.next(cut_short);
        *bringing
    }

    /// The present figures of the run.
    fn so_far(&self, run: &LastRun) -> LastRun {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let progress = RunProgress {
            files_total: get(&self.files_total),
            files_complete: get(&self.files_complete),
            bytes_total: get(&self.bytes_total),
            bytes_complete: get(&self.bytes_complete),
        };
        let unwatched = lock(&self.unwatched).clone();
        LastRun { progress, unwatched, ..run.clone().with(*lock(&self.bringing)) }
    }
}

impl Progress for Counts {
    fn phase(&self, phase: Phase) {
        lock(&self.bringing).enter(phase);
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.files_total.fetch_add(files, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn placed(&self, bytes: u64) {
        self.files_complete.fetch_add(1, Ordering::Relaxed);
        self.bytes_complete.fetch_add(bytes, Ordering::Relaxed);
    }

    fn unwatched(&self, reason: &str) {
        *lock(&self.unwatched) = Some(reason.to_owned());
    }
}

/// Passes news on to the display and the counter.
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

    fn sending(&self, bytes: u64) {
        self.shown.sending(bytes);
        self.counted.sending(bytes);
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
