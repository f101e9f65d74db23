//! Counts requests, which cost money, and tells how many of them there may be at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The requests of one store. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<Numbers>);

#[derive(Debug)]
struct Numbers {
    requests: AtomicU64,
    answered: AtomicU64,
    at_a_time: AtomicUsize,
}

impl Traffic {
    /// No requests yet, and so many at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Traffic(Arc::new(Numbers {
            requests: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            at_a_time: AtomicUsize::new(at_a_time),
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
