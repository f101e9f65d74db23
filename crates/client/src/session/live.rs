//! Changes that a session receives after its listing, buffered for one subscriber.
//!
//! The session adds changes whenever it reads: while it idles, queries, sends or fetches. None is dropped
//! silently: when the subscriber is so slow that the changes fill their buffer, it gets those already
//! buffered and then [`LiveEnd::Overflow`]. A new session lists the missed ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use obsync_protocol::PushMessage;
use thiserror::Error;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Memory of a buffered change beyond its text, in bytes.
const OVERHEAD: usize = 256;

/// Why there are no further changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LiveEnd {
    /// The buffer overflowed, and some changes were lost.
    #[error("changes came faster than they were taken; a new session has to list what was missed")]
    Overflow,
    /// The session is over.
    #[error("the session is over; a new one has to list what came since")]
    Closed,
}

/// The live changes of one session, in order of arrival.
#[derive(Debug)]
pub struct LiveChanges {
    changes: UnboundedReceiver<(PushMessage, usize)>,
    account: Arc<Account>,
}

/// Set when the session ends.
pub(super) struct LiveSender {
    changes: Option<UnboundedSender<(PushMessage, usize)>>,
    account: Arc<Account>,
    memory: usize,
}

#[derive(Debug, Default)]
struct Account {
    bytes: AtomicUsize,
    has_overflowed: AtomicBool,
}

pub(super) fn channel(memory: usize) -> (LiveSender, LiveChanges) {
    let (sender, changes) = unbounded_channel();
    let account = Arc::new(Account::default());
    let sender = LiveSender { changes: Some(sender), account: Arc::clone(&account), memory };
    (sender, LiveChanges { changes, account })
}

impl LiveSender {
    /// Buffers a change whose text had this many bytes.
    pub(super) fn send(&mut self, change: &PushMessage, text: usize) {
        let Some(changes) = &self.changes else { return };
        let size = text + OVERHEAD;
        if self.account.bytes.fetch_add(size, Ordering::AcqRel) + size > self.memory {
            self.account.has_overflowed.store(true, Ordering::Release);
            self.changes = None;
        } else if changes.send((change.clone(), size)).is_err() {
            // The subscriber is gone.
            self.changes = None;
        }
    }
}

impl LiveChanges {
    /// Waits for the next change. Can be cancelled without loss. Only the session reads: await one of its
    /// methods meanwhile, `idle` at least.
    ///
    /// # Errors
    /// [`LiveEnd`] once all buffered changes are taken and no further can come.
    pub async fn next(&mut self) -> Result<PushMessage, LiveEnd> {
        match self.changes.recv().await {
            Some((change, size)) => Ok(self.take(change, size)),
            None => Err(self.end()),
        }
    }

    /// The next change, if one is buffered.
    ///
    /// # Errors
    /// As for [`LiveChanges::next`].
    pub fn try_next(&mut self) -> Result<Option<PushMessage>, LiveEnd> {
        match self.changes.try_recv() {
            Ok((change, size)) => Ok(Some(self.take(change, size))),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.end()),
        }
    }

    fn take(&self, change: PushMessage, size: usize) -> PushMessage {
        self.account.bytes.fetch_sub(size, Ordering::AcqRel);
        change
    }

    fn end(&self) -> LiveEnd {
        if self.account.has_overflowed.load(Ordering::Acquire) { LiveEnd::Overflow } else { LiveEnd::Closed }
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::Uid;

    use super::*;

    fn change(uid: u64) -> PushMessage {
        PushMessage { uid: Uid(uid), ..PushMessage::default() }
    }

    #[tokio::test]
    async fn changes_are_kept_in_their_order_and_an_overflow_is_said_after_them() {
        let (mut sender, mut changes) = channel(3 * (OVERHEAD + 100));
        assert_eq!(changes.try_next(), Ok(None));
        for uid in 1..=5 {
            sender.send(&change(uid), 100);
        }
        for uid in 1..=3 {
            assert_eq!(changes.next().await.unwrap().uid, Uid(uid));
        }
        assert_eq!(changes.next().await, Err(LiveEnd::Overflow));
        assert_eq!(changes.try_next(), Err(LiveEnd::Overflow));
    }

    #[tokio::test]
    async fn changes_that_are_taken_make_room_and_the_sessions_end_is_said() {
        let (mut sender, mut changes) = channel(2 * (OVERHEAD + 100));
        for uid in 1..=100 {
            sender.send(&change(uid), 100);
            assert_eq!(changes.try_next().unwrap().map(|change| change.uid), Some(Uid(uid)));
        }
        drop(sender);
        assert_eq!(changes.next().await, Err(LiveEnd::Closed));
    }
}
