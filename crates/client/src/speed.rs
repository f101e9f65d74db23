//! The least speed of a run: bytes from the server over all connections together while an answer is due and
//! this side reads.
//!
//! Time in which nobody waits (contents are written, a pause is made, a connection idles) does not count, so
//! a slow destination is not mistaken for a slow server. The counted time is cut into ten parts; when ten are
//! full and their bytes are too few, the run ends.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::error::ClientError;

/// Number of parts of the measuring period: a server that becomes too slow is noticed at most one part after
/// the period.
const PARTS: u32 = 10;

/// The speed of a run, shared by its connections.
pub(crate) struct Speed {
    /// Bytes a second; 0 allows any speed.
    least: u64,
    over: Duration,
    clock: Arc<dyn Clock>,
    /// An entry of a listing arrived in this run.
    has_listed: AtomicBool,
    inner: Mutex<Measured>,
}

struct Measured {
    /// Connections that wait for something that is due.
    waiting: usize,
    /// When the account was last updated.
    at: Instant,
    /// Time waited and bytes received in the present part.
    waited: Duration,
    bytes: u64,
    /// Bytes of the earlier parts, at most [`PARTS`].
    parts: VecDeque<u64>,
}

/// A connection counts as waiting as long as this lives.
pub(crate) struct Waiting {
    speed: Arc<Speed>,
    /// Bytes received and not yet counted elsewhere.
    pub(crate) received: u64,
}

impl Speed {
    /// At least `least` bytes a second over each period of `over`; 0 for any speed.
    pub(crate) fn new(least: u64, over: Duration, clock: Arc<dyn Clock>) -> Self {
        let inner = Measured {
            waiting: 0,
            at: clock.steady(),
            waited: Duration::ZERO,
            bytes: 0,
            parts: VecDeque::new(),
        };
        let (over, has_listed) = (over.max(Duration::from_millis(1)), AtomicBool::new(false));
        Self { least, over, clock, has_listed, inner: Mutex::new(inner) }
    }

    /// True once the first entry of the run's listing arrived. Only before that may a server take its time to
    /// search; a server that breaks off the listing repeatedly does not get that time again.
    pub(crate) fn has_listed(&self) -> bool {
        self.has_listed.load(Ordering::Relaxed)
    }

    /// Records that an entry of a listing arrived.
    pub(crate) fn listed(&self) {
        self.has_listed.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> Duration {
        self.over / PARTS
    }

    /// Longest wait of a connection before it checks the speed again.
    pub(crate) fn look_after(&self) -> Duration {
        if self.least == 0 { Duration::MAX } else { self.part() }
    }

    /// A connection begins to wait for something that is due, having received `bytes` since its last report.
    pub(crate) fn wait(self: &Arc<Self>, bytes: u64) -> Waiting {
        let mut inner = self.lock();
        inner.bytes += bytes;
        inner.advance(self.clock.steady(), self.part());
        inner.waiting += 1;
        drop(inner);
        Waiting { speed: Arc::clone(self), received: 0 }
    }

    /// Adds bytes, and checks whether they are enough.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), ClientError> {
        let mut inner = self.lock();
        inner.bytes += bytes;
        inner.advance(self.clock.steady(), self.part());
        if self.least == 0 {
            return Ok(());
        }
        let wanted = self.least.saturating_mul(self.over.as_secs().max(1));
        if inner.parts.len() < PARTS as usize || inner.parts.iter().sum::<u64>() >= wanted {
            return Ok(());
        }
        // A caller that continues in spite of it starts a new measurement.
        inner.parts.clear();
        Err(ClientError::TooSlow { least: self.least, over: self.over })
    }
}

impl Measured {
    fn advance(&mut self, now: Instant, part: Duration) {
        if self.waiting > 0 {
            self.waited += now.saturating_duration_since(self.at);
        }
        self.at = now;
        for _ in 0..PARTS {
            if self.waited < part {
                return;
            }
            self.waited -= part;
            if self.parts.len() == PARTS as usize {
                self.parts.pop_front();
            }
            self.parts.push_back(std::mem::take(&mut self.bytes));
        }
        self.waited = self.waited.min(part);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.speed.lock();
        inner.bytes += self.received;
        inner.advance(self.speed.clock.steady(), self.speed.part());
        inner.waiting = inner.waiting.saturating_sub(1);
    }
}

impl fmt::Debug for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speed").field("least", &self.least).field("over", &self.over).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::clock::SystemClock;

    const OVER: Duration = Duration::from_secs(600);

    fn speed() -> Arc<Speed> {
        Arc::new(Speed::new(1024, OVER, Arc::new(SystemClock)))
    }

    /// Waits for so many minutes and receives so many bytes in each. Returns the minute in which it was too
    /// slow.
    async fn receive(speed: &Arc<Speed>, minutes: u64, bytes: u64) -> Option<u64> {
        for minute in 1..=minutes {
            let mut waiting = speed.wait(0);
            advance(Duration::from_secs(60)).await;
            waiting.received = bytes;
            drop(waiting);
            if speed.check(0).is_err() {
                return Some(minute);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_too_slow_after_ten_minutes() {
        assert_eq!(receive(&speed(), 100, 1).await, Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_becomes_slow_is_noticed_within_twice_the_time() {
        let speed = speed();
        assert_eq!(receive(&speed, 100, 1 << 20).await, None);
        let minute = receive(&speed, 100, 0).await.unwrap();
        assert!(minute <= 12, "{minute}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_speed_itself_is_enough() {
        assert_eq!(receive(&speed(), 1000, 60 * 1024).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let speed = speed();
        for _ in 0..1000 {
            advance(OVER).await;
            speed.check(1).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_wait_at_once_wait_once() {
        let speed = speed();
        let waiting: Vec<_> = (0..10).map(|_| speed.wait(0)).collect();
        advance(OVER - Duration::from_secs(1)).await;
        speed.check(0).unwrap();
        drop(waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn any_speed_is_enough_when_the_least_is_none() {
        let speed = Arc::new(Speed::new(0, OVER, Arc::new(SystemClock)));
        assert_eq!(receive(&speed, 1000, 0).await, None);
    }
}
