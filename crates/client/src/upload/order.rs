//! Orders uploads: the next job is the first one that shares no path with an earlier unfinished job.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsync_protocol::VaultPath;
use tokio::sync::Notify;

/// An accepted job. Its number is its place in the order.
pub(super) struct Ticket<J> {
    pub(super) number: u64,
    pub(super) job: J,
    /// Number of times it was sent.
    pub(super) tries: u32,
    paths: Vec<VaultPath>,
}

/// The jobs of a run.
pub(super) struct Order<J> {
    inner: Mutex<OrderInner<J>>,
    changed: Notify,
}

struct OrderInner<J> {
    next: u64,
    /// Jobs that no connection has taken.
    waiting: BTreeMap<u64, Ticket<J>>,
    /// Those of them that may be taken.
    ready: BTreeSet<u64>,
    /// For each path the unfinished jobs that name it, in order.
    lines: HashMap<VaultPath, VecDeque<u64>>,
    /// Unfinished jobs.
    open: usize,
    closed: bool,
}

impl<J> Order<J> {
    pub(super) fn new() -> Self {
        let inner = OrderInner {
            next: 0,
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            lines: HashMap::new(),
            open: 0,
            closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Adds a job, behind all others.
    pub(super) fn add(&self, job: J, paths: Vec<VaultPath>) {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.open += 1;
        for path in &paths {
            inner.lines.entry(path.clone()).or_default().push_back(number);
        }
        inner.waiting.insert(number, Ticket { number, job, tries: 0, paths });
        inner.look_at(number);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// No further jobs will be added.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// Waits for the next job that may be sent; `None` when all are done. Can be cancelled without loss.
    pub(super) async fn take(&self) -> Option<Ticket<J>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut inner = self.lock();
                if let Some(number) = inner.ready.pop_first() {
                    return inner.waiting.remove(&number);
                }
                if inner.closed && inner.open == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// A taken job is to be sent again, before any later one of its paths.
    pub(super) fn give_back(&self, ticket: Ticket<J>) {
        let mut inner = self.lock();
        inner.ready.insert(ticket.number);
        inner.waiting.insert(ticket.number, ticket);
        drop(inner);
        self.changed.notify_waiters();
    }

    /// A taken job is done: the next ones of its paths may be sent.
    pub(super) fn done(&self, ticket: Ticket<J>) -> J {
        let mut inner = self.lock();
        inner.open -= 1;
        for path in &ticket.paths {
            let Some(line) = inner.lines.get_mut(path) else { continue };
            line.retain(|number| *number != ticket.number);
            match line.front().copied() {
                Some(next) => inner.look_at(next),
                None => drop(inner.lines.remove(path)),
            }
        }
        drop(inner);
        self.changed.notify_waiters();
        ticket.job
    }

    /// Number of jobs that could be sent now.
    pub(super) fn ready(&self) -> usize {
        self.lock().ready.len()
    }

    /// Number of unfinished jobs.
    pub(super) fn open(&self) -> usize {
        self.lock().open
    }

    pub(super) fn is_finished(&self) -> bool {
        let inner = self.lock();
        inner.closed && inner.open == 0
    }

    /// Waits until the number of unfinished jobs is no longer `open`.
    pub(super) async fn changed_from(&self, open: usize) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.open() != open {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, OrderInner<J>> {
        // Nothing that can panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> OrderInner<J> {
    /// Marks a waiting job as ready if it is the first one on all its paths.
    fn look_at(&mut self, number: u64) {
        let Some(ticket) = self.waiting.get(&number) else { return };
        let is_first = |path| self.lines.get(path).and_then(|line| line.front()) == Some(&number);
        if ticket.paths.iter().all(is_first) {
            self.ready.insert(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &str) -> Vec<VaultPath> {
        names.chars().map(|name| VaultPath::parse(&name.to_string()).unwrap()).collect()
    }

    async fn takes(order: &Order<u32>) -> Vec<Ticket<u32>> {
        let mut tickets = Vec::new();
        while order.ready() > 0 {
            tickets.extend(order.take().await);
        }
        tickets
    }

    fn jobs(tickets: &[Ticket<u32>]) -> Vec<u32> {
        tickets.iter().map(|ticket| ticket.job).collect()
    }

    #[tokio::test]
    async fn jobs_with_a_common_path_are_done_in_their_order_and_others_at_once() {
        let order = Order::new();
        for (job, names) in [(0, "a"), (1, "b"), (2, "ab"), (3, "c"), (4, "b")] {
            order.add(job, paths(names));
        }
        order.close();
        let mut first = takes(&order).await;
        assert_eq!(jobs(&first), [0, 1, 3]);
        order.done(first.remove(0));
        assert_eq!(order.ready(), 0, "b is still under way");
        order.give_back(first.remove(0));
        let again = takes(&order).await;
        assert_eq!(jobs(&again), [1], "what was given back comes before what waits for it");
        for ticket in again.into_iter().chain(first) {
            order.done(ticket);
        }
        let mut both = takes(&order).await;
        assert_eq!(jobs(&both), [2]);
        order.done(both.remove(0));
        let mut last = takes(&order).await;
        assert_eq!(jobs(&last), [4]);
        assert!(!order.is_finished());
        order.done(last.remove(0));
        assert!(order.is_finished() && order.take().await.is_none());
    }
}
