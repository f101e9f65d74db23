//! What systemd is told of a follower (`sd_notify`): that it began, what it does, and that it does not hang.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, if there is one that wants to know (`NOTIFY_SOCKET`).
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    /// The last status, which is not told twice.
    status: Mutex<String>,
}

impl ServiceManager {
    /// The follower works from now on.
    pub(super) fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// What the follower does, in one line.
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

    /// How often the service manager wants to hear that, with room for one that comes late; `None` if it does not.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| (limit / 3).max(Duration::from_millis(10)))
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
