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
        let (by_wall, passed) = self.passed();
        has_jumped(by_wall, passed)
    }

    /// The same over any time. It cannot tell a stopped process from a working one.
    pub(crate) fn has_slept(&self) -> bool {
        let (by_wall, passed) = self.passed();
        is_off(by_wall, passed)
    }

    /// Time since the last call, by the wall clock and by the steady one.
    fn passed(&self) -> (Duration, Duration) {
        let now = (self.clock.wall(), self.clock.steady());
        // Nothing that can panic runs under the lock.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall, steady) = std::mem::replace(&mut *seen, now);
        (now.0.duration_since(wall).unwrap_or_default(), now.1.duration_since(steady))
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

/// True if the computer slept, the process was stopped, or the clock was set during a [`TICK`]: compares the
/// time passed by the wall clock with that of the steady one.
fn has_jumped(by_wall: Duration, passed: Duration) -> bool {
    is_off(by_wall, passed) || passed > TICK + JUMP
}

fn is_off(by_wall: Duration, passed: Duration) -> bool {
    by_wall.abs_diff(passed) > JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_a_stop_and_a_set_clock_are_jumps_and_a_busy_machine_is_none() {
        let seconds = Duration::from_secs;
        assert!(has_jumped(seconds(600), TICK), "slept, with a steady clock that stood still");
        assert!(has_jumped(seconds(600), seconds(600)), "stopped");
        assert!(has_jumped(Duration::ZERO, TICK + JUMP), "the clock was set back");
        assert!(has_jumped(seconds(45), TICK), "the clock was set forward");
        assert!(!has_jumped(TICK, TICK) && !has_jumped(seconds(35), seconds(38)));
        assert!(!has_jumped(Duration::ZERO, TICK), "a second was set back");
    }
}
