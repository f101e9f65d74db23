//! How patient to be with a table that throttles, or does not answer.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// How often and how long to try. The defaults bear about twenty seconds of throttling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DynamoOptions {
    /// How often a request is made at most before it counts as failed.
    pub attempts: usize,
    /// The first pause between attempts. Each further one is twice as long, with some randomness.
    pub min_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
    /// How long to wait for the answer to one attempt.
    pub answer: Duration,
}

impl Default for DynamoOptions {
    fn default() -> Self {
        DynamoOptions {
            attempts: 10,
            min_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(5),
            answer: Duration::from_secs(5),
        }
    }
}

impl DynamoOptions {
    /// The pauses between the attempts of one request.
    pub(super) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        ExponentialBuilder::default()
            .with_jitter()
            .with_factor(2.0)
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
            .build()
    }
}
