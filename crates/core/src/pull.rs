//! A pull from beginning to end, in the order of its steps: survey, schedule, apply, finish.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use obsync_protocol::{ContentHash, VaultPath};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::brake::{self, MaxDelete};
use crate::catch_up::{Remainder, SEQUELS};
use crate::destination::{Destination, DestinationError, FoldingProbe};
use crate::earlier::Earlier;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::foreseen::Foreseen;
use crate::ledger::Ledger;
use crate::line::Lines;
use crate::model::{DeferredKey, Deletions, Direction, Record};
use crate::progress::{Phase, Progress};
use crate::publish::Publisher;
use crate::reconcile::{Mode, Reach};
use crate::records::Records;
use crate::report::{Report, Tally};
use crate::repositories::Repositories;
use crate::run::{PullOptions, PullSource, Run};
use crate::schedule::{Schedule, ScheduleInput, Transfer};
use crate::state::{self, StateStore};
use crate::survey::{CatchesUp, Survey};
use crate::transfer::{BATCH_LINGER, Link, Scout};
use crate::watermark::Watermark;

/// Paths or contents looked up in the state at a time: the answers for a whole vault would be in memory
/// beside its listing.
const LOOKED_UP: usize = 10_000;

/// Brings a destination in sync with a vault.
///
/// A pull that was stopped, or that could not apply every change, is a success with a report that says so.
///
/// # Errors
///
/// When the run as a whole cannot continue. Finished work is recorded, and the next pull continues from
/// there.
///
/// Boxed, as the other entry points are: an `async fn` is compiled anew in each crate that awaits it, with all
/// that it awaits.
pub fn pull<'a>(
    source: &'a PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &'a PullOptions,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
) -> BoxFuture<'a, Result<Report, PullError>> {
    Box::pin(
        async move { pull_over(&Lines::none(), source, destination, state, options, progress, stop).await },
    )
}

/// [`pull`] over a session that stays open.
pub(crate) async fn pull_over(
    lines: &Lines,
    source: &PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
) -> Result<Report, PullError> {
    let begun = Instant::now();
    let known = state.load().await?;
    let mut report = Report::new(&source.vault, destination.location(), known.version);
    report.list_changes(options.list_changes);
    let source = &PullSource { client: source.client.for_run(), ..source.clone() };
    let mirroring = PullOptions { mode: Mode::Full, ..options.clone() };
    let options = if options.mirrors { &mirroring } else { options };
    let (direction, lists_all) = (Direction::Pull, false);
    let run = Run { source, destination, state, options, direction, progress, stop, lists_all, lines };
    // Boxed, here and below: each future holds those that it waits for, and without optimisation a function that
    // makes or polls one has room for all of them on a thread's stack.
    let outcome = Box::pin(async {
        if !options.is_narrowed {
            run.warn_of_direction(&known, &mut report);
        }
        match options.mirrors {
            true => run.mirror(&mut report).await,
            false => run.pull(&mut report).await,
        }
    });
    let outcome = outcome.await;
    run.conclude(outcome, report, begun).await
}

