//! Resolves host names, and waits for a resolver that does not work yet.
//!
//! A job that a timer starts at boot is often faster than the network. The resolver then reports a temporary
//! failure; the job retries within a limit, and logs that once.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::ConnectError;

/// The pause before the second look-up; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The future of a look-up.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Resolves names. By default the system does that.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// The addresses of `host`, each with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// True if a retry of the look-up may succeed in a moment. The system's errors can be classified only by
/// their text: an unknown name is a definite answer, everything else is a failure of the resolver.
pub(crate) fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string().to_lowercase();
    let definite =
        ["not known", "no address associated", "does not resolve", "non-recoverable", "not supported"];
    error.kind() != io::ErrorKind::InvalidInput && !definite.iter().any(|part| text.contains(part))
}

/// Waits for a resolver that does not work yet, with growing pauses until a limit.
#[derive(Debug)]
pub struct NameWait {
    until: Instant,
    limit: Duration,
    pause: Duration,
}

impl NameWait {
    /// Starts now, for `limit` at most.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, limit, pause: FIRST_PAUSE }
    }

    /// True if a resolver that failed in this way may work in a moment.
    #[must_use]
    pub fn may_help(error: &io::Error) -> bool {
        is_temporary(error)
    }

    /// As [`pause`](Self::pause), if a connection failed because the resolver does not work yet; otherwise
    /// returns `false` at once.
    pub async fn pause_after(&mut self, failed: Option<ConnectError>) -> bool {
        match failed {
            Some(ConnectError::NoAddress { host, reason, temporary: true }) => {
                self.pause(&host, &reason).await
            }
            _ => false,
        }
    }

    /// Waits before the next look-up, and logs that the first time; `false` if the limit is near.
    pub async fn pause(&mut self, host: &str, reason: &str) -> bool {
        if Instant::now() + self.pause >= self.until {
            return false;
        }
        if self.pause == FIRST_PAUSE {
            let seconds = self.limit.as_secs();
            tracing::warn!(
                "cannot find the address of {host} yet ({reason}); trying again for up to {seconds} s"
            );
        } else {
            tracing::debug!(host, reason, "the resolver does not work yet");
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_a_definite_answer_and_a_silent_resolver_is_not() {
        let says = |text: &str| is_temporary(&io::Error::other(text));
        assert!(says("failed to lookup address information: Temporary failure in name resolution"));
        assert!(says("failed to lookup address information: Try again"));
        assert!(!says("failed to lookup address information: Name or service not known"));
        assert!(!says("failed to lookup address information: Name does not resolve"));
        assert!(!says("failed to lookup address information: nodename nor servname provided, or not known"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_within_its_limit() {
        let begun = Instant::now();
        let mut wait = NameWait::new(Duration::from_secs(60));
        while wait.pause("host", "no network").await {}
        assert!((50..60).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
}
