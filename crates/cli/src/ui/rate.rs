//! Transfer rate of a pull: a moving average, and the remaining time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The period of the average.
const WINDOW: Duration = Duration::from_secs(10);
/// Without a byte or a file for this long, the transfer counts as stalled.
const STILL_AFTER: Duration = Duration::from_secs(3);
/// No estimate from a shorter period.
const LEAST_WINDOW: Duration = Duration::from_secs(2);

/// A finished or remaining amount of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Amount {
    fn since(self, earlier: Amount) -> Amount {
        Amount {
            files: self.files.saturating_sub(earlier.files),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }
}

/// Amounts with times.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, Amount)>,
    moved: Option<Instant>,
}

impl Rate {
    /// Records the finished amount at `now`.
    pub(super) fn note(&mut self, now: Instant, done: Amount) {
        let last = self.samples.back().map(|(_, amount)| *amount);
        if last.is_some_and(|last| done.since(last) != Amount::default()) {
            self.moved = Some(now);
        }
        self.samples.push_back((now, done));
        // The last one before the window stays: the window begins at it.
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second; `None` while stalled.
    pub(super) fn speed(&self, now: Instant) -> Option<u64> {
        let (time, gain) = self.gain(now)?;
        Some((gain.bytes as f64 / time.as_secs_f64()) as u64).filter(|speed| *speed > 0)
    }

    /// The estimated time until the end; `None` while stalled.
    pub(super) fn time_left(&self, now: Instant, left: Amount) -> Option<Duration> {
        let (time, gain) = self.gain(now)?;
        let share = |left: u64, gain: u64| match (left, gain) {
            (0, _) => Some(0.0),
            (_, 0) => None,
            (left, gain) => Some(left as f64 / gain as f64),
        };
        // Small files cost requests, large ones bytes: the slower of the two counts.
        let share = match (share(left.bytes, gain.bytes), share(left.files, gain.files)) {
            (Some(bytes), Some(files)) => bytes.max(files),
            (Some(share), None) | (None, Some(share)) => share,
            (None, None) => return None,
        };
        Duration::try_from_secs_f64(time.as_secs_f64() * share).ok()
    }

    fn gain(&self, now: Instant) -> Option<(Duration, Amount)> {
        let is_moving = self.moved.is_some_and(|moved| now.saturating_duration_since(moved) < STILL_AFTER);
        let ((begun, before), (_, after)) = (self.samples.front()?, self.samples.back()?);
        let time = now.saturating_duration_since(*begun);
        (is_moving && time >= LEAST_WINDOW).then(|| (time, after.since(*before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Simulates a pull with this many files and bytes each second, for this many seconds.
    fn steady(rate: &mut Rate, begun: Instant, each: Amount, until: u64) -> Instant {
        for second in 0..=until {
            let done = Amount { files: each.files * second, bytes: each.bytes * second };
            rate.note(begun + seconds(second), done);
        }
        begun + seconds(until)
    }

    #[test]
    fn speed_and_time_left_follow_the_last_seconds() {
        let (mut rate, begun) = (Rate::default(), Instant::now());
        let now = steady(&mut rate, begun, Amount { files: 2, bytes: 1000 }, 30);
        assert_eq!(rate.speed(now), Some(1000));
        assert_eq!(rate.time_left(now, Amount { files: 10, bytes: 60_000 }), Some(seconds(60)));
        assert_eq!(rate.time_left(now, Amount { files: 600, bytes: 60_000 }), Some(seconds(300)));
        assert!(rate.samples.len() < 15);
    }

    #[test]
    fn nothing_is_said_of_what_does_not_move() {
        let (mut rate, begun) = (Rate::default(), Instant::now());
        assert_eq!(rate.speed(begun), None);
        let now = steady(&mut rate, begun, Amount { files: 0, bytes: 1000 }, 5);
        let done = Amount { files: 0, bytes: 5000 };
        rate.note(now + seconds(2), done);
        assert!(rate.speed(now + seconds(2)).is_some());
        rate.note(now + seconds(3), done);
        assert_eq!(rate.speed(now + seconds(3)), None);
        assert_eq!(rate.time_left(now + seconds(3), done), None);
    }

    #[test]
    fn files_that_are_copied_have_a_time_but_no_speed() {
        let (mut rate, begun) = (Rate::default(), Instant::now());
        let now = steady(&mut rate, begun, Amount { files: 5, bytes: 0 }, 10);
        assert_eq!(rate.speed(now), None);
        assert_eq!(rate.time_left(now, Amount { files: 50, bytes: 0 }), Some(seconds(10)));
    }
}
