//! Puts contents at their paths: checks the files that are there already, copies what it can, downloads the
//! rest over the fetch pool, and publishes in batches while more arrives.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use obsync_client::{
    Client, FetchFailure, FetchOptions, FetchPool, FetchResult, FetchSummary, Session, SessionTarget,
};
use obsync_protocol::{ContentHash, VaultKeys, VaultPath};
use tokio::sync::mpsc;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::destination::{Destination, DestinationError, DestinationExt, Found, Staged, Supposed, Wanted};
use crate::error::PullError;
use crate::governor::Governor;
use crate::history::Historian;
use crate::model::KnownContent;
use crate::publish::{Origin, Publisher, Ready};
use crate::receive::{ContentReceiver, Job, ReceiveError};
use crate::reconcile::{Action, Local, decide_content};
use crate::schedule::{FolderChange, Source, Target, Transfer};

/// Time that a finished file waits for others before it is published.
pub(crate) const BATCH_LINGER: Duration = Duration::from_millis(250);
/// Contents compared with the destination at a time, at most.
const SURVEY: usize = 256;
/// Files that are enough for a batch while more are on their way.
const ENOUGH: usize = 1024;
/// Finished files that may wait for the batch before them.
pub(crate) const BACKLOG: usize = 4096;

/// Connection parameters of a transfer.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) target: SessionTarget,
    /// The version of the listing: further sessions list only changes after it.
    pub(crate) version: u64,
    pub(crate) options: FetchOptions,
    /// The session of the listing, until it is used up.
    pub(crate) session: Option<Session>,
    /// That session stays open.
    pub(crate) keeps: bool,
    /// Admits downloads.
    pub(crate) governor: Governor,
}

/// Results of a plan's transfers, besides those in the ledger.
#[derive(Debug, Default)]
pub(crate) struct TransferSummary {
    /// Summary of the pool.
    pub(crate) fetched: FetchSummary,
    /// Contents that the server no longer has: a newer one replaced them since the listing.
    pub(crate) overtaken: Vec<Transfer>,
}

/// Input of the publishing side.
enum Arrival {
    /// A content, for each of its paths.
    Ready(Vec<Ready>),
    /// The content cannot be fetched.
    Failed {
        transfer: Transfer,
        reason: String,
    },
    /// The content cannot be staged for its first target.
    NotStaged {
        transfer: Transfer,
        reason: String,
    },
    Fatal(DestinationError),
}

/// The check of a target before its content is downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Look at the path, because nothing is recorded there.
    Look,
    /// Check for the content.
    Holds,
    /// No check: the recorded file is replaced on the condition that it is still there, or a new one written
    /// on the condition that there is none.
    Nothing,
}

/// The answer to it.
enum Looked {
    /// Whether the path has the content.
    Holds(bool),
    /// What is at the path.
    At(Found),
}

/// A transfer some of whose paths have unrecorded files. The vault's history says whether they are its own.
pub(crate) struct Unclear {
    pub(crate) transfer: Transfer,
    files: Vec<(VaultPath, KnownContent)>,
}

/// Results of a look at the targets of transfers.
#[derive(Default)]
pub(crate) struct Surveyed {
    /// Targets that have their content already.
    pub(crate) ready: Vec<Ready>,
    /// Transfers for the other targets.
    pub(crate) missing: Vec<Transfer>,
    /// Those of them about which the vault's history has to be asked.
    pub(crate) unclear: Vec<Unclear>,
}

impl Surveyed {
    /// Adds a transfer without its targets that are `there`, and those.
    fn add(&mut self, mut transfer: Transfer, there: Vec<Target>, files: Vec<(VaultPath, KnownContent)>) {
        if let Some(target) = there.first() {
            transfer.source = Source::Local(target.path.clone());
        }
        self.ready.extend(there.into_iter().map(|target| {
            // A file that obsync wrote and that is still there is no news.
            let known = target.is_recorded_as(transfer.hash);
            Ready::in_place(target, if known { Origin::Touched } else { Origin::Adopted }, &transfer)
        }));
        match (transfer.targets.is_empty(), files.is_empty()) {
            (true, _) => {}
            (false, true) => self.missing.push(transfer),
            (false, false) => self.unclear.push(Unclear { transfer, files }),
        }
    }
}

impl Target {
    /// Decides about an unrecorded path. Returns true if it has its content already.
    fn is_in_place(&mut self, local: Local, content: KnownContent) -> bool {
        let action = decide_content(None, local, content);
        if let Action::Put { replaces } = action {
            self.replaces = replaces;
        }
        action == Action::Adopt
    }
}

