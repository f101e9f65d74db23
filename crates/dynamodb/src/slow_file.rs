//! Files that take longer than an invocation: the time that they need, and when they are tried again.
//!
//! Such a file is tried once more, first and alone. If it does not arrive then either, the rest of the chain
//! gives it up, so that others are not kept waiting. The obstacle may have been a service that stalled: the
//! next run tries the file again, after all others, and later runs do so after growing pauses, because each
//! attempt may cost a whole invocation.

use std::time::{Duration, Instant};

use obsync_core::Handling;
use serde::{Deserialize, Serialize};

/// Contents of this size and more may take all the available time.
pub(super) const LARGE: u64 = 1 << 20;
/// Consecutive invocations after which a file that does not arrive is given up.
pub(super) const TRIES: u32 = 2;
/// The period over which the speed of a content is measured.
const WINDOW: Duration = Duration::from_secs(30);
/// The pause after the first attempt at a file that had been given up, in seconds; it doubles with each
/// further one.
const PAUSE: i64 = 60 * 60;
/// The longest of these pauses, and the longest estimate that is an estimate at all, in seconds.
const DAY: u32 = 24 * 60 * 60;

/// A file that did not arrive within the time of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowFile {
    /// The entry's uid.
    pub uid: u64,
    /// Consecutive attempts in which it did not arrive.
    pub tries: u32,
    /// Seconds that it needs at its latest speed; `None` if that is unknown: hardly anything arrived, or the
    /// last attempt had no end.
    pub seconds: Option<u64>,
    /// When it was last tried, in seconds since the epoch.
    #[serde(default)]
    pub tried: i64,
}

impl SlowFile {
    /// Its treatment in a run that begins `now` with this much time. `goes_on`: the run continues an
    /// interrupted one.
    pub(super) fn handling(&self, time: Duration, goes_on: bool, now: i64) -> Handling {
        if self.tries < TRIES || self.seconds.is_some_and(|seconds| time.as_secs() >= seconds) {
            return Handling::First;
        }
        if !goes_on && now.saturating_sub(self.tried) >= self.pause() {
            return Handling::Last;
        }
        Handling::GiveUp(self.reason(time))
    }

    /// The same file after one more attempt that had no end of its own. How long it would have taken is
    /// unknown: with an estimate, a file that gets the function killed would come first again and again.
    pub(super) fn tried_again(self, now: i64) -> Self {
        SlowFile { tries: self.tries.saturating_add(1), seconds: None, tried: now, ..self }
    }

    /// The pause before the next attempt, in seconds.
    fn pause(&self) -> i64 {
        match self.tries.saturating_sub(TRIES).checked_sub(1) {
            None => 0,
            Some(doublings) => (PAUSE << doublings.min(8)).min(i64::from(DAY)),
        }
    }

    fn reason(&self, time: Duration) -> String {
        let (tries, time) = (self.tries, time.as_secs());
        let pace = match self.seconds {
            Some(seconds) => format!(
                ": at the pace at which it came it needs about {seconds} s, and an invocation has {time}; give the \
                 function more time, or more memory, with which it is faster"
            ),
            None => {
                ": in the last of them hardly anything of it came, or that invocation was ended from outside"
                    .to_owned()
            }
        };
        format!(
            "it did not come through in {tries} invocations{pace}; later runs try it again, after the other files"
        )
    }
}

/// The bytes that had arrived at a moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    received: u64,
}

/// A content on its way to the destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving {
    pub(super) begun: Instant,
    bytes: u64,
    latest: Mark,
    /// Earlier marks, at least [`WINDOW`] apart, the older one first.
    marks: [Mark; 2],
}

impl Receiving {
    pub(super) fn begin(received: u64, bytes: u64, now: Instant) -> Self {
        let latest = Mark { at: now, received };
        Receiving { begun: now, bytes, latest, marks: [Mark { received: 0, ..latest }; 2] }
    }

