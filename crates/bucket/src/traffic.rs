//! Counts requests, which cost money, and contents made visible, and publishes the limit of concurrent
//! requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The requests of one store. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    requests: AtomicU64,
    /// New contents made visible.
    published: AtomicU64,
    at_a_time: AtomicUsize,
    /// Microseconds.
    publishing: AtomicU64,
}

impl Traffic {
    /// No requests yet, and this many at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Traffic(Arc::new(Numbers {
            requests: AtomicU64::new(0),
            published: AtomicU64::new(0),
            at_a_time: AtomicUsize::new(at_a_time),
            publishing: AtomicU64::new(0),
        }))
    }

    /// Requests sent, retries included.
    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Contents made visible that were not in the bucket before.
    pub(super) fn published(&self) -> u64 {
        self.0.published.load(Ordering::Relaxed)
    }

    /// Counts a content that was made visible.
    pub(super) fn count_published(&self) {
        self.0.published.fetch_add(1, Ordering::Relaxed);
    }

    /// The present limit of concurrent requests.
    pub(super) fn at_a_time(&self) -> usize {
        self.0.at_a_time.load(Ordering::Relaxed)
    }

    /// Total time of publishing batches.
    pub(super) fn publishing(&self) -> Duration {
        Duration::from_micros(self.0.publishing.load(Ordering::Relaxed))
    }

    /// Adds the duration of a batch.
    pub(super) fn note_publishing(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.publishing.fetch_add(took, Ordering::Relaxed);
    }

    /// Counts a request.
    #[cfg(feature = "http")]
    pub(super) fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the limit of concurrent requests.
    #[cfg(feature = "http")]
    pub(super) fn set_at_a_time(&self, requests: usize) {
        self.0.at_a_time.store(requests, Ordering::Relaxed);
    }
}