/// Checks the destination before anything is downloaded.
pub(crate) struct Scout {
    pub(crate) destination: Arc<dyn Destination>,
    /// The destination has only files that this run put there, so there is nothing to find under any name.
    pub(crate) is_empty: bool,
    /// Everything that obsync put into the destination is recorded, so that a path without a record is most
    /// likely free.
    pub(crate) is_recorded: bool,
    /// Checks whether an unrecorded file is the vault's own.
    pub(crate) historian: Option<Historian>,
}

impl Scout {
    /// Number of connections made.
    pub(crate) fn connections(&self) -> u64 {
        self.historian.as_ref().map_or(0, Historian::connections)
    }

    /// Looks at the targets of these transfers.
    pub(crate) async fn survey(&self, transfers: Vec<Transfer>) -> Result<Surveyed, DestinationError> {
        if self.is_empty {
            return Ok(Surveyed { missing: transfers, ..Surveyed::default() });
        }
        let mut looked = self.look(&transfers).await?.into_iter();
        let mut surveyed = Surveyed::default();
        for mut transfer in transfers {
            let content = KnownContent { hash: transfer.hash, size: transfer.size };
            let (mut there, mut unclear) = (Vec::new(), Vec::new());
            for mut target in std::mem::take(&mut transfer.targets) {
                let is_there = match looked.next().unwrap_or(Looked::At(Found::Unknown)) {
                    Looked::Holds(holds) => holds,
                    Looked::At(found) => {
                        unclear.extend(self.unclear(&target.path, found));
                        target.is_in_place(local(found, content), content)
                    }
                };
                if is_there { &mut there } else { &mut transfer.targets }.push(target);
            }
            surveyed.add(transfer, there, unclear);
        }
        Ok(surveyed)
    }

    /// Looks at each target.
    async fn look(&self, transfers: &[Transfer]) -> Result<Vec<Looked>, DestinationError> {
        let (all, questions) = (wanted(transfers), self.questions(transfers));
        let part = |of: Question| {
            let asked = all.iter().zip(&questions).filter(move |(_, question)| **question == of);
            asked.map(|(wanted, _)| wanted.clone()).collect::<Vec<Wanted>>()
        };
        let mut recorded = self.destination.holds(part(Question::Holds)).await?.into_iter();
        let mut looked = self.destination.look(part(Question::Look)).await?.into_iter();
        let answer = |question: &Question| match question {
            Question::Nothing => Looked::Holds(false),
            Question::Holds => Looked::Holds(recorded.next().unwrap_or(false)),
            Question::Look => Looked::At(looked.next().unwrap_or(Found::Unknown)),
        };
        Ok(questions.iter().map(answer).collect())
    }

    /// A file of an unrecorded path, if the vault's history may say that it is the vault's own.
    fn unclear(&self, path: &VaultPath, found: Found) -> Option<(VaultPath, KnownContent)> {
        match found {
            Found::Other(content) if self.historian.is_some() => Some((path.clone(), content)),
            Found::Other(_) | Found::Nothing | Found::Wanted | Found::Unknown => None,
        }
    }

    /// Asks the vault's history about unrecorded files: those with a content that the vault once had there
    /// are marked to be replaced.
    async fn settle(&self, Unclear { mut transfer, files }: Unclear) -> Transfer {
        let Some(historian) = &self.historian else { return transfer };
        for (path, content) in files {
            if historian.had(&path, content).await {
                let target = transfer.targets.iter_mut().find(|target| target.path == path);
                target.into_iter().for_each(|target| target.replaces = Some(content));
            }
        }
        transfer
    }

    /// Returns the check of each target.
    fn questions(&self, transfers: &[Transfer]) -> Vec<Question> {
        let targets = || {
            transfers
                .iter()
                .flat_map(|transfer| transfer.targets.iter().map(move |target| (transfer, target)))
        };
        let supposed = |(transfer, target): (&Transfer, &Target)| {
            let content = target.replaces.filter(|replaced| replaced.hash != transfer.hash)?;
            let facts = target.facts.as_deref()?.clone();
            Some(Supposed { path: target.path.clone(), content, facts, to_come: transfer.size })
        };
        let is_enough = self.destination.suppose(targets().filter_map(supposed).collect());
        let mut is_enough = is_enough.into_iter();
        let question = |(transfer, target): (&Transfer, &Target)| match supposed((transfer, target)) {
            _ if target.replaces.is_none() && self.is_likely_free(transfer) => Question::Nothing,
            _ if target.replaces.is_none() => Question::Look,
            Some(_) if is_enough.next().unwrap_or(false) => Question::Nothing,
            _ => Question::Holds,
        };
        targets().map(question).collect()
    }

