//! Reports waits: retries and missing answers, as events of one target, which a program can show to people
//! without the rest of the log.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use obsync_protocol::with_reasons;

use crate::ConnectError;

/// The target of these events. Their level is INFO, and their message a whole sentence without a full stop.
pub const WAITS: &str = "obsync::waits";

/// Lets one of many equal events through per interval.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// At most one event in this interval.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        Throttle { every, last: Mutex::new(None) }
    }

    /// True if it is time for the next event; counts that as happening now.
    pub fn passes(&self) -> bool {
        self.passes_at(Instant::now())
    }

    fn passes_at(&self, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// After this long without an answer an event is logged, and again after each further period of this length.
const SILENCE: Duration = Duration::from_secs(10);

/// Waits for `work`, and calls `say` with the elapsed time every ten seconds.
pub async fn watched<F: Future>(work: F, mut say: impl FnMut(Duration)) -> F::Output {
    let begun = tokio::time::Instant::now();
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(SILENCE, &mut work).await {
            Ok(answer) => return answer,
            Err(_) => say(begun.elapsed()),
        }
    }
}

/// True for an error from an address where nobody listens, or from a host that does not exist. If a service
/// has never answered, waiting for it is pointless.
#[must_use]
pub fn is_refused(error: &(dyn Error + 'static)) -> bool {
    if let Some(ConnectError::Unreachable { refused: true, .. }) = ConnectError::within(error) {
        return true;
    }
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // `io::Error::source` skips the wrapped error.
            let inner = io.get_ref().map(|inner| inner as &(dyn Error + 'static));
            if io.kind() == io::ErrorKind::ConnectionRefused || inner.is_some_and(is_refused) {
                return true;
            }
        }
        next = error.source();
    }
    with_reasons(error).contains("Name or service not known")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_passes_in_a_while() {
        let (throttle, begun) = (Throttle::new(Duration::from_secs(10)), Instant::now());
        let passes = |seconds| throttle.passes_at(begun + Duration::from_secs(seconds));
        assert_eq!([0, 9, 10, 19, 25].map(passes), [true, false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_is_said_again_and_again() {
        let mut said = Vec::new();
        watched(tokio::time::sleep(Duration::from_secs(25)), |time| said.push(time.as_secs())).await;
        assert_eq!(said, [10, 20]);
    }

    #[test]
    fn a_refused_connection_is_found_in_a_chain_of_reasons() {
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(is_refused(&refused));
        assert!(!is_refused(&io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(is_refused(&io::Error::other(
            "failed to lookup address information: Name or service not known"
        )));
    }
}
