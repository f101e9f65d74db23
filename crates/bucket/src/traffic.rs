//! Counts requests, which cost money, and tells how many of them there may be at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The requests of one store. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    requests: AtomicU64,
    answered: AtomicU64,
    at_a_time: AtomicUsize,
    /// Microseconds.
    publishing: AtomicU64,
}

impl Traffic {
    /// No requests yet, and so many at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Traffic(Arc::new(Numbers {
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            at_a_time: AtomicUsize::new(at_a_time),
            publishing: AtomicU64::new(0),
        }))
    }

    /// How many requests were sent, repeated ones included.
    pub(super) fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> u64 {
        self.0.answered.load(Ordering::Relaxed)
    }

    /// How many requests may be under way now.
    pub(super) fn at_a_time(&self) -> usize {
        self.0.at_a_time.load(Ordering::Relaxed)
    }

    /// How long batches were being published in all.
    pub(super) fn publishing(&self) -> Duration {
        Duration::from_micros(self.0.publishing.load(Ordering::Relaxed))
    }

    /// Adds the time that a batch took.
    pub(super) fn note_publishing(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.publishing.fetch_add(took, Ordering::Relaxed);
    }

    /// Counts one.
    #[cfg(feature = "http")]
    pub(super) fn count(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer.
    #[cfg(feature = "http")]
    pub(super) fn count_answer(&self) {
        self.0.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many requests may be under way from now on.
    #[cfg(feature = "http")]
    pub(super) fn set_at_a_time(&self, requests: usize) {
        self.0.at_a_time.store(requests, Ordering::Relaxed);
    }
}
