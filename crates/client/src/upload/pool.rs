//! A run of the pool: accepts jobs, opens connections as there is work for them, and shuts everything down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::order::Order;
use super::worker::{UploadEnd, UploadWorker};
use super::{Upload, UploadOptions, UploadResult, UploadSource, UploadSummary};
use crate::client::{Client, Pauses};
use crate::error::ClientError;
use crate::session::{SessionTarget, WritingSession};

/// Jobs accepted per connection: enough to find some that do not wait for each other.
const AHEAD: usize = 16;

/// Inputs of a run. See [`UploadPool::run`].
#[derive(Debug)]
pub struct UploadPool<S: UploadSource> {
    /// The client to connect with.
    pub client: Client,
    /// The vault.
    pub target: SessionTarget,
    /// The known version of the vault: connections list from there, and discard the listing.
    pub version: u64,
    /// Concurrency and attempts.
    pub options: UploadOptions,
    /// Provides the changes and their contents.
    pub source: Arc<S>,
    /// Changes to send, in order. The run ends when this is closed and every job has its result.
    pub jobs: mpsc::Receiver<S::Job>,
    /// Where results go, those of one path in order. Dropping the receiver ends the run.
    pub results: mpsc::Sender<UploadResult<S>>,
    /// Ends the run at once. A change under way at that moment may or may not have been recorded, and has no
    /// result.
    pub cancel: CancellationToken,
    /// An open session to be the first connection, if the caller has one.
    pub first_session: Option<WritingSession>,
}

/// State shared by all connections of a run.
pub(super) struct UploadContext<S: UploadSource> {
    pub(super) client: Client,
    pub(super) target: SessionTarget,
    pub(super) options: UploadOptions,
    pub(super) source: Arc<S>,
    pub(super) results: mpsc::Sender<UploadResult<S>>,
    pub(super) order: Order<S::Job>,
    /// The newest version received when a connection was opened.
    pub(super) version: AtomicU64,
    pub(super) counters: UploadCounters,
    /// Connections without a job: idle ones and those being started.
    pub(super) idle: AtomicUsize,
}

/// The figures of [`UploadSummary`] while they grow.
#[derive(Default)]
pub(super) struct UploadCounters {
    pub(super) connections: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl<S: UploadSource> UploadContext<S> {
    pub(super) fn pauses(&self) -> Pauses {
        Pauses::new(&self.client.options().retry)
    }

    /// Counts a job that the server accepted.
    pub(super) fn count(&self, job: &S::Job) {
        self.counters.taken.fetch_add(1, Ordering::Relaxed);
        if let Upload::File(_, size) = self.source.upload(job) {
            self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    fn summary(&self) -> UploadSummary {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UploadSummary {
            connections: value(&self.counters.connections),
            reconnects: value(&self.counters.reconnects),
            taken: value(&self.counters.taken),
            bytes: value(&self.counters.bytes),
        }
    }
}

/// A run in progress.
struct UploadRun<S: UploadSource> {
    shared: Arc<UploadContext<S>>,
    jobs: mpsc::Receiver<S::Job>,
    /// Stops all connections; a child of the caller's.
    stop: CancellationToken,
    workers: JoinSet<UploadEnd>,
    first_session: Option<WritingSession>,
    closed: bool,
    /// Most connections: fewer once the server refused one.
    most: usize,
}

impl<S: UploadSource> UploadPool<S> {
    /// Sends all jobs. Every job gets exactly one result, unless the run is cancelled or fails; then those without a
    /// result were not sent, or were under way.
    ///
    /// A cancelled run ends with `Ok` and the figures up to then.
    ///
    /// # Errors
    /// Failures that no single job causes: the service rejects the sign-in, the vault or the subscription, or
    /// no connection can be opened.
    pub async fn run(self) -> Result<UploadSummary, ClientError> {
        let stop = self.cancel.child_token();
        // However this future ends, the connections end with it.
        let _guard = stop.clone().drop_guard();
        let most = self.options.connections.max(1);
        let shared = UploadContext {
            client: self.client,
            target: self.target,
            options: self.options,
            source: self.source,
            results: self.results,
            order: Order::new(),
            version: AtomicU64::new(self.version),
            counters: UploadCounters::default(),
            idle: AtomicUsize::new(0),
        };
        let mut run = UploadRun {
            shared: Arc::new(shared),
            jobs: self.jobs,
            stop,
            workers: JoinSet::new(),
            first_session: self.first_session,
            closed: false,
            most,
        };
        let outcome = run.drive().await;
        run.stop.cancel();
        run.workers.shutdown().await;
        outcome.map(|()| run.shared.summary())
    }
}

impl<S: UploadSource> UploadRun<S> {
    async fn drive(&mut self) -> Result<(), ClientError> {
        loop {
            self.open_connections();
            if self.shared.order.is_finished() && self.workers.is_empty() {
                return Ok(());
            }
            let open = self.shared.order.open();
            let has_room = open < AHEAD * self.shared.options.connections.max(1);
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
                job = self.jobs.recv(), if !self.closed && has_room => self.take_in(job),
                () = self.shared.order.changed_from(open), if !self.closed && !has_room => {}
            }
        }
    }

    fn take_in(&mut self, job: Option<S::Job>) {
        let order = &self.shared.order;
        let Some(job) = job else {
            self.closed = true;
            return order.close();
        };
        let mut paths: Vec<_> =
            self.shared.source.upload(&job).paths().into_iter().flatten().cloned().collect();
        paths.dedup();
        order.add(job, paths);
    }

    /// Starts one more connection for each job that could be sent now and that no idle connection will take,
    /// up to the limit.
    fn open_connections(&mut self) {
        let missing = self.most.saturating_sub(self.workers.len());
        let idle = self.shared.idle.load(Ordering::Relaxed);
        let wanted = self.shared.order.ready().saturating_sub(idle).min(missing);
        for _ in 0..wanted {
            let worker = UploadWorker::new(Arc::clone(&self.shared), self.first_session.take());
            let stop = self.stop.clone();
            self.workers.spawn(async move {
                stop.run_until_cancelled_owned(worker.run()).await.unwrap_or(UploadEnd::Finished)
            });
        }
    }

    /// Handles the end of a connection. Returns true when the whole run is over.
    fn after(&mut self, end: UploadEnd) -> Result<bool, ClientError> {
        match end {
            UploadEnd::Finished => Ok(false),
            UploadEnd::NobodyListens => {
                debug!("the results are no longer wanted");
                Ok(true)
            }
            // If no work is left, the last connection needs no successor.
            UploadEnd::GaveUp(error) if self.workers.is_empty() && !self.shared.order.is_finished() => {
                Err(error)
            }
            UploadEnd::GaveUp(error) => {
                warn!(%error, "going on with one connection less");
                self.most = self.workers.len().max(1);
                Ok(false)
            }
            UploadEnd::Hopeless(error) => Err(error),
        }
    }
}
