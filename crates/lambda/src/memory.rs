//! Keeps the function inside its memory: a budget for transfers, and a watcher that pauses them when actual
//! use comes near the limit.

use std::time::Duration;

use obsync_core::Governor;
use tokio::task::AbortHandle;

use crate::gauge::{self, Gauge};

/// Above this share of the memory, nothing new is admitted, in percent.
const PAUSE_ABOVE: u64 = 80;
/// Below this share, admission resumes, in percent.
const RESUME_BELOW: u64 = 60;
/// Factor by which checks are more frequent under pressure.
const FASTER: u32 = 10;
/// The share of the limit that transfers may fill together with the memory already in use, in percent. The
/// rest is for uncounted memory: connections, listings, the allocator.
const FILL: u64 = 60;
/// The least budget, as a part of the limit.
const LEAST: u64 = 8;
/// The part of the limit for the list of a vault.
const LISTING: u64 = 6;
/// Memory of one connection besides the counted one: a piece as received, and decrypted (by design 2 MiB
/// each).
const CONNECTION: u64 = 4 << 20;

/// The memory limits of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Bytes that transfers may use together.
    pub(crate) budget: u64,
    /// Connections at most.
    pub(crate) connections: usize,
    /// Bytes of the largest content that waits in memory and is uploaded by one PUT.
    pub(crate) part_size: usize,
    /// Bytes for the list of a vault.
    pub(crate) listing: u64,
}

impl Allowance {
    /// With a `limit`, of which `used` bytes are taken before anything is transferred, and at most this many
    /// connections.
    pub(crate) fn of(limit: u64, used: u64, connections: usize) -> Self {
        let budget = (limit * FILL / 100).saturating_sub(used).max(limit / LEAST);
        // A third for the connections, the rest for their contents.
        let affordable = usize::try_from(budget / 3 / CONNECTION).unwrap_or(usize::MAX).max(1);
        let connections = connections.clamp(1, affordable);
        let budget = budget.saturating_sub(connections as u64 * CONNECTION).max(limit / LEAST);
        let part_size = if budget < 64 << 20 { 5 << 20 } else { 8 << 20 };
        Allowance { budget, connections, part_size, listing: limit / LISTING }
    }
}

/// The watched resources, and the interval.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// The memory.
    pub(crate) gauge: Gauge,
    /// Bytes of `/tmp` that should be free; 0: any.
    pub(crate) scratch: u64,
    /// Interval of checks without pressure.
    pub(crate) every: Duration,
}

/// A running watcher; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Watcher(AbortHandle);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The result of one check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// Share of the memory in use, in percent.
    memory: u64,
    /// Share of the wanted space in `/tmp` that is not free, in percent.
    scratch: u64,
}

impl Look {
    fn worst(self) -> u64 {
        self.memory.max(self.scratch)
    }
}

impl Watch {
    /// Starts to watch, and pauses and resumes `governor`. Call it within a runtime.
    pub(crate) fn start(self, governor: Governor) -> Watcher {
        Watcher(tokio::spawn(async move { self.keep(&governor).await }).abort_handle())
    }

    async fn keep(&self, governor: &Governor) {
        loop {
            let look = self.look();
            self.act(governor, look);
            let pressed = governor.is_paused() || look.worst() > RESUME_BELOW;
            tokio::time::sleep(if pressed { self.every / FASTER } else { self.every }).await;
        }
    }

    fn look(&self) -> Look {
        let memory = self.gauge.used().map_or(0, |used| share(used, self.gauge.limit));
        let free = gauge::free_scratch().unwrap_or(self.scratch);
        let scratch = share(self.scratch.saturating_sub(free), self.scratch);
        tracing::debug!(memory_percent = memory, tmp_percent = scratch, "resources");
        Look { memory, scratch }
    }

