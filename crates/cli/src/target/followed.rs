//! Writes down how a run goes, where its state is, so that `obsync status` and whoever watches see it: in a table as the
//! function's runs are, one record whichever of them was at work last; beside a local state in a file.

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
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failed};
use crate::target::states::State;
use crate::ui::progress::Display;

/// How long the last record may take. Nothing depends on it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// How often a run notes beside a local state how far it is.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// A run that is followed, or the runs of a follower (`--follow`).
pub(crate) struct Followed {
    sink: ProgressSink,
    /// Notes from time to time how far a run beside a local state is.
    noting: Option<Noting>,
    /// The runs of a follower are noted as they come.
    notes: Option<(Notes, Noting)>,
}

/// A task that notes something, and ends with this.
struct Noting(JoinHandle<()>);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where it is noted.
#[derive(Clone)]
enum ProgressSink {
    /// In a table.
    Table { state: Arc<DynamoState>, tracker: Arc<Tracker> },
    /// In a file beside a local state.
    Local(Local),
}

/// A run that is followed beside a local state.
#[derive(Clone)]
struct Local {
    state: Arc<SqliteState>,
    /// As it was noted last.
    run: Arc<Mutex<LastRun>>,
    counts: Arc<Counts>,
}

impl Followed {
    /// From now on. `left_to_do` says what a report of a follower leaves to do.
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

    /// The state, which takes note of how far the run is with each commit.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        match &self.sink {
            ProgressSink::Table { state, tracker } => {
                Arc::new(TrackedState::new(Arc::clone(state), Arc::clone(tracker), true))
            }
            ProgressSink::Local(local) => Arc::clone(&local.state) as Arc<dyn StateStore>,
        }
    }

    /// What is shown, and counted as well.
    pub(crate) fn progress(&self, shown: Arc<Display>) -> Arc<dyn Progress> {
        let counted: Arc<dyn Progress> = match &self.sink {
            ProgressSink::Table { tracker, .. } => Arc::clone(tracker) as Arc<dyn Progress>,
            ProgressSink::Local(local) => Arc::clone(&local.counts) as Arc<dyn Progress>,
        };
        Arc::new(BothProgress { shown, counted })
    }

    /// Takes note of the runs of a follower.
    pub(crate) fn observer(&self) -> Notes {
        self.notes.as_ref().map_or_else(Notes::default, |(notes, _)| notes.clone())
    }

    /// Says how the run ended, with what is left to do. If that cannot be written, it is not the run that failed.
    pub(crate) async fn end(self, result: Result<&Report, &Failed>, problem: Option<&Problem>) {
        let is_follower = self.notes.is_some();
        if let Some((notes, mut noting)) = self.notes {
            notes.take(Note::Over);
            // With it goes its hold on the state.
            let _ = (&mut noting.0).await;
        }
        match self.sink {
            // Each of its runs was noted.
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
        // Whoever works on the destination now has its own to say.
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
        Err(_) => tracing::warn!("the table took too long to write down how the run ended"),
    }
}

impl ProgressSink {
    async fn of_table(state: &Arc<DynamoState>, mode: Mode, direction: Direction) -> Result<Self, Failed> {
        let stored = state.progress().await?;
        // The function's words for it: a run of the one is gone on with by the other.
        let sync_type = match mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        };
        let vault = &state.key().vault_id;
        let tracker = Tracker::new(vault, sync_type, direction, &stored, ProgressRecord::FRESHNESS);
        let tracker = Arc::new(tracker);
        Ok(ProgressSink::Table { state: Arc::clone(state), tracker })
    }

    /// Notes what a follower does.
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
            // What has ended is noted.
            if run.ended.is_none() {
                self.state.note_run(&self.counts.so_far(&run)).await;
            }
        }
    }

    /// The next run of a follower begins. The first one did with the follower.
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

    /// How a run failed is noted when its lock is free again ([`note_failure`]), and the runs of a follower were noted.
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

/// Takes note of the runs of a follower.
#[derive(Clone, Default)]
pub(crate) struct Notes(Option<UnboundedSender<Note>>);

impl Notes {
    fn begin(sink: ProgressSink, left_to_do: fn(&Report) -> Option<Problem>) -> (Self, Noting) {
        let (sender, mut notes) = unbounded_channel();
        let noting = tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                if matches!(note, Note::Over) {
                    return;
                }
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

/// Notes where a state is that a run failed, which may not have come as far as to begin there.
pub(crate) async fn note_failure(state: &State, failed: &Failed, began: Timestamp) {
    // Another's run is not over because this one failed.
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
                Err(_) => tracing::debug!("the table took too long to write down that the run failed"),
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
        // A follower noted it.
        Some(run) if run.ended.is_some_and(|ended| ended >= began) && run.outcome == outcome => return,
        last => {
            let run = LastRun { began, ..LastRun::begin(last.as_ref()) };
            // It did not come as far as to leave anything undone.
            LastRun { cut_short: run.cut_short, ..run.end(outcome, Some(&problem)) }
        }
    };
    state.note_run(&run).await;
}

/// Counts what a run does.
#[derive(Debug)]
struct Counts {
    files_total: AtomicU64,
    files_complete: AtomicU64,
    bytes_total: AtomicU64,
    bytes_complete: AtomicU64,
    bringing: StdMutex<Bringing>,
    /// Why not every change of the destination is seen at once.
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

    /// For the next run of a follower; `cut_short`: one before it was.
    fn begin_again(&self, cut_short: bool) -> Bringing {
        for count in [&self.files_total, &self.files_complete, &self.bytes_total, &self.bytes_complete] {
            count.store(0, Ordering::Relaxed);
        }
        let mut bringing = lock(&self.bringing);
        *bringing = bringing.next(cut_short);
        *bringing
    }

    /// The run as far as it has come.
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
