//! Tracks the run on a vault, for its progress record and for reports, over all its invocations, by a
//! function or the command line.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use obsync_core::{
    Bringing, Commit, DeferredKind, DeferredPart, Direction, Handling, Hurdle, Intent, LastRun, Outcome,
    Phase, Problem, ProblemCode, Progress, Record, Report, RunError, RunOutcome, StateError, StateStore,
    Tally, VaultState,
};
use obsync_protocol::{ContentHash, Uid, VaultId, VaultPath};

use super::durations::{RunDurations, Stopwatch};
use super::progress::{ProgressRecord, ProgressStatus, Resumption, StoredProgress};
use super::slow_file::{LARGE, Receiving, SlowFile, TRIES};
use super::state::DynamoState;
use obsync_core::blocking::lock;

/// Counts what a run does, as the engine's [`Progress`].
#[derive(Debug)]
pub struct Tracker {
    vault: VaultId,
    /// Kind of the run's sync: a later invocation resumes it only with an equal token.
    token: String,
    /// Totals of earlier invocations of this run.
    before: Before,
    history: Mutex<History>,
    planned: Count,
    placed: Count,
    /// The recorded part of them.
    durable: Mutex<Tally>,
    begun: Instant,
    /// Larger contents that are not recorded yet.
    receiving: Mutex<HashMap<Uid, Receiving>>,
    /// The file that did not arrive in time before.
    hurdle: Option<SlowFile>,
    /// Its treatment in this run, once that is decided.
    handling: OnceLock<Handling>,
    /// It arrived.
    arrived: AtomicBool,
    bringing: Mutex<Bringing>,
    versions: Mutex<Versions>,
    stopwatch: Stopwatch,
}

/// The versions up to which the destination was known to be complete.
#[derive(Clone, Copy, Debug, Default)]
struct Versions {
    /// When the run began; `None` before that.
    before: Option<u64>,
    now: u64,
    /// The versions up to which a full run had checked everything (see [`VaultState::full_up_to`]); 0 outside
    /// of one.
    checked_before: Option<u64>,
    checked: u64,
}

/// Data from the progress record of an earlier invocation.
#[derive(Clone, Debug)]
struct Before {
    start: jiff::Timestamp,
    files: u64,
    bytes: u64,
    invocations: u32,
}

/// The outcomes of the runs before this one.
#[derive(Clone, Debug, Default)]
struct History {
    failures_in_a_row: u32,
    last_error: Option<RunError>,
}

