//! Liveness and readiness of a follower: it is ready when it is connected, its first run is done, and the vault
//! is not older than its destination. What its last run left undone is said beside.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use obsync_core::{Following, Outcome, Phase};

use crate::ui::human;

/// A follower that waits runs again at least this often ([`FollowOptions`](obsync_core::FollowOptions)).
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// After this long past its due time it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);
/// After this long without progress a run counts as hanging.
const NO_PROGRESS: Duration = Duration::from_secs(30 * 60);
/// The same while it scans: the first scan of a folder shows no progress.
const NO_PROGRESS_QUIET: Duration = Duration::from_secs(6 * 3600);
/// A run that tries to connect, or waits for the vault's list, still counts as connected for this long.
const CONNECTING: Duration = Duration::from_secs(5);

/// The activity of a follower, and its beginning.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<Now>);

#[derive(Debug)]
struct Now {
    /// The deadline for its next activity. Progress of a run postpones it.
    due: Option<Instant>,
    missing: Option<NotReady>,
    /// The time limit without progress of the present run.
    patience: Duration,
    /// Since when a run tries to connect, or waits for the vault's list.
    connecting: Option<(Instant, Timestamp)>,
    /// Why not every change of the folder is seen at once.
    unwatched: Option<String>,
    /// What the last run left undone.
    undone: Option<String>,
    /// The last run found the vault older than the destination.
    is_vault_older: bool,
}

/// Why a follower is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotReady {
    pub(super) since: Timestamp,
    pub(super) reason: String,
}

impl Readiness {
    /// Of a follower that begins.
    pub(super) fn new() -> Self {
        let missing = NotReady { since: Timestamp::now(), reason: "the first run is at work".to_owned() };
        Readiness(Mutex::new(Now {
            due: None,
            missing: Some(missing),
            patience: NO_PROGRESS,
            connecting: None,
            unwatched: None,
            undone: None,
            is_vault_older: false,
        }))
    }

    /// It does something else now. `now` is that of both clocks.
    pub(super) fn following(&self, following: &Following, reason: &str, now: (Instant, Timestamp)) {
        let mut state = self.lock();
        state.connecting = None;
        match following {
            Following::Running => {
                state.patience = NO_PROGRESS;
                state.due = now.0.checked_add(NO_PROGRESS);
            }
            Following::Waiting => {
                state.due = now.0.checked_add(LONGEST_WAIT + PATIENCE);
                match state.is_vault_older {
                    true => state.miss("the vault is older than the destination", now.1),
                    false => state.missing = None,
                }
            }
            Following::Reconnecting { after, .. } | Following::Retrying { after, .. } => {
                state.due = now.0.checked_add(*after + PATIENCE);
                state.miss(reason, now.1);
            }
        }
    }

    /// A run ended like this, with so many failed changes and held-back deletions.
    pub(super) fn ran(&self, outcome: Outcome, failed: u64, held_back: u64) {
        let mut state = self.lock();
        state.is_vault_older = outcome == Outcome::VaultOlder;
        state.undone = undone(outcome, failed, held_back);
    }

    /// A run begins another phase.
    pub(super) fn phase(&self, phase: Phase, now: (Instant, Timestamp)) {
        let mut state = self.lock();
        let is_connecting = matches!(phase, Phase::Connecting | Phase::Listing);
        // Each attempt is a part of the same outage.
        state.connecting = is_connecting.then(|| state.connecting.unwrap_or(now));
        state.patience = match phase {
            Phase::Scanning => NO_PROGRESS_QUIET,
            _ => NO_PROGRESS,
        };
        state.due = now.0.checked_add(state.patience);
    }

    /// A run makes progress.
    pub(super) fn progressed(&self, now: Instant) {
        let mut state = self.lock();
        state.connecting = None;
        state.due = now.checked_add(state.patience);
    }

    /// Not every change of the folder is seen at once, for this reason: it is scanned from time to time.
    pub(super) fn unwatched(&self, reason: &str) {
        self.lock().unwatched = Some(reason.to_owned());
    }

