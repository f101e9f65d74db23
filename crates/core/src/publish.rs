//! Publishes staged files: the only code that makes them visible. The [`Publisher`] works in batches, which
//! it announces and records; [`publish_announced`] and [`publish_one`] are for callers who announce and
//! record themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use obsync_protocol::{Uid, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::destination::{
    BatchLimit, Destination, DestinationError, DestinationExt, Expect, KeptBeside, Publication,
    PublicationContent, PublishFailure, Published, Staged,
};
use crate::error::PullError;
use crate::governor::Reservation;
use crate::journal::JournalChange;
use crate::ledger::Ledger;
use crate::model::{FileMeta, KnownContent, Record, RecordKind};
use crate::progress::{FileAction, Progress};
use crate::reconcile::{Occupied, decide_occupied};
use crate::report::{Conflict, StepAction};
use crate::schedule::{Source, Target, Transfer};
use crate::state::StateStore;

/// Publishes files that the caller has announced and will record. Answers in order.
///
/// # Errors
///
/// An error that stops the run.
pub(crate) async fn publish_announced(
    destination: &dyn Destination,
    batch: Vec<Publication>,
) -> Result<Vec<Result<Published, DestinationError>>, PullError> {
    let mut answers = Vec::with_capacity(batch.len());
    for answer in destination.publish(batch).await {
        answers.push(match answer.map_err(|failure| failure.error) {
            Err(error) if error.is_fatal() => return Err(error.into()),
            answer => answer,
        });
    }
    Ok(answers)
}

/// Publishes a staged file; the caller announces and records it. `None` if something unexpected was in its
/// place, which was left alone.
///
/// # Errors
///
/// Any other error of the destination.
pub(crate) async fn publish_one(
    destination: &dyn Destination,
    staged: Staged,
    expect: Expect,
) -> Result<Option<Published>, PullError> {
    let publication = Publication { content: PublicationContent::Staged(staged), expect };
    match publish_announced(destination, vec![publication]).await?.pop() {
        Some(Ok(published)) => Ok(Some(published)),
        Some(Err(DestinationError::Changed { .. } | DestinationError::InTheWay { .. })) | None => Ok(None),
        Some(Err(error)) => Err(error.into()),
    }
}

/// A file that is ready to be published.
pub(crate) struct Ready {
    content: PublicationContent,
    origin: Origin,
    /// The content to publish; it has one target.
    transfer: Transfer,
    /// Memory of its content, reserved until all files with it are published.
    reservation: Option<Arc<Reservation>>,
    /// A user's file that was in its place.
    kept: Option<KeptBeside>,
}

impl From<Origin> for FileAction {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Pulled => FileAction::Downloaded,
            Origin::Copied => FileAction::Copied,
            Origin::Adopted => FileAction::Found,
            Origin::Touched => FileAction::TimesSet,
        }
    }
}

/// Origin of a ready content, for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Downloaded.
    Pulled,
    /// Copied within the destination.
    Copied,
    /// In place already, or left over from an interrupted run.
    Adopted,
    /// In place already, and only its times change; not worth a line in the report.
    Touched,
}

impl Ready {
    /// A content that was staged for the first target of a transfer, for each of its targets.
    pub(crate) fn staged(staged: Staged, origin: Origin, transfer: Transfer) -> Vec<Self> {
        Ready::reserved(staged, origin, transfer, None)
    }

    /// The same for a content with reserved memory.
    pub(crate) fn fetched(staged: Staged, transfer: Transfer, reservation: Reservation) -> Vec<Self> {
        Ready::reserved(staged, Origin::Pulled, transfer, Some(Arc::new(reservation)))
    }

    fn reserved(
        staged: Staged,
        origin: Origin,
        transfer: Transfer,
        reservation: Option<Arc<Reservation>>,
    ) -> Vec<Self> {
        let Transfer { hash, size, source, targets } = transfer;
        let last = targets.len().saturating_sub(1);
        let of_target = |(index, target): (usize, Target)| {
            let FileMeta { hash: content, size: written, .. } = staged.meta;
            let (path, meta) = (target.path.clone(), target.meta(content, written));
            let copy = Staged { path, meta, handle: staged.handle.clone() };
            Ready {
                content: match index == last {
                    true => PublicationContent::Staged(copy),
                    false => PublicationContent::CopyOfStaged(copy),
                },
                origin: if index == 0 { origin } else { Origin::Copied },
                transfer: Transfer { hash, size, source: source.clone(), targets: vec![target] },
                reservation: reservation.clone(),
                kept: None,
            }
        };
        targets.into_iter().enumerate().map(of_target).collect()
    }

