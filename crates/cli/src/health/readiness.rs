//! Whether a follower is alive, and whether it is ready: connected, with a destination that is in step.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use obsync_core::Following;

/// A follower that waits runs again at least this often ([`FollowOptions`](obsync_core::FollowOptions)).
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// How much later than due it may do something before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a follower does, and since when.
#[derive(Debug)]
pub(super) struct Readiness(Mutex<Now>);

#[derive(Debug)]
struct Now {
    /// When it has to do something else; a run may take as long as it takes.
    due: Option<Instant>,
    missing: Option<NotReady>,
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
        Readiness(Mutex::new(Now { due: None, missing: Some(missing) }))
    }

    /// It does something else now. `now` is that of both clocks.
    pub(super) fn following(&self, following: &Following, reason: &str, now: (Instant, Timestamp)) {
        let mut state = self.lock();
        match following {
            Following::Running => state.due = None,
            Following::Waiting => {
                state.due = now.0.checked_add(LONGEST_WAIT + PATIENCE);
                state.missing = None;
            }
            Following::Retrying { after, .. } => {
                state.due = now.0.checked_add(*after + PATIENCE);
                match &mut state.missing {
                    Some(missing) => reason.clone_into(&mut missing.reason),
                    None => state.missing = Some(NotReady { since: now.1, reason: reason.to_owned() }),
                }
            }
        }
    }

    /// `None`: it is ready.
    pub(super) fn missing(&self) -> Option<NotReady> {
        self.lock().missing.clone()
    }

    /// Whether it does not hang.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        self.lock().due.is_none_or(|due| now < due)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Nothing that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        assert_eq!(readiness.missing().unwrap().reason, "the first run is at work");
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert_eq!(readiness.missing(), None);
        for (reason, later) in [("refused", 0), ("timed out", 60)] {
            let now = (begin, noon + Duration::from_secs(later));
            readiness.following(&retrying(), reason, now);
            readiness.following(&Following::Running, "", now);
            assert_eq!(readiness.missing(), Some(NotReady { since: noon, reason: reason.to_owned() }));
        }
        readiness.following(&Following::Waiting, "", (begin, noon));
        assert_eq!(readiness.missing(), None);
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
        readiness.following(&Following::Running, "", (begin, noon));
        assert!(readiness.is_alive(begin + 100 * LONGEST_WAIT));
    }
}
