//! The end of an invocation: when it stops beginning new work, and when it drops everything.
//!
//! Lambda kills a function at its deadline. Some time before, the runs are cancelled, so that requests in
//! flight can end and be recorded; shortly before it, unfinished work is dropped, so that there always is an
//! answer. Half of the remaining time is for releasing leases and recording progress, and a quarter for
//! invoking the next step.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::TIMEOUT_BUFFER;

/// The largest part of an invocation that is kept for its end.
const BUFFER_PART: u32 = 5;
/// The smallest part of the buffer that is kept for the answer.
const ANSWER_PART: u32 = 5;
/// The part of the buffer in which work under way may end; the rest is for recording it.
const GRACE_PART: u32 = 2;
/// The longest time for an answer.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The shortest time for an answer, also with a short buffer.
const ANSWER_LEAST: Duration = Duration::from_millis(300);
/// The largest part of the buffer that is kept for the answer: less than the part after the grace.
const ANSWER_MOST_PART: u32 = 3;

/// The end of an invocation.
#[derive(Debug)]
pub(crate) struct Deadline {
    stop: CancellationToken,
    /// When it is cancelled.
    stop_at: Instant,
    grace: Duration,
    over: Instant,
    /// When the function is killed, by the clock.
    killed: SystemTime,
    /// Time from `over` until the function is killed.
    answer: Duration,
    clock: AbortHandle,
}

impl Deadline {
    /// For an invocation that is killed at `deadline_ms`, milliseconds since the epoch. Call it within a
    /// runtime.
    pub(crate) fn at(deadline_ms: u64, buffer: Option<Duration>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Deadline::after(Duration::from_millis(deadline_ms).saturating_sub(now), buffer)
    }

    /// For an invocation that is killed when `left` has passed.
    fn after(left: Duration, buffer: Option<Duration>) -> Self {
        let begun = Instant::now();
        let buffer = buffer_for(left, buffer);
        let stop = CancellationToken::new();
        let (at, token) = (begun + left.saturating_sub(buffer), stop.clone());
        let clock = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            tracing::info!(?buffer, "the time of this invocation is almost over: nothing new is begun");
            token.cancel();
        });
        let answer = answer_for(buffer);
        let over = begun + left.saturating_sub(answer);
        Deadline {
            stop,
            stop_at: at,
            grace: buffer / GRACE_PART,
            over,
            killed: SystemTime::now() + left,
            answer,
            clock: clock.abort_handle(),
        }
    }

    /// Cancelled when no new work may begin.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// When the function is killed.
    pub(crate) fn killed(&self) -> SystemTime {
        self.killed
    }

    /// The deadline for publishing work under way.
    pub(crate) fn published(&self) -> Instant {
        self.over.min(self.stop_at + self.grace)
    }

    /// Time until no new work may begin.
    pub(crate) fn left(&self) -> Duration {
        self.stop_at.saturating_duration_since(Instant::now())
    }

    /// Returns when unfinished work must be dropped.
    pub(crate) async fn over(&self) {
        tokio::time::sleep_until(self.over).await;
    }

    /// The deadline for dropped work to end; after that, ends are recorded all the same.
    pub(crate) fn ends_recorded(&self) -> Instant {
        self.over + self.answer / 4
    }

    /// The deadline for releasing leases and recording ends, one vault after the other.
    pub(crate) fn farewell(&self) -> Instant {
        self.over + self.answer / 2
    }

    /// The deadline for invoking the next step; the rest is for the answer alone.
    pub(crate) fn last_call(&self) -> Instant {
        self.over + self.answer * 3 / 4
    }
}

impl Drop for Deadline {
    /// The timer must not run on in the next invocation.
    fn drop(&mut self) {
        self.clock.abort();
    }
}

/// An invocation of this length stops that long before its end: 30 s, or a fifth of the time when that is
/// less. A set value is used as far as half of the time is left to work in.
fn buffer_for(left: Duration, set: Option<Duration>) -> Duration {
    match set {
        Some(buffer) => buffer.min(left / 2),
        None => TIMEOUT_BUFFER.min(left / BUFFER_PART),
    }
}

/// The part of a buffer that is kept for the answer.
fn answer_for(buffer: Duration) -> Duration {
    (buffer / ANSWER_PART).clamp(ANSWER_LEAST, ANSWER_LIMIT).min(buffer / ANSWER_MOST_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_buffer_is_half_a_minute_or_a_fifth_of_the_time() {
        for (left, buffer) in [(900, 30), (150, 30), (100, 20), (5, 1), (0, 0)] {
            assert_eq!(buffer_for(seconds(left), None), seconds(buffer));
        }
    }

    #[test]
    fn a_buffer_that_was_set_leaves_half_of_the_time() {
        for (left, set, buffer) in [(900, 60, 60), (10, 3, 3), (10, 30, 5), (10, 0, 0)] {
            assert_eq!(buffer_for(seconds(left), Some(seconds(set))), seconds(buffer));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn first_nothing_new_is_begun_then_everything_is_dropped() {
        let begun = Instant::now();
        let deadline = Deadline::after(seconds(100), None);
        deadline.stop().cancelled().await;
        assert_eq!(begun.elapsed().as_secs(), 80);
        assert_eq!(deadline.published() - begun, seconds(90));
        deadline.over().await;
        assert_eq!(begun.elapsed().as_secs(), 98);
        assert_eq!(deadline.farewell() - begun, seconds(99));
        assert!(deadline.last_call() > deadline.farewell() && deadline.last_call() < begun + seconds(100));
    }

    #[test]
    fn a_short_buffer_leaves_enough_for_the_answer() {
        for (buffer, answer) in [(30_000, 2000), (5000, 1000), (1000, 300), (600, 200), (0, 0)] {
            assert_eq!(answer_for(Duration::from_millis(buffer)), Duration::from_millis(answer), "{buffer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_one_invocation_does_not_reach_into_the_next() {
        let first = Deadline::after(seconds(100), None);
        let stop = first.stop().clone();
        drop(first);
        tokio::time::sleep(seconds(1000)).await;
        assert!(!stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_the_past_stops_at_once() {
        let deadline = Deadline::at(0, None);
        deadline.stop().cancelled().await;
        deadline.over().await;
    }
}
