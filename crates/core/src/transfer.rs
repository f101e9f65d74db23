//! Brings contents to their paths: looks at what is there already, copies what it can, downloads the rest over the fetch
//! pool, and publishes in batches while more arrives.

use std::sync::Arc;
use std::time::Duration;

use obsync_client::{
    Client, FetchFailure, FetchOptions, FetchPool, FetchResult, FetchSummary, Session, SessionTarget,
};
use obsync_protocol::{ContentHash, VaultKeys};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::PullError;
use crate::plan::{Source, Target, Transfer};
use crate::publish::{Origin, Publisher, Ready};
use crate::receive::{ContentReceiver, ReceiveError};
use crate::store::{Staged, StoreError, VaultStore, Wanted};

/// How many files at most become visible in one go. A batch costs two flushes of the file system, however large it is.
const BATCH_FILES: usize = 1024;
/// How many bytes of content at most become visible in one go.
const BATCH_BYTES: u64 = 256 << 20;
/// How long a finished file waits for others before it becomes visible.
const BATCH_LINGER: Duration = Duration::from_millis(250);
/// How many contents are compared with what the destination holds at a time.
const SURVEY: usize = 256;
/// How many finished files may wait for the batch before them.
const BACKLOG: usize = 1024;

/// What a transfer talks to.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) target: SessionTarget,
    /// The version of the listing: further sessions ask for changes after it only.
    pub(crate) version: u64,
    pub(crate) options: FetchOptions,
    /// The session that the listing came over, until it is used up.
    pub(crate) session: Option<Session>,
}

/// What the transfers of one round came to, besides what is in the ledger.
#[derive(Debug, Default)]
pub(crate) struct TransferSummary {
    /// What the pool did.
    pub(crate) fetched: FetchSummary,
    /// Contents that the server no longer has: something newer took their place since the listing.
    pub(crate) gone: Vec<Transfer>,
}

/// What reaches the publishing side.
enum Arrival {
    Ready(Box<Ready>),
    /// The content cannot be had.
    Failed {
        transfer: Transfer,
        reason: String,
    },
    /// The first target cannot be written.
    FirstTargetFailed {
        transfer: Transfer,
        reason: String,
    },
    Fatal(StoreError),
}

/// Looks at the destination before anything is downloaded.
pub(crate) struct Scout {
    pub(crate) store: Arc<dyn VaultStore>,
    /// The destination was empty when the pull began, so there is nothing to find under any name.
    pub(crate) fresh: bool,
}

impl Scout {
    /// Tells which targets of these transfers hold their content already, and takes them out.
    pub(crate) async fn survey(&self, transfers: &mut Vec<Transfer>) -> Result<Vec<Ready>, StoreError> {
        if self.fresh {
            return Ok(Vec::new());
        }
        let mut held = self.store.holds(wanted(transfers)).await?.into_iter();
        let mut ready = Vec::new();
        for transfer in transfers.iter_mut() {
            let (there, missing): (Vec<Target>, Vec<Target>) =
                std::mem::take(&mut transfer.targets).into_iter().partition(|_| held.next().unwrap_or(false));
            if let Some(target) = there.first() {
                transfer.source = Source::Local(target.path.clone());
            }
            transfer.targets = missing;
            ready.extend(there.into_iter().map(|target| {
                // What obsync wrote and what is still there is no news.
                let known = target.replaces == Some(transfer.hash);
                Ready::in_place(target, if known { Origin::Touched } else { Origin::Adopted }, transfer)
            }));
        }
        transfers.retain(|transfer| !transfer.targets.is_empty());
        Ok(ready)
    }

    /// Marks targets of rescues that seem to hold their content already as obstructed. They must not be taken for done:
    /// on a file system that folds names, or through a link, that may be the very file that is about to go.
    pub(crate) async fn mark_held(&self, rescues: &mut [Transfer]) -> Result<(), StoreError> {
        let mut held = self.store.holds(wanted(rescues)).await?.into_iter();
        for target in rescues.iter_mut().flat_map(|rescue| &mut rescue.targets) {
            target.obstructed |= held.next().unwrap_or(false);
        }
        Ok(())
    }

