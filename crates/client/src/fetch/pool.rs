//! A run of the pool: accepts jobs, opens connections as they are needed and allowed, and shuts everything
//! down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use obsync_net::Throttle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::limit::Limit;
use super::pace::START;
use super::queue::{Pending, Queue, Tries};
use super::worker::{End, Worker};
use super::{FetchOptions, FetchResult, FetchSummary, Receiver};
use crate::client::Client;
use crate::error::ClientError;
use crate::session::{Session, SessionTarget};

/// Calm time after trouble before one more connection is opened, in multiples of the retry policy's shortest
/// pause: eight seconds by default.
const CALM: u32 = 16;

/// Inputs of a run. See [`FetchPool::run`].
#[derive(Debug)]
pub struct FetchPool<R: Receiver> {
    /// The client to connect with.
    pub client: Client,
    /// The vault.
    pub target: SessionTarget,
    /// The vault's version of the listing that the jobs come from. Further connections begin there, or at a
    /// newer version received since.
    pub version: u64,
    /// Concurrency and attempts.
    pub options: FetchOptions,
    /// Takes the contents.
    pub receiver: Arc<R>,
    /// Files to fetch. The run ends when this is closed and every job has its result.
    pub jobs: mpsc::Receiver<R::Job>,
    /// Where results go, in no particular order. Dropping the receiver ends the run. Give it room for several
    /// results per connection and read it until it is closed: a full channel blocks the connections.
    pub results: mpsc::Sender<FetchResult<R>>,
    /// Ends the run at once: no new requests, contents under way are dropped.
    pub cancel: CancellationToken,
    /// An open session whose listing was received, to be the first connection.
    pub first_session: Option<Session>,
}

/// A place for one session.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionSlot(Arc<Mutex<Option<Session>>>);

impl SessionSlot {
    fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

/// State shared by all connections of a run.
pub(super) struct PoolContext<R: Receiver> {
    pub(super) client: Client,
    pub(super) target: SessionTarget,
    /// The newest version received over any connection. Further connections begin there.
    newest: AtomicU64,
    /// Since when the server reports overload and sends no content.
    overloaded: Mutex<Option<Instant>>,
    pub(super) options: FetchOptions,
    pub(super) receiver: Arc<R>,
    pub(super) results: mpsc::Sender<FetchResult<R>>,
    pub(super) queue: Queue<R::Job>,
    pub(super) limit: Limit,
    pub(super) counters: Counters,
    /// Connections break together: only one of them logs it.
    pub(super) lost: Throttle,
    pub(super) overload: Throttle,
}

impl<R: Receiver> PoolContext<R> {
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// A connection received this version.
    pub(super) fn heard(&self, version: u64) {
        self.newest.fetch_max(version, Ordering::Relaxed);
    }

    /// The server sent a content.
    pub(super) fn gave(&self) {
        *self.overloaded.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The server reports overload. Returns how long it has done so without sending a content.
    pub(super) fn overloaded_for(&self, now: Instant) -> Duration {
        let mut since = self.overloaded.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(*since.get_or_insert(now))
    }

    /// Waits until `until`, or until no work is left. Returns true if it waited to the end.
    pub(super) async fn pause_until(&self, until: Instant) -> bool {
        tokio::select! {
            () = tokio::time::sleep_until(until) => true,
            () = self.queue.finished() => false,
        }
    }
}

/// The figures of [`FetchSummary`] while they grow.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) serial_fallbacks: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    fn summary(&self) -> FetchSummary {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FetchSummary {
            connections: value(&self.connections),
            reconnects: value(&self.reconnects),
            serial_fallbacks: value(&self.serial_fallbacks),
            requests: value(&self.requests),
            bytes: value(&self.bytes),
        }
    }
}

/// A run in progress.
struct Run<R: Receiver> {
    shared: Arc<PoolContext<R>>,
    jobs: mpsc::Receiver<R::Job>,
    /// Stops all connections; a child of the caller's.
    stop: CancellationToken,
    workers: JoinSet<End>,
    first_session: Option<Session>,
    give_back: Option<SessionSlot>,
    closed: bool,
}

impl<R: Receiver> FetchPool<R> {
    /// Fetches all jobs. Every job gets exactly one result, unless the run is cancelled or fails; then those
    /// without a result were not done.
    ///
    /// A cancelled run ends with `Ok` and the figures up to then.
    ///
    /// # Errors
    /// Failures that no single job causes: the service rejects the sign-in, the vault or the subscription,
    /// connecting fails repeatedly, the server is too slow ([`ClientError::TooSlow`]) or overloaded for long
    /// ([`ClientError::OverloadedForLong`]).
    pub async fn run(self) -> Result<FetchSummary, ClientError> {
        self.run_with(None).await
    }

    /// As `run`, and returns the first session if it is still in order, instead of closing it.
    pub async fn run_keeping(self) -> (Result<FetchSummary, ClientError>, Option<Session>) {
        let slot = SessionSlot::default();
        let outcome = self.run_with(Some(slot.clone())).await;
        (outcome, slot.take())
    }

