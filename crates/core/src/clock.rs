//! Detects unseen time: the computer slept, the process was stopped, or the clock was set.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use obsync_client::Clock;

/// Interval at which the wall clock is compared with the steady one.
const TICK: Duration = Duration::from_secs(10);
/// A larger difference is a jump of the wall clock.
const JUMP: Duration = Duration::from_secs(30);

/// Compares the wall clock and the steady clock repeatedly.
pub(crate) struct ClockWatch<'c> {
    clock: &'c dyn Clock,
    seen: Mutex<(SystemTime, Instant)>,
}

impl<'c> ClockWatch<'c> {
    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        ClockWatch { clock, seen: Mutex::new((clock.wall(), clock.steady())) }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.steady()
    }

    /// Sleeps by this clock.
    pub(crate) async fn sleep(&self, pause: Duration) {
        self.clock.sleep(pause).await;
    }

    /// Starts anew and ignores everything before.
    pub(crate) fn begin(&self) {
        self.passed();
    }

    /// True if unseen time passed since the last call. To be called every [`TICK`].
    pub(crate) fn has_jumped(&self) -> bool {
        self.passed().has_jumped()
    }

    /// The same over any time. It cannot tell a stopped process from a working one.
    pub(crate) fn has_slept(&self) -> bool {
        self.passed().is_off()
    }

    /// Time since the last call.
    fn passed(&self) -> Passed {
        let now = (self.clock.wall(), self.clock.steady());
        // Nothing that can panic runs under the lock.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, steady) = std::mem::replace(&mut *seen, now);
        Passed::between((wall, steady), now)
    }

    /// Returns once unseen time has passed.
    pub(crate) async fn jumps(&self) {
        loop {
            self.sleep(TICK).await;
            if self.has_jumped() {
                return;
            }
        }
    }
}

/// Returns once unseen time has passed: the computer slept, the process was stopped, or the clock was set.
pub async fn unseen_time(clock: &dyn Clock) {
    ClockWatch::new(clock).jumps().await;
}

/// Time between two looks at the clocks.
#[derive(Clone, Copy, Debug)]
struct Passed {
    steady: Duration,
    /// Difference between the wall clock and the steady one.
    off: Duration,
}

impl Passed {
    fn between(before: (SystemTime, Instant), now: (SystemTime, Instant)) -> Self {
        let steady = now.1.duration_since(before.1);
        let off = match now.0.duration_since(before.0) {
            Ok(by_wall) => by_wall.abs_diff(steady),
            // The clock was set back.
            Err(back) => back.duration() + steady,
        };
        Passed { steady, off }
    }

    /// True if the computer slept, the process was stopped, or the clock was set during a [`TICK`].
    fn has_jumped(self) -> bool {
        self.is_off() || self.steady > TICK + JUMP
    }

    fn is_off(self) -> bool {
        self.off > JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// True if this is a jump: seconds by the wall clock, which may be set back, and by the steady one.
    fn jumped(by_wall: i64, by_steady: u64) -> bool {
        let (wall, steady) = (SystemTime::now(), Instant::now());
        let by = Duration::from_secs(by_wall.unsigned_abs());
        let later = if by_wall < 0 { wall - by } else { wall + by };
        Passed::between((wall, steady), (later, steady + Duration::from_secs(by_steady))).has_jumped()
    }

    #[test]
    fn a_sleep_a_stop_and_a_set_clock_are_jumps_and_a_busy_machine_is_none() {
        assert!(jumped(600, 10), "slept, with a steady clock that stood still");
        assert!(jumped(600, 600), "stopped");
        assert!(jumped(45, 10), "the clock was set forward");
        assert!(jumped(-7200, 10), "the clock was set back by hours");
        assert!(jumped(-25, 10), "the clock was set back by 35 seconds");
        assert!(!jumped(10, 10) && !jumped(35, 38), "a tick, and a late one");
        assert!(!jumped(0, 10) && !jumped(-5, 10), "the clock was set back by some seconds");
    }
}
