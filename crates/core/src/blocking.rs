//! Runs blocking work on threads that may block, and locks mutexes that a panic does not poison. For stores
//! and states.

use std::panic::resume_unwind;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The runtime ended before the work began.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

impl Stopped {
    /// Message for [`Stopped`].
    pub const REASON: &str =
        "obsync is shutting down; run the same command again, it goes on where it stopped";
}

/// Runs `work` on a thread that may block and waits for it. A panic in it is propagated.
pub async fn blocking<T, F>(work: F) -> Result<T, Stopped>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_cancelled) => Stopped,
    })
}

/// Locks `mutex`, also after a panic elsewhere: a panic leaves nothing half-changed that these mutexes guard.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