    /// True if unrecorded targets of a transfer are most likely free, and the write detects another file.
    fn is_likely_free(&self, transfer: &Transfer) -> bool {
        self.is_recorded
            && transfer.source.local().is_none()
            && self.destination.creates_conditionally(transfer.size)
    }

    /// Marks targets of rescues that seem to have their content already as obstructed, and returns them. They
    /// must not count as done: on a file system that folds names, or through a link, that may be the very
    /// file that is about to be removed.
    pub(crate) async fn mark_present(
        &self,
        rescues: &mut [Transfer],
    ) -> Result<HashSet<VaultPath>, DestinationError> {
        let present = self.destination.holds(wanted(rescues)).await?;
        let targets = rescues.iter_mut().flat_map(|rescue| &mut rescue.targets);
        let present = targets.zip(present).filter(|(_, present)| *present).map(|(target, _)| {
            target.obstructed = true;
            target.path.clone()
        });
        Ok(present.collect())
    }

    /// [Stages](Self::stage) many contents, as many at a time as the destination allows. In order, up to the
    /// first error that stops the run.
    pub(crate) async fn stage_all(
        &self,
        transfers: Vec<Transfer>,
    ) -> Vec<(Transfer, Result<Option<(Staged, Origin)>, DestinationError>)> {
        let mut staging = stream::iter(transfers)
            .map(|transfer| async move {
                let staged = self.stage(&transfer).await;
                (transfer, staged)
            })
            .buffered(self.destination.traits().at_a_time.max(1));
        let mut outcomes = Vec::new();
        // Polled to the end before anything else is awaited: requests that nobody polls would block others.
        while let Some((transfer, staged)) = staging.next().await {
            let is_fatal = matches!(&staged, Err(error) if error.is_fatal());
            outcomes.push((transfer, staged));
            if is_fatal {
                break;
            }
        }
        outcomes
    }

    /// Stages a content from local sources: leftovers of an interrupted run, a file of the destination, or
    /// nothing at all for an empty file. `None` if it must be downloaded.
    async fn stage(&self, transfer: &Transfer) -> Result<Option<(Staged, Origin)>, DestinationError> {
        let Some(target) = transfer.targets.first() else {
            return Ok(None);
        };
        let meta = target.meta(transfer.hash, transfer.size);
        if transfer.hash == ContentHash::EMPTY {
            let meta = target.meta(transfer.hash, 0);
            return Ok(Some((
                self.destination.begin(&target.path, &meta).await?.finish().await?,
                Origin::Pulled,
            )));
        }
        if let Some(staged) = self.destination.recover(&target.path, &meta).await? {
            return Ok(Some((staged, Origin::Adopted)));
        }
        if let Source::Local(from) = &transfer.source
            && let Some(staged) = self.destination.copy(from, &target.path, &meta).await?
        {
            return Ok(Some((staged, Origin::Copied)));
        }
        Ok(None)
    }
}

/// State of a path without a record, for a decision.
fn local(found: Found, wanted: KnownContent) -> Local {
    match found {
        Found::Nothing => Local::Absent,
        Found::Wanted => Local::File(wanted),
        Found::Other(content) => Local::File(content),
        Found::Unknown => Local::Other,
    }
}