impl Run<'_> {
    async fn mirror(&self, report: &mut Report) -> Result<(), PullError> {
        match self.take_back(report).await? {
            Some(mode) => self.pull_in(mode, CatchesUp::No, report).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn pull(&self, report: &mut Report) -> Result<(), PullError> {
        self.pull_in(self.options.mode, CatchesUp::Yes, report).await
    }

    async fn pull_in(&self, mode: Mode, catches_up: CatchesUp, report: &mut Report) -> Result<(), PullError> {
        let Some(mut survey) = self.survey(mode, catches_up, report).await? else { return Ok(()) };
        self.settle_announced(&mut survey, report).await?;
        self.progress.phase(Phase::Planning);
        self.warn_of_unmatched(&survey, report).await?;
        let earlier = self.add_deferred(&mut survey, report).await?;
        if self.direction == Direction::Both {
            self.give_way(&mut survey, report).await?;
        }
        // Doubted records say nothing about edits. A run that writes has forgotten them by now.
        if self.direction == Direction::Both && !survey.disbelieved {
            self.carry_edits(&mut survey, report).await?;
            self.merge_contested(&mut survey, report).await?;
        }
        let mut plan = self.plan(&mut survey, &report.foreseen).await?;
        self.hold_back(&mut plan, &survey.known.deletions, &earlier.confirmed, report).await?;
        self.warn_of(&plan, report);
        if self.options.dry_run {
            self.rehearse(&plan, &survey, report).await?;
            report.describe(&plan, &survey.listing, &self.options.filter, &earlier.accepted);
            return Ok(());
        }
        self.progress.phase(Phase::Transferring);
        Box::pin(self.carry_out(plan, survey, earlier, report)).await
    }

    /// Warns of kept files that a user may not expect.
    pub(crate) fn warn_of(&self, plan: &Schedule, report: &mut Report) {
        if !plan.unlisted.is_empty() {
            self.warn(kept_unlisted(plan.unlisted.len()), report);
        }
        if !plan.released.is_empty() {
            self.warn(released(plan.released.len()), report);
        }
    }

    pub(crate) async fn plan(&self, survey: &mut Survey, foreseen: &Foreseen) -> Result<Schedule, PullError> {
        let mut entries = survey.listing.entries.take();
        let is_partial = survey.mode == Mode::Incremental && survey.reach == Reach::Everything;
        if entries.is_empty() && is_partial {
            return Ok(Schedule::default());
        }
        let folds_names = match self.options.dry_run {
            true => self.destination.folds_names(FoldingProbe::LookOnly).await?,
            false if entries.iter().any(is_accented) => {
                self.destination.folds_names(FoldingProbe::Normalization).await?
            }
            false => self.destination.folds_names(FoldingProbe::Case).await?,
        };
        let mut records = match !is_partial || folds_names.is_any() {
            // The doubted records were not forgotten, because this run must not write anything.
            _ if survey.disbelieved => Records::default(),
            true => Records::from(self.state.all_records().await?),
            false => self.records_of(&entries).await?,
        };
        let taken_back = foreseen.taken_back.iter().map(|record| &record.path);
        for path in foreseen.forgotten.iter().chain(taken_back) {
            records.take(path);
        }
        records.extend(foreseen.taken_back.iter().cloned());
        records.share_paths(&mut entries);
        if survey.may_have_vanished(&self.source.vault.id) {
            let vanished = self.vanished(&entries, &records, survey).await?;
            records.extend(vanished);
        }
        let sources = self.sources(&entries, &records).await?;
        let mut in_place = recorded_as_listed(&entries, &records);
        let mut plan = Schedule::new(ScheduleInput {
            entries,
            unclear: survey.listing.unclear(),
            records,
            sources,
            filter: &self.options.filter,
            mode: survey.mode,
            reach: survey.reach,
            is_sequel: survey.is_sequel,
            full_up_to: survey.known.full_up_to.unwrap_or_default(),
            folds_names,
        });
        // Files to check again count among those to fetch.
        for size in plan.transfers.iter().flat_map(Transfer::confirmed_targets) {
            in_place.files = in_place.files.saturating_sub(1);
            in_place.bytes = in_place.bytes.saturating_sub(size);
        }
        self.progress.in_place(in_place.files, in_place.bytes);
        let repositories = self.repositories(&plan, survey.scout.is_empty).await?;
        plan.refuse(|path| {
            self.destination.admits(path).map_err(|error| error.to_string())?;
            repositories.admits(path)
        });
        Ok(plan)
    }

    /// Holds the deletions back if there are too many.
    pub(crate) async fn hold_back(
        &self,
        plan: &mut Schedule,
        deletions: &[Deletions],
        confirmed: &HashSet<VaultPath>,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let now = match self.destination.traits().keeps_deleted {
            // No file is removed, but files can become empty.
            true => plan.count_emptied(confirmed),
            false => plan.count_deletions(confirmed),
        };
        if now == 0 {
            return Ok(());
        }
        // Held-back deletions count too: a vault can also be emptied in several steps.
        let now = now.saturating_add(report.held_back_here());
        let recent = brake::recent(deletions, brake::this_minute());
        let files = self.state.files().await?.saturating_add(recent);
        // In a doubtful destination, deletions in the vault need confirmation: nothing may be lost on either
        // side.
        let is_question = self.direction == Direction::Both && report.doubt.is_some();
        let limit = match is_question && self.options.max_delete != MaxDelete::Unlimited {
            true => MaxDelete::Files(0),
            false => self.options.max_delete,
        };
        if !limit.allows(now.saturating_add(recent), files) {
            plan.hold_back(confirmed);
            self.warn(held_back(now, recent, files, self.options.max_delete), report);
        }
        Ok(())
    }

    /// Checks whether the plan would complete a bare git repository, in a destination that may be empty.
    async fn repositories(&self, plan: &Schedule, is_empty: bool) -> Result<Repositories, PullError> {
        let mut repositories = Repositories::wanted(plan.wanted_paths());
        if !is_empty {
            let folders = repositories.folders();
            if !folders.is_empty() {
                repositories.present(self.destination.repository_parts(folders).await?);
            }
        }
        Ok(repositories)
    }

    /// Looks up the records of these entries' paths.
    async fn records_of(&self, entries: &[RemoteEntry]) -> Result<Records, PullError> {
        let mut records = Records::default();
        for entries in entries.chunks(LOOKED_UP) {
            let paths: Vec<VaultPath> = entries.iter().map(|entry| entry.path.clone()).collect();
            records.extend(self.state.records(&paths).await?.into_iter().flatten());
        }
        Ok(records)
    }

    /// Looks up paths of the destination that have the wanted contents.
    async fn sources(
        &self,
        entries: &[RemoteEntry],
        records: &Records,
    ) -> Result<HashMap<ContentHash, VaultPath>, PullError> {
        let wanted = |entry: &RemoteEntry| {
            let EntryKind::File { hash, .. } = entry.kind else { return None };
            let known = records.get(&entry.path).and_then(Record::file);
            known.is_none_or(|known| known.hash != hash).then_some(hash)
        };
        let mut sources = HashMap::new();
        for entries in entries.chunks(LOOKED_UP) {
            let contents: HashSet<ContentHash> = entries.iter().filter_map(wanted).collect();
            let contents: Vec<ContentHash> =
                contents.into_iter().filter(|content| !sources.contains_key(content)).collect();
            let found = self.state.sources(&contents).await?;
            sources.extend(contents.into_iter().zip(found).filter_map(|(hash, path)| Some((hash, path?))));
        }
        Ok(sources)
    }

    async fn carry_out(
        &self,
        plan: Schedule,
        mut survey: Survey,
        earlier: Earlier,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let watermark = Watermark::new(survey.floor, survey.version);
        let full_watermark = (survey.mode == Mode::Full)
            .then(|| Watermark::new(survey.known.full_up_to.unwrap_or_default(), survey.version));
        let mut ledger = Ledger::new(
            self.state.clone(),
            self.source.keys.clone(),
            self.options.filter.clone(),
            (watermark, full_watermark),
            survey.known.clone(),
            earlier.remembered,
            report,
        );
        ledger.carry_pushes().await?;
        ledger.accepted = earlier.accepted;
        ledger.confirmed_deletions = earlier.confirmed;
        let mut link = Link {
            client: self.source.client.clone(),
            target: self.target(),
            version: survey.version,
            options: self.options.fetch.clone(),
            session: survey.session.take(),
            keeps: self.lines.keeps(),
            governor: self.options.governor.clone(),
        };
        let (destination, state, progress) =
            (self.destination.clone(), self.state.clone(), self.progress.clone());
        let mut publisher = Publisher::new(destination, state, &mut ledger, progress, self.stop.clone());
        let plan = self.take_on(&mut publisher, plan, &mut survey).await?;
        publisher.ledger.open(&self.options.filter.fingerprint()).await?;
        let marker = self.begin_marking(publisher.ledger, &plan, &survey.marker).await?;
        let applying = Box::pin(async {
            let applied = self.apply_all(&mut publisher, plan, &mut survey, &mut link).await;
            publisher.ledger.keep_identity();
            match applied {
                Err(PullError::Store(DestinationError::Stopped { .. })) => Ok(()),
                applied => applied,
            }
        });
        let (applied, marked) = tokio::join!(applying, self.write_marker(marker));
        if applied.is_err() || marked.is_err() {
            // Files in place are recorded whatever the result.
            ledger.commit().await?;
        }
        applied?;
        if let Some(destination) = marked? {
            ledger.identify(destination);
        }
        // A session that fetched nothing still counts as one connection.
        let is_unused = link.session.is_some() && !self.lines.keeps();
        ledger.report.connections += u64::from(is_unused) + survey.scout.connections();
        if self.lines.keeps() {
            self.lines.give_back(link.session.take());
        }
        self.finish(ledger, earlier.obsolete, earlier.forgets_filtered, &survey).await
    }

    /// Adds a plan and its listing to the account. Returns the remaining work.
    pub(crate) async fn take_on(
        &self,
        publisher: &mut Publisher<'_, '_>,
        mut plan: Schedule,
        survey: &mut Survey,
    ) -> Result<Schedule, PullError> {
        if !plan.unchanged.is_empty() {
            // Some changes without work may be deletions of files that an earlier run kept. They stay stored
            // as such. (A sorted list needs no memory beside the plan.)
            plan.unchanged.sort_unstable();
            let is_among = |key: &DeferredKey| {
                plan.unchanged.binary_search_by(|path| path.as_str().cmp(key.as_str())).is_ok()
            };
            publisher.ledger.retained.extend(state::retained(self.state.as_ref(), is_among).await?);
        }
        let listing = &mut survey.listing;
        let refused = listing.refused.values().map(|refused| refused.deferred.message.uid);
        let ledger = &mut *publisher.ledger;
        let withheld = listing.withheld.values().filter_map(|withheld| Some(withheld.entry.as_ref()?.uid));
        ledger.extend(survey.version, plan.pending().chain(refused).chain(withheld));
        ledger.report.vault_version = ledger.report.vault_version.max(survey.version);
        ledger.devices = std::mem::take(&mut listing.devices);
        std::mem::take(&mut listing.withdrawn).into_keys().for_each(|key| ledger.resolved(key));
        let refused = std::mem::take(&mut listing.refused).into_values();
        refused.for_each(|refused| ledger.undecodable(refused));
        ledger.withheld(std::mem::take(&mut listing.withheld));
        listing.take_impossible(&self.options.filter).for_each(|failure| ledger.report.fail(failure));
        publisher.doubt(std::mem::take(&mut plan.doubted)).await?;
        plan.released.drain(..).for_each(|path| publisher.ledger.abandoned(path));
        Ok(plan)
    }

    /// Applies the plan, then newer entries of contents that were replaced meanwhile.
    async fn apply_all(
        &self,
        publisher: &mut Publisher<'_, '_>,
        plan: Schedule,
        survey: &mut Survey,
        link: &mut Link,
    ) -> Result<(), PullError> {
        let mut unfinished = Remainder::default();
        self.apply(publisher, plan, &survey.scout, link, &mut unfinished).await?;
        for _ in 0..SEQUELS {
            if unfinished.overtaken.is_empty() || self.stop.is_cancelled() {
                break;
            }
            let Some(plan) = self.catch_up(publisher, survey, link, &mut unfinished).await? else { break };
            self.apply(publisher, plan, &survey.scout, link, &mut unfinished).await?;
        }
        if self.stop.is_cancelled() {
            return Ok(());
        }
        for transfer in unfinished.overtaken {
            let reason = "the server no longer has this version of it, and lists no newer one";
            publisher.ledger.transfer_failed(&transfer, reason);
        }
        publisher.remove_renamed(unfinished.renamed).await
    }

    /// Applies a plan, in the order of its fields.
    async fn apply(
        &self,
        publisher: &mut Publisher<'_, '_>,
        plan: Schedule,
        scout: &Scout,
        link: &mut Link,
        unfinished: &mut Remainder,
    ) -> Result<(), PullError> {
        let Schedule { rescues, mut removals, folder_removals, mut folders, touches, mut transfers, .. } =
            publisher.note(plan).await?;
        let planned = rescues.iter().chain(&transfers);
        let (files, bytes) = planned.fold((0, 0_u64), |(files, bytes), transfer| {
            let targets = transfer.targets.len() as u64;
            (files + targets, bytes.saturating_add(targets.saturating_mul(transfer.size)))
        });
        self.progress.planned(files, bytes);
        publisher.touch(touches, scout).await?;
        let absent = match rescues.is_empty() {
            true => Vec::new(),
            false => publisher.absent_folders(&folders).await?,
        };
        let rescued = publisher.rescue(rescues, &mut removals, scout, &self.stop).await?;
        unfinished.renamed.extend(publisher.keep_what_is_wanted(&mut removals, &transfers, &rescued).await?);
        unfinished.renamed.extend(rescued.sources);
        publisher.remove(removals, folder_removals, &self.stop).await?;
        if !self.stop.is_cancelled() {
            publisher.publish(rescued.waiting).await?;
        }
        publisher.note_made(absent).await?;
        transfers.extend(rescued.later);
        transfers.extend(std::mem::take(&mut publisher.refetch));
        // In an empty destination nothing is in the way of folders, and no folder in the way of files:
        // folders are created while contents are fetched.
        let may_wait = scout.is_empty && !transfers.is_empty();
        if !may_wait && !self.stop.is_cancelled() {
            publisher.create_folders(std::mem::take(&mut folders)).await?;
        }
        publisher.refuse_what_does_not_fit(&mut transfers, scout).await?;
        let mut later = match &self.options.hurdle {
            Some(hurdle) => hurdle.take(&mut transfers, publisher.ledger),
            None => Vec::new(),
        };
        while !self.stop.is_cancelled() {
            if transfers.is_empty() {
                transfers = std::mem::take(&mut later);
            }
            if transfers.is_empty() {
                break;
            }
            let folders = std::mem::take(&mut folders);
            let keys = &self.source.keys;
            let summary = publisher.transfer(folders, transfers, scout, link, keys, &self.stop).await?;
            unfinished.overtaken.extend(summary.overtaken);
            let report = &mut publisher.ledger.report;
            report.connections += summary.fetched.connections;
            report.requests += summary.fetched.requests;
            report.bytes_received += summary.fetched.bytes;
            // Each iteration has fewer paths.
            transfers = std::mem::take(&mut publisher.refetch);
        }
        Ok(())
    }

    async fn finish(
        &self,
        mut ledger: Ledger<'_>,
        obsolete: Vec<DeferredKey>,
        forgets_filtered: bool,
        survey: &Survey,
    ) -> Result<(), PullError> {
        self.progress.phase(Phase::Finishing);
        if self.stop.is_cancelled() {
            // Staged contents are kept for the next run.
            return Ok(ledger.commit().await?);
        }
        self.discard_staged(&mut ledger).await?;
        // The listing of an older vault does not cover the entries after it.
        let cursor = match survey.reach {
            Reach::Additions => ledger.cursor(),
            _ => survey.cursor.next(),
        };
        if !self.options.is_narrowed {
            ledger.direct(self.direction);
        }
        if forgets_filtered {
            ledger.forget_filtered().await?;
        }
        Ok(ledger.close(self.options.filter.fingerprint(), obsolete, cursor).await?)
    }
}

impl Run<'_> {
    /// Discards what is staged. If that takes a while, as the requests of a bucket may, the last batch is committed
    /// first: otherwise the end of the run commits both.
    async fn discard_staged(&self, ledger: &mut Ledger<'_>) -> Result<(), PullError> {
        let mut discarding = self.destination.discard_staged();
        let discarded = timeout(BATCH_LINGER, &mut discarding).await;
        if !matches!(discarded, Ok(Ok(()))) {
            ledger.commit().await?;
        }
        match discarded {
            Ok(discarded) => discarded?,
            Err(_) => discarding.await?,
        }
        Ok(())
    }
}

