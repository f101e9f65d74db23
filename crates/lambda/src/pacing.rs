//! Fetches no more than the destination can publish in the remaining time.
//!
//! Contents that are fetched and not published when an invocation ends have to be fetched again by the next
//! one. So the rate at which the destination's contents become visible is measured, and only as many
//! transfers are admitted as it can publish until the end at that rate. Requests are no measure: a content
//! may need several, and refused ones publish nothing. Until that rate is known, a short invocation begins
//! with few transfers, and every two published contents admit one more.
//!
//! Admitted transfers are not taken back if the rate falls. So the lower of the present rate and that of a
//! longer period counts, and half of it at first: contents become visible in bursts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use obsync_bucket::BucketDestination;
use obsync_core::Governor;
use obsync_core::blocking::lock;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

/// Most transfers admitted before the destination's rate is known.
const FIRST: usize = 48;
/// Interval of measurements.
const EVERY: Duration = Duration::from_millis(25);
/// The share of the publishable contents that is admitted: the rate varies.
const SHARE: f64 = 0.95;
/// Contents that are left out of it: their requests would be under way at the end.
const UNDER_WAY: f64 = 2.0;
/// The shortest period over which the present rate is measured, and the longest for any rate.
const WINDOW: Duration = Duration::from_millis(1500);
const WINDOW_MOST: Duration = Duration::from_secs(15);
/// Contents by which a rate is known in less time.
const FEWEST: u64 = 8;
/// A rate measured for less time than this may be that of a burst.
const YOUNG: Duration = Duration::from_secs(1);
/// With less time than this, fewer than [`FIRST`] are admitted at first: a destination that publishes two a
/// second makes use of them.
const SHORT: Duration = Duration::from_secs(24);
/// A rate is known after this time at the earliest.
const LEAST: Duration = Duration::from_millis(100);

/// The destinations of an invocation, watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Pacing {
    stores: Arc<Mutex<Vec<Weak<BucketDestination>>>>,
    watcher: AbortHandle,
}

impl Drop for Pacing {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Pacing {
    /// Starts to limit the admissions of `governor`, for an invocation that publishes nothing after `end`.
    /// Call it within a runtime.
    pub(crate) fn start(governor: Governor, end: Instant) -> Self {
        let stores: Arc<Mutex<Vec<Weak<BucketDestination>>>> = Arc::default();
        let watched = Arc::clone(&stores);
        governor.limit(most(None, 0, end.saturating_duration_since(Instant::now())));
        let watcher = tokio::spawn(async move {
            let mut rate = Rate::default();
            loop {
                let published = lock(&watched)
                    .iter()
                    .filter_map(Weak::upgrade)
                    .map(|destination| destination.published())
                    .sum();
                let now = Instant::now();
                rate.note(now, published);
                let left = end.saturating_duration_since(now);
                governor.limit(most(rate.per_second(now), rate.published(), left));
                sleep(EVERY).await;
            }
        });
        Pacing { stores, watcher: watcher.abort_handle() }
    }

    /// Watches this destination, too.
    pub(crate) fn watch(&self, destination: &Arc<BucketDestination>) {
        lock(&self.stores).push(Arc::downgrade(destination));
    }
}

/// Number of transfers that may wait to be published, at this rate, with so many contents published lately,
/// and this much time left.
fn most(rate: Option<f64>, published: u64, left: Duration) -> usize {
    let (first, left) = (FIRST as f64, left.as_secs_f64());
    let most = match rate {
        None if left > 0.0 => first.min(first * left / SHORT.as_secs_f64() + published as f64 / 2.0),
        None => 0.0,
        Some(rate) => rate * left * SHARE - UNDER_WAY,
    };
    // The cast saturates: a negative or invalid value becomes zero.
    most as usize
}

/// Numbers of published contents, with times.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn note(&mut self, now: Instant, published: u64) {
        // Finished stores are not counted any more, and time before the first content is no measure.
        if self.0.back().is_some_and(|(_, before)| published < *before) || published == 0 {
            self.0.clear();
        }
        self.0.push_back((now, published));
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= WINDOW_MOST) {
            self.0.pop_front();
        }
    }

    /// Contents published in the measured time.
    fn published(&self) -> u64 {
        let numbers = self.0.front().zip(self.0.back());
        numbers.map_or(0, |((_, before), (_, latest))| latest.saturating_sub(*before))
    }

    /// The rate that can be relied on.
    fn per_second(&self, now: Instant) -> Option<f64> {
        let (begin, (_, latest)) = (self.0.front()?, self.0.back()?);
        let published = |(_, before): &(Instant, u64)| latest.saturating_sub(*before);
        let passed = |(at, _): &(Instant, u64)| now - *at;
        let is_known = match published(begin) {
            0 => false,
            FEWEST.. => passed(begin) >= LEAST,
            _ => passed(begin) >= WINDOW,
        };
        let is_recent = |since: &&(Instant, u64)| passed(since) >= WINDOW && published(since) >= FEWEST;
        let recent = self.0.iter().rev().find(is_recent).unwrap_or(begin);
        let speed = |since| published(since) as f64 / passed(since).as_secs_f64();
        let trust = if passed(begin) < YOUNG { 0.5 } else { 1.0 };
        is_known.then(|| speed(begin).min(speed(recent)) * trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_admitted_as_can_be_published_in_the_time_that_is_left() {
        let most = |rate, published, milliseconds| most(rate, published, Duration::from_millis(milliseconds));
        assert_eq!(most(Some(30.0), 90, 3000), 83);
        assert_eq!(most(Some(30.0), 90, 50), 0);
        assert_eq!(most(Some(30.0), 90, 0), 0);
        assert_eq!(most(Some(f64::NAN), 90, 3000), 0);
        // Before the rate is known, published contents show that more may be.
        assert_eq!(most(None, 0, 900_000), FIRST);
        assert_eq!(most(None, 0, 4000), 8);
        assert_eq!(most(None, 10, 4000), 13);
        assert_eq!(most(None, 500, 4000), FIRST);
        assert_eq!(most(None, 5, 0), 0);
    }

    #[test]
    fn a_burst_is_no_rate() {
        let begun = Instant::now();
        let mut rate = Rate::default();
        // For a second 30 contents, for the next one none, and so on.
        let published = |ms: u64| ms / 2000 * 30 + (ms % 2000).min(1000) * 30 / 1000;
        let at = |ms: u64| begun + Duration::from_millis(ms);
        for ms in (0..=7000).step_by(25) {
            rate.note(at(ms), published(ms));
            let is_burst = ms > 0 && rate.per_second(at(ms)).is_some_and(|rate| rate > 32.0);
            assert!(!is_burst, "after {ms} ms");
        }
        let per_second = rate.per_second(at(7000)).unwrap();
        assert!((15.0..18.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_moments() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(0)), None);
        (0..=40).for_each(|step| rate.note(at(step * 100), step.min(20) * 10));
        let per_second = rate.per_second(at(4000)).unwrap();
        assert!(per_second < 5.0, "hardly anything was published lately: {per_second}");
        (41..=200).for_each(|step| rate.note(at(step * 100), 200));
        assert_eq!(rate.per_second(at(20_000)), None, "nothing was published lately");
        let mut rate = Rate::default();
        (0..=40).for_each(|step| rate.note(at(step * 100), step * 3));
        assert!((rate.per_second(at(4000)).unwrap() - 30.0).abs() < 0.1);
    }
}
