//! Limits the requests under way: as many as the line needs, fewer when the service has trouble.
//!
//! It begins with [`START`]. As long as that is the bottleneck, it tries half as many again, and keeps them
//! if answers take about as long as before: then round trips dominate, and more requests at a time get more
//! done. If answers take longer, the service, the line or this machine is the bottleneck, and it goes back
//! for a while. The measure is the median of as many answers as requests may be under way, of one
//! [sort](Sort), since some requests take longer than others by nature, and single ones by chance.
//!
//! Throttling and missing answers halve it, once for all requests that were under way then.

use std::time::{Duration, Instant};

/// Requests under way on a new service.
pub(super) const START: usize = 16;

/// With a shorter answer time more requests gain nothing.
const NEAR: Duration = Duration::from_millis(5);
/// Windows without a change after a try without gain, or after trouble.
const REST: usize = 16;

/// Requests that take about the same time on the same line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Looks at an object.
    Look,
    /// Transfers a small object.
    Put,
    /// Has the service copy an object.
    Copy,
    /// Anything else, of unpredictable duration: shows only that trouble has passed.
    Other,
}

const SORTS: usize = 4;

/// Answers to requests of one sort.
#[derive(Debug, Default)]
struct Window {
    took: Vec<Duration>,
    /// The limit was reached while the requests were under way.
    was_full: bool,
    /// The median of the previous window, with fewer requests under way.
    before: Option<Duration>,
}

/// The number of requests.
#[derive(Debug)]
pub(super) struct Pace {
    now: usize,
    most: usize,
    windows: [Window; SORTS],
    /// The number to return to if more are no gain.
    tried_from: Option<usize>,
    rest: usize,
    /// When the number changed. Requests sent before are not measured.
    since: Option<Instant>,
}