    async fn run_with(self, give_back: Option<SessionSlot>) -> Result<FetchSummary, ClientError> {
        let stop = self.cancel.child_token();
        // However this future ends, the connections end with it.
        let _guard = stop.clone().drop_guard();
        let connections = self.options.connections.max(1);
        let calm = self.client.options().retry.min_delay.saturating_mul(CALM);
        let capacity = connections.saturating_mul(self.options.in_flight.max(1)).saturating_mul(2);
        let shared = PoolContext {
            client: self.client,
            target: self.target,
            newest: AtomicU64::new(self.version),
            overloaded: Mutex::new(None),
            options: self.options,
            receiver: self.receiver,
            results: self.results,
            queue: Queue::new(capacity),
            limit: Limit::new(connections, calm),
            counters: Counters::default(),
            lost: Throttle::new(Duration::from_secs(2)),
            overload: Throttle::new(Duration::from_secs(30)),
        };
        let run = Run {
            shared: Arc::new(shared),
            jobs: self.jobs,
            stop,
            workers: JoinSet::new(),
            first_session: self.first_session,
            give_back,
            closed: false,
        };
        run.finish().await
    }
}

impl<R: Receiver> Run<R> {
    async fn finish(mut self) -> Result<FetchSummary, ClientError> {
        let outcome = self.drive().await;
        self.stop.cancel();
        self.workers.shutdown().await;
        // Without any job the first session is unused.
        if let (Some(slot), Some(session)) = (&self.give_back, self.first_session.take()) {
            slot.put(session);
        }
        outcome.map(|()| self.shared.counters.summary())
    }

    async fn drive(&mut self) -> Result<(), ClientError> {
        let mut batch = Vec::new();
        loop {
            self.open_connections();
            if self.shared.queue.is_finished() && self.workers.is_empty() {
                return Ok(());
            }
            let places = self.shared.queue.free_places();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                Some(ended) = self.workers.join_next() => match ended {
                    Ok(end) => {
                        if self.after(end)? {
                            return Ok(());
                        }
                    }
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    Err(_) => return Ok(()),
                },
                count = self.jobs.recv_many(&mut batch, places), if !self.closed && places > 0 => {
                    self.take_in(count, &mut batch);
                }
                () = self.shared.queue.drained(), if !self.closed && places == 0 => {}
                () = self.shared.limit.raised() => {}
            }
        }
    }

    fn take_in(&mut self, count: usize, batch: &mut Vec<R::Job>) {
        if count == 0 {
            self.closed = true;
            self.shared.queue.close();
            return;
        }
        let receiver = &self.shared.receiver;
        self.shared.queue.add(batch.drain(..).map(|job| {
            let request = receiver.request(&job);
            Pending { job, request, tries: Tries::default(), sent: None, alone: false }
        }));
    }

    /// Opens as many connections as the waiting jobs warrant and the limit allows.
    fn open_connections(&mut self) {
        // Connections that were let go count until they have ended: the options' number is never exceeded.
        let open = self.workers.len();
        let places = self.shared.limit.connections().saturating_sub(open);
        if places == 0 {
            return;
        }
        let in_flight = self.shared.options.in_flight.min(START);
        let warranted = self.shared.queue.connections_warranted(in_flight, open == 0);
        for _ in 0..warranted.min(places) {
            self.shared.limit.opening();
            let first = self.first_session.take();
            let give_back = first.is_some().then(|| self.give_back.take()).flatten();
            let worker = Worker::new(Arc::clone(&self.shared), first, give_back);
            let stop = self.stop.clone();
            self.workers.spawn(async move {
                stop.run_until_cancelled_owned(worker.run()).await.unwrap_or(End::Finished)
            });
        }
    }

    /// Handles the end of a connection. Returns true when the whole run is over.
    fn after(&mut self, end: End) -> Result<bool, ClientError> {
        if !matches!(end, End::LetGo | End::LeftToOthers(_)) {
            self.shared.limit.ended();
        }
        match end {
            End::Finished | End::LetGo => Ok(false),
            End::NobodyListens => {
                debug!("the results are no longer wanted");
                Ok(true)
            }
            // If no work is left, the last connection needs no successor.
            End::GaveUp(error) if self.workers.is_empty() && !self.shared.queue.is_finished() => Err(error),
            End::LeftToOthers(error) if self.shared.limit.is_attempting() => {
                debug!(%error, "a further connection cannot be had");
                self.shared.limit.gave_up(self.workers.len(), Instant::now());
                Ok(false)
            }
            End::GaveUp(error) | End::LeftToOthers(error) => {
                warn!(%error, "going on with one connection less for now");
                self.shared.limit.gave_up(self.workers.len(), Instant::now());
                Ok(false)
            }
            End::Hopeless(error) => Err(error),
        }
    }
}
