//! Counts events at the development server, and lets tests wait for them without sleeping.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsync_protocol::{Uid, VaultId};
use tokio::sync::Notify;

/// Statistics of a server since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// REST calls received, including those struck by a fault.
    pub rest_requests: u64,
    /// REST calls by path.
    pub rest_by_path: BTreeMap<&'static str, u64>,
    /// WebSocket connections opened.
    pub websocket_connections: u64,
    /// WebSocket connections open now.
    pub open_websockets: u64,
    /// The most WebSocket connections open at a time, since the maxima were reset.
    pub max_open_websockets: u64,
    /// The `init` messages received, in order.
    pub inits: Vec<InitRecord>,
    /// Pings answered.
    pub pings: u64,
    /// Entries sent in listings.
    pub entries_listed: u64,
    /// Pull requests received.
    pub pulls: u64,
    /// Pulls whose content was sent completely.
    pub pulls_answered: u64,
    /// The most unanswered pull requests on one connection (the one being answered included), since the
    /// maxima were reset.
    pub max_pulls_in_flight: u64,
    /// Encrypted bytes of content passed to the network, including those of contents cut off.
    pub content_bytes: u64,
    /// Number of times each content was sent completely.
    pub served: BTreeMap<(VaultId, Uid), u64>,
    /// Requests received over WebSocket that would change a vault (push, restore, purge), refused ones included.
    pub changes_requested: u64,
    /// Pushes received over WebSocket and recorded.
    pub pushes: u64,
    /// Pushes whose content was already known, so that it was not sent.
    pub pushes_without_content: u64,
    /// Encrypted bytes of content received.
    pub content_bytes_received: u64,
}

/// An `init` message that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitRecord {
    /// The requested vault.
    pub vault: String,
    /// The client's version.
    pub version: u64,
    /// The client called this its first sync.
    pub initial: bool,
    /// The client's device name.
    pub device: String,
    /// The client's encryption version.
    pub encryption_version: u64,
    /// The session was accepted.
    pub accepted: bool,
}

impl Stats {
    /// The contents that were sent completely more than once.
    pub fn served_more_than_once(&self) -> Vec<(VaultId, Uid)> {
        self.served.iter().filter(|(_, times)| **times > 1).map(|(content, _)| content.clone()).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recorder {
    stats: Mutex<Stats>,
    changed: Notify,
}

impl Recorder {
    pub(crate) fn snapshot(&self) -> Stats {
        self.lock().clone()
    }

    /// Counters are subtracted; maxima cannot be.
    pub(crate) fn begin_maxima_anew(&self) {
        self.record(|stats| {
            stats.max_open_websockets = stats.open_websockets;
            stats.max_pulls_in_flight = 0;
        });
    }

    pub(crate) fn record(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }

    /// Waits until `condition` holds; a change between the check and the wait is not missed.
    pub(crate) async fn wait_for(&self, condition: impl Fn(&Stats) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