    /// Stages a content from what is at hand: leftovers of an interrupted run, a file of the destination, or nothing at all
    /// for an empty file. `None`: it must be downloaded.
    pub(crate) async fn stage(&self, transfer: &Transfer) -> Result<Option<(Staged, Origin)>, StoreError> {
        let Some(target) = transfer.targets.first() else {
            return Ok(None);
        };
        let meta = target.meta(transfer.hash, transfer.size);
        if transfer.hash == ContentHash::EMPTY {
            let meta = target.meta(transfer.hash, 0);
            return Ok(Some((self.store.begin(&target.path, &meta).await?.finish().await?, Origin::Pulled)));
        }
        if let Some(staged) = self.store.recover(&target.path, &meta).await? {
            return Ok(Some((staged, Origin::Adopted)));
        }
        if let Source::Local(from) = &transfer.source
            && let Some(staged) = self.store.copy(from, &target.path, &meta).await?
        {
            return Ok(Some((staged, Origin::Copied)));
        }
        Ok(None)
    }
}

/// What the targets of these transfers are to hold, in order.
fn wanted(transfers: &[Transfer]) -> Vec<Wanted> {
    let targets =
        transfers.iter().flat_map(|transfer| transfer.targets.iter().map(move |target| (transfer, target)));
    targets
        .map(|(transfer, target)| Wanted {
            path: target.path.clone(),
            hash: transfer.hash,
            size: transfer.size,
        })
        .collect()
}

impl Publisher<'_, '_> {
    /// Carries the transfers out. Returns early when told to stop; what was finished until then is committed.
    pub(crate) async fn transfer(
        &mut self,
        transfers: Vec<Transfer>,
        scout: &Scout,
        link: &mut Link,
        keys: &VaultKeys,
        stop: &CancellationToken,
    ) -> Result<TransferSummary, PullError> {
        if transfers.is_empty() {
            return Ok(TransferSummary::default());
        }
        // Cancelled when the caller says so, and when publishing fails for good.
        let halt = stop.child_token();
        let receiver = ContentReceiver {
            store: self.store.clone(),
            keys: keys.clone(),
            progress: self.progress.clone(),
        };
        let (jobs, job_queue) = mpsc::channel(SURVEY);
        let (fetched, fetched_queue) = mpsc::channel(BACKLOG);
        let (arrivals, arrival_queue) = mpsc::channel(BACKLOG);
        let feed = feed(transfers, scout, jobs, arrivals, &halt);
        let given = link.session.take();
        let open_already = u64::from(given.is_some());
        let fetch = FetchPool {
            client: link.client.clone(),
            target: link.target.clone(),
            version: link.version,
            options: link.options.clone(),
            receiver: Arc::new(receiver),
            jobs: job_queue,
            results: fetched,
            cancel: halt.clone(),
            first_session: given,
        };
        let mut inbox = Inbox { arrivals: arrival_queue, fetched: fetched_queue, gone: Vec::new() };
        let publish = async {
            let outcome = self.publish_arrivals(&mut inbox).await;
            if outcome.is_err() {
                halt.cancel();
                inbox.close();
            }
            outcome
        };
        let ((), fetched, published) = tokio::join!(feed, fetch.run(), publish);
        published?;
        let mut fetched = fetched?;
        // The session that the listing came over counts even if nothing was to be fetched over it.
        fetched.connections = fetched.connections.max(open_already);
        Ok(TransferSummary { fetched, gone: inbox.gone })
    }

    /// Publishes what arrives, until nothing more will.
    async fn publish_arrivals(&mut self, inbox: &mut Inbox) -> Result<(), PullError> {
        loop {
            let mut batch = Vec::new();
            let fatal = self.gather(inbox, &mut batch).await;
            let is_last = batch.is_empty();
            self.publish(batch).await?;
            match fatal {
                Some(error) => return Err(error.into()),
                None if is_last => return Ok(()),
                None => {}
            }
        }
    }

