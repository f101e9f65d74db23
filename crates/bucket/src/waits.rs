//! Reports why a bucket keeps a run waiting: missing answers, and refusals that lead to retries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use object_store::client::{HttpError, HttpResponse};
use obsync_net::{Throttle, WAITS, watched};
use obsync_protocol::with_reasons;

/// Many requests are under way at a time, and fail and wait together.
const EVERY: Duration = Duration::from_secs(30);

/// The requests of one store.
#[derive(Debug)]
pub(super) struct Waits {
    under_way: AtomicUsize,
    silence: Throttle,
    refusals: Throttle,
    /// The host has answered at least once.
    answered: AtomicBool,
}

impl Waits {
    pub(super) fn new() -> Self {
        Waits {
            under_way: AtomicUsize::new(0),
            silence: Throttle::new(EVERY),
            refusals: Throttle::new(EVERY),
            answered: AtomicBool::new(false),
        }
    }

    /// True if the host has never answered: then waiting for its return is pointless.
    pub(super) fn is_unknown(&self) -> bool {
        !self.answered.load(Ordering::Relaxed)
    }

    pub(super) async fn answer<F>(&self, host: &str, request: F) -> Result<HttpResponse, HttpError>
    where
        F: Future<Output = Result<HttpResponse, HttpError>>,
    {
        let _counted = Counted::new(&self.under_way);
        let say = |waited: Duration| {
            let others = self.under_way.load(Ordering::Relaxed);
            if self.silence.passes() {
                let waited = waited.as_secs();
                tracing::info!(
                    target: WAITS,
                    "{host} has not answered a request for {waited} s ({others} under way)"
                );
            }
        };
        let outcome = watched(request, say).await;
        match &outcome {
            Ok(answer) => {
                self.answered.store(true, Ordering::Relaxed);
                let status = answer.status();
                if status.is_server_error() || status.as_u16() == 429 {
                    self.say_refusal(host, &format!("answers {status}"));
                }
            }
            Err(error) => self.say_refusal(host, &format!("cannot be reached ({})", with_reasons(error))),
        }
        outcome
    }

    fn say_refusal(&self, host: &str, what: &str) {
        if self.refusals.passes() {
            tracing::info!(target: WAITS, "{host} {what}; requests are repeated where that can help");
        }
    }
}

/// Counts a request until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