    /// A content that is in place at this target already.
    pub(crate) fn in_place(target: Target, origin: Origin, transfer: &Transfer) -> Self {
        let meta = target.meta(transfer.hash, transfer.size);
        let content = PublicationContent::InPlace { path: target.path.clone(), meta };
        let transfer = Transfer { targets: vec![target], ..transfer.clone() };
        Ready { content, origin, transfer, reservation: None, kept: None }
    }

    pub(crate) fn path(&self) -> &VaultPath {
        self.content.path()
    }

    /// The content to publish; it has one target.
    pub(crate) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// True if publishing changes the content that obsync wrote to the path before.
    fn is_news(&self) -> bool {
        self.origin != Origin::Touched
    }

    /// True if it counts among the admitted transfers.
    pub(crate) fn is_reserved(&self) -> bool {
        self.reservation.is_some()
    }

    /// Size of its content in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.content.meta().size
    }
}

/// A file that was not published.
struct Unpublished {
    ready: Ready,
    error: DestinationError,
}

/// Facts needed to record a file once it is published.
struct Account {
    transfer: Transfer,
    origin: Origin,
    meta: FileMeta,
    reservation: Option<Arc<Reservation>>,
    kept: Option<KeptBeside>,
}

/// Splits a batch into portions. A portion is closed by the file that reaches its limit of bytes.
fn portions(batch: Vec<Ready>, limit: BatchLimit) -> impl Iterator<Item = Vec<Ready>> {
    let mut rest = batch.into_iter();
    std::iter::from_fn(move || {
        let (mut portion, mut bytes) = (Vec::new(), 0_u64);
        while portion.len() < limit.portion.max(1)
            && bytes < limit.bytes.max(1)
            && let Some(ready) = rest.next()
        {
            bytes = bytes.saturating_add(ready.size());
            portion.push(ready);
        }
        (!portion.is_empty()).then_some(portion)
    })
}

/// Records to announce for a portion.
fn news(portion: &[Ready]) -> Vec<Record> {
    portion.iter().filter(|ready| ready.is_news()).map(|ready| ready.content.record()).collect()
}

fn take_apart(portion: Vec<Ready>) -> (Vec<Publication>, Vec<Account>) {
    let parts = portion.into_iter().map(|Ready { content, origin, transfer, reservation, kept }| {
        let meta = content.meta().clone();
        let expect = match &kept {
            Some(kept) => kept.expect.clone(),
            None => transfer.targets.first().and_then(|target| target.replaces).into(),
        };
        (Publication { content, expect }, Account { transfer, origin, meta, reservation, kept })
    });
    parts.unzip()
}

/// Reason why a file does not replace a later version of itself.
const IS_BEHIND: &str =
    "a newer version of it is there already, written by another obsync; the next run looks again";
/// Attempts for a file whose place another program keeps changing.
const ATTEMPTS: usize = 16;

/// Publishes files and records them.
pub(crate) struct Publisher<'a, 'r> {
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) ledger: &'a mut Ledger<'r>,
    pub(crate) progress: Arc<dyn Progress>,
    /// Cancelled when no new work may begin.
    pub(crate) stop: CancellationToken,
    /// Contents that the destination dropped before they were at these paths, to be fetched again.
    pub(crate) refetch: Vec<Transfer>,
}

