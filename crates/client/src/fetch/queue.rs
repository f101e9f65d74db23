//! The waiting jobs, shared by all connections of a run.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::PullRequest;

/// Bytes of content that may be under way on one connection beyond the first file: enough to hide the round
/// trip of a good line, and little enough that a broken connection costs little.
const WINDOW_BYTES: u64 = 1 << 20;

/// A job under way.
#[derive(Debug)]
pub(super) struct Pending<J> {
    pub(super) job: J,
    pub(super) request: PullRequest,
    pub(super) tries: Tries,
    /// When it was last requested.
    pub(super) sent: Option<Instant>,
    /// No other request was under way on its connection, so the answer is certainly for this job.
    pub(super) alone: bool,
}

/// Failed attempts of a job, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    /// Its connection broke during its turn.
    pub(super) lost: u32,
    /// Those of the connections that were given up because the answer or the content timed out.
    pub(super) timed_out: u32,
    /// The content was refused by either side.
    pub(super) content: u32,
    /// The server was overloaded.
    pub(super) overloaded: u32,
    /// Its answer has to be received again with no other request under way.
    pub(super) doubtful: bool,
}

impl Tries {
    /// True if the job must be requested with no other on the connection: it can then harm no other, and no
    /// other is blamed for its failure.
    pub(super) fn wants_to_be_alone(self) -> bool {
        self.lost > 0 || self.content > 0 || self.doubtful
    }
}

/// Remaining capacity of a connection's window.
pub(super) struct Window {
    requests: usize,
    bytes: u64,
    most: usize,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Self { requests: 0, bytes: 0, most: most.max(1) }
    }

    /// Counts a request of `size` bytes in, if there is room. The first one always fits.
    pub(super) fn admit(&mut self, size: u64) -> bool {
        // The bytes of the request at the head do not count: it is being received.
        let bytes = if self.requests == 0 { 0 } else { self.bytes.saturating_add(size) };
        if self.requests >= self.most || bytes > WINDOW_BYTES {
            return false;
        }
        self.requests += 1;
        self.bytes = bytes;
        true
    }
}

/// The queue. All methods are quick; nothing waits under the lock.
#[derive(Debug)]
pub(super) struct Queue<J> {
    inner: Mutex<QueueInner<J>>,
    /// Notified when a job was added or the queue was closed.
    changed: Notify,
    /// Notified when there is room again.
    drained: Notify,
    capacity: usize,
}

#[derive(Debug)]
struct QueueInner<J> {
    fresh: VecDeque<Pending<J>>,
    again: VecDeque<Pending<J>>,
    /// Jobs added and not settled, wherever they are.
    open: usize,
    /// No more jobs will be added.
    closed: bool,
    /// Connections that are idle or being opened.
    hungry: usize,
}

/// Work for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Available,
    /// None now.
    Later,
    /// None ever again.
    Finished,
}

impl<J> Queue<J> {
    /// A queue with a target of about `capacity` jobs.
    pub(super) fn new(capacity: usize) -> Self {
        let inner =
            QueueInner { fresh: VecDeque::new(), again: VecDeque::new(), open: 0, closed: false, hungry: 0 };
        Self {
            inner: Mutex::new(inner),
            changed: Notify::new(),
            drained: Notify::new(),
            capacity: capacity.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueInner<J>> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, jobs: impl Iterator<Item = Pending<J>>) {
        let mut inner = self.lock();
        let before = inner.fresh.len();
        inner.fresh.extend(jobs);
        inner.open += inner.fresh.len() - before;
        drop(inner);
        self.changed.notify_waiters();
    }

    /// No more jobs will be added.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Number of jobs that there is room for.
    pub(super) fn free_places(&self) -> usize {
        self.capacity.saturating_sub(self.lock().fresh.len())
    }

    /// Waits until there may be room again.
    pub(super) async fn drained(&self) {
        self.drained.notified().await;
    }

    /// Number of further connections that the waiting jobs justify: one for each full window that no
    /// connection is about to take, and `at_least_one` for less than a window.
    pub(super) fn connections_warranted(&self, in_flight: usize, at_least_one: bool) -> usize {
        let inner = self.lock();
        let mut windows = 0_usize;
        let mut window = Window::new(in_flight);
        for pending in &inner.fresh {
            if !window.admit(pending.request.size) {
                windows += 1;
                window = Window::new(in_flight);
                window.admit(pending.request.size);
            }
        }
        if window.requests == in_flight.max(1) {
            windows += 1;
        }
        if at_least_one && windows == 0 && !(inner.fresh.is_empty() && inner.again.is_empty()) {
            windows = 1;
        }
        windows.saturating_sub(inner.hungry)
    }

    /// True if no job will be added and all are settled.
    pub(super) fn is_finished(&self) -> bool {
        let inner = self.lock();
        inner.closed && inner.open == 0
    }

    pub(super) fn work(&self) -> Work {
        let inner = self.lock();
        if !inner.fresh.is_empty() || !inner.again.is_empty() {
            Work::Available
        } else if inner.closed && inner.open == 0 {
            Work::Finished
        } else {
            Work::Later
        }
    }

    /// Waits until [`Queue::work`] returns something other than [`Work::Later`].
    pub(super) async fn wait(&self) -> Work {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no notification is missed.
            changed.as_mut().enable();
            match self.work() {
                Work::Later => changed.await,
                work => return work,
            }
        }
    }

