//! A held lease: renewed in the background until its owner releases it or is dropped.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use obsync_core::blocking::lock;
use obsync_core::{Clock, StateError};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::chain::{Chain, ChainEnd};
use super::head::InStep;
use super::keys::ItemKeys;
use super::lease::{self, Lease};
use super::state::read_head;
use super::table::DynamoTable;

/// A moment by both clocks, taken before the request that a lease counts from is sent: its answer may come
/// late. In a frozen process the steady clock may have stood still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Moment { steady: clock.steady(), wall: clock.wall() }
    }
}

/// A lease, and its present state.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) lease: Lease,
    /// The chain whose step holds it.
    chain: Option<Chain>,
    /// See [`Writer::revisions`](super::transaction::Writer::revisions).
    pub(super) revisions: AtomicU64,
    /// When it was last taken or renewed.
    renewed: watch::Sender<Moment>,
    /// Another run has it now.
    lost: watch::Sender<bool>,
    /// Nothing may be written under it any more.
    closed: AtomicBool,
    released: AtomicBool,
    /// When the run found the destination up to date, milliseconds since the epoch; 0: it did not.
    checked: AtomicI64,
    /// Text that identifies the destination, as long as no record changes.
    in_step: Mutex<Option<String>>,
}

/// Renews a lease until it is stopped or dropped.
#[derive(Debug)]
pub(super) struct Keeper(AbortHandle);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Keeper {
    /// Starts to renew a lease. Call it within a tokio runtime.
    pub(super) fn of(table: &DynamoTable, keys: &ItemKeys, holding: &Arc<Holding>) -> Self {
        let (table, keys, holding) = (table.clone(), keys.clone(), holding.clone());
        Keeper(tokio::spawn(async move { holding.keep(&table, &keys).await }).abort_handle())
    }

    /// Stops renewing.
    pub(super) fn stop(&self) {
        self.0.abort();
    }
}

impl Holding {
    /// A lease requested at this moment.
    pub(super) fn new(lease: Lease, chain: Option<Chain>, taken: Moment) -> Self {
        Holding {
            lease,
            chain,
            revisions: AtomicU64::new(0),
            renewed: watch::Sender::new(taken),
            lost: watch::Sender::new(false),
            closed: AtomicBool::new(false),
            released: AtomicBool::new(false),
            checked: AtomicI64::new(0),
            in_step: Mutex::default(),
        }
    }

    /// Records that a request of this moment renewed the lease, by a commit or otherwise.
    pub(super) fn note_renewal(&self, asked: Moment) {
        self.renewed.send_replace(asked);
    }

    /// True if nobody else can have the lease yet: it has expired by neither clock.
    pub(super) fn is_held(&self, clock: &dyn Clock) -> bool {
        let (now, renewed) = (Moment::now(clock), *self.renewed.borrow());
        let by_wall = now.wall.duration_since(renewed.wall);
        let is_within = now.steady.duration_since(renewed.steady) < self.lease.duration
            && by_wall.is_ok_and(|passed| passed < self.lease.duration)
            && self.lease.latest.is_none_or(|latest| lease::since_epoch(now.wall) < latest);
        is_within && !self.is_lost() && !self.is_closed()
    }

    /// Records that another run has the lease.
    pub(super) fn note_loss(&self) {
        self.lost.send_replace(true);
    }

    /// True if it is known that another run has the lease.
    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Returns when another run has the lease.
    pub(super) async fn lost(&self) {
        // The sender outlives this borrow, so there always is an answer.
        if self.lost.subscribe().wait_for(|lost| *lost).await.is_err() {
            std::future::pending().await
        }
    }

    /// Stops all writing under it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// True if nothing may be written under it any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Sets the time when the run was up to date, to be written when the lease is released.
    pub(super) fn note_check(&self, at: i64) {
        self.checked.store(at, Ordering::Relaxed);
    }

