//! A run of the pool: takes jobs in, opens connections as there is work for them, brings everything to an end.

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

/// How many jobs are taken in for each connection: enough to find some that do not wait for each other.
const AHEAD: usize = 16;

/// Everything that a run needs. See [`UploadPool::run`].
#[derive(Debug)]
pub struct UploadPool<S: UploadSource> {
    /// The client to connect with.
    pub client: Client,
    /// The vault.
    pub target: SessionTarget,
    /// The vault's version that is known: connections list from there, and pass over what they hear.
    pub version: u64,
    /// How much at once.
    pub options: UploadOptions,
    /// Knows what is to be sent.
    pub source: Arc<S>,
    /// What to send, in its order. The run ends when this is closed and every job has its result.
    pub jobs: mpsc::Receiver<S::Job>,
    /// Where results go, those of one path in their order. When it is dropped the run ends.
    pub results: mpsc::Sender<UploadResult<S>>,
    /// Ends the run at once. A change that was under way then may have been recorded or not, and has no result.
    pub cancel: CancellationToken,
    /// An open session to be the first connection, if there is one to spare.
    pub first_session: Option<WritingSession>,
}

/// What all connections of a run share.
pub(super) struct UploadContext<S: UploadSource> {
    pub(super) client: Client,
    pub(super) target: SessionTarget,
    pub(super) options: UploadOptions,
    pub(super) source: Arc<S>,
    pub(super) results: mpsc::Sender<UploadResult<S>>,
    pub(super) order: Order<S::Job>,
    /// The newest version that was heard of when a connection was opened.
    pub(super) version: AtomicU64,
    pub(super) counters: UploadCounters,
    /// Connections that have no job: those of the moment and those that are being started.
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

    /// Counts a job that the server took.
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
    /// How many connections there may be: fewer once the server did not take one.
    most: usize,
}

impl<S: UploadSource> UploadPool<S> {
    /// Sends all jobs. Every job gets exactly one result, unless the run is cancelled or fails; then those without a
    /// result were not sent, or were under way.
    ///
    /// A run that is cancelled ends well, with the figures up to then.
    ///
    /// # Errors
    /// What no job is to blame for: the sign-in, the vault or the subscription is not accepted (any more), no connection
    /// can be made.
    pub async fn run(self) -> Result<UploadSummary, ClientError> {
        let stop = self.cancel.child_token();
        // Whatever ends this future ends the connections.
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

    /// Starts one connection more for each job that could be sent now and that no idle one will take, as far as they may be.
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

    /// Draws the consequences of a connection's end; true when the whole run is over.
    fn after(&mut self, end: UploadEnd) -> Result<bool, ClientError> {
        match end {
            UploadEnd::Finished => Ok(false),
            UploadEnd::NobodyListens => {
                debug!("the results are no longer wanted");
                Ok(true)
            }
            // Where nothing is left to do, the last one needs no other.
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
