//! Conformance suites of the engine's two storage traits: checks that panic if the contract is violated.
//!
//! A store's tests implement [`DestinationUnderTest`] or [`StateStoreUnderTest`] for a place where such a
//! store can be opened, and call [`check_destination`] or [`check_state_store`].
//!
//! Besides: [`confined`], restricted child processes; `refused_locks`, file systems without locks; [`SetClock`],
//! a clock that a test moves; [`not_tested`](fn@not_tested), tests that cannot run on a machine.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "these are tests: a promise that is broken is told by a panic"
)]

pub mod confined;
mod destination;
mod identity;
mod not_tested;
#[cfg(target_os = "linux")]
pub mod refused_locks;
mod set_clock;
mod staging;
mod state_store;
mod tools;
mod watched_state;

pub use destination::{DestinationUnderTest, check_destination};
pub use not_tested::{not_tested, not_tested_in};
pub use set_clock::SetClock;
pub use state_store::{StateStoreUnderTest, check_state_store, placing};
pub use tools::{Placed, at, meta, peak_memory, place, publish_one, stage};
pub use watched_state::WatchedState;
