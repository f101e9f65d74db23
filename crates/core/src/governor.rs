//! Keeps a pull inside its memory: transfers are admitted by the bytes that they will use, not by their
//! number.
//!
//! Every transfer reserves the bytes that it uses until it is published. Nothing new is admitted while the
//! budget is spent, or while a watcher of real usage pauses admission. A transfer larger than the whole
//! budget is admitted alone, so that it can get through at all: contents are streamed, so its real usage is
//! bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Bytes per permit of the semaphore: a `u32` of permits is enough for terabytes then.
const GRAIN: u64 = 4096;

/// Admits transfers by bytes. Cheap to clone; clones share the budget.
#[derive(Clone, Debug)]
pub struct Governor {
    /// `None`: no limit.
    budget: Option<Budget>,
    paused: watch::Sender<bool>,
    count: Arc<Count>,
}

/// Number of admitted transfers, and its limit.
#[derive(Debug)]
struct Count {
    admitted: AtomicUsize,
    most: AtomicUsize,
    /// Notified when either changes.
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Budget {
    semaphore: Arc<Semaphore>,
    grains: u32,
}

/// Bytes reserved for a transfer; released when dropped.
#[derive(Debug, Default)]
pub struct Reservation {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Option<Counted>,
}

/// One admitted transfer.
#[derive(Debug)]
struct Counted(Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.admitted.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

impl Count {
    /// Counts one more if the limit allows. One is always allowed.
    fn admit(self: &Arc<Self>) -> Option<Counted> {
        let most = self.most.load(Ordering::Acquire).max(1);
        let one_more = |admitted: usize| (admitted < most).then(|| admitted + 1);
        let admitted = self.admitted.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        admitted.ok().map(|_| Counted(Arc::clone(self)))
    }
}

impl Default for Governor {
    fn default() -> Self {
        let count = Count {
            admitted: AtomicUsize::new(0),
            most: AtomicUsize::new(usize::MAX),
            changed: Notify::new(),
        };
        Governor { budget: None, paused: watch::Sender::new(false), count: Arc::new(count) }
    }
}

impl Governor {
    /// A governor with a budget in bytes for all transfers together.
    pub fn with_budget(bytes: u64) -> Self {
        let grains = grains(bytes).max(1);
        let budget = Budget { semaphore: Arc::new(Semaphore::new(grains as usize)), grains };
        Governor { budget: Some(budget), ..Governor::default() }
    }

    /// Stops (`true`) or resumes (`false`) admission. Admitted transfers are not affected.
    pub fn pause(&self, paused: bool) {
        self.paused.send_if_modified(|now| std::mem::replace(now, paused) != paused);
    }

    /// True while admission is paused.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// Admits no more than this many transfers at a time, but always one. Admitted transfers are not
    /// affected.
    pub fn limit(&self, most: usize) {
        self.count.most.store(most, Ordering::Release);
        self.count.changed.notify_waiters();
    }

    /// Number of admitted transfers that are not released.
    pub fn admitted(&self) -> usize {
        self.count.admitted.load(Ordering::Acquire)
    }

    /// Returns when at most `count` transfers are admitted and no other may be: a caller with these waits in
    /// vain for more. Never returns without a limit. Cancel safe.
    pub async fn exhausted_by(&self, count: usize) {
        loop {
            let changed = self.count.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let admitted = self.admitted();
            if admitted <= count && admitted >= self.count.most.load(Ordering::Acquire).max(1) {
                return;
            }
            changed.await;
        }
    }

    /// Bytes that may still be reserved; `None` without a limit.
    pub fn available(&self) -> Option<u64> {
        self.budget.as_ref().map(|budget| budget.semaphore.available_permits() as u64 * GRAIN)
    }

    /// True if nothing is reserved, so that waiting would free nothing; `false` without a limit, which is not
    /// counted.
    pub fn is_idle(&self) -> bool {
        self.budget
            .as_ref()
            .is_some_and(|budget| budget.semaphore.available_permits() == budget.grains as usize)
    }

    /// Waits until `bytes` can be reserved. Requests are served in order, so a large one is not starved.
    /// Cancel safe.
    pub async fn admit(&self, bytes: u64) -> Reservation {
        let mut paused = self.paused.subscribe();
        // The sender is `self`, so this wait ends only when admission is open.
        let _ = paused.wait_for(|paused| !paused).await;
        let counted = self.counted().await;
        let Some(budget) = &self.budget else {
            return Reservation { _permit: None, _counted: Some(counted) };
        };
        let grains = grains(bytes).min(budget.grains);
        let permit = budget.semaphore.clone().acquire_many_owned(grains).await;
        Reservation { _permit: permit.ok(), _counted: Some(counted) }
    }

    async fn counted(&self) -> Counted {
        loop {
            let changed = self.count.changed.notified();
            tokio::pin!(changed);
            // No change is missed from here on.
            changed.as_mut().enable();
            if let Some(counted) = self.count.admit() {
                return counted;
            }
            changed.await;
        }
    }
}

fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX >> 4).min(u32::MAX >> 4)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_admitted(governor: &Governor, bytes: u64) -> Option<Reservation> {
        tokio::time::timeout(Duration::from_millis(50), governor.admit(bytes)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_waits_until_something_is_given_back() {
        let governor = Governor::with_budget(100 * GRAIN);
        let first = is_admitted(&governor, 60 * GRAIN).await.unwrap();
        assert!(is_admitted(&governor, 60 * GRAIN).await.is_none());
        drop(first);
        assert!(is_admitted(&governor, 60 * GRAIN).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_the_budget_is_admitted_alone() {
        let governor = Governor::with_budget(10 * GRAIN);
        let small = is_admitted(&governor, GRAIN).await.unwrap();
        assert!(is_admitted(&governor, 1 << 40).await.is_none());
        drop(small);
        let large = is_admitted(&governor, 1 << 40).await.unwrap();
        assert!(is_admitted(&governor, GRAIN).await.is_none());
        assert!(!governor.is_idle());
        drop(large);
        assert_eq!(governor.available(), Some(10 * GRAIN));
        assert!(governor.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_admitted_than_may_be_at_a_time_and_one_always() {
        let governor = Governor::default();
        governor.limit(2);
        let (first, second) = (is_admitted(&governor, 1).await, is_admitted(&governor, 1).await);
        assert!(first.is_some() && second.is_some() && is_admitted(&governor, 1).await.is_none());
        governor.limit(0);
        drop(first);
        assert!(is_admitted(&governor, 1).await.is_none());
        drop(second);
        let one = is_admitted(&governor, 1).await;
        assert!(one.is_some());
        let waiting = governor.clone();
        let waiting = tokio::spawn(async move { waiting.admit(1).await });
        tokio::time::sleep(Duration::from_millis(10)).await;
        governor.limit(usize::MAX);
        drop(waiting.await.unwrap());
        drop(one);
        assert_eq!(governor.admitted(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_all_that_may_be_admitted_need_not_wait_for_more() {
        let soon = Duration::from_millis(50);
        let governor = Governor::default();
        let first = is_admitted(&governor, 1).await;
        assert!(tokio::time::timeout(soon, governor.exhausted_by(1)).await.is_err(), "there is no limit");
        governor.limit(2);
        assert!(tokio::time::timeout(soon, governor.exhausted_by(1)).await.is_err(), "another may come");
        let second = is_admitted(&governor, 1).await;
        assert!(tokio::time::timeout(soon, governor.exhausted_by(1)).await.is_err(), "another will come");
        let waiting = governor.exhausted_by(1);
        let release = async {
            drop(first);
            governor.limit(1);
        };
        tokio::join!(waiting, release);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_back_what_is_new_and_leaves_what_is_admitted() {
        let governor = Governor::default();
        let first = is_admitted(&governor, 1).await;
        governor.pause(true);
        assert!(is_admitted(&governor, 1).await.is_none());
        governor.pause(false);
        assert!(is_admitted(&governor, 1).await.is_some());
        drop(first);
    }
}
