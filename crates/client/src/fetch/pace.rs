//! Limits the requests under way on a connection: as many as the line needs, fewer when the server has
//! trouble.
//!
//! It begins with [`START`] and rises as long as it is the bottleneck: then a whole window is answered in
//! hardly more than one round trip. Where the server, the line or this machine is the bottleneck, windows
//! take longer and it stays. Trouble halves it; each window restores one request.

use tokio::time::{Duration, Instant};

/// Requests under way on a new connection.
pub(super) const START: usize = 16;

/// With a shorter round trip more requests gain nothing.
const NEAR: Duration = Duration::from_millis(5);

/// The pace of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    now: usize,
    most: usize,
    /// The shortest time from a request to its answer so far.
    round_trip: Option<Duration>,
    /// Answers in the present window, and when it began.
    answers: usize,
    since: Option<Instant>,
}

impl Pace {
    /// At most `most` requests and at least one.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self { now: START.min(most), most, round_trip: None, answers: 0, since: None }
    }

    /// Number of requests that may be under way.
    pub(super) fn requests(&self) -> usize {
        self.now
    }

    /// Records an answer to a request that was sent at `sent`.
    pub(super) fn answered(&mut self, sent: Instant, now: Instant) {
        let took = now.saturating_duration_since(sent);
        let round_trip = self.round_trip.map_or(took, |known| known.min(took));
        self.round_trip = Some(round_trip);
        let since = *self.since.get_or_insert(now);
        self.answers += 1;
        if self.answers <= self.now {
            return;
        }
        // A window: as many answers as requests may be under way, counted from the answer before them.
        let window = now.saturating_duration_since(since);
        (self.answers, self.since) = (1, Some(now));
        if self.now < START.min(self.most) {
            self.now += 1;
        } else if round_trip >= NEAR && window < round_trip + round_trip / 4 {
            self.now = (self.now + (self.now / 2).max(1)).min(self.most);
        }
    }

    /// The server is overloaded, or the connection broke.
    pub(super) fn slow_down(&mut self) {
        self.now = (self.now / 2).max(1);
        (self.answers, self.since) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates a while on a line with this round trip (ms) and a server that takes this time (µs) for each
    /// request.
    fn keep(pace: &mut Pace, round_trip: u64, each: u64, windows: usize) {
        let mut now = Instant::now();
        for _ in 0..windows {
            let under_way = pace.requests();
            let (round_trip, each) = (Duration::from_millis(round_trip), Duration::from_micros(each));
            // All requests are sent at once, and the answers come one after the other.
            let sent = now;
            now += round_trip;
            for _ in 0..under_way {
                now += each;
                pace.answered(sent, now);
            }
        }
    }

    #[test]
    fn a_long_line_takes_as_much_as_is_allowed() {
        let mut pace = Pace::new(32);
        keep(&mut pace, 40, 10, 12);
        assert_eq!(pace.requests(), 32);
    }

    #[test]
    fn a_slow_server_or_a_near_one_is_not_asked_for_more() {
        for (round_trip, each) in [(40, 5_000), (1, 10), (0, 100)] {
            let mut pace = Pace::new(32);
            keep(&mut pace, round_trip, each, 12);
            assert_eq!(pace.requests(), START, "{round_trip} ms, {each} µs");
        }
    }

    #[test]
    fn trouble_halves_it_and_it_comes_back_one_by_one() {
        let mut pace = Pace::new(32);
        pace.slow_down();
        assert_eq!(pace.requests(), 8);
        (0..9).for_each(|_| pace.slow_down());
        assert_eq!(pace.requests(), 1);
        keep(&mut pace, 1, 10, 8);
        assert!((2..START).contains(&pace.requests()), "{}", pace.requests());
        keep(&mut pace, 1, 10, 40);
        assert_eq!(pace.requests(), START);
    }

    #[test]
    fn the_users_limit_holds() {
        assert_eq!(Pace::new(0).requests(), 1);
        assert_eq!(Pace::new(4).requests(), 4);
        assert_eq!(Pace::new(64).requests(), START);
    }
}
