//! Limits the total memory of contents between their arrival and their publication.
//!
//! Memory for a whole content is reserved before it begins. A content that waits for room holds none, so that
//! those under way always finish and free theirs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory is counted in units of this many bytes.
const UNIT: u64 = 1024;
/// The most units: 256 GiB, and below a semaphore's permits on any platform.
const UNITS_MAX: u32 = 1 << 28;
/// Longest wait of a content for room. Contents are published within a fraction of a second after their
/// arrival, and arrive at the speed of the network.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Memory for contents.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    free: Arc<Semaphore>,
    units: u32,
}

impl MemoryBudget {
    /// A budget of `bytes` in all.
    pub(super) fn new(bytes: usize) -> Self {
        let units = units(bytes as u64).clamp(1, UNITS_MAX);
        MemoryBudget { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits for room for `bytes`, or for the whole budget if that is less. `None` if there is none for a
    /// very long time.
    pub(super) async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = self.free.clone().acquire_many_owned(units(bytes).min(self.units));
        tokio::time::timeout(PATIENCE, wanted).await.ok()?.ok()
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_content_waits_until_there_is_room_for_all_of_it() {
        let budget = MemoryBudget::new(10 << 10);
        let most = budget.take(7 << 10).await.unwrap();
        assert!(budget.take(4 << 10).now_or_never().is_none(), "there is room for 3 KiB");
        assert!(budget.take(3 << 10).now_or_never().is_some());
        drop(most);
        assert!(budget.take(4 << 10).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_content_that_is_larger_than_all_room_gets_all_of_it() {
        let budget = MemoryBudget::new(10 << 10);
        let all = budget.take(u64::MAX).await.unwrap();
        assert!(budget.take(1).now_or_never().is_none());
        assert!(budget.take(0).now_or_never().is_some(), "what needs no room does not wait");
        drop(all);
        assert!(budget.take(1).now_or_never().is_some());
    }
}
