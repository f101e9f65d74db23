//! Decides whether additional connections are worthwhile.
//!
//! A service that answers the requests of one connection sequentially gains from each further connection; a
//! saturated line or machine gains nothing. So the rate is measured with the present number, some connections
//! are added, and the rate is measured again once all of them answer. If the rate rises by at least half of
//! the possible gain, they stay and more are added. Otherwise they are closed and the next attempt waits,
//! twice as long each time. This file only decides: [`Limit`](super::limit::Limit) calls it with the clock
//! and applies its decisions.

use tokio::time::{Duration, Instant};

/// Least number of answers per connection in a measuring window.
const ANSWERS: u64 = 8;

/// The shortest measuring window.
const WINDOW: Duration = Duration::from_millis(150);

/// After a failed attempt the next one waits at least this long.
const SHORTEST_REST: Duration = Duration::from_secs(2);

/// The longest wait between attempts.
const LONGEST_REST: Duration = Duration::from_secs(64);

/// Bytes of content that a request counts for.
const BYTES_PER_REQUEST: u64 = 64 << 10;

/// The decision after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Keep,
    /// Allow this many connections from now on, more than before.
    Add(usize),
    /// The added connections gained nothing: back to this many.
    Drop(usize),
}

/// An answer, as a sample for the measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Connections that have answered at least once and not ended.
    pub(super) serving: usize,
    /// Connections allowed.
    pub(super) allowed: usize,
    /// The size of the content in bytes.
    pub(super) bytes: u64,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Growth {
    most: usize,
    phase: Phase,
    window: Option<MeasuredWindow>,
    /// Connections to add in the next attempt.
    step: usize,
    /// Delay after the next failed attempt.
    rest: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Measures the rate of the present number.
    Measure,
    /// Measures the rate with more than `from` connections; those brought `before` per second.
    Attempt { from: usize, before: f64 },
    /// No attempt before this time.
    Rest { until: Instant },
}

/// Totals since the answer that began the window.
#[derive(Clone, Copy, Debug)]
struct MeasuredWindow {
    since: Instant,
    serving: usize,
    answers: u64,
    work: f64,
}

impl Growth {
    /// Up to `most` connections.
    pub(super) fn new(most: usize) -> Self {
        Self { most, phase: Phase::Measure, window: None, step: 1, rest: SHORTEST_REST }
    }

    /// The number before the attempt that is being measured.
    pub(super) fn attempted_from(&self) -> Option<usize> {
        match self.phase {
            Phase::Attempt { from, .. } => Some(from),
            Phase::Measure | Phase::Rest { .. } => None,
        }
    }

    /// Records an answer and decides on the number of connections.
    pub(super) fn answered(&mut self, sample: Sample) -> Decision {
        match self.phase {
            Phase::Rest { until } if sample.at < until => return Decision::Keep,
            Phase::Rest { .. } => {
                self.phase = Phase::Measure;
                self.window = None;
            }
            Phase::Measure if sample.allowed >= self.most => return Decision::Keep,
            Phase::Measure | Phase::Attempt { .. } => {}
        }
        let Some(rate) = self.measure(sample) else {
            return Decision::Keep;
        };
        match self.phase {
            Phase::Attempt { from, before } if rate < before * worth(from, sample.allowed) => {
                self.fail(sample.at);
                Decision::Drop(from)
            }
            Phase::Attempt { .. } => {
                self.step += 1;
                self.rest = SHORTEST_REST;
                self.attempt(sample.allowed, rate)
            }
            Phase::Measure | Phase::Rest { .. } => self.attempt(sample.allowed, rate),
        }
    }

    /// Something went wrong, or the added connections could not be opened: no attempt for a while.
    pub(super) fn fail(&mut self, at: Instant) {
        self.phase = Phase::Rest { until: at + self.rest };
        self.rest = self.rest.saturating_mul(2).min(LONGEST_REST);
        self.step = 1;
        self.window = None;
    }

    fn attempt(&mut self, allowed: usize, rate: f64) -> Decision {
        self.window = None;
        let target = (allowed + self.step).min(self.most);
        if target <= allowed {
            self.phase = Phase::Measure;
            return Decision::Keep;
        }
        self.phase = Phase::Attempt { from: allowed, before: rate };
        Decision::Add(target)
    }

    /// The rate, once all allowed connections answered for long enough.
    fn measure(&mut self, sample: Sample) -> Option<f64> {
        let Sample { serving, allowed, bytes, at } = sample;
        if serving != allowed {
            self.window = None;
            return None;
        }
        let Some(window) = self.window.as_mut().filter(|window| window.serving == serving) else {
            self.window = Some(MeasuredWindow { since: at, serving, answers: 0, work: 0.0 });
            return None;
        };
        window.answers += 1;
        window.work += 1.0 + bytes as f64 / BYTES_PER_REQUEST as f64;
        let took = at.saturating_duration_since(window.since);
        let is_long_enough = took >= WINDOW && window.answers >= ANSWERS * serving as u64;
        is_long_enough.then(|| window.work / took.as_secs_f64())
    }
}

