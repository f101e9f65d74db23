//! Decides, event by event, which faults strike; the same seed and the same events give the same faults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsync_protocol::Uid;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{FaultKind, Faults};

/// The faults of a running server: read, replaced and adjusted at run time.
///
/// Changing them starts the counts of every [`Chance`](super::Chance) (`next`, `after`, `at-most`) afresh.
#[derive(Debug)]
pub struct FaultControl {
    /// Spares a server without faults the lock on each message.
    quiet: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    events: HashMap<FaultKind, u64>,
    strikes: HashMap<FaultKind, u64>,
    /// Number of draws for each kind and subject, so that a second try may have another result.
    draws: HashMap<(FaultKind, u64), u64>,
}

impl FaultControl {
    pub(crate) fn new(faults: Faults) -> Self {
        let quiet = AtomicBool::new(faults == Faults::default());
        Self { quiet, state: Mutex::new(State { faults, ..State::default() }) }
    }

    /// The present faults.
    pub fn get(&self) -> Faults {
        self.lock().faults.clone()
    }

    /// Replaces the faults.
    pub fn set(&self, faults: Faults) {
        let mut state = self.lock();
        self.quiet.store(faults == Faults::default(), Ordering::Release);
        *state = State { faults, ..State::default() };
    }

    /// Adjusts the faults.
    pub fn update(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.get();
        change(&mut faults);
        self.set(faults);
    }

    /// Turns every fault off.
    pub fn clear(&self) {
        self.set(Faults::default());
    }

    /// Number of times the fault of this command-line name struck since the faults were set.
    pub fn strikes(&self, name: &str) -> u64 {
        let state = self.lock();
        state.strikes.iter().filter(|(kind, _)| kind.name() == name).map(|(_, times)| times).sum()
    }

    /// True if no fault is set at all.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    /// Reads a setting of the present faults.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Faults) -> T) -> T {
        read(&self.lock().faults)
    }

    /// True if the fault strikes at this event on content.
    pub(crate) fn strikes_content(&self, kind: FaultKind, uid: Uid) -> bool {
        self.decide(kind, Some(uid), uid.0)
    }

    /// True if the fault strikes at this event; `subject` distinguishes events for the draw.
    pub(crate) fn strikes_at(&self, kind: FaultKind, subject: u64) -> bool {
        self.decide(kind, None, subject)
    }

    /// True if the fault can still strike: it is set and not used up.
    pub(crate) fn may_strike(&self, kind: FaultKind) -> bool {
        if self.quiet() {
            return false;
        }
        let state = self.lock();
        let strikes = state.strikes.get(&kind).copied().unwrap_or_default();
        // The luckiest draw, once the events that must go well are over.
        state.faults.chance(kind).strikes(u64::MAX, strikes, 0.0)
    }

    /// A generator for the details of a fault, such as which byte is changed.
    pub(crate) fn dice(&self, kind: FaultKind, subject: u64) -> ChaCha8Rng {
        let seed = self.read(|faults| faults.seed);
        ChaCha8Rng::seed_from_u64(mix(&[seed, kind as u64, subject]))
    }

    /// Draws by seed, kind, subject and try, never by the order of connections: the decision for the second
    /// try of uid 17 is the same whatever the number of connections.
    fn decide(&self, kind: FaultKind, uid: Option<Uid>, subject: u64) -> bool {
        if self.quiet() {
            return false;
        }
        let mut state = self.lock();
        let chance = state.faults.chance(kind).clone();
        if chance.is_never() || !chance.concerns(uid) {
            return false;
        }
        let draw = {
            let tries = state.draws.entry((kind, subject)).or_default();
            *tries += 1;
            let tries = *tries;
            unit(mix(&[state.faults.seed, kind as u64, subject, tries]))
        };
        let events = state.events.get(&kind).copied().unwrap_or_default();
        let strikes = state.strikes.get(&kind).copied().unwrap_or_default();
        let strikes_now = chance.strikes(events, strikes, draw);
        *state.events.entry(kind).or_default() += 1;
        if strikes_now {
            *state.strikes.entry(kind).or_default() += 1;
            tracing::debug!(fault = kind.name(), subject, "fault strikes");
        }
        strikes_now
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mixes numbers into one (splitmix64), so that neighbours draw independently.
fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A number in 0..1 from 53 random bits.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::super::Chance;
    use super::*;

    fn corrupting(chance: Chance, seed: u64) -> FaultControl {
        FaultControl::new(Faults { corrupt_content: chance, seed, ..Faults::default() })
    }

    fn struck(control: &FaultControl, uids: impl Iterator<Item = u64>) -> Vec<u64> {
        uids.filter(|uid| control.strikes_content(FaultKind::CorruptContent, Uid(*uid))).collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_uids_in_any_order() {
        let forwards = struck(&corrupting(Chance::probability(0.3), 1), 0..1000);
        let mut backwards = struck(&corrupting(Chance::probability(0.3), 1), (0..1000).rev());
        backwards.reverse();
        assert_eq!(forwards, backwards);
        assert_ne!(forwards, struck(&corrupting(Chance::probability(0.3), 2), 0..1000));
        assert!((200..400).contains(&forwards.len()), "{} of 1000 struck", forwards.len());
    }

    #[test]
    fn next_after_and_uid_limit_where_a_fault_strikes() {
        assert_eq!(struck(&corrupting(Chance::next(2), 0), 1..10), [1, 2]);
        assert_eq!(struck(&corrupting(Chance::next(2).after(3), 0), 1..10), [4, 5]);
        assert_eq!(struck(&corrupting(Chance::always().for_uid(Uid(7)), 0), 1..10), [7]);
    }

    #[test]
    fn setting_the_faults_again_starts_the_counts_afresh() {
        let control = corrupting(Chance::next(1), 0);
        assert_eq!(struck(&control, 1..4), [1]);
        assert_eq!(control.strikes("corrupt-content"), 1);
        control.update(|_| {});
        assert_eq!(struck(&control, 1..4), [1]);
        control.clear();
        assert!(struck(&control, 1..4).is_empty());
    }
}
