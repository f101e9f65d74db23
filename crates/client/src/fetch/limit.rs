//! Limits the connections of a run: [`START`] at first, more up to the options' number while each one more
//! raises the rate (see [`growth`](super::growth)), fewer after trouble, more again once it has passed.
//!
//! Trouble (an overload, a refusal, a broken connection) halves the number, once for all requests under way
//! when it began: a restarting server breaks every connection at once, and that counts as one trouble. Each
//! calm stretch in which contents arrived gives one connection back, up to the number at the start. Nothing
//! here opens or closes a connection: the run opens as long as there is room, and a surplus connection leaves
//! by itself when its requests are done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};
use tracing::debug;

use super::growth::{Decision, Growth, Sample};

/// Connections at the start of a run, if the options allow so many.
pub(super) const START: usize = 4;

/// The limit of a run, shared by its connections.
#[derive(Debug)]
pub(super) struct Limit {
    inner: Mutex<LimitInner>,
    /// One more is allowed.
    raised: Notify,
    start: usize,
}

#[derive(Debug)]
struct LimitInner {
    now: usize,
    /// The limit without trouble: the number at the start and those added since.
    ceiling: usize,
    growth: Growth,
    /// Connections that are open or being opened, without those that were let go.
    open: usize,
    /// Connections that received a content and have not ended.
    serving: usize,
    /// Failures of requests sent before this time belong to trouble that is counted already.
    halved: Option<Instant>,
    /// Since when nothing went wrong and nothing was added.
    calm_since: Option<Instant>,
    /// Calm time after which one more connection is allowed.
    calm: Duration,
    /// One more was allowed, and none was given up since.
    raised: bool,
}

impl Limit {
    /// At most `most` connections and at least one; after trouble one more for each calm period of `calm`.
    pub(super) fn new(most: usize, calm: Duration) -> Self {
        let most = most.max(1);
        let start = most.min(START);
        let inner = LimitInner {
            now: start,
            ceiling: start,
            growth: Growth::new(most),
            open: 0,
            serving: 0,
            halved: None,
            calm_since: None,
            calm,
            raised: false,
        };
        Self { inner: Mutex::new(inner), raised: Notify::new(), start }
    }

    fn lock(&self) -> MutexGuard<'_, LimitInner> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of connections that may be open.
    pub(super) fn connections(&self) -> usize {
        self.lock().now
    }

    /// Waits until one more was allowed since the last call.
    pub(super) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// A connection is about to be opened.
    pub(super) fn opening(&self) {
        self.lock().open += 1;
    }

    /// A connection that was not let go has ended.
    pub(super) fn ended(&self) {
        let mut inner = self.lock();
        inner.open = inner.open.saturating_sub(1);
    }

    /// A connection received its first content.
    pub(super) fn serving(&self) {
        self.lock().serving += 1;
    }

    /// A connection that received contents has ended.
    pub(super) fn served(&self) {
        let mut inner = self.lock();
        inner.serving = inner.serving.saturating_sub(1);
    }

    /// True while added connections are being measured.
    pub(super) fn is_attempting(&self) -> bool {
        self.lock().growth.attempted_from().is_some()
    }

    /// Lets the calling connection go, if there are too many. One always stays.
    pub(super) fn lets_go(&self) -> bool {
        let mut inner = self.lock();
        let too_many = inner.open > inner.now;
        inner.open -= usize::from(too_many);
        too_many
    }

    /// Counts the calling connection as ended if there is another one. Returns true if there is. The other
    /// one is not let go then, so that one connection always remains.
    pub(super) fn leaves_to_others(&self) -> bool {
        let mut inner = self.lock();
        let has_others = inner.open > 1;
        inner.open -= usize::from(has_others);
        has_others
    }

    /// Something went wrong with a request that was sent at `asked`.
    pub(super) fn slow_down(&self, asked: Instant, now: Instant) {
        let mut inner = self.lock();
        inner.calm_since = Some(now);
        if inner.halved.is_none_or(|halved| asked > halved) {
            // Half of the open ones, not of the allowed ones.
            inner.now = (inner.now.min(inner.open) / 2).clamp(1, self.start);
            inner.halved = Some(now);
            inner.ceiling = self.start;
            inner.growth.fail(now);
        }
    }

    /// A connection was given up and `others` are left: allow no more than those for now. If it was an
    /// attempt at one more, the next attempt waits twice as long.
    pub(super) fn gave_up(&self, others: usize, now: Instant) {
        let mut inner = self.lock();
        if let Some(from) = inner.growth.attempted_from() {
            // The earlier connections are in order.
            inner.growth.fail(now);
            inner.ceiling = from;
            inner.now = inner.now.min(from).min(others).max(1);
            return;
        }
        inner.now = inner.now.min(others).max(1);
        if std::mem::take(&mut inner.raised) {
            inner.calm = inner.calm.saturating_mul(2);
        }
        inner.calm_since = Some(now);
    }

    /// A content of this many bytes arrived.
    pub(super) fn answered(&self, bytes: u64, now: Instant) {
        let mut inner = self.lock();
        if inner.now >= inner.ceiling {
            if inner.grow(bytes, now) {
                drop(inner);
                self.raised.notify_one();
            }
            return;
        }
        let since = *inner.calm_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= inner.calm {
            inner.now += 1;
            inner.raised = true;
            inner.calm_since = Some(now);
            drop(inner);
            self.raised.notify_one();
        }
    }
}