    /// More of it arrived. `false` if it is less than before: the content begins anew.
    pub(super) fn note(&mut self, received: u64, now: Instant) -> bool {
        if received < self.latest.received {
            return false;
        }
        self.latest = Mark { at: now, received };
        if now.saturating_duration_since(self.marks[1].at) >= WINDOW {
            self.marks = [self.marks[1], self.latest];
        }
        true
    }

    /// True if all of it arrived from the server.
    pub(super) fn is_whole(&self) -> bool {
        self.latest.received >= self.bytes
    }

    /// Seconds for the whole content at its latest speed; `None` if hardly anything arrived. For one that is
    /// whole, and waits for the destination: those until now.
    pub(super) fn seconds(&self, now: Instant) -> Option<u64> {
        if self.is_whole() {
            return Some(now.saturating_duration_since(self.begun).as_secs());
        }
        let is_old = |mark: &Mark| now.saturating_duration_since(mark.at) >= WINDOW;
        if is_old(&self.latest) {
            return None;
        }
        let since = if is_old(&self.marks[1]) { self.marks[1] } else { self.marks[0] };
        let arrived = self.latest.received.saturating_sub(since.received);
        let took = now.saturating_duration_since(since.at).as_secs_f64();
        let seconds = took * self.bytes as f64 / arrived as f64;
        (seconds <= f64::from(DAY)).then(|| seconds.ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;

    fn given_up(tries: u32) -> SlowFile {
        SlowFile { uid: 7, tries, seconds: Some(900), tried: 1_700_000_000 }
    }

    #[test]
    fn it_is_given_up_for_the_rest_of_a_chain_only() {
        let minute = Duration::from_secs(60);
        let at = |file: SlowFile, goes_on, later| file.handling(minute, goes_on, file.tried + later);
        assert_eq!(at(given_up(1), true, 0), Handling::First);
        let Handling::GiveUp(reason) = at(given_up(2), true, 100 * HOUR) else { panic!() };
        assert!(reason.contains("needs about 900 s, and an invocation has 60;"), "{reason}");
        assert_eq!(at(given_up(2), false, 0), Handling::Last);
        let enough = given_up(9).handling(Duration::from_secs(900), true, 0);
        assert_eq!(enough, Handling::First, "there is more time now");
    }

    #[test]
    fn later_attempts_come_after_growing_pauses_of_a_day_at_most() {
        for (tries, hours) in [(3, 1), (4, 2), (5, 4), (8, 24), (u32::MAX, 24)] {
            let file = given_up(tries);
            let after = |seconds: i64| file.handling(Duration::ZERO, false, file.tried + seconds);
            assert!(matches!(after(hours * HOUR - 1), Handling::GiveUp(_)), "{tries}");
            assert_eq!(after(hours * HOUR), Handling::Last, "{tries}");
        }
    }

    #[test]
    fn no_time_is_named_if_hardly_anything_came() {
        let file = SlowFile { seconds: None, ..given_up(2) };
        let Handling::GiveUp(reason) = file.handling(Duration::from_secs(900), true, 0) else { panic!() };
        assert!(reason.contains("hardly anything") && !reason.contains("900"), "{reason}");
    }

    #[test]
    fn the_speed_is_that_of_the_last_moments() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut receiving = Receiving::begin(100, 100_000, at(0));
        assert_eq!(receiving.seconds(at(10)), Some(10_000));
        assert!((1..=100).all(|second| receiving.note(100, at(second))));
        assert_eq!(receiving.seconds(at(100)), None, "nothing came lately");
        assert!((101..=200).all(|second| receiving.note((second - 100) * 100 + 100, at(second))));
        assert_eq!(receiving.seconds(at(200)), Some(1000));
        assert_eq!(receiving.seconds(at(230)), None, "it has stalled");
        assert!(!receiving.note(50, at(231)), "it began anew");
        assert!(receiving.note(100_000, at(232)));
        assert_eq!(receiving.seconds(at(300)), Some(300), "it waits for the destination");
    }
}
