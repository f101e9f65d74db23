//! Counts what happens at the development server, and lets tests wait for it without sleeping.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsync_protocol::{Uid, VaultId};
use tokio::sync::Notify;

/// What happened at a server since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// REST calls received, those that a fault struck included.
    pub rest_requests: u64,
    /// REST calls by path.
    pub rest_by_path: BTreeMap<&'static str, u64>,
    /// WebSocket connections opened.
    pub websocket_connections: u64,
    /// WebSocket connections open now.
    pub open_websockets: u64,
    /// The most WebSocket connections that were open at a time, since the maxima were begun anew.
    pub max_open_websockets: u64,
    /// The `init` messages received, in order.
    pub inits: Vec<InitRecord>,
    /// Pings answered.
    pub pings: u64,
    /// Entries sent in listings.
    pub entries_listed: u64,
    /// Pull requests received.
    pub pulls: u64,
    /// Pulls whose content was sent to its end.
    pub pulls_answered: u64,
    /// The most pull requests that were waiting on one connection (the one being answered included), since the maxima
    /// were begun anew.
    pub max_pulls_in_flight: u64,
    /// Encrypted bytes of content handed to the network, those of contents cut off included.
    pub content_bytes: u64,
    /// How often each content was sent to its end.
    pub served: BTreeMap<(VaultId, Uid), u64>,
    /// Requests received over WebSocket that would change a vault (push, restore, purge), refused ones included.
    pub changes_requested: u64,
    /// Pushes received over WebSocket and recorded.
    pub pushes: u64,
    /// Pushes whose content was already known, so that none was sent.
    pub pushes_without_content: u64,
    /// Encrypted bytes of content received.
    pub content_bytes_received: u64,
}

/// An `init` message that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitRecord {
    /// The vault that was asked for.
    pub vault: String,
    /// The version that the client said it has.
    pub version: u64,
    /// Whether the client called this its first sync.
    pub initial: bool,
    /// The client's name for its device.
    pub device: String,
    /// The encryption version that the client gave.
    pub encryption_version: u64,
    /// Whether the session was let in.
    pub accepted: bool,
}

impl Stats {
    /// The contents that were sent to their end more than once.
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

    /// Of counters a difference can be taken, of maxima not.
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

    /// Waits until `condition` holds; a change between the look and the wait is not missed.
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
