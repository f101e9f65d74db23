//! Counts requests, which cost money.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many requests were sent, repeated ones included.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic(Arc<AtomicU64>);

impl Traffic {
    pub(super) fn requests(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one.
    #[cfg(feature = "http")]
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
