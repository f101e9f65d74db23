//! How many connections a run may have open: as many as the options allow, fewer after trouble, more again once it has
//! passed.
//!
//! Trouble (an overload, a refusal, a broken connection) halves the number, once for all that was under way when it
//! began: a server that restarts breaks every connection at once, and that is one trouble. Each calm stretch in which
//! contents came gives one connection back. Nothing here opens or closes one: the run opens as long as there is room,
//! and a connection that is one too many leaves by itself when what it has under way is done.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// The number for a run, shared by its connections.
#[derive(Debug)]
pub(super) struct Limit {
    inner: Mutex<Inner>,
    /// One more is allowed.
    raised: Notify,
    most: usize,
}

#[derive(Debug)]
struct Inner {
    now: usize,
    /// Connections that are open or being made, without those that were let go.
    open: usize,
    /// What was asked for before this belongs to trouble that is known already.
    halved: Option<Instant>,
    /// Since when nothing went wrong and nothing was added.
    calm_since: Option<Instant>,
    /// How long it must be calm for one more.
    calm: Duration,
    /// One more was allowed, and none was given up since.
    raised: bool,
}

impl Limit {
    /// At most so many, and one at least; one more for each `calm` without trouble.
    pub(super) fn new(most: usize, calm: Duration) -> Self {
        let most = most.max(1);
        let inner = Inner { now: most, open: 0, halved: None, calm_since: None, calm, raised: false };
        Self { inner: Mutex::new(inner), raised: Notify::new(), most }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many may be open.
    pub(super) fn connections(&self) -> usize {
        self.lock().now
    }

    /// Waits until one more was allowed since it was last waited for.
    pub(super) async fn raised(&self) {
        self.raised.notified().await;
    }

    /// A connection is about to be made.
    pub(super) fn opening(&self) {
        self.lock().open += 1;
    }

    /// A connection that was not let go has ended.
    pub(super) fn ended(&self) {
        let mut inner = self.lock();
        inner.open = inner.open.saturating_sub(1);
    }

    /// Lets the connection that asks go, if there are too many. One always stays.
    pub(super) fn lets_go(&self) -> bool {
        let mut inner = self.lock();
        let too_many = inner.open > inner.now;
        inner.open -= usize::from(too_many);
        too_many
    }

    /// Takes the connection that asks out of the account, as ended, if there is another one; whether there was. That
    /// other one is not let go then, so that there is always one that goes on.
    pub(super) fn leaves_to_others(&self) -> bool {
        let mut inner = self.lock();
        let has_others = inner.open > 1;
        inner.open -= usize::from(has_others);
        has_others
    }

    /// Something went wrong with a request that was sent at `asked`.
    pub(super) fn trouble(&self, asked: Instant, now: Instant) {
        let mut inner = self.lock();
        inner.calm_since = Some(now);
        if inner.halved.is_none_or(|halved| asked > halved) {
            // Half of what there is, not of what there might be.
            inner.now = (inner.now.min(inner.open) / 2).max(1);
            inner.halved = Some(now);
        }
    }

    /// A connection was given up and `others` are left: no more than those for now. If that comes of trying one more,
    /// the next attempt takes twice as long to come.
    pub(super) fn gave_up(&self, others: usize, now: Instant) {
        let mut inner = self.lock();
        inner.now = inner.now.min(others).max(1);
        if std::mem::take(&mut inner.raised) {
            inner.calm = inner.calm.saturating_mul(2);
        }
        inner.calm_since = Some(now);
    }

    /// Something was answered well.
    pub(super) fn answered(&self, now: Instant) {
        let mut inner = self.lock();
        if inner.now >= self.most {
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
        let (limit, begin) = limit(8);
        let second = |seconds| begin + Duration::from_secs(seconds);
        for _ in 0..8 {
            limit.trouble(second(0), second(1));
        }
        assert_eq!(limit.connections(), 4);
        assert_eq!((0..8).filter(|_| limit.lets_go()).count(), 4);
        // Asked for after the first trouble was known.
        for asked in 2..9 {
            limit.trouble(second(asked), second(asked));
        }
        assert_eq!(limit.connections(), 1);
        assert_eq!((0..8).filter(|_| limit.lets_go()).count(), 3);
        assert!(!limit.leaves_to_others());
    }

    #[test]
    fn of_two_connections_one_leaves_and_the_other_stays() {
        let (limit, begin) = limit(2);
        limit.trouble(begin, begin);
        assert!(limit.leaves_to_others());
        assert!(!limit.lets_go());
        assert!(!limit.leaves_to_others());
    }

    #[test]
    fn half_is_half_of_the_connections_that_are_open() {
        let limit = Limit::new(8, CALM);
        limit.opening();
        limit.opening();
        limit.trouble(Instant::now(), Instant::now());
        assert_eq!(limit.connections(), 1);
        assert!(limit.lets_go());
    }

    #[test]
    fn each_calm_stretch_with_answers_gives_one_back_up_to_what_is_allowed() {
        let (limit, begin) = limit(4);
        limit.trouble(begin, begin);
        let mut grown = Vec::new();
        for seconds in 0..40 {
            limit.answered(begin + Duration::from_secs(seconds));
            grown.push(limit.connections());
        }
        assert_eq!((grown[0], grown[7], grown[8], grown[15], grown[16], grown[39]), (2, 2, 3, 3, 4, 4));
    }

    #[test]
    fn trouble_begins_the_stretch_anew_also_where_it_does_not_halve() {
        let (limit, begin) = limit(4);
        let second = |seconds| begin + Duration::from_secs(seconds);
        limit.trouble(begin, second(1));
        limit.trouble(begin, second(7));
        limit.answered(second(10));
        assert_eq!(limit.connections(), 2);
        limit.answered(second(15));
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
            limit.answered(second(too_early));
            assert_eq!(limit.connections(), 2, "second {too_early}");
            limit.answered(second(late_enough));
            assert_eq!(limit.connections(), 3, "second {late_enough}");
            limit.gave_up(2, second(late_enough));
        }
    }

    #[test]
    fn one_connection_is_always_allowed() {
        let (limit, begin) = limit(0);
        limit.opening();
        limit.trouble(begin, begin);
        limit.gave_up(0, begin);
        assert_eq!(limit.connections(), 1);
        assert!(!limit.lets_go());
    }
}
