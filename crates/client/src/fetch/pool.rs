//! A run of the pool: takes jobs in, opens connections as they are warranted, brings everything to an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::pace::START;
use super::queue::{Pending, Queue, Tries};
use super::worker::{End, Worker};
use super::{FetchOptions, FetchResult, FetchSummary, Receiver};
use crate::client::Client;
use crate::error::ClientError;
use crate::session::{Session, SessionTarget};

/// Everything that a run needs. See [`FetchPool::run`].
#[derive(Debug)]
pub struct FetchPool<R: Receiver> {
    /// The client to connect with.
    pub client: Client,
    /// The vault.
    pub target: SessionTarget,
    /// The vault's version of the listing that the jobs come from: further connections begin there.
    pub version: u64,
    /// How much at once.
    pub options: FetchOptions,
    /// Takes the contents.
    pub receiver: Arc<R>,
    /// What to fetch. The run ends when this is closed and every job has its result.
    pub jobs: mpsc::Receiver<R::Job>,
    /// Where results go, in no particular order. When it is dropped the run ends. Give it room for several results a
    /// connection, and read it until it is closed: a full one holds the connections up.
    pub results: mpsc::Sender<FetchResult<R>>,
    /// Ends the run at once: no new requests, contents under way are dropped.
    pub cancel: CancellationToken,
    /// An open session whose listing was received, to be the first connection.
    pub first_session: Option<Session>,
}

/// What all connections of a run share.
pub(super) struct Shared<R: Receiver> {
    pub(super) client: Client,
    pub(super) target: SessionTarget,
    pub(super) version: u64,
    pub(super) options: FetchOptions,
    pub(super) receiver: Arc<R>,
    pub(super) results: mpsc::Sender<FetchResult<R>>,
    pub(super) queue: Queue<R::Job>,
    pub(super) counters: Counters,
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
    shared: Arc<Shared<R>>,
    jobs: mpsc::Receiver<R::Job>,
    /// Stops all connections; a child of the caller's.
    stop: CancellationToken,
    workers: JoinSet<End>,
    first_session: Option<Session>,
    closed: bool,
    /// How many connections may be open: what the options say, less those that were given up.
    limit: usize,
    last_error: Option<ClientError>,
}

impl<R: Receiver> FetchPool<R> {
    /// Fetches all jobs. Every job gets exactly one result, unless the run is cancelled or fails; then those
    /// without a result were not done.
    ///
    /// A run that is cancelled ends well, with the figures up to then.
    ///
    /// # Errors
    /// What no job is to blame for: the sign-in, the vault or the subscription is not accepted (any more), or no
    /// connection can be made or held.
    pub async fn run(self) -> Result<FetchSummary, ClientError> {
        let stop = self.cancel.child_token();
        // Whatever ends this future ends the connections.
        let _guard = stop.clone().drop_guard();
        let connections = self.options.connections.max(1);
        let capacity = connections.saturating_mul(self.options.in_flight.max(1)).saturating_mul(2);
        let shared = Shared {
            client: self.client,
            target: self.target,
            version: self.version,
            options: self.options,
            receiver: self.receiver,
            results: self.results,
            queue: Queue::new(capacity),
            counters: Counters::default(),
        };
        let run = Run {
            shared: Arc::new(shared),
            jobs: self.jobs,
            stop,
            workers: JoinSet::new(),
            first_session: self.first_session,
            closed: false,
            limit: connections,
            last_error: None,
        };
        run.finish().await
    }
}

impl<R: Receiver> Run<R> {
    async fn finish(mut self) -> Result<FetchSummary, ClientError> {
        let outcome = self.drive().await;
        self.stop.cancel();
        self.workers.shutdown().await;
        outcome.map(|()| self.shared.counters.summary())
    }

    async fn drive(&mut self) -> Result<(), ClientError> {
        let mut batch = Vec::new();
        loop {
            self.open_connections()?;
            if self.shared.queue.is_finished() && self.workers.is_empty() {
                return Ok(());
            }
            let room = self.shared.queue.room();
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
                count = self.jobs.recv_many(&mut batch, room), if !self.closed && room > 0 => {
                    self.take_in(count, &mut batch);
                }
                () = self.shared.queue.drained(), if !self.closed && room == 0 => {}
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

    /// Opens as many connections as the waiting jobs warrant and the limit allows. Fails when there is work and
    /// no connection may be opened any more.
    fn open_connections(&mut self) -> Result<(), ClientError> {
        let open = self.workers.len();
        let in_flight = self.shared.options.in_flight.min(START);
        if open >= self.limit && open > 0 {
            return Ok(());
        }
        let warranted = self.shared.queue.connections_warranted(in_flight, open == 0);
        if warranted == 0 {
            return Ok(());
        }
        if self.limit == 0 {
            let unknown = || ClientError::lost("no connection could be held");
            return Err(self.last_error.take().unwrap_or_else(unknown));
        }
        for _ in 0..warranted.min(self.limit - open) {
            let worker = Worker::new(Arc::clone(&self.shared), self.first_session.take());
            let stop = self.stop.clone();
            self.workers.spawn(async move {
                stop.run_until_cancelled_owned(worker.run()).await.unwrap_or(End::Finished)
            });
        }
        Ok(())
    }

    /// Draws the consequences of a connection's end; true when the whole run is over.
    fn after(&mut self, end: End) -> Result<bool, ClientError> {
        match end {
            End::Finished => Ok(false),
            End::NobodyListens => {
                debug!("the results are no longer wanted");
                Ok(true)
            }
            End::GaveUp(error) => {
                warn!(%error, "going on with one connection less");
                self.limit -= 1;
                self.last_error = Some(error);
                Ok(false)
            }
            End::Hopeless(error) => Err(error),
        }
    }
}