impl<'a, 'r> Publisher<'a, 'r> {
    pub(crate) fn new(
        destination: Arc<dyn Destination>,
        state: Arc<dyn StateStore>,
        ledger: &'a mut Ledger<'r>,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Self {
        Publisher { destination, state, ledger, progress, stop, refetch: Vec::new() }
    }

    /// Publishes a batch, and commits it.
    ///
    /// Failures of single files are in the ledger; an error means that the run cannot continue, or was
    /// stopped. In either case the published files are committed.
    pub(crate) async fn publish(&mut self, batch: Vec<Ready>) -> Result<(), PullError> {
        let outcome = self.publish_next(batch).await;
        self.ledger.commit().await?;
        outcome
    }

    /// Publishes a batch. Files in the way are checked, and moved if they are a user's; then that part is
    /// retried.
    ///
    /// The batch is not committed yet: the next announcement does that, or the caller if nothing follows
    /// soon.
    pub(crate) async fn publish_next(&mut self, mut batch: Vec<Ready>) -> Result<(), PullError> {
        for _ in 0..ATTEMPTS {
            let unpublished = self.publish_batch(batch).await?;
            batch = self.clear_the_way(unpublished).await?;
            if batch.is_empty() {
                return Ok(());
            }
        }
        for ready in batch {
            self.cannot_be_placed(ready, "another program keeps changing it").await;
        }
        Ok(())
    }

    /// Publishes a batch, portion by portion, up to an error that stops the run. Returns the unpublished
    /// files, without the portions after such an error.
    ///
    /// While a portion is published the next one is announced, with the records of the one before. So at most
    /// two portions are announced and not recorded.
    async fn publish_batch(&mut self, batch: Vec<Ready>) -> Result<Vec<Unpublished>, PullError> {
        let mut unpublished = Vec::new();
        let mut portions = portions(batch, self.destination.traits().batch_limit);
        let Some(mut portion) = portions.next() else { return Ok(unpublished) };
        self.announce(&portion, Vec::new()).await?;
        loop {
            let next = portions.next();
            let under_way = news(&portion);
            let (publications, accounts) = take_apart(portion);
            let (destination, stop) = (self.destination.clone(), self.stop.clone());
            let announcing = async {
                match &next {
                    Some(next) => self.announce(next, under_way).await,
                    None => Ok(()),
                }
            };
            let (outcomes, announced) =
                tokio::join!(destination.publish_until(publications, &stop), announcing);
            // Staged files that are not published stay for the next run.
            let go_on = self.take_in(outcomes, accounts, &mut unpublished) && !self.stop.is_cancelled();
            match (announced, next) {
                (Ok(()), Some(next)) if go_on => portion = next,
                (Ok(()), None) => return Ok(unpublished),
                (announced, next) => {
                    self.put_all_back(next.into_iter().chain(portions).flatten()).await;
                    if let Err(error) = announced {
                        self.put_all_back(unpublished.into_iter().map(|unpublished| unpublished.ready)).await;
                        return Err(error);
                    }
                    return Ok(unpublished);
                }
            }
        }
    }

    /// Durably announces this portion as the next one while `under_way` is published; meanwhile the
    /// destination prepares it.
    async fn announce(&mut self, portion: &[Ready], under_way: Vec<Record>) -> Result<(), PullError> {
        let staged = portion.iter().filter_map(|ready| ready.content.staged());
        let handles = staged.map(|staged| staged.handle.clone()).collect();
        let records = under_way.into_iter().chain(news(portion)).collect();
        let (announced, ()) = tokio::join!(self.ledger.announce(records), self.destination.prepare(handles));
        Ok(announced?)
    }

    /// Records the outcomes of a portion. `false` if the run cannot continue.
    fn take_in(
        &mut self,
        outcomes: Vec<Result<Published, PublishFailure>>,
        accounts: Vec<Account>,
        unpublished: &mut Vec<Unpublished>,
    ) -> bool {
        let mut go_on = true;
        for (outcome, account) in outcomes.into_iter().zip(accounts) {
            let Account { transfer, origin, meta, reservation, kept } = account;
            match outcome {
                Ok(published) => {
                    if let (Some(kept), Some(target)) = (kept, transfer.targets.first()) {
                        self.conflict(target.path.clone(), kept.kept_as);
                    }
                    self.record(published, transfer, origin, meta);
                }
                Err(PublishFailure { publication, error }) => {
                    go_on &= !error.is_fatal();
                    let ready = Ready { content: publication.content, origin, transfer, reservation, kept };
                    unpublished.push(Unpublished { ready, error });
                }
            }
        }
        go_on
    }

    /// Handles unpublished files. Returns those that are worth another attempt.
    ///
    /// # Errors
    ///
    /// The error that stops the run, if there was one.
    async fn clear_the_way(&mut self, unpublished: Vec<Unpublished>) -> Result<Vec<Ready>, PullError> {
        let (fatal, unpublished): (Vec<_>, Vec<_>) =
            unpublished.into_iter().partition(|unpublished| unpublished.error.is_fatal());
        let stops = !fatal.is_empty();
        let occupants = unpublished.iter().filter_map(|unpublished| unpublished.error.occupant());
        let places = unpublished.iter().map(|unpublished| unpublished.ready.content.path().clone()).collect();
        let cleared = match stops {
            true => Ok(BTreeSet::new()),
            false => self.clear(occupants.collect(), &places).await,
        };
        let cleared = match cleared {
            Ok(cleared) => cleared,
            Err(error) => {
                self.put_all_back(unpublished.into_iter().map(|unpublished| unpublished.ready)).await;
                return Err(error);
            }
        };
        let mut again = Vec::new();
        let mut rest = unpublished.into_iter();
        while let Some(Unpublished { mut ready, error }) = rest.next() {
            match &error {
                DestinationError::Changed { .. } | DestinationError::InTheWay { .. } if stops => {
                    self.put_back(&mut ready).await;
                }
                DestinationError::Changed { found, version, .. } => {
                    match self.make_place(ready, *found, *version).await {
                        Ok(ready) => again.extend(ready),
                        Err(error) => {
                            let rest = rest.map(|unpublished| unpublished.ready);
                            self.put_all_back(again.into_iter().chain(rest)).await;
                            return Err(error);
                        }
                    }
                }
                DestinationError::InTheWay { occupant, .. } if cleared.contains(occupant) => {
                    again.push(ready)
                }
                DestinationError::ContentNeeded { .. } => {
                    tracing::debug!(%error, "to be downloaded");
                    self.put_back(&mut ready).await;
                    self.refetch.push(Transfer { source: Source::Remote, ..ready.transfer });
                }
                DestinationError::NameTooLong { .. } | DestinationError::NameRefused { .. } => {
                    self.put_back(&mut ready).await;
                    self.ledger.transfer_refused(&ready.transfer, &error.to_string());
                }
                _ => self.cannot_be_placed(ready, &error.to_string()).await,
            }
        }
        let mut stopped_by = None;
        for Unpublished { mut ready, error } in fatal {
            self.put_back(&mut ready).await;
            // A file that may be in place stays announced; publishing later files must not change that.
            if ready.is_news() {
                self.ledger.still_announced(ready.content.record());
            }
            stopped_by.get_or_insert(error);
        }
        stopped_by.map_or(Ok(again), |error| Err(error.into()))
    }

    /// Handles a file that was found in the place of another. Returns the file to put in its place, if that
    /// is worth another attempt.
    async fn make_place(
        &mut self,
        mut ready: Ready,
        found: Option<KnownContent>,
        version: Option<Uid>,
    ) -> Result<Option<Ready>, PullError> {
        let meta = ready.content.meta();
        let recorded = ready.transfer.targets.first().and_then(|target| target.replaces);
        match decide_occupied(recorded, found, version, meta.into(), meta.uid) {
            Occupied::KeepBoth => self.keep_beside(ready).await,
            Occupied::Retry { replaces } if replaces == recorded => Ok(Some(ready)),
            Occupied::Retry { replaces } => {
                if let Some(target) = ready.transfer.targets.first_mut() {
                    target.replaces = replaces;
                }
                // Another program put this here after the file of its place was kept.
                if let Some(kept) = ready.kept.take() {
                    self.conflict(ready.path().clone(), kept.kept_as);
                }
                Ok(Some(ready))
            }
            Occupied::Newer => {
                self.cannot_be_placed(ready, IS_BEHIND).await;
                Ok(None)
            }
        }
    }

    /// Keeps a user's file under another name. Returns the file to put in its place, if that is worth another
    /// attempt.
    async fn keep_beside(&mut self, mut ready: Ready) -> Result<Option<Ready>, PullError> {
        let path = ready.content.path().clone();
        match self.destination.keep_beside(&path).await {
            Ok(kept) => {
                if let Some(before) = ready.kept.replace(kept) {
                    self.conflict(path, before.kept_as);
                }
                Ok(Some(ready))
            }
            Err(error) if error.is_fatal() => {
                self.put_back(&mut ready).await;
                Err(error.into())
            }
            // It is another file by now, or gone.
            Err(DestinationError::Changed { .. }) => Ok(Some(ready)),
            Err(error) => {
                self.cannot_be_placed(ready, &error.to_string()).await;
                Ok(None)
            }
        }
    }

    /// Returns a kept file to its name if the file for its place does not arrive.
    async fn put_back(&mut self, ready: &mut Ready) {
        let Some(kept) = ready.kept.take() else { return };
        let path = ready.content.path();
        if !self.destination.put_back(path, &kept).await {
            self.conflict(path.clone(), kept.kept_as);
        }
    }

    async fn put_all_back(&mut self, files: impl Iterator<Item = Ready>) {
        for mut ready in files {
            self.put_back(&mut ready).await;
        }
    }

    /// A file cannot be placed, for a reason of its own.
    async fn cannot_be_placed(&mut self, mut ready: Ready, reason: &str) {
        self.put_back(&mut ready).await;
        self.ledger.transfer_failed(&ready.transfer, reason);
    }

    /// A content could not be staged for its first target. The reason may concern that path only, so it is
    /// staged for the next one.
    pub(crate) fn not_staged(&mut self, mut transfer: Transfer, reason: &str) {
        let others = transfer.targets.split_off(1);
        self.ledger.transfer_failed(&transfer, reason);
        if !others.is_empty() {
            self.refetch.push(Transfer { targets: others, ..transfer });
        }
    }

    /// Records a published file.
    fn record(&mut self, published: Published, mut transfer: Transfer, origin: Origin, meta: FileMeta) {
        let Some(target) = transfer.targets.pop() else { return };
        let report = &mut self.ledger.report;
        match origin {
            Origin::Pulled => report.pulled.add(meta.size),
            Origin::Copied => report.copied.add(meta.size),
            Origin::Adopted => report.adopted.add(meta.size),
            Origin::Touched => {}
        }
        let action = match origin {
            Origin::Pulled => Some(StepAction::Download),
            Origin::Copied => Some(StepAction::Copy),
            Origin::Adopted => Some(StepAction::Adopt),
            Origin::Touched if !target.recorded => Some(StepAction::Touch),
            Origin::Touched => None,
        };
        if let Some(action) = action {
            let from = transfer.source.local().filter(|_| origin == Origin::Copied);
            from.into_iter().for_each(|from| report.note_copy(&target.path, from));
            report.note_arrival(action, &target.path, meta.size, from);
        }
        if matches!(origin, Origin::Pulled | Origin::Copied) {
            report.note_code(&target.path, &self.ledger.filter);
        }
        let emptied = target.replaces.is_some_and(|known| known.size > 0) && meta.size == 0;
        if emptied && !self.ledger.confirmed_deletions.contains(&target.path) {
            self.ledger.deleted(1);
        }
        self.progress.placed(meta.size);
        // A file that had to be fetched is always recorded: that clears its announcement.
        let is_known = target.recorded && target.facts.as_deref() == published.facts.as_ref();
        if !(origin == Origin::Touched && is_known) {
            self.progress.file(&target.path, origin.into());
        }
        if origin == Origin::Touched && is_known {
            self.ledger.confirmed(target.uid);
        } else {
            if matches!(origin, Origin::Pulled | Origin::Copied) {
                self.ledger.journal(JournalChange::Write, &target.path, target.uid, Some(meta.size));
            }
            let kind = RecordKind::File(meta.clone());
            self.ledger.recorded(Record::seen(target.path.clone(), kind, published.facts));
        }
    }

    /// Moves files and folders aside that are in the way and that are not the vault's. Returns their paths.
    /// At the `places` of files it is a folder that is in the way, whatever file is recorded there.
    pub(crate) async fn clear(
        &mut self,
        occupants: BTreeSet<VaultPath>,
        places: &BTreeSet<VaultPath>,
    ) -> Result<BTreeSet<VaultPath>, PullError> {
        let mut cleared = BTreeSet::new();
        if occupants.is_empty() {
            return Ok(cleared);
        }
        self.ledger.commit().await?;
        for occupant in occupants {
            if self.is_vaults(&occupant, places.contains(&occupant)).await? {
                continue;
            }
            match self.destination.set_aside(&occupant).await {
                Ok(kept_as) => {
                    self.conflict(occupant.clone(), kept_as);
                    cleared.insert(occupant);
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                // It stays in the way of paths below it, and of nothing else.
                Err(error) => tracing::debug!(%error, "what is in the way cannot be moved"),
            }
        }
        Ok(cleared)
    }

    /// True if something of the vault is recorded at this path or below it: a folder may contain files of the
    /// vault without being one of its folders. At the place of a file only a folder counts.
    async fn is_vaults(&self, occupant: &VaultPath, is_place: bool) -> Result<bool, PullError> {
        let record = self.state.records(std::slice::from_ref(occupant)).await?.pop().flatten();
        let is_at = record.is_some_and(|record| !(is_place && record.file().is_some()));
        Ok(is_at || self.state.has_below(occupant).await?)
    }

    fn conflict(&mut self, path: VaultPath, kept_as: VaultPath) {
        self.progress.notice(&format!("kept what was at {path} as {kept_as}"));
        self.ledger.kept(&path, &kept_as);
        self.ledger.report.conflicts.push(Conflict { path, kept_as });
    }
}