    /// Waits until no job will be added and all are settled.
    pub(super) async fn finished(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.is_finished() {
                return;
            }
            changed.await;
        }
    }

    /// Moves jobs to `taken` as far as `window` admits them. A job that must be alone is taken only if no
    /// other is available and `may_be_alone`.
    pub(super) fn take(&self, window: &mut Window, may_be_alone: bool, taken: &mut VecDeque<Pending<J>>) {
        let mut inner = self.lock();
        let before = taken.len();
        while inner.fresh.front().is_some_and(|next| window.admit(next.request.size)) {
            taken.extend(inner.fresh.pop_front());
        }
        if taken.len() == before && may_be_alone {
            taken.extend(inner.again.pop_front());
        }
        let low = inner.fresh.len() <= self.capacity / 2;
        drop(inner);
        if low {
            self.drained.notify_one();
        }
    }

    /// Takes back jobs that caused no failure; they are next in line.
    pub(super) fn give_back(&self, jobs: impl DoubleEndedIterator<Item = Pending<J>>) {
        let mut inner = self.lock();
        for job in jobs.rev() {
            if job.tries.wants_to_be_alone() {
                inner.again.push_front(job);
            } else {
                inner.fresh.push_front(job);
            }
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Takes a job back for another attempt, behind all others.
    pub(super) fn again(&self, job: Pending<J>) {
        let mut inner = self.lock();
        if job.tries.wants_to_be_alone() {
            inner.again.push_back(job);
        } else {
            inner.fresh.push_back(job);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// A job is settled.
    pub(super) fn finish_one(&self) {
        let mut inner = self.lock();
        inner.open = inner.open.saturating_sub(1);
        let finished = inner.closed && inner.open == 0;
        drop(inner);
        if finished {
            self.changed.notify_waiters();
        }
    }

    /// Records that a connection became idle, or is no longer idle.
    pub(super) fn set_hungry(&self, hungry: bool) {
        let mut inner = self.lock();
        inner.hungry = if hungry { inner.hungry + 1 } else { inner.hungry.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::{ContentHash, Uid};

    use super::*;

    fn pending(uid: u64, size: u64) -> Pending<u64> {
        let request = PullRequest { uid: Uid(uid), hash: ContentHash::EMPTY, size };
        Pending { job: uid, request, tries: Tries::default(), sent: None, alone: false }
    }

    fn queue(sizes: &[u64]) -> Queue<u64> {
        let queue = Queue::new(64);
        queue.add(sizes.iter().zip(0..).map(|(size, uid)| pending(uid, *size)));
        queue
    }

    fn take(queue: &Queue<u64>, most: usize, may_be_alone: bool) -> Vec<u64> {
        let mut taken = VecDeque::new();
        queue.take(&mut Window::new(most), may_be_alone, &mut taken);
        taken.into_iter().map(|pending| pending.job).collect()
    }

    #[test]
    fn a_window_is_bounded_by_requests_and_by_bytes_beyond_the_first() {
        assert_eq!(take(&queue(&[10; 40]), 16, true).len(), 16);
        assert_eq!(take(&queue(&[50 << 20, 600 << 10, 400 << 10, 400 << 10]), 16, true), [0, 1, 2]);
        assert_eq!(take(&queue(&[50 << 20, 50 << 20]), 16, true), [0]);
        assert_eq!(take(&queue(&[u64::MAX, u64::MAX]), 16, true), [0]);
        assert_eq!(take(&queue(&[1, 1]), 0, true), [0]);
    }

    #[test]
    fn connections_are_warranted_by_full_windows_that_nobody_is_about_to_take() {
        let warranted = |sizes: &[u64], at_least_one| queue(sizes).connections_warranted(16, at_least_one);
        assert_eq!((warranted(&[], true), warranted(&[1], true), warranted(&[1], false)), (0, 1, 0));
        assert_eq!(
            (warranted(&[1; 15], false), warranted(&[1; 16], false), warranted(&[1; 40], false)),
            (0, 1, 2)
        );
        assert_eq!(warranted(&[50 << 20; 3], false), 2);
        let queue = queue(&[1; 48]);
        queue.set_hungry(true);
        assert_eq!(queue.connections_warranted(16, false), 2);
        queue.set_hungry(false);
        assert_eq!(queue.connections_warranted(16, false), 3);
    }

    #[test]
    fn a_job_that_failed_is_taken_alone_and_after_all_others() {
        let queue = queue(&[1; 3]);
        let mut taken = VecDeque::new();
        queue.take(&mut Window::new(1), true, &mut taken);
        let mut failed = taken.pop_front().unwrap();
        failed.tries.lost = 1;
        queue.again(failed);
        assert_eq!(take(&queue, 16, true), [1, 2]);
        assert!(take(&queue, 16, false).is_empty());
        assert_eq!(take(&queue, 16, true), [0]);
    }

    #[test]
    fn the_queue_is_finished_when_it_is_closed_and_every_job_is_settled() {
        let queue = queue(&[1, 1]);
        assert_eq!(queue.work(), Work::Available);
        assert_eq!(take(&queue, 16, true).len(), 2);
        queue.close();
        queue.finish_one();
        assert_eq!(queue.work(), Work::Later);
        queue.finish_one();
        assert_eq!(queue.work(), Work::Finished);
        assert!(queue.is_finished());
    }
}