impl LimitInner {
    /// Adjusts the number by the measured rate. Returns true if more are allowed now.
    fn grow(&mut self, bytes: u64, at: Instant) -> bool {
        let sample = Sample { serving: self.serving, allowed: self.now, bytes, at };
        let decision = self.growth.answered(sample);
        let (Decision::Add(number) | Decision::Drop(number)) = decision else {
            return false;
        };
        debug!(before = self.now, now = number, "the number of connections follows the service");
        (self.now, self.ceiling) = (number, number);
        matches!(decision, Decision::Add(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Duration = Duration::from_secs(8);

    /// A run with so many connections open, and when it began.
    fn limit(most: usize) -> (Limit, Instant) {
        let limit = Limit::new(most, CALM);
        (0..most).for_each(|_| limit.opening());
        (limit, Instant::now())
    }

    #[test]
    fn trouble_halves_it_once_for_all_that_was_under_way() {
        let (limit, begin) = limit(4);
        let second = |seconds| begin + Duration::from_secs(seconds);
        for _ in 0..4 {
            limit.slow_down(second(0), second(1));
        }
        assert_eq!(limit.connections(), 2);
        assert_eq!((0..4).filter(|_| limit.lets_go()).count(), 2);
        // Requested after the first trouble was known.
        for asked in 2..9 {
            limit.slow_down(second(asked), second(asked));
        }
        assert_eq!(limit.connections(), 1);
        assert_eq!((0..4).filter(|_| limit.lets_go()).count(), 1);
        assert!(!limit.leaves_to_others());
    }

    #[test]
    fn of_two_connections_one_leaves_and_the_other_stays() {
        let (limit, begin) = limit(2);
        limit.slow_down(begin, begin);
        assert!(limit.leaves_to_others());
        assert!(!limit.lets_go());
        assert!(!limit.leaves_to_others());
    }

    #[test]
    fn half_is_half_of_the_connections_that_are_open() {
        let limit = Limit::new(8, CALM);
        limit.opening();
        limit.opening();
        limit.slow_down(Instant::now(), Instant::now());
        assert_eq!(limit.connections(), 1);
        assert!(limit.lets_go());
    }

    #[test]
    fn each_calm_stretch_with_answers_gives_one_back_up_to_what_is_allowed() {
        let (limit, begin) = limit(4);
        limit.slow_down(begin, begin);
        let mut grown = Vec::new();
        for seconds in 0..40 {
            limit.answered(0, begin + Duration::from_secs(seconds));
            grown.push(limit.connections());
        }
        assert_eq!((grown[0], grown[7], grown[8], grown[15], grown[16], grown[39]), (2, 2, 3, 3, 4, 4));
    }

    #[test]
    fn trouble_begins_the_stretch_anew_also_where_it_does_not_halve() {
        let (limit, begin) = limit(4);
        let second = |seconds| begin + Duration::from_secs(seconds);
        limit.slow_down(begin, second(1));
        limit.slow_down(begin, second(7));
        limit.answered(0, second(10));
        assert_eq!(limit.connections(), 2);
        limit.answered(0, second(15));
        assert_eq!(limit.connections(), 3);
    }

    #[test]
    fn one_more_that_cannot_be_had_is_tried_later_each_time() {
        let (limit, begin) = limit(4);
        let second = |seconds| begin + Duration::from_secs(seconds);
        // Several are given up at the beginning.
        limit.gave_up(3, second(0));
        limit.gave_up(2, second(0));
        for (too_early, late_enough) in [(7, 8), (23, 24), (55, 56)] {
            limit.answered(0, second(too_early));
            assert_eq!(limit.connections(), 2, "second {too_early}");
            limit.answered(0, second(late_enough));
            assert_eq!(limit.connections(), 3, "second {late_enough}");
            limit.gave_up(2, second(late_enough));
        }
    }

    /// A run with ten connections, six of which were added because each raised the rate, and the time of the
    /// last addition.
    fn grown() -> (Limit, Instant) {
        let (limit, mut now) = (Limit::new(10, CALM), Instant::now());
        let mut serving = 0;
        while serving < 10 {
            while serving < limit.connections() {
                limit.opening();
                limit.serving();
                serving += 1;
            }
            now += Duration::from_millis(20);
            (0..serving).for_each(|_| limit.answered(0, now));
            assert!(limit.connections() >= START);
        }
        (limit, now)
    }

    #[test]
    fn connections_are_added_while_they_raise_the_rate() {
        let (limit, begin) = grown();
        assert_eq!((limit.connections(), limit.lets_go()), (10, false));
        assert!(begin.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn added_connections_are_given_back_at_the_first_trouble() {
        let (limit, begin) = grown();
        let later = begin + Duration::from_millis(1);
        limit.slow_down(later, later);
        assert_eq!(limit.connections(), START);
        assert_eq!((0..10).filter(|_| limit.lets_go()).count(), 10 - START);
    }

    #[test]
    fn an_added_connection_that_cannot_be_had_costs_none_of_the_others() {
        let (limit, mut now) = (Limit::new(10, CALM), Instant::now());
        for _ in 0..START {
            limit.opening();
            limit.serving();
        }
        while limit.connections() == START {
            now += Duration::from_millis(20);
            (0..START).for_each(|_| limit.answered(0, now));
        }
        limit.opening();
        assert!(limit.is_attempting() && limit.leaves_to_others());
        limit.gave_up(START, now);
        assert_eq!((limit.connections(), limit.is_attempting()), (START, false));
        assert!(!limit.lets_go());
    }

    #[test]
    fn one_connection_is_always_allowed() {
        let (limit, begin) = limit(0);
        limit.opening();
        limit.slow_down(begin, begin);
        limit.gave_up(0, begin);
        assert_eq!(limit.connections(), 1);
        assert!(!limit.lets_go());
    }
}