#[derive(Debug, Default)]
struct Count {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> Tally {
        Tally { files: self.files.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl History {
    fn of(record: &ProgressRecord) -> Self {
        let last = record.last_run();
        History { failures_in_a_row: last.failures_in_a_row, last_error: last.last_error }
    }
}

impl Tracker {
    /// Resumes from a stored record, if its resume token is still valid and of the same kind of sync;
    /// otherwise begins at the checkpoint, with new counts. Only the counts are lost then: finished work is
    /// in the state.
    ///
    /// `sync_type` names the mode of the run, `within` is the lifetime of a resume token.
    pub fn new(
        vault: &VaultId,
        sync_type: &str,
        direction: Direction,
        stored: &StoredProgress,
        within: Duration,
    ) -> Self {
        let now = jiff::Timestamp::now();
        let token = format!("{sync_type}/1");
        let history = match stored {
            StoredProgress::Found(record) => History::of(record),
            StoredProgress::Missing | StoredProgress::Unreadable { .. } => History::default(),
        };
        let cut_short = stored.last_run().is_some_and(|last| last.is_cut_short());
        let before = match (stored.resumption(within), stored) {
            (Resumption::Token(found), StoredProgress::Found(record)) if found == token => Before {
                start: record.start_time,
                files: record.files_complete,
                bytes: record.bytes_complete,
                invocations: record.invocations,
            },
            (resumption, _) => {
                if let Resumption::Checkpoint { reason } = resumption {
                    tracing::debug!(%vault, reason, "the run begins at the last checkpoint");
                }
                Before { start: now, files: 0, bytes: 0, invocations: 0 }
            }
        };
        Tracker {
            vault: vault.clone(),
            token,
            before,
            history: Mutex::new(history),
            planned: Count::default(),
            placed: Count::default(),
            durable: Mutex::default(),
            begun: Instant::now(),
            receiving: Mutex::default(),
            hurdle: match stored {
                StoredProgress::Found(record) => record.hurdle,
                _ => None,
            },
            handling: OnceLock::new(),
            arrived: AtomicBool::new(false),
            bringing: Mutex::new(Bringing::begin(direction, cut_short)),
            versions: Mutex::default(),
            stopwatch: Stopwatch::start(),
        }
    }

    /// The version up to which the destination is known to be complete.
    pub fn version(&self) -> u64 {
        lock(&self.versions).now
    }

    /// That version at the beginning of the run.
    pub fn previous_version(&self) -> u64 {
        lock(&self.versions).before.unwrap_or_default()
    }

    /// True if a full run has recorded checks in this invocation.
    pub fn has_checked(&self) -> bool {
        let versions = lock(&self.versions);
        versions.checked > versions.checked_before.unwrap_or_default()
    }

    /// Recorded results of this invocation.
    pub fn durable_so_far(&self) -> Tally {
        *lock(&self.durable)
    }

    /// True if this resumes an interrupted run of the same kind.
    pub fn goes_on(&self) -> bool {
        self.before.invocations > 0
    }

    /// Planned and not yet recorded.
    pub fn remaining(&self) -> Tally {
        let (planned, durable) = (self.planned.get(), self.durable_so_far());
        Tally {
            files: planned.files.saturating_sub(durable.files),
            bytes: planned.bytes.saturating_sub(durable.bytes),
        }
    }

    /// The file that did not arrive in earlier invocations, and its treatment in a run with this much time.
    pub fn hurdle(&self, time: Duration) -> Option<Hurdle> {
        let file = self.hurdle?;
        let now = jiff::Timestamp::now().as_second();
        let handling = self.handling.get_or_init(|| file.handling(time, self.goes_on(), now));
        Some(Hurdle { uid: Uid(file.uid), handling: handling.clone() })
    }

    /// Notes the files that a commit settles. Those that failed count only if all of them arrived: the other
    /// ones were cut short.
    fn settle(&self, commit: &Commit) {
        let mut receiving = lock(&self.receiving);
        let failed = commit.deferred.iter().map(|deferred| deferred.message.uid);
        let refused: Vec<Uid> =
            failed.filter(|uid| receiving.get(uid).is_some_and(Receiving::is_whole)).collect();
        let recorded = commit.records.iter().filter_map(Record::file).map(|file| file.uid);
        for uid in recorded.chain(refused) {
            receiving.remove(&uid);
            if self.hurdle.is_some_and(|hurdle| hurdle.uid == uid.0) {
                self.arrived.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The file that took at least half of the time until now and is not recorded.
    fn slow_file(&self) -> Option<SlowFile> {
        let receiving = lock(&self.receiving);
        let (uid, slowest) = receiving.iter().min_by_key(|(_, receiving)| receiving.begun)?;
        let (took, time) = (slowest.begun.elapsed(), self.begun.elapsed());
        if took * 2 < time {
            return None;
        }
        let before = self.hurdle.filter(|before| before.uid == uid.0).map_or(0, |before| before.tries);
        Some(SlowFile {
            uid: uid.0,
            tries: before.saturating_add(1),
            // This invocation's time did not suffice.
            seconds: slowest.seconds(Instant::now()).map(|seconds| seconds.max(time.as_secs() + 1)),
            tried: jiff::Timestamp::now().as_second(),
        })
    }

    /// True if the next invocation gives up a file that did not arrive in this one.
    pub fn gives_up_next(&self) -> bool {
        self.slow_file().is_some_and(|slow| slow.tries >= TRIES)
    }

    /// The slow file to record for the next invocation.
    fn next_hurdle(&self, status: ProgressStatus) -> Option<SlowFile> {
        let handling = self.handling.get();
        let missing = self.hurdle.filter(|_| !self.arrived.load(Ordering::Relaxed));
        match status {
            // If the function is killed now, this was an attempt, and no time is known that suffices.
            ProgressStatus::Running => match self.slow_file() {
                Some(slow) => Some(SlowFile { seconds: None, ..slow }),
                None if handling == Some(&Handling::First) => missing.map(tried_again),
                None => missing,
            },
            ProgressStatus::Interrupted => self.slow_file().or(missing),
            // What ended the run may have been this file.
            ProgressStatus::Failed => missing.map(|file| match self.is_under_way(file) {
                true => tried_again(file),
                false => file,
            }),
            ProgressStatus::Complete => missing.filter(|_| matches!(handling, Some(Handling::GiveUp(_)))),
        }
    }

    fn is_under_way(&self, file: SlowFile) -> bool {
        lock(&self.receiving).contains_key(&Uid(file.uid))
    }

    /// The durations of this invocation's stages.
    pub fn durations(&self) -> RunDurations {
        self.stopwatch.durations()
    }

    /// Invocations of the run so far, this one included.
    pub fn invocations(&self) -> u32 {
        self.before.invocations.saturating_add(1)
    }

    /// The next run of a follower begins, after one with this result.
    pub fn begin_again(&self, record: &ProgressRecord) {
        *lock(&self.history) = History::of(record);
        let mut bringing = lock(&self.bringing);
        *bringing = bringing.next(record.last_run().is_cut_short());
    }

    /// The progress record of a finished run.
    pub fn record_of(&self, report: &Report) -> ProgressRecord {
        let (status, problem) = match report.outcome {
            Outcome::Interrupted => (ProgressStatus::Interrupted, None),
            Outcome::Failures => {
                let message = format!("{} changes could not be applied", report.failed());
                (ProgressStatus::Complete, Some(Problem::new(ProblemCode::Failures, message)))
            }
            Outcome::HeldBack => {
                let message =
                    format!("{} deletions are held back, because there are too many", report.held_back());
                (ProgressStatus::Complete, Some(Problem::new(ProblemCode::HeldBack, message)))
            }
            Outcome::VaultOlder => {
                let message = "the vault on the server is older than the destination";
                (ProgressStatus::Complete, Some(Problem::new(ProblemCode::VaultOlder, message)))
            }
            Outcome::Complete | Outcome::DryRun => (ProgressStatus::Complete, None),
        };
        self.record(status, self.version(), problem.as_ref())
    }

    /// The present progress record, with an error.
    pub fn record(&self, status: ProgressStatus, version: u64, problem: Option<&Problem>) -> ProgressRecord {
        let (planned, placed) = (self.planned.get(), self.placed.get());
        let resumable = status != ProgressStatus::Complete;
        let now = jiff::Timestamp::now();
        let history = lock(&self.history).clone();
        let failures_in_a_row = match (status, problem) {
            (ProgressStatus::Complete, None) => 0,
            (ProgressStatus::Running | ProgressStatus::Interrupted, _) => history.failures_in_a_row,
            (ProgressStatus::Failed, _) | (ProgressStatus::Complete, Some(_)) => {
                history.failures_in_a_row.saturating_add(1)
            }
        };
        let bringing = *lock(&self.bringing);
        let cut_short = match status {
            ProgressStatus::Running => bringing.cut_short,
            ProgressStatus::Interrupted => bringing.is_cut_short(RunOutcome::Interrupted),
            ProgressStatus::Failed => bringing.is_cut_short(RunOutcome::Failed),
            ProgressStatus::Complete => bringing.is_cut_short(RunOutcome::Complete),
        };
        let happened = problem.filter(|_| status != ProgressStatus::Running);
        let last_error = happened.map(|problem| RunError::of(problem, now));
        ProgressRecord {
            vault_id: self.vault.clone(),
            start_time: self.before.start,
            last_update: now,
            files_total: self.before.files + planned.files,
            files_complete: self.before.files + placed.files,
            bytes_total: self.before.bytes + planned.bytes,
            bytes_complete: self.before.bytes + placed.bytes,
            status,
            error: problem.map(|problem| problem.message.clone()),
            resumable,
            last_version: version,
            resume_token: resumable.then(|| self.token.clone()),
            invocations: self.invocations(),
            failures_in_a_row,
            last_error: last_error.or(history.last_error),
            cut_short,
            sending: bringing.sending,
            hurdle: self.next_hurdle(status),
        }
    }
}

fn tried_again(file: SlowFile) -> SlowFile {
    file.tried_again(jiff::Timestamp::now().as_second())
}

impl Progress for Tracker {
    fn phase(&self, phase: Phase) {
        lock(&self.bringing).enter(phase);
        self.stopwatch.phase(phase);
    }

    fn received(&self, _bytes: u64) {
        self.stopwatch.received();
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.planned.add(files, bytes);
    }

    fn placed(&self, bytes: u64) {
        self.placed.add(1, bytes);
    }

    fn receiving(&self, uid: Uid, received: u64, bytes: u64) {
        if bytes < LARGE {
            return;
        }
        let mut receiving = lock(&self.receiving);
        let now = Instant::now();
        if !receiving.get_mut(&uid).is_some_and(|known| known.note(received, now)) {
            receiving.insert(uid, Receiving::begin(received, bytes, now));
        }
    }

    /// At debug level at most: it contains titles of notes.
    fn notice(&self, text: &str) {
        tracing::debug!(vault_id = %self.vault, "{text}");
    }
}

/// A state that writes the progress record with each commit.
#[derive(Debug)]
pub struct TrackedState {
    state: Arc<DynamoState>,
    tracker: Arc<Tracker>,
    notes: bool,
}

impl TrackedState {
    /// This state, for the tracked run; without `notes` no progress is written.
    pub fn new(state: Arc<DynamoState>, tracker: Arc<Tracker>, notes: bool) -> Self {
        TrackedState { state, tracker, notes }
    }
}

#[async_trait]
impl StateStore for TrackedState {
    async fn load(&self) -> Result<VaultState, StateError> {
        let state = self.state.load().await?;
        let mut versions = lock(&self.tracker.versions);
        let checked = state.full_up_to.unwrap_or_default();
        versions.before.get_or_insert(state.version);
        versions.checked_before.get_or_insert(checked);
        (versions.now, versions.checked) = (state.version, checked);
        drop(versions);
        Ok(state)
    }

    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError> {
        self.state.records(paths).await
    }

    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError> {
        self.state.sources(contents).await
    }

    async fn all_records(&self) -> Result<Vec<Record>, StateError> {
        self.state.all_records().await
    }

    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        self.state.deferred_part(kind, from).await
    }

    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        self.state.intents().await
    }

    async fn in_step(&self) -> Option<String> {
        self.state.in_step().await
    }

    async fn note_in_step(&self, known_by: String) {
        self.state.note_in_step(known_by).await;
    }

    async fn files(&self) -> Result<u64, StateError> {
        self.state.files().await
    }

    fn is_held(&self) -> bool {
        self.state.is_held()
    }

    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        self.state.confirmations().await
    }

    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        self.state.leave_confirmations(uids).await
    }

    async fn confirmed(&self) {
        self.state.confirmed().await;
    }

    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        self.state.forget_confirmations(uids).await
    }

    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        self.state.last_run().await
    }

    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        self.state.last_check().await
    }

    async fn note_check(&self, at: i64) {
        self.state.note_check(at).await;
    }

    /// The record is part of the same transaction, so it costs no further request.
    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        let (version, checked) = (commit.state.version, commit.state.full_up_to);
        self.tracker.settle(&commit);
        if self.notes {
            self.state.note_progress(self.tracker.record(ProgressStatus::Running, version, None));
        }
        // The commit records files that were put in place before it.
        let placed = self.tracker.placed.get();
        let begun = Instant::now();
        let committed = self.state.commit(commit).await;
        self.tracker.stopwatch.committed(begun.elapsed());
        committed?;
        *lock(&self.tracker.durable) = placed;
        let mut versions = lock(&self.tracker.versions);
        versions.now = version;
        versions.checked = checked.unwrap_or(versions.checked);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use obsync_core::{FileMeta, RecordKind};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn tracker_of(direction: Direction, stored: &StoredProgress) -> Tracker {
        Tracker::new(&"v".parse().unwrap(), "incremental", direction, stored, HOUR)
    }

    fn tracker(stored: &StoredProgress) -> Tracker {
        tracker_of(Direction::Pull, stored)
    }

    fn interrupted() -> ProgressRecord {
        let tracker = tracker(&StoredProgress::Missing);
        tracker.planned(10, 1000);
        for _ in 0..4 {
            tracker.placed(100);
        }
        assert_eq!(tracker.remaining(), Tally { files: 10, bytes: 1000 }, "nothing is recorded");
        *lock(&tracker.durable) = tracker.placed.get();
        assert_eq!(tracker.remaining(), Tally { files: 6, bytes: 600 });
        tracker.record(ProgressStatus::Interrupted, 7, None)
    }

    #[test]
    fn counts_go_on_over_invocations() {
        let first = interrupted();
        assert_eq!((first.files_total, first.files_complete, first.invocations), (10, 4, 1));
        let second = tracker(&StoredProgress::Found(Box::new(first.clone())));
        second.planned(6, 600);
        (0..6).for_each(|_| second.placed(100));
        let last = second.record(ProgressStatus::Complete, 10, None);
        assert_eq!((last.files_total, last.files_complete, last.bytes_complete), (10, 10, 1000));
        assert_eq!((last.invocations, last.start_time), (2, first.start_time));
        assert_eq!((last.resumable, last.resume_token), (false, None));
    }

    #[test]
    fn the_record_has_the_code_of_what_is_wrong() {
        let ended = |code| {
            let problem = Problem::new(code, "it is so");
            let record =
                tracker(&StoredProgress::Missing).record(ProgressStatus::Complete, 0, Some(&problem));
            let last = record.last_run();
            (last.outcome, last.last_error.unwrap().code)
        };
        let of = |outcome, code: &str| (outcome, code.to_owned());
        assert_eq!(ended(ProblemCode::HeldBack), of(RunOutcome::HeldBack, "held_back"));
        assert_eq!(ended(ProblemCode::VaultOlder), of(RunOutcome::VaultOlder, "vault_older"));
        assert_eq!(ended(ProblemCode::Failures), of(RunOutcome::Failures, "failures"));
    }

    #[test]
    fn each_run_of_a_follower_counts() {
        let tracker = tracker(&StoredProgress::Missing);
        let problem = Problem::new(ProblemCode::Unreachable, "the network is away");
        for failures in 1..=3 {
            let record = tracker.record(ProgressStatus::Failed, 0, Some(&problem));
            assert_eq!(record.failures_in_a_row, failures);
            tracker.begin_again(&record);
        }
        let done = tracker.record(ProgressStatus::Complete, 0, None);
        assert_eq!(done.failures_in_a_row, 0);
    }

    fn found(record: ProgressRecord) -> StoredProgress {
        StoredProgress::Found(Box::new(record))
    }

    /// A large file is under way for most of the available time.
    fn receive_slowly(tracker: &Tracker) {
        tracker.receiving(Uid(7), 1 << 20, 100 << 20);
        tracker.receiving(Uid(8), 10, 100);
        std::thread::sleep(Duration::from_millis(20));
    }

    /// The record of the runs that try a file once and then again alone.
    fn tried_twice() -> ProgressRecord {
        let mut stored = StoredProgress::Missing;
        for tries in 1..=TRIES {
            let tracker = tracker(&stored);
            let alone = (tries > 1).then_some(Hurdle { uid: Uid(7), handling: Handling::First });
            assert_eq!(tracker.hurdle(Duration::ZERO), alone);
            receive_slowly(&tracker);
            let record = tracker.record(ProgressStatus::Interrupted, 0, None);
            assert_eq!(record.hurdle.map(|slow| (slow.uid, slow.tries)), Some((7, tries)));
            stored = found(record);
        }
        match stored {
            StoredProgress::Found(record) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_does_not_come_through_is_tried_alone_and_given_up_for_the_rest_of_the_chain() {
        let record = tried_twice();
        let hurdle = record.hurdle.map(|slow| SlowFile { seconds: Some(900), ..slow });
        let stored = found(ProgressRecord { hurdle, ..record });
        let handling = |time| tracker(&stored).hurdle(Duration::from_secs(time)).unwrap().handling;
        assert_eq!(handling(901), Handling::First);
        assert!(matches!(handling(60), Handling::GiveUp(_)));
        let last = tracker(&stored);
        last.hurdle(Duration::ZERO);
        let interrupted = last.record(ProgressStatus::Interrupted, 0, None);
        assert_eq!(interrupted.hurdle, hurdle);
        assert!(matches!(
            tracker(&found(interrupted)).hurdle(Duration::ZERO).unwrap().handling,
            Handling::GiveUp(_)
        ));
    }

    fn commit(file: Option<Uid>) -> Commit {
        let record = |uid| {
            let path = VaultPath::parse("large.bin").unwrap();
            let meta = FileMeta { uid, hash: ContentHash::of(b""), size: 100 << 20, ctime: 0, mtime: 0 };
            Record::seen(path, RecordKind::File(meta), None)
        };
        Commit { records: file.map(record).into_iter().collect(), ..Commit::default() }
    }

    #[test]
    fn a_file_is_there_when_it_is_recorded_and_not_when_its_last_byte_is_received() {
        let stored = found(tried_twice());
        let slow_there = tracker(&stored);
        receive_slowly(&slow_there);
        slow_there.receiving(Uid(7), 100 << 20, 100 << 20);
        slow_there.settle(&commit(Some(Uid(9))));
        let hurdle = slow_there.record(ProgressStatus::Interrupted, 0, None).hurdle.unwrap();
        assert_eq!((hurdle.uid, hurdle.tries), (7, TRIES + 1));
        assert!(hurdle.seconds.is_some(), "the time that it needs at least");
        assert!(slow_there.gives_up_next());
        slow_there.settle(&commit(Some(Uid(7))));
        assert_eq!(slow_there.record(ProgressStatus::Interrupted, 0, None).hurdle, None);
        assert!(!slow_there.gives_up_next());
    }

    #[test]
    fn a_run_that_fails_while_the_file_arrives_counts_as_an_attempt() {
        let stored = found(tried_twice());
        let elsewhere = tracker(&stored);
        assert_eq!(elsewhere.record(ProgressStatus::Failed, 0, None).hurdle.unwrap().tries, TRIES);
        let under_way = tracker(&stored);
        receive_slowly(&under_way);
        assert_eq!(under_way.record(ProgressStatus::Failed, 0, None).hurdle.unwrap().tries, TRIES + 1);
    }

    #[test]
    fn the_run_after_one_that_gave_a_file_up_tries_it_last() {
        let gives_up = tracker(&found(tried_twice()));
        gives_up.hurdle(Duration::ZERO);
        let given_up = gives_up.record(ProgressStatus::Complete, 0, None);
        let anew = tracker(&found(given_up));
        assert_eq!(anew.hurdle(Duration::ZERO).unwrap().handling, Handling::Last);
        receive_slowly(&anew);
        assert!(anew.gives_up_next());
        let interrupted = anew.record(ProgressStatus::Interrupted, 0, None);
        assert_eq!(interrupted.hurdle.unwrap().tries, TRIES + 1);
        let other = tracker(&found(ProgressRecord { hurdle: given_up_before(2), ..interrupted }));
        other.hurdle(Duration::ZERO);
        assert_eq!(other.record(ProgressStatus::Failed, 0, None).hurdle, given_up_before(2));
    }

    fn given_up_before(tries: u32) -> Option<SlowFile> {
        Some(SlowFile { uid: 7, tries, seconds: None, tried: 0 })
    }

    /// An invocation has far more time than had passed at the last commit of one that was killed.
    #[test]
    fn a_file_that_gets_the_function_killed_counts_as_tried() {
        let time = Duration::from_secs(100);
        let first = tracker(&StoredProgress::Missing);
        receive_slowly(&first);
        let killed = first.record(ProgressStatus::Running, 0, None);
        assert_eq!(killed.hurdle.unwrap().tries, 1);
        let alone = tracker(&found(killed.clone()));
        assert_eq!(alone.hurdle(time).unwrap().handling, Handling::First);
        let before_it = alone.record(ProgressStatus::Running, 0, None);
        receive_slowly(&alone);
        let beside_it = alone.record(ProgressStatus::Running, 0, None);
        let once_more = SlowFile { seconds: Some(30), ..killed.hurdle.unwrap() };
        let ended = tracker(&found(ProgressRecord { hurdle: Some(once_more), ..killed }));
        ended.hurdle(time);
        let after_an_end = ended.record(ProgressStatus::Running, 0, None);
        for killed in [before_it, beside_it, after_an_end] {
            assert_eq!(killed.hurdle.unwrap().tries, 2);
            let without = tracker(&found(killed));
            assert!(matches!(without.hurdle(time).unwrap().handling, Handling::GiveUp(_)));
            assert_eq!(without.record(ProgressStatus::Running, 0, None).hurdle.unwrap().tries, 2);
        }
    }

    #[test]
    fn a_run_that_did_not_come_to_its_end_counts_until_one_does() {
        let failed = |tracker: &Tracker| {
            let problem = Problem::new(ProblemCode::Unreachable, "the network is away");
            tracker.record(ProgressStatus::Failed, 0, Some(&problem))
        };
        let on_the_way = tracker(&StoredProgress::Missing);
        on_the_way.phase(Phase::Transferring);
        let killed = tracker(&StoredProgress::Missing).record(ProgressStatus::Running, 0, None);
        for cut_short in [interrupted(), killed, failed(&on_the_way)] {
            assert!(cut_short.last_run().is_cut_short(), "{cut_short:?}");
            let stored = StoredProgress::Found(Box::new(cut_short));
            let away = failed(&tracker(&stored));
            assert!(away.last_run().is_cut_short(), "one that could not begin mends nothing: {stored:?}");
            let stored = StoredProgress::Found(Box::new(away));
            let done = tracker(&stored).record(ProgressStatus::Complete, 0, None);
            assert!(!done.last_run().is_cut_short(), "{stored:?}");
            let push = tracker_of(Direction::Push, &stored);
            push.phase(Phase::Sending);
            let pushed = push.record(ProgressStatus::Complete, 0, None);
            assert!(pushed.last_run().is_cut_short(), "a push brings nothing: {stored:?}");
        }
        let unreadable = StoredProgress::Unreadable { reason: "not JSON".to_owned() };
        let after = tracker(&unreadable).record(ProgressStatus::Running, 0, None);
        assert!(after.cut_short, "nobody knows how the run before ended");
        assert!(!failed(&tracker(&StoredProgress::Missing)).last_run().is_cut_short());
    }

    #[test]
    fn what_does_not_count_any_more_begins_new_counts() {
        let old = ProgressRecord {
            last_update: jiff::Timestamp::now() - jiff::SignedDuration::from_secs(3700),
            ..interrupted()
        };
        let not_resumable = ProgressRecord { resumable: false, ..interrupted() };
        let other = ProgressRecord { resume_token: Some("complete/1".to_owned()), ..interrupted() };
        let unreadable = StoredProgress::Unreadable { reason: "x".to_owned() };
        let found = [old, not_resumable, other].map(|record| StoredProgress::Found(Box::new(record)));
        for stored in found.into_iter().chain([unreadable, StoredProgress::Missing]) {
            let record = tracker(&stored).record(ProgressStatus::Running, 0, None);
            assert_eq!((record.invocations, record.files_complete), (1, 0), "{stored:?}");
        }
    }
}