    /// Returns the text that identifies the destination, if no record changed since it was noted.
    pub(super) fn in_step(&self) -> Option<String> {
        lock(&self.in_step).clone()
    }

    /// Sets the text to write when the lease is released; `None` if a record changes.
    pub(super) fn note_in_step(&self, known_by: Option<String>) {
        *lock(&self.in_step) = known_by;
    }

    /// Releases it, unless another run has it already. May be called again after an error. Returns true if
    /// this call released it.
    pub(super) async fn release(
        &self,
        table: &DynamoTable,
        keys: &ItemKeys,
        end: ChainEnd,
    ) -> Result<bool, StateError> {
        if self.is_lost() || self.released.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let checked = self.checked.load(Ordering::Relaxed);
        let chain = self.chain.as_ref().map(|chain| (chain, end));
        let noted = lease::Noted {
            checked: (checked > 0).then_some(checked),
            in_step: self.in_step().map(|known_by| InStep { fencing: self.lease.fencing, known_by }),
        };
        let is_done = lease::release(table, keys, &self.lease, noted, chain).await?;
        self.released.store(true, Ordering::Relaxed);
        match (is_done, chain) {
            (false, Some((chain, ChainEnd::HandOn { .. }))) => self.has_handed_on(table, keys, chain).await,
            _ => Ok(is_done),
        }
    }

    /// True if an earlier attempt to hand on succeeded although its answer was lost.
    async fn has_handed_on(
        &self,
        table: &DynamoTable,
        keys: &ItemKeys,
        chain: &Chain,
    ) -> Result<bool, StateError> {
        let head = read_head(table, keys).await?;
        Ok(head.is_some_and(|head| {
            head.fencing == self.lease.fencing
                && head.chain.id == chain.id
                && head.chain.due == Some(chain.step.saturating_add(1))
        }))
    }

    /// Renews the lease whenever a third of it has passed without a commit.
    async fn keep(&self, table: &DynamoTable, keys: &ItemKeys) {
        let (third, soon) = (self.lease.duration / 3, self.lease.duration / 12);
        loop {
            let due = self.renewed.borrow().steady + third;
            if table.clock().steady() < due {
                table.clock().sleep_until(due).await;
                continue;
            }
            let asked = Moment::now(table.clock());
            match lease::renew(table, keys, &self.lease).await {
                Ok(true) => self.note_renewal(asked),
                Ok(false) => return self.note_loss(),
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed; trying again");
                    table.clock().sleep(soon).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obsync_core::SystemClock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn lease() -> Lease {
        Lease { fencing: 1, id: "a lease".to_owned(), duration: MINUTE, latest: None }
    }

    fn holding() -> Holding {
        Holding::new(lease(), None, Moment::now(&SystemClock))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_ran_out_by_either_clock_is_not_held() {
        let (held, clock) = (holding(), SystemClock);
        let asked = Moment::now(&clock);
        tokio::time::advance(MINUTE - Duration::from_secs(1)).await;
        assert!(held.is_held(&clock));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!held.is_held(&clock));
        // The answer of a request came late: the lease counts from when the request was sent.
        held.note_renewal(asked);
        assert!(!held.is_held(&clock));
        held.note_renewal(Moment::now(&clock));
        assert!(held.is_held(&clock));
        // The process was frozen: its steady clock stood still.
        held.note_renewal(Moment { wall: clock.wall() - MINUTE, ..Moment::now(&clock) });
        assert!(!held.is_held(&clock));
    }

    #[tokio::test]
    async fn a_lease_that_is_lost_closed_or_over_is_not_held() {
        let (lost, closed) = (holding(), holding());
        lost.note_loss();
        closed.close();
        let over = Lease { latest: Some(lease::since_epoch(SystemClock.wall()) - 1), ..lease() };
        assert!(!lost.is_held(&SystemClock) && !closed.is_held(&SystemClock));
        assert!(!Holding::new(over, None, Moment::now(&SystemClock)).is_held(&SystemClock));
    }
}