/// Factor by which the rate has to rise when `from` connections become `to`: half of the possible gain.
fn worth(from: usize, to: usize) -> f64 {
    1.0 + to.saturating_sub(from) as f64 / (2 * from.max(1)) as f64
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    const START: usize = 4;
    const MOST: usize = 10;
    /// Time from the decision to add a connection to its first request.
    const OPENING: Duration = Duration::from_millis(60);

    /// The order and times of a simulated service's answers.
    #[derive(Clone, Copy)]
    enum Service {
        /// The requests of one connection sequentially, each in this time.
        PerConnection(Duration),
        /// All requests sequentially, each in this time.
        PoolContext(Duration),
    }

    /// Figures of a simulated run.
    struct Outcome {
        took: Duration,
        /// The number of connections after each change.
        numbers: Vec<usize>,
    }

    /// Fetches `files` from a service over as many connections as [`Growth`] decides.
    fn simulate(service: Service, files: u64) -> Outcome {
        let begin = Instant::now();
        let mut growth = Growth::new(MOST);
        let (mut allowed, mut next_id, mut answered) = (START, START, 0);
        let mut numbers = Vec::new();
        let mut serving: Vec<usize> = Vec::new();
        let mut busy_until = begin;
        // Due times of each connection's next answer.
        let mut due = BinaryHeap::new();
        for id in 0..START {
            due.push(Reverse((begin + Duration::from_millis(id as u64), id)));
        }
        while let Some(Reverse((at, id))) = due.pop() {
            if serving.len() > allowed {
                serving.retain(|other| *other != id);
                continue;
            }
            if !serving.contains(&id) {
                serving.push(id);
            }
            answered += 1;
            if answered == files {
                return Outcome { took: at - begin, numbers };
            }
            match growth.answered(Sample { serving: serving.len(), allowed, bytes: 4096, at }) {
                Decision::Keep => {}
                Decision::Add(more) => {
                    for _ in allowed..more {
                        due.push(Reverse((at + OPENING, next_id)));
                        next_id += 1;
                    }
                    allowed = more;
                    numbers.push(more);
                }
                Decision::Drop(back) => {
                    allowed = back;
                    numbers.push(back);
                }
            }
            let next = match service {
                Service::PerConnection(each) => at + each,
                Service::PoolContext(each) => {
                    busy_until = busy_until.max(at) + each;
                    busy_until
                }
            };
            due.push(Reverse((next, id)));
        }
        unreachable!("a connection always stays");
    }

    #[test]
    fn a_service_that_serves_each_connection_by_itself_is_asked_over_all_of_them() {
        let outcome = simulate(Service::PerConnection(Duration::from_millis(20)), 2000);
        assert_eq!(outcome.numbers, [5, 7, 10]);
        // Ten connections from the beginning take four seconds.
        assert!(outcome.took < Duration::from_millis(4_700), "{:?}", outcome.took);
    }

    #[test]
    fn a_service_with_one_capacity_for_all_keeps_its_connections_and_is_tried_seldom() {
        for each in [1, 5, 20].map(Duration::from_millis) {
            let files = (Duration::from_secs(120).as_millis() / each.as_millis()) as u64;
            let outcome = simulate(Service::PoolContext(each), files);
            assert!(outcome.numbers.iter().all(|number| *number <= START + 1), "{:?}", outcome.numbers);
            // After 0, 2, 4, 8, 16, 32 and 64 seconds at most, each one there and back.
            assert!((2..=14).contains(&outcome.numbers.len()), "{each:?}: {:?}", outcome.numbers);
        }
    }

    #[test]
    fn contents_count_by_their_size_too() {
        let rate = |bytes| {
            let (mut growth, begin) = (Growth::new(1), Instant::now());
            let sample = |at| Sample { serving: 1, allowed: 1, bytes, at };
            (0..=10).find_map(|tick| growth.measure(sample(begin + Duration::from_millis(tick * 20))))
        };
        assert_eq!((rate(0), rate(BYTES_PER_REQUEST)), (Some(50.0), Some(100.0)));
    }

    #[test]
    fn trouble_postpones_the_next_attempt_longer_each_time() {
        let begin = Instant::now();
        let mut growth = Growth::new(MOST);
        for rest in [2, 4, 8, 16, 32, 64, 64] {
            growth.fail(begin);
            let Phase::Rest { until } = growth.phase else { panic!("{growth:?}") };
            assert_eq!(until - begin, Duration::from_secs(rest));
        }
    }

    proptest! {
        #[test]
        fn the_number_stays_between_what_it_was_and_what_is_allowed(
            steps in prop::collection::vec((1_u64..200, 0_u64..1 << 22, 0_usize..3, prop::bool::weighted(0.02)), 1..2000),
        ) {
            let mut at = Instant::now();
            let mut growth = Growth::new(MOST);
            let mut allowed = START;
            for (milliseconds, bytes, missing, is_trouble) in steps {
                at += Duration::from_millis(milliseconds);
                if is_trouble {
                    allowed = growth.attempted_from().unwrap_or(allowed);
                    growth.fail(at);
                }
                let serving = allowed.saturating_sub(missing / 2);
                let before = allowed;
                match growth.answered(Sample { serving, allowed, bytes, at }) {
                    Decision::Keep => {}
                    Decision::Add(more) => {
                        prop_assert!(before < more && more <= MOST);
                        allowed = more;
                    }
                    Decision::Drop(back) => {
                        prop_assert!(START <= back && back < before);
                        allowed = back;
                    }
                }
            }
        }
    }
}
