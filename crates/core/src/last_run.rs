//! The outcome of the last run on a destination: for `obsync status`, for watchers, and for `obsync verify`,
//! which checks whether a run was cut short.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Direction;
use crate::problem::Problem;
use crate::progress::Phase;
use crate::report::Outcome;

/// Limit of a stored error, in bytes.
const LONGEST_ERROR: usize = 4 << 10;

/// The last run on a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastRun {
    /// When the run began.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub began: Timestamp,
    /// When the run ended; null while it is active, and if it was killed.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Number of consecutive runs, including this one, that neither found the destination up to date nor brought it
    /// up to date. Runs that were asked to stop do not count.
    pub failures_in_a_row: u32,
    /// The last error, of this run or an earlier one.
    pub last_error: Option<RunError>,
    /// True if a run ended while it applied changes here, and no later run finished them.
    #[serde(default)]
    pub cut_short: bool,
    /// True if the run only sends changes from now on. If it ends early, no file of the vault is missing here because
    /// of that.
    #[serde(default)]
    pub sending: bool,
    /// True for a run of a follower (`--follow`).
    #[serde(default)]
    pub of_follower: bool,
    /// Progress of the run.
    #[serde(default)]
    pub progress: RunProgress,
    /// Why a follower cannot watch the destination for changes, and scans it each minute instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwatched: Option<String>,
}

/// Progress of a run; all zero before its plan is known, and if there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunProgress {
    /// Total files of the run.
    pub files_total: u64,
    /// Files in place and recorded.
    pub files_complete: u64,
    /// Total bytes of the run.
    pub bytes_total: u64,
    /// Bytes in place and recorded.
    pub bytes_complete: u64,
}

/// The outcome of a run, with the values of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RunOutcome {
    /// The run is active, or was killed.
    Running,
    /// The destination equals the vault as listed.
    Complete,
    /// The same, except for changes that failed.
    Failures,
    /// The same, except for deletions that are held back.
    HeldBack,
    /// The vault is older than the destination.
    VaultOlder,
    /// The run was stopped or cut off.
    Interrupted,
    /// The run failed.
    Failed,
}

impl From<Outcome> for RunOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Complete | Outcome::DryRun => RunOutcome::Complete,
            Outcome::Failures => RunOutcome::Failures,
            Outcome::VaultOlder => RunOutcome::VaultOlder,
            Outcome::HeldBack => RunOutcome::HeldBack,
            Outcome::Interrupted => RunOutcome::Interrupted,
        }
    }
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunError {
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub at: Timestamp,
    /// A code of docs/JSON.md.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl RunError {
    /// A problem that occurred at this time.
    pub fn of(problem: &Problem, at: Timestamp) -> Self {
        let end = problem.message.floor_char_boundary(LONGEST_ERROR);
        let message = problem.message[..end].to_owned();
        RunError { at, code: problem.code.as_str().to_owned(), message }
    }
}

/// Follows a run by its phases, to know whether files of the vault may be missing in the destination after a
/// run that ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bringing {
    direction: Direction,
    /// [`LastRun::cut_short`].
    pub cut_short: bool,
    /// [`LastRun::sending`].
    pub sending: bool,
}

impl Bringing {
    /// Start of a run in this direction; `cut_short` if an earlier run was.
    pub fn begin(direction: Direction, cut_short: bool) -> Self {
        Bringing { direction, cut_short, sending: direction == Direction::Push }
    }

    /// Start of the next run, after this one.
    #[must_use]
    pub fn next(self, cut_short: bool) -> Self {
        Bringing::begin(self.direction, cut_short)
    }

    /// Notes that the run entered this phase.
    pub fn enter(&mut self, phase: Phase) {
        match phase {
            // A push fetches nothing, so it completes no earlier run either.
            _ if self.direction == Direction::Push => {}
            Phase::Transferring => (self.cut_short, self.sending) = (true, false),
            // A sync scans after it has fetched everything.
            Phase::Scanning | Phase::Sending => (self.cut_short, self.sending) = (false, true),
            Phase::Connecting | Phase::Listing | Phase::Planning | Phase::Finishing => {}
        }
    }

    /// True if files may be missing after this outcome.
    pub fn is_cut_short(&self, outcome: RunOutcome) -> bool {
        is_cut_short(self.cut_short, self.sending, outcome)
    }
}

fn is_cut_short(cut_short: bool, sending: bool, outcome: RunOutcome) -> bool {
    match outcome {
        RunOutcome::Running | RunOutcome::Interrupted => cut_short || !sending,
        // The run may not have fetched anything, but it did not complete an earlier run either.
        RunOutcome::Failed => cut_short,
        // A sync that sends has fetched everything; a push completes no earlier run.
        RunOutcome::Complete | RunOutcome::Failures | RunOutcome::HeldBack | RunOutcome::VaultOlder => {
            cut_short && sending
        }
    }
}

impl LastRun {
    /// A run that begins now, after `before`.
    pub fn begin(before: Option<&LastRun>) -> Self {
        LastRun {
            began: Timestamp::now(),
            ended: None,
            outcome: RunOutcome::Running,
            failures_in_a_row: before.map_or(0, LastRun::failures),
            last_error: before.and_then(|before| before.last_error.clone()),
            cut_short: before.is_some_and(LastRun::is_cut_short),
            sending: false,
            of_follower: false,
            progress: RunProgress::default(),
            unwatched: None,
        }
    }

    /// A run of which only the start is known: its stored outcome cannot be read.
    pub fn of_unknown_end(began: Timestamp) -> Self {
        LastRun { began, ..LastRun::begin(None) }
    }