/// Warning about files and folders that a full pull does not remove though the vault does not list them.
fn kept_unlisted(count: usize) -> String {
    format!(
        "the vault lists entries whose paths cannot be read; they may be any of the files here, so paths that the \
         vault no longer lists were kept ({count}). Once those entries are repaired, `obsync pull --full` removes them"
    )
}

/// Warning about too many deletions.
fn held_back(now: u64, recent: u64, files: u64, limit: MaxDelete) -> String {
    let before = match recent {
        0 => String::new(),
        recent => format!(", after {recent} in the last hour"),
    };
    format!(
        "the vault deleted or emptied {now} of the {files} files here{before}, more than {limit}, which is the limit \
         (--max-delete, OBSYNC_MAX_DELETE); they are kept. Look at the vault, then `obsync confirm` lets exactly these \
         deletions go"
    )
}

/// Warning about files and folders that no longer count as the vault's in a pull that keeps everything.
fn released(count: usize) -> String {
    format!(
        "{count} files and folders of earlier pulls are not as the vault lists them; they were kept, and obsync no \
         longer changes or removes them"
    )
}

/// Listed files whose content is recorded at their paths.
fn recorded_as_listed(entries: &[RemoteEntry], records: &Records) -> Tally {
    let mut tally = Tally::default();
    for entry in entries {
        let EntryKind::File { hash, .. } = entry.kind else { continue };
        let known = records.get(&entry.path).and_then(Record::file);
        if let Some(known) = known.filter(|known| known.hash == hash) {
            tally.add(known.size);
        }
    }
    tally
}

/// True if an entry's path has several Unicode forms.
fn is_accented(entry: &RemoteEntry) -> bool {
    !entry.path.as_str().is_ascii()
}