impl Pace {
    /// At most `most` requests and at least one.
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Pace {
            now: START.min(most),
            most,
            windows: Default::default(),
            tried_from: None,
            rest: 0,
            since: None,
        }
    }

    /// Number of requests that may be under way.
    pub(super) fn requests(&self) -> usize {
        self.now
    }

    /// Records the answer to a request that was sent at `sent`; `full`: the limit was reached then.
    pub(super) fn answered(&mut self, sort: Sort, sent: Instant, now: Instant, full: bool) {
        let has_recovered = self.now >= START.min(self.most);
        if self.since.is_some_and(|since| sent < since) || sort == Sort::Other && has_recovered {
            return;
        }
        let window = &mut self.windows[sort as usize];
        window.took.push(now.saturating_duration_since(sent));
        window.was_full |= full;
        if window.took.len() < self.now {
            return;
        }
        let middle = window.took.len() / 2;
        let median = *window.took.select_nth_unstable(middle).1;
        let was_full = std::mem::take(&mut window.was_full);
        window.took.clear();
        match (self.tried_from, window.before) {
            // The requests are of another sort now. If the earlier one does not return, this one's next
            // window decides.
            (Some(_), None) => window.before = Some(median),
            (Some(from), Some(before)) if median > before + before / 4 => {
                self.rest = REST;
                self.change(from, now);
            }
            _ if was_full => self.grow(sort, median, now),
            _ => {}
        }
    }

    /// The service throttles, or a request sent at `sent` got no answer.
    pub(super) fn error(&mut self, sent: Instant, now: Instant) {
        if self.since.is_some_and(|since| sent < since) {
            return;
        }
        self.rest = REST;
        self.change((self.now / 2).max(1), now);
    }

    fn grow(&mut self, sort: Sort, median: Duration, now: Instant) {
        if self.now < START.min(self.most) {
            return self.change(self.now + 1, now);
        }
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if median < NEAR || self.now >= self.most {
            return;
        }
        let from = self.now;
        self.change((from + (from / 2).max(1)).min(self.most), now);
        self.tried_from = Some(from);
        self.windows[sort as usize].before = Some(median);
    }

    fn change(&mut self, requests: usize, now: Instant) {
        self.now = requests;
        self.since = Some(now);
        self.tried_from = None;
        self.windows = Default::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with this latency (ms), which also takes this time (µs) for each request.
    #[derive(Clone, Copy)]
    struct Line {
        trip: u64,
        each: u64,
    }

    const FAR: Line = Line { trip: 20, each: 10 };

    /// Simulates a while with unlimited work.
    fn keep(pace: &mut Pace, now: &mut Instant, sort: Sort, Line { trip, each }: Line, windows: usize) {
        for _ in 0..windows {
            let sent = *now;
            let answers = pace.requests();
            *now += Duration::from_millis(trip);
            for _ in 0..answers {
                *now += Duration::from_micros(each);
                pace.answered(sort, sent, *now, true);
            }
        }
    }

    #[test]
    fn a_service_far_away_gets_as_much_as_is_allowed() {
        for sort in [Sort::Look, Sort::Put, Sort::Copy] {
            let mut pace = Pace::new(64);
            keep(&mut pace, &mut Instant::now(), sort, FAR, 12);
            assert_eq!(pace.requests(), 64);
        }
    }

    #[test]
    fn a_slow_service_or_a_near_one_is_not_asked_for_more() {
        for (trip, each) in [(20, 5_000), (1, 10), (0, 100), (6, 1_000)] {
            let (mut pace, mut now) = (Pace::new(64), Instant::now());
            let mut seen = Vec::new();
            for _ in 0..60 {
                keep(&mut pace, &mut now, Sort::Put, Line { trip, each }, 1);
                seen.push(pace.requests());
            }
            // It is tried once in a while, and dropped again.
            let at_first = seen.iter().filter(|requests| **requests == START).count();
            assert!(
                seen.iter().all(|requests| *requests <= 24) && at_first > 50,
                "{trip} ms, {each} µs: {seen:?}"
            );
        }
    }

    #[test]
    fn without_enough_work_nothing_is_learned() {
        let mut pace = Pace::new(64);
        let (sent, now) = (Instant::now(), Instant::now() + Duration::from_millis(20));
        (0..1000).for_each(|_| pace.answered(Sort::Put, sent, now, false));
        assert_eq!(pace.requests(), START);
    }

    #[test]
    fn sorts_that_take_different_times_do_not_disturb_each_other() {
        let mut pace = Pace::new(64);
        let mut now = Instant::now();
        for _ in 0..30 {
            let (sent, answers) = (now, pace.requests());
            now += Duration::from_millis(60);
            for _ in 0..answers {
                pace.answered(Sort::Look, sent, sent + Duration::from_millis(10), true);
                pace.answered(Sort::Copy, sent, sent + Duration::from_millis(60), true);
            }
        }
        assert_eq!(pace.requests(), 64);
    }

    #[test]
    fn trouble_halves_it_once_for_all_that_were_under_way_and_it_comes_back() {
        let (mut pace, mut now) = (Pace::new(64), Instant::now());
        keep(&mut pace, &mut now, Sort::Put, FAR, 12);
        let sent = now;
        now += Duration::from_secs(1);
        (0..64).for_each(|_| pace.error(sent, now));
        assert_eq!(pace.requests(), 32);
        for _ in 0..9 {
            now += Duration::from_secs(1);
            pace.error(now, now);
        }
        assert_eq!(pace.requests(), 1);
        keep(&mut pace, &mut now, Sort::Put, FAR, 100);
        assert_eq!(pace.requests(), 64);
    }

    #[test]
    fn requests_of_any_sort_tell_that_trouble_has_passed_and_nothing_more() {
        let (mut pace, mut now) = (Pace::new(64), Instant::now());
        for _ in 0..5 {
            now += Duration::from_secs(1);
            pace.error(now, now);
        }
        assert_eq!(pace.requests(), 1);
        keep(&mut pace, &mut now, Sort::Other, FAR, 100);
        assert_eq!(pace.requests(), START);
    }

    #[test]
    fn the_limit_holds() {
        assert_eq!(Pace::new(0).requests(), 1);
        let mut pace = Pace::new(4);
        keep(&mut pace, &mut Instant::now(), Sort::Put, FAR, 12);
        assert_eq!(pace.requests(), 4);
    }
}
