//! Timeouts and retries of requests.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// Timeouts and retries. The defaults tolerate about twenty seconds of throttling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamoOptions {
    /// Most attempts at a request.
    pub attempts: usize,
    /// The first pause between attempts. Each further one is twice as long, with some randomness.
    pub min_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// Timeout of one attempt.
    pub answer: Duration,
    /// Total time after which no further attempt is made.
    pub within: Duration,
}

impl Default for DynamoOptions {
    fn default() -> Self {
        DynamoOptions {
            attempts: 10,
            min_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(5),
            answer: Duration::from_secs(5),
            within: Duration::from_secs(180),
        }
    }
}

impl DynamoOptions {
    /// The pauses between the attempts of one request; its first attempt is made now.
    pub(super) fn pauses(&self) -> Pauses {
        let delays = ExponentialBuilder::default()
            .with_jitter()
            .with_factor(2.0)
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            .build();
        Pauses { delays, attempts: 1, begun: Instant::now(), within: self.within }
    }
}

/// Yields pauses until the attempts or the time are used up.
#[derive(Debug)]
pub(super) struct Pauses {
    delays: ExponentialBackoff,
    attempts: usize,
    begun: Instant,
    within: Duration,
}

impl Pauses {
    /// Attempts made.
    pub(super) fn attempts(&self) -> usize {
        self.attempts
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.delays.next()?;
        if self.begun.elapsed().saturating_add(delay) >= self.within {
            return None;
        }
        self.attempts += 1;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_pauses_as_are_wanted_and_none_beyond_the_time() {
        let options = DynamoOptions::default();
        let mut pauses = options.pauses();
        assert_eq!((pauses.by_ref().count(), pauses.attempts()), (9, 10));
        let mut short = DynamoOptions { within: Duration::from_millis(1), ..options }.pauses();
        assert_eq!((short.next(), short.attempts()), (None, 1));
    }
}