    /// True if every change of the folder is noticed at once, as far as known.
    pub(super) fn is_watched(&self) -> bool {
        self.lock().unwatched.is_none()
    }

    /// The text for a ready follower.
    pub(super) fn ready(&self) -> String {
        let state = self.lock();
        let scanned = state
            .unwatched
            .as_ref()
            .map(|reason| format!("the folder is scanned each minute, because {reason}"));
        [Some("ready".to_owned()), state.undone.clone(), scanned]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The text for a ready follower that waits.
    pub(super) fn waiting(&self) -> String {
        match &self.lock().undone {
            None => "in step, waiting for changes".to_owned(),
            Some(undone) => format!("waiting for changes; {undone}"),
        }
    }

    /// `None`: it is ready.
    pub(super) fn missing(&self, now: Instant) -> Option<NotReady> {
        let state = self.lock();
        let is_late = |since: Instant| now.saturating_duration_since(since) > CONNECTING;
        let connecting = state.connecting.filter(|(since, _)| is_late(*since));
        let reason = "it is trying to connect";
        let connecting = connecting.map(|(_, since)| NotReady { since, reason: reason.to_owned() });
        state.missing.clone().or(connecting)
    }

    /// True if it does not hang.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.lock().due.is_none_or(|due| now < due)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    /// It is not ready, for this reason from now on.
    fn miss(&mut self, reason: &str, now: Timestamp) {
        match &mut self.missing {
            Some(missing) => reason.clone_into(&mut missing.reason),
            None => self.missing = Some(NotReady { since: now, reason: reason.to_owned() }),
        }
    }
}

/// What a run left undone, in a few words.
fn undone(outcome: Outcome, failed: u64, held_back: u64) -> Option<String> {
    let words = [
        (failed > 0).then(|| format!("{} failed", human::counted(failed, "change", "changes"))),
        (held_back > 0)
            .then(|| format!("{} held back", human::counted(held_back, "deletion is", "deletions are"))),
        (outcome == Outcome::Interrupted).then(|| "the last run was cut off".to_owned()),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(30);

    fn retrying() -> Following {
        Following::Retrying { reason: String::new(), after: RETRY }
    }

    #[test]
    fn a_follower_that_waits_for_the_service_says_since_when_until_it_is_in_step_again() {
        let readiness = Readiness::new();
        let (begin, noon) = (Instant::now(), Timestamp::from_second(1_767_268_800).unwrap());
        assert_eq!(readiness.missing(begin).unwrap().reason, "the first run is at work");
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert_eq!(readiness.missing(begin), None);
        for (reason, later) in [("refused", 0), ("timed out", 60)] {
            let now = (begin, noon + Duration::from_secs(later));
            readiness.following(&retrying(), reason, now);
            readiness.following(&Following::Running, "", now);
            assert_eq!(readiness.missing(begin), Some(NotReady { since: noon, reason: reason.to_owned() }));
        }
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert_eq!(readiness.missing(begin), None);
    }

    #[test]
    fn a_follower_that_does_not_see_every_change_is_ready_and_says_why() {
        let readiness = Readiness::new();
        readiness.following(&Following::Waiting, "", (Instant::now(), Timestamp::UNIX_EPOCH));
        assert_eq!((readiness.ready().as_str(), readiness.is_watched()), ("ready", true));
        readiness.unwatched("it was moved");
        assert_eq!(readiness.missing(Instant::now()), None);
        assert_eq!(readiness.ready(), "ready; the folder is scanned each minute, because it was moved");
        assert!(!readiness.is_watched());
    }

    #[test]
    fn a_follower_says_what_its_last_run_left_undone_and_is_not_ready_below_an_older_vault() {
        let (begin, noon) = (Instant::now(), Timestamp::from_second(1_767_268_800).unwrap());
        let readiness = Readiness::new();
        let waits_after = |outcome, failed, held_back| {
            readiness.ran(outcome, failed, held_back);
            readiness.following(&Following::Waiting, "", (begin, noon));
            (readiness.missing(begin).map(|missing| missing.reason), readiness.ready(), readiness.waiting())
        };
        let told = |ready: &str, waiting: &str| (None, ready.to_owned(), waiting.to_owned());
        for (ended, words) in [
            (waits_after(Outcome::Failures, 3, 0), "3 changes failed"),
            (waits_after(Outcome::HeldBack, 0, 1), "1 deletion is held back"),
            (waits_after(Outcome::Failures, 1, 2), "1 change failed, 2 deletions are held back"),
        ] {
            assert_eq!(ended, told(&format!("ready; {words}"), &format!("waiting for changes; {words}")));
        }
        let reason = waits_after(Outcome::VaultOlder, 0, 0).0;
        assert_eq!(reason.as_deref(), Some("the vault is older than the destination"));
        assert_eq!(waits_after(Outcome::Complete, 0, 0), told("ready", "in step, waiting for changes"));
    }

    #[test]
    fn a_follower_that_does_nothing_when_it_is_due_is_not_alive() {
        let readiness = Readiness::new();
        let (begin, noon) = (Instant::now(), Timestamp::UNIX_EPOCH);
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert!(readiness.is_alive(begin + LONGEST_WAIT));
        assert!(!readiness.is_alive(begin + LONGEST_WAIT + PATIENCE));
        readiness.following(&retrying(), "", (begin, noon));
        assert!(!readiness.is_alive(begin + RETRY + PATIENCE));
    }

    #[test]
    fn a_session_that_is_lost_is_missing_until_the_follower_is_in_step_again() {
        let readiness = Readiness::new();
        let (begin, noon) = (Instant::now(), Timestamp::UNIX_EPOCH);
        readiness.following(&Following::Waiting, "", (begin, noon));
        let lost = Following::Reconnecting { reason: String::new(), after: RETRY };
        readiness.following(&lost, "closed", (begin, noon));
        readiness.following(&Following::Running, "", (begin, noon));
        assert_eq!(readiness.missing(begin), Some(NotReady { since: noon, reason: "closed".to_owned() }));
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert_eq!(readiness.missing(begin), None);
    }

    #[test]
    fn a_run_that_cannot_connect_is_not_ready_after_some_seconds_and_alive() {
        let readiness = Readiness::new();
        let (begin, noon) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let later = begin + CONNECTING + Duration::from_secs(1);
        readiness.following(&Following::Waiting, "", (begin, noon));
        readiness.following(&Following::Running, "", (begin, noon));
        assert_eq!(readiness.missing(later), None, "it works over the session that is open");
        readiness.phase(Phase::Connecting, (begin, noon));
        assert_eq!(readiness.missing(begin + CONNECTING), None);
        // Another attempt is no beginning.
        readiness.phase(Phase::Connecting, (later, noon + CONNECTING));
        assert_eq!(readiness.missing(later).map(|missing| missing.since), Some(noon));
        assert!(readiness.is_alive(later));
        readiness.phase(Phase::Planning, (later, noon));
        assert_eq!(readiness.missing(later), None);
    }

    #[test]
    fn a_run_hangs_when_it_shows_no_progress_for_half_an_hour() {
        let readiness = Readiness::new();
        let (begin, noon) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let second = Duration::from_secs(1);
        readiness.following(&Following::Running, "", (begin, noon));
        assert!(readiness.is_alive(begin + NO_PROGRESS - second));
        assert!(!readiness.is_alive(begin + NO_PROGRESS));
        let later = begin + NO_PROGRESS - second;
        readiness.phase(Phase::Transferring, (begin, noon));
        readiness.progressed(later);
        assert!(readiness.is_alive(later + NO_PROGRESS - second));
        assert!(!readiness.is_alive(later + NO_PROGRESS));
        // Sending shows progress, even of a single large file.
        readiness.phase(Phase::Sending, (begin, noon));
        assert!(!readiness.is_alive(begin + NO_PROGRESS));
        readiness.phase(Phase::Scanning, (begin, noon));
        assert!(readiness.is_alive(begin + NO_PROGRESS));
        assert!(!readiness.is_alive(begin + NO_PROGRESS_QUIET));
    }
}