    /// Collects the next batch: what there is, and what comes within a moment of it. An empty one is the end.
    async fn gather(&mut self, inbox: &mut Inbox, batch: &mut Vec<Ready>) -> Option<StoreError> {
        let mut bytes = 0;
        let mut deadline: Option<Instant> = None;
        while batch.len() < BATCH_FILES && bytes < BATCH_BYTES {
            let arrival = match deadline {
                None => inbox.next().await,
                Some(deadline) => match tokio::time::timeout_at(deadline, inbox.next()).await {
                    Ok(arrival) => arrival,
                    Err(_) => break,
                },
            };
            match arrival? {
                Arrival::Ready(ready) => {
                    bytes += ready.size();
                    batch.push(*ready);
                    deadline.get_or_insert_with(|| Instant::now() + BATCH_LINGER);
                }
                Arrival::Failed { transfer, reason } => self.ledger.transfer_failed(&transfer, &reason),
                Arrival::FirstTargetFailed { transfer, reason } => {
                    self.first_target_failed(transfer, &reason)
                }
                Arrival::Fatal(error) => return Some(error),
            }
        }
        None
    }
}

/// Sends each transfer on its way: straight to publishing when its content is at hand, else to the fetch pool.
async fn feed(
    transfers: Vec<Transfer>,
    scout: &Scout,
    jobs: mpsc::Sender<Transfer>,
    arrivals: mpsc::Sender<Arrival>,
    halt: &CancellationToken,
) {
    let mut rest = transfers.into_iter().peekable();
    while rest.peek().is_some() && !halt.is_cancelled() {
        let mut chunk: Vec<Transfer> = rest.by_ref().take(SURVEY).collect();
        let fed = async {
            for ready in scout.survey(&mut chunk).await? {
                let _ = arrivals.send(Arrival::Ready(Box::new(ready))).await;
            }
            for transfer in chunk {
                feed_one(transfer, scout, &jobs, &arrivals).await?;
            }
            Ok(())
        };
        // Whoever halts does not wait for a queue to empty.
        let outcome = tokio::select! {
            biased;
            () = halt.cancelled() => return,
            outcome = fed => outcome,
        };
        if let Err(error) = outcome {
            let _ = arrivals.send(Arrival::Fatal(error)).await;
            return;
        }
    }
}

/// Sends one transfer on its way. An error is one that stops the run. (A queue whose other end is gone belongs to a
/// run that is ending: there is nobody left to tell.)
async fn feed_one(
    transfer: Transfer,
    scout: &Scout,
    jobs: &mpsc::Sender<Transfer>,
    arrivals: &mpsc::Sender<Arrival>,
) -> Result<(), StoreError> {
    match scout.stage(&transfer).await {
        Ok(Some((staged, origin))) => {
            let ready = Box::new(Ready::staged(staged, origin, transfer));
            let _ = arrivals.send(Arrival::Ready(ready)).await;
        }
        Ok(None) => {
            let _ = jobs.send(transfer).await;
        }
        Err(error) if error.is_fatal() => return Err(error),
        Err(error) => {
            let _ = arrivals.send(Arrival::FirstTargetFailed { transfer, reason: error.to_string() }).await;
        }
    }
    Ok(())
}

/// Where publishing takes its work from: what was at hand, and what the pool fetched.
struct Inbox {
    arrivals: mpsc::Receiver<Arrival>,
    fetched: mpsc::Receiver<FetchResult<ContentReceiver>>,
    gone: Vec<Transfer>,
}

impl Inbox {
    /// The next arrival; `None` when both sources have ended. Safe to cancel.
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            let FetchResult { job: transfer, outcome } = tokio::select! {
                Some(arrival) = self.arrivals.recv() => return Some(arrival),
                Some(result) = self.fetched.recv() => result,
                else => return None,
            };
            return Some(match outcome {
                Ok(staged) => Arrival::Ready(Box::new(Ready::staged(staged, Origin::Pulled, transfer))),
                Err(FetchFailure::Gone) => {
                    self.gone.push(transfer);
                    continue;
                }
                Err(FetchFailure::Receiver(ReceiveError::Store(error))) if error.is_fatal() => {
                    Arrival::Fatal(error)
                }
                Err(FetchFailure::Receiver(ReceiveError::Store(error))) => {
                    Arrival::FirstTargetFailed { transfer, reason: error.to_string() }
                }
                Err(failure) => Arrival::Failed { transfer, reason: failure.to_string() },
            });
        }
    }

    /// Takes nothing more, so that nobody waits to hand something over.
    fn close(&mut self) {
        self.arrivals.close();
        self.fetched.close();
    }
}