/// Wanted contents of the targets of these transfers, in order.
pub(crate) fn wanted(transfers: &[Transfer]) -> Vec<Wanted> {
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
    /// Creates folders, and runs the transfers meanwhile. Returns early if stopped; finished work is
    /// committed.
    pub(crate) async fn transfer(
        &mut self,
        folders: Vec<FolderChange>,
        transfers: Vec<Transfer>,
        scout: &Scout,
        link: &mut Link,
        keys: &VaultKeys,
        stop: &CancellationToken,
    ) -> Result<TransferSummary, PullError> {
        // Cancelled by the caller, and when publishing fails for good.
        let halt = stop.child_token();
        let receiver = ContentReceiver {
            destination: self.destination.clone(),
            keys: keys.clone(),
            progress: self.progress.clone(),
        };
        let (jobs, job_queue) = mpsc::channel(SURVEY);
        let (fetched, fetched_queue) = mpsc::channel(BACKLOG);
        let (arrivals, arrival_queue) = mpsc::channel(BACKLOG);
        let feeder = Feeder { scout, governor: link.governor.clone(), jobs, arrivals };
        let feed = feeder.feed(transfers, &halt);
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
        let mut inbox = Inbox {
            arrivals: arrival_queue,
            fetched: fetched_queue,
            overtaken: Vec::new(),
            governor: link.governor.clone(),
        };
        let publish = async {
            let outcome = match self.create_folders(folders).await {
                Ok(()) => self.publish_arrivals(&mut inbox).await,
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                halt.cancel();
                inbox.close();
            }
            outcome
        };
        let keeps = link.keeps;
        let fetch = async move {
            match keeps {
                true => fetch.run_keeping().await,
                false => (fetch.run().await, None),
            }
        };
        let ((), (fetched, session), published) = tokio::join!(feed, fetch, publish);
        link.session = session;
        published?;
        let mut fetched = fetched?;
        // The session of the listing counts even if nothing was fetched over it.
        fetched.connections = fetched.connections.max(open_already);
        Ok(TransferSummary { fetched, overtaken: inbox.overtaken })
    }

    /// Publishes arrivals until there are no more, or until the destination reports that it was stopped.
    async fn publish_arrivals(&mut self, inbox: &mut Inbox) -> Result<(), PullError> {
        let published = self.publish_batches(inbox).await;
        if let Err(PullError::Store(DestinationError::Stopped { .. })) = published {
            inbox.close();
            return Ok(self.ledger.commit().await?);
        }
        published
    }

    async fn publish_batches(&mut self, inbox: &mut Inbox) -> Result<(), PullError> {
        loop {
            let mut batch = Vec::new();
            let fatal = self.gather(inbox, &mut batch).await?;
            let is_last = batch.is_empty();
            self.publish_next(batch).await?;
            match fatal {
                Some(error) => return Err(error.into()),
                None if is_last => return Ok(()),
                None => {}
            }
        }
    }

    /// Collects the next batch: everything ready, and everything that arrives within a moment. An empty batch
    /// is the end. Returns the error of a destination that stops the run; the other error is the state's.
    async fn gather(
        &mut self,
        inbox: &mut Inbox,
        batch: &mut Vec<Ready>,
    ) -> Result<Option<DestinationError>, PullError> {
        let limit = self.destination.traits().batch_limit;
        let mut bytes = 0_u64;
        let mut deadline = None;
        while batch.len() < limit.files.max(1) && bytes < limit.bytes.max(1) {
            let arrival = match deadline {
                None => self.first_arrival(inbox).await?,
                // There is enough to publish; the next files can arrive meanwhile.
                Some(_) if batch.len() >= ENOUGH => match unconstrained(inbox.next()).now_or_never() {
                    Some(arrival) => arrival,
                    None => break,
                },
                Some(deadline) => match inbox.next_until(deadline, batch).await {
                    Some(arrival) => arrival,
                    None => break,
                },
            };
            match arrival {
                None => break,
                Some(Arrival::Ready(ready)) => {
                    bytes = ready.iter().map(Ready::size).fold(bytes, u64::saturating_add);
                    batch.extend(ready);
                    deadline.get_or_insert_with(|| Instant::now() + BATCH_LINGER);
                }
                Some(Arrival::Failed { transfer, reason }) => {
                    self.ledger.transfer_failed(&transfer, &reason);
                }
                Some(Arrival::NotStaged { transfer, reason }) => {
                    self.not_staged(transfer, &reason);
                }
                Some(Arrival::Fatal(error)) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    /// The first arrival of a batch. If that takes a while, the batch before it is committed first.
    async fn first_arrival(&mut self, inbox: &mut Inbox) -> Result<Option<Arrival>, PullError> {
        if self.ledger.is_behind() {
            if let Ok(arrival) = timeout(BATCH_LINGER, inbox.next()).await {
                return Ok(arrival);
            }
            self.ledger.commit().await?;
        }
        Ok(inbox.next().await)
    }
}

/// Routes each transfer: straight to publishing if its content is local, else to the fetch pool.
///
/// A queue whose receiver is gone belongs to a run that is ending: its error is ignored.
struct Feeder<'a> {
    scout: &'a Scout,
    governor: Governor,
    jobs: mpsc::Sender<Job>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Feeder<'_> {
    /// The vault's history is asked beside the others: it may not answer.
    async fn feed(self, transfers: Vec<Transfer>, halt: &CancellationToken) {
        let (unclear, queue) = mpsc::channel(BACKLOG);
        tokio::join!(
            self.until_halted(halt, self.feed_all(transfers, unclear)),
            self.until_halted(halt, self.feed_unclear(queue)),
        );
    }

    /// Cancellation does not wait for a queue to empty.
    async fn until_halted(
        &self,
        halt: &CancellationToken,
        feeding: impl Future<Output = Result<(), DestinationError>>,
    ) {
        if let Some(Err(error)) = halt.run_until_cancelled(feeding).await {
            self.arrive(Arrival::Fatal(error)).await;
        }
    }

    /// Transfers checked at a time. Not more than are published at once: files that were checked and not
    /// committed are checked again after an interrupted run.
    fn at_once(&self) -> usize {
        SURVEY.min(self.scout.destination.traits().batch_limit.portion).max(1)
    }

    async fn feed_all(
        &self,
        transfers: Vec<Transfer>,
        unclear: mpsc::Sender<Unclear>,
    ) -> Result<(), DestinationError> {
        let mut rest = transfers.into_iter().peekable();
        while rest.peek().is_some() && !self.jobs.is_closed() {
            let surveyed = self.scout.survey(rest.by_ref().take(self.at_once()).collect()).await?;
            for ready in surveyed.ready {
                self.arrive(Arrival::Ready(vec![ready])).await;
            }
            for transfer in surveyed.unclear {
                let _ = unclear.send(transfer).await;
            }
            self.feed_missing(surveyed.missing).await?;
        }
        Ok(())
    }

    async fn feed_unclear(&self, mut queue: mpsc::Receiver<Unclear>) -> Result<(), DestinationError> {
        let mut some = Vec::new();
        while queue.recv_many(&mut some, self.at_once()).await > 0 && !self.jobs.is_closed() {
            let mut settled = Vec::with_capacity(some.len());
            for unclear in some.drain(..) {
                settled.push(self.scout.settle(unclear).await);
            }
            self.feed_missing(settled).await?;
        }
        Ok(())
    }

    async fn feed_missing(&self, transfers: Vec<Transfer>) -> Result<(), DestinationError> {
        for (transfer, staged) in self.scout.stage_all(transfers).await {
            self.feed_one(transfer, staged).await?;
        }
        Ok(())
    }

    /// Routes one transfer. An error is one that stops the run.
    async fn feed_one(
        &self,
        transfer: Transfer,
        staged: Result<Option<(Staged, Origin)>, DestinationError>,
    ) -> Result<(), DestinationError> {
        match staged {
            Ok(Some((staged, origin))) => {
                self.arrive(Arrival::Ready(Ready::staged(staged, origin, transfer))).await;
            }
            Ok(None) => {
                let memory = self.scout.destination.memory_for(transfer.size);
                let reservation = self.governor.admit(memory).await;
                let _ = self.jobs.send(Job { transfer, reservation }).await;
            }
            Err(error) if error.is_fatal() => return Err(error),
            Err(error) => {
                self.arrive(Arrival::NotStaged { transfer, reason: error.to_string() }).await;
            }
        }
        Ok(())
    }

    async fn arrive(&self, arrival: Arrival) {
        let _ = self.arrivals.send(arrival).await;
    }
}

/// Input queues of publishing: local contents, and fetched ones.
struct Inbox {
    arrivals: mpsc::Receiver<Arrival>,
    fetched: mpsc::Receiver<FetchResult<ContentReceiver>>,
    overtaken: Vec<Transfer>,
    governor: Governor,
}

impl Inbox {
    /// The next arrival, if one can be expected until then besides those in `batch`. Cancel safe.
    async fn next_until(&mut self, deadline: Instant, batch: &[Ready]) -> Option<Option<Arrival>> {
        let reserved = batch.iter().filter(|ready| ready.is_reserved()).count();
        let governor = self.governor.clone();
        tokio::select! {
            biased;
            arrival = self.next() => Some(arrival),
            // An idle destination would wait for files that are not admitted before these are published.
            () = governor.exhausted_by(reserved) => None,
            () = sleep_until(deadline) => None,
        }
    }

    /// The next arrival; `None` when both sources have ended. Cancel safe.
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            let FetchResult { job: Job { transfer, reservation }, outcome } = tokio::select! {
                Some(arrival) = self.arrivals.recv() => return Some(arrival),
                Some(result) = self.fetched.recv() => result,
                else => return None,
            };
            return Some(match outcome {
                Ok(staged) => Arrival::Ready(Ready::fetched(staged, transfer, reservation)),
                Err(FetchFailure::Gone) => {
                    self.overtaken.push(transfer);
                    continue;
                }
                Err(FetchFailure::Receiver(ReceiveError::Store(error))) if error.is_fatal() => {
                    Arrival::Fatal(error)
                }
                Err(FetchFailure::Receiver(ReceiveError::Store(error))) => {
                    Arrival::NotStaged { transfer, reason: error.to_string() }
                }
                Err(failure) => Arrival::Failed { transfer, reason: failure.to_string() },
            });
        }
    }

    /// Closes the queues, so that no sender waits.
    fn close(&mut self) {
        self.arrivals.close();
        self.fetched.close();
    }
}
