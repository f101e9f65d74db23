//! Retry policy of requests.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};

use super::error::{Kind, RequestError};

/// Retries of requests after transient failures: throttling, errors of the service, lost connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Most retries.
    pub most: usize,
    /// Longest total time of retries.
    pub within: Duration,
    /// The pause before the first retry. Pauses double, with jitter, up to 100 times this one.
    pub first_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { most: 10, within: Duration::from_secs(180), first_pause: Duration::from_millis(100) }
    }
}

impl Retries {
    /// The same for the object store library, which retries most requests itself.
    #[cfg(feature = "http")]
    pub(super) fn of_library(&self) -> object_store::RetryConfig {
        object_store::RetryConfig {
            backoff: object_store::BackoffConfig {
                init_backoff: self.first_pause,
                max_backoff: self.longest_pause(),
                base: 2.0,
            },
            max_retries: self.most,
            retry_timeout: self.within,
        }
    }

    /// Makes a request that the library does not retry without an answer, because it cannot know that this
    /// does no harm.
    pub(super) async fn through_silence<T, F>(&self, request: impl Fn() -> F) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, RequestError>>,
    {
        self.repeat(|| async {
            request().await.map_err(|error| (error.clone(), error.kind == Kind::Unreachable))
        })
        .await
    }

    /// Makes a request until it succeeds, or fails with an error marked as final.
    pub(super) async fn repeat<T, F>(&self, request: impl Fn() -> F) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, (RequestError, bool)>>,
    {
        let begun = Instant::now();
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.first_pause)
            .with_max_delay(self.longest_pause())
            .with_max_times(self.most)
            .build();
        loop {
            let (error, may_repeat) = match request().await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let pause = pauses.next().filter(|pause| may_repeat && begun.elapsed() + *pause < self.within);
            let Some(pause) = pause else {
                return Err(error);
            };
            tracing::debug!(?error, ?pause, "a request failed and is repeated");
            tokio::time::sleep(pause).await;
        }
    }

    fn longest_pause(&self) -> Duration {
        self.first_pause.saturating_mul(100)
    }
}
