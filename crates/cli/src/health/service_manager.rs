//! Notifies systemd of a follower (`sd_notify`): its start, its status, and that it does not hang.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, if there is one (`NOTIFY_SOCKET`).
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    /// The last status, to avoid repetition.
    status: Mutex<String>,
    is_ready: AtomicBool,
}

impl ServiceManager {
    /// The follower is ready, for the first time.
    pub(super) fn ready(&self) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            notify(&[NotifyState::Ready]);
        }
    }

    /// The follower is on its first run, which may take longer than a service's start: extends the timeout by
    /// this long.
    pub(super) fn starting(&self, patience: Duration) {
        if !self.is_ready.load(Ordering::Relaxed) {
            let micros = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
            notify(&[NotifyState::ExtendTimeoutUsec(micros)]);
        }
    }

    /// True if there is a service manager.
    pub(super) fn is_there(&self) -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// True if the follower was ready once.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    /// The activity of the follower, in one line.
    pub(super) fn status(&self, status: &str) {
        // Nothing that can panic runs under the lock.
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != status {
            status.clone_into(&mut last);
            let line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            notify(&[NotifyState::Status(&line)]);
        }
    }

    /// The follower ends.
    pub(super) fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }

    /// The follower does not hang.
    pub(super) fn alive(&self) {
        notify(&[NotifyState::Watchdog]);
    }

    /// The interval of watchdog messages, with room for a late one; `None` without a watchdog.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| (limit / 3).max(Duration::from_millis(10)))
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