    /// The run with the state of `bringing`.
    #[must_use]
    pub fn with(self, bringing: Bringing) -> Self {
        LastRun { cut_short: bringing.cut_short, sending: bringing.sending, ..self }
    }

    /// Failures in a row up to this run. A run that died before it stored its outcome counts.
    fn failures(&self) -> u32 {
        self.failures_in_a_row.saturating_add(u32::from(self.outcome == RunOutcome::Running))
    }

    /// True if the destination may have only a part of the files that a run was to fetch: a run was stopped,
    /// killed or failed on the way, and none after it completed. Only valid if no run is at work there now.
    pub fn is_cut_short(&self) -> bool {
        match self.outcome {
            RunOutcome::Running => is_cut_short(self.cut_short, self.sending, RunOutcome::Running),
            _ => self.cut_short,
        }
    }

    /// The run with its outcome.
    #[must_use]
    pub fn end(self, outcome: RunOutcome, problem: Option<&Problem>) -> Self {
        let now = Timestamp::now();
        let failures_in_a_row = match outcome {
            RunOutcome::Complete => 0,
            // It was stopped, and its work counts.
            RunOutcome::Interrupted => self.failures_in_a_row,
            _ => self.failures_in_a_row.saturating_add(1),
        };
        let cut_short = is_cut_short(self.cut_short, self.sending, outcome);
        let error = problem.map(|problem| RunError::of(problem, now));
        LastRun {
            ended: Some(now),
            outcome,
            failures_in_a_row,
            last_error: error.or(self.last_error),
            cut_short,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemCode;

    #[test]
    fn failures_count_until_a_run_is_complete_and_the_last_error_stays() {
        let problem = Problem::new(ProblemCode::Unreachable, "no network");
        let first = LastRun::begin(None).end(RunOutcome::Failed, Some(&problem));
        assert_eq!(first.failures_in_a_row, 1);
        let killed = LastRun::begin(Some(&first));
        let third = LastRun::begin(Some(&killed)).end(RunOutcome::HeldBack, None);
        assert_eq!(third.failures_in_a_row, 3, "one that was killed counts, too");
        assert_eq!(third.last_error.as_ref().unwrap().code, "unreachable");
        let done = LastRun::begin(Some(&third)).end(RunOutcome::Complete, None);
        assert_eq!((done.failures_in_a_row, done.last_error), (0, third.last_error));
    }

    #[test]
    fn a_run_that_did_not_come_to_its_end_counts_until_one_does() {
        let problem = Problem::new(ProblemCode::Unreachable, "no network");
        let killed = LastRun::begin(None);
        let failed_on_the_way =
            LastRun { cut_short: true, ..LastRun::begin(None) }.end(RunOutcome::Failed, Some(&problem));
        let stopped = LastRun::begin(None).end(RunOutcome::Interrupted, None);
        for cut_short in [killed, failed_on_the_way, stopped] {
            assert!(cut_short.is_cut_short(), "{cut_short:?}");
            let away = LastRun::begin(Some(&cut_short)).end(RunOutcome::Failed, Some(&problem));
            assert!(away.is_cut_short(), "one that could not begin mends nothing: {cut_short:?}");
            let done = LastRun::begin(Some(&away)).end(RunOutcome::Failures, None);
            assert!(!done.is_cut_short(), "{cut_short:?}");
        }
        let never_began = LastRun::begin(None).end(RunOutcome::Failed, Some(&problem));
        assert!(!never_began.is_cut_short());
    }

    /// A run after `before` that entered these phases and had this outcome.
    fn ended(
        before: Option<&LastRun>,
        direction: Direction,
        phases: &[Phase],
        outcome: RunOutcome,
    ) -> LastRun {
        let run = LastRun::begin(before);
        let mut bringing = Bringing::begin(direction, run.cut_short);
        phases.iter().for_each(|phase| bringing.enter(*phase));
        let run = run.with(bringing);
        if outcome == RunOutcome::Running { run } else { run.end(outcome, None) }
    }

    const SENDS: [Phase; 2] = [Phase::Scanning, Phase::Sending];
    const BRINGS: [Phase; 1] = [Phase::Transferring];

    #[test]
    fn a_push_makes_no_other_run_good_and_leaves_nothing_undone_here() {
        let stopped = ended(None, Direction::Both, &BRINGS, RunOutcome::Interrupted);
        for outcome in
            [RunOutcome::Running, RunOutcome::Interrupted, RunOutcome::Failed, RunOutcome::Complete]
        {
            let alone = ended(None, Direction::Push, &SENDS, outcome);
            assert!(!alone.is_cut_short(), "{alone:?}");
            let after = ended(Some(&stopped), Direction::Push, &SENDS, outcome);
            assert!(after.is_cut_short(), "{after:?}");
            let sync = ended(Some(&after), Direction::Both, &SENDS, RunOutcome::Complete);
            assert!(!sync.is_cut_short(), "{after:?}, {sync:?}");
        }
    }

    #[test]
    fn a_sync_that_ends_while_it_sends_has_brought_everything() {
        let before = ended(None, Direction::Pull, &BRINGS, RunOutcome::Interrupted);
        let another_round = [BRINGS.as_slice(), &SENDS, &BRINGS].concat();
        for outcome in [RunOutcome::Running, RunOutcome::Interrupted, RunOutcome::Failed] {
            let is_cut_short =
                |phases: &[Phase]| ended(Some(&before), Direction::Both, phases, outcome).is_cut_short();
            assert!(is_cut_short(&BRINGS), "{outcome:?}");
            assert!(!is_cut_short(&SENDS), "{outcome:?}");
            assert!(is_cut_short(&another_round), "{outcome:?}");
        }
    }
}