    fn act(&self, governor: &Governor, look: Look) {
        let Look { memory, scratch } = look;
        match decide(governor.is_paused(), look.worst(), governor.is_idle()) {
            Decision::Nothing => {}
            Decision::Pause => {
                tracing::warn!(
                    memory_percent = memory,
                    tmp_percent = scratch,
                    "memory is scarce: no new transfers until it is less so"
                );
                governor.pause(true);
            }
            Decision::Resume => {
                tracing::info!(memory_percent = memory, tmp_percent = scratch, "transfers go on");
                governor.pause(false);
            }
            Decision::ResumeAnyway => {
                tracing::debug!(
                    "nothing is left in flight that could give memory back: transfers go on one by one"
                );
                governor.pause(false);
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Nothing,
    Pause,
    Resume,
    /// Memory is still scarce, but waiting would not change that.
    ResumeAnyway,
}

/// The decision at this share, in percent. Between the two marks nothing changes, so that admission does not
/// flutter.
fn decide(paused: bool, share: u64, nothing_admitted: bool) -> Decision {
    match (paused, share) {
        (true, share) if share < RESUME_BELOW => Decision::Resume,
        (true, _) if nothing_admitted => Decision::ResumeAnyway,
        (false, share) if share > PAUSE_ABOVE && !nothing_admitted => Decision::Pause,
        _ => Decision::Nothing,
    }
}

/// The share of the whole, in percent.
fn share(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_small_function_gets_a_small_allowance() {
        let small = Allowance::of(128 * MIB, 36 * MIB, 5);
        assert_eq!(small.connections, 3);
        assert_eq!(small.part_size, 5 << 20);
        assert!(small.budget >= 16 * MIB && small.budget < 40 * MIB, "{small:?}");
        let large = Allowance::of(1024 * MIB, 40 * MIB, 5);
        assert_eq!((large.connections, large.part_size), (5, 8 << 20));
    }

    #[test]
    fn what_is_used_up_already_still_leaves_a_little() {
        assert_eq!(Allowance::of(128 * MIB, 128 * MIB, 5).budget, 16 * MIB);
    }

    proptest! {
        #[test]
        fn an_allowance_is_never_nothing_and_never_more_than_there_is(
            limit in 64 * MIB..16384 * MIB,
            used in 0..16384 * MIB,
            connections in 1_usize..64,
        ) {
            let allowance = Allowance::of(limit, used, connections);
            prop_assert!(allowance.budget >= limit / LEAST && allowance.budget < limit);
            prop_assert!((1..=connections).contains(&allowance.connections));
        }
    }

    #[test]
    fn admission_pauses_above_80_percent_and_resumes_below_60() {
        for (paused, share, decision) in [
            (false, 80, Decision::Nothing),
            (false, 81, Decision::Pause),
            (true, 81, Decision::Nothing),
            (true, 60, Decision::Nothing),
            (true, 59, Decision::Resume),
            (false, 59, Decision::Nothing),
        ] {
            assert_eq!(decide(paused, share, false), decision, "{paused} {share}");
        }
    }

    #[test]
    fn waiting_ends_when_nothing_could_give_memory_back() {
        assert_eq!(decide(true, 95, true), Decision::ResumeAnyway);
        assert_eq!(decide(false, 95, true), Decision::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn the_watcher_pauses_while_memory_is_scarce() {
        let governor = Governor::with_budget(MIB);
        let permit = governor.admit(1).await;
        // Every process uses more than a byte.
        let watch =
            |limit| Watch { gauge: Gauge::new(Some(limit), None), scratch: 0, every: Duration::from_secs(5) };
        let watcher = watch(1).start(governor.clone());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(governor.is_paused());
        drop(watcher);
        let _watcher = watch(1 << 50).start(governor.clone());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!governor.is_paused());
        drop(permit);
    }

    #[test]
    fn shares_are_in_percent() {
        assert_eq!(share(50, 200), 25);
        assert_eq!(share(1, 0), 0);
        assert_eq!(share(u64::MAX, 1), u64::MAX);
    }
}
