//! Work that blocks, handed to the threads that may.

use std::panic::resume_unwind;

pub(crate) use crate::locking::lock;

/// The runtime ended before the work was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

impl Stopped {
    /// What to tell of it.
    pub(crate) const REASON: &str =
        "obsync is shutting down; run the same command again, it goes on where it stopped";
}

/// Runs `work` on a thread that may block and waits for it. A panic in it goes on here.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, Stopped>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_cancelled) => Stopped,
    })
}
