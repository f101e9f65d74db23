//! A run from beginning to end, in the order in which a file goes through it: survey, schedule, carrying it out, finish.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use obsync_client::{Client, FetchOptions, SessionTarget, Token};
use obsync_protocol::{ContentHash, Filter, VaultInfo, VaultKeys, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::brake::{self, MaxDelete};
use crate::earlier::Earlier;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::governor::Governor;
use crate::history::Historian;
use crate::hurdle::Hurdle;
use crate::identity::Doubt;
use crate::ledger::Ledger;
use crate::model::{CursorEntry, DeferredKey, Record};
use crate::progress::{Phase, Progress};
use crate::publish::Publisher;
use crate::reconcile::{Mode, Reach};
use crate::report::{Outcome, Report};
use crate::repositories::Repositories;
use crate::schedule::{Schedule, ScheduleInput, Transfer};
use crate::state::StateStore;
use crate::store::{StoreError, VaultStore};
use crate::survey::Survey;
use crate::transfer::{Link, Scout};
use crate::watermark::Watermark;

/// How often a pull lists again because something that it wanted was replaced meanwhile.
const ROUNDS: usize = 3;

/// The vault to pull, and what is needed to reach and read it.
#[derive(Clone, Debug)]
pub struct PullSource {
    /// The way to the service.
    pub client: Client,
    /// Who is asking.
    pub token: Token,
    /// The vault as the service lists it.
    pub vault: VaultInfo,
    /// Its keys.
    pub keys: VaultKeys,
}

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// What is to be synced.
    pub filter: Filter,
    /// How thorough to be.
    pub mode: Mode,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Take a vault for what it says that is older on the server than in the destination: the version of the destination
    /// falls to that of the vault. What the vault does not list is only removed in [`Mode::Full`].
    pub accept_older_vault: bool,
    /// List the vault from its first version on, remove nothing, and keep what differs under another name: what is not as
    /// the vault lists it belongs to the user from then on. For a vault that is not the one that was pulled before, or not
    /// in the form that it had.
    pub keep_everything: bool,
    /// Accept what fails for good: names that the destination cannot have, and entries that cannot be read. They are no
    /// failures any more until the vault changes them.
    pub accept_failures: bool,
    /// How many files may be deleted before deletions are held back.
    pub max_delete: MaxDelete,
    /// What the caller found out about the destination, of which the state knows nothing.
    pub doubt: Option<Doubt>,
    /// Connections and requests in flight.
    pub fetch: FetchOptions,
    /// How much the transfers may hold in memory.
    pub governor: Governor,
    /// How much the listing may take in memory, in bytes; `None`: [`LISTING_MEMORY`](obsync_protocol::limits::LISTING_MEMORY).
    pub listing_memory: Option<u64>,
    /// A content that did not come through in the time of the run before.
    pub hurdle: Option<Hurdle>,
}

/// Brings a destination in step with a vault.
///
/// A pull that was told to stop, or that could not apply every change, is a success with a report that says so.
///
/// # Errors
///
/// When the run as a whole cannot go on. What was done until then is recorded, and the next pull goes on from there.
pub async fn pull(
    source: &PullSource,
    store: Arc<dyn VaultStore>,
    state: Arc<dyn StateStore>,
    options: &PullOptions,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
) -> Result<Report, PullError> {
    let begun = Instant::now();
    let version = state.load().await?.version;
    let mut report = Report::new(&source.vault, store.location(), version);
    let source = &PullSource { client: source.client.for_run(), ..source.clone() };
    let run = Run { source, store, state, options, progress, stop };
    let outcome = run.rounds(&mut report).await;
    report.warnings.extend(run.store.warnings());
    run.store.end_run().await;
    report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    outcome?;
    report.conclude(options.dry_run, run.stop.is_cancelled());
    if report.outcome == Outcome::Complete {
        run.state.note_check(jiff::Timestamp::now().as_millisecond()).await;
    }
    Ok(report)
}

pub(crate) struct Run<'a> {
    pub(crate) source: &'a PullSource,
    pub(crate) store: Arc<dyn VaultStore>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) options: &'a PullOptions,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) stop: CancellationToken,
}

/// Whether another round is worthwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RoundEnd {
    Done,
    /// Some content was replaced on the server after it was listed.
    Overtaken,
}

impl Run<'_> {
    pub(crate) fn warn(&self, warning: String, report: &mut Report) {
        self.progress.notice(&warning);
        report.warn(warning);
    }

    pub(crate) fn target(&self) -> SessionTarget {
        SessionTarget {
            token: self.source.token.clone(),
            vault_id: self.source.vault.id.clone(),
            host: self.source.vault.host.clone(),
            keys: self.source.keys.clone(),
        }
    }

    async fn rounds(&self, report: &mut Report) -> Result<(), PullError> {
        let mut mode = self.options.mode;
        for round in 1..=ROUNDS {
            // A round tries all again that failed in the one before.
            report.forget_failures();
            let end = self.round(mode, round == ROUNDS, report).await?;
            if end == RoundEnd::Done || self.stop.is_cancelled() {
                break;
            }
            // Everything was looked at once; what is left is what changed since.
            mode = Mode::Incremental;
        }
        Ok(())
    }

    async fn round(&self, mode: Mode, is_last: bool, report: &mut Report) -> Result<RoundEnd, PullError> {
        let Some(mut survey) = self.survey(mode, report).await? else {
            return Ok(RoundEnd::Done);
        };
        self.progress.phase(Phase::Planning);
        let earlier = self.add_deferred(&mut survey, report).await?;
        let mut plan = self.plan(&mut survey).await?;
        self.hold_back(&mut plan, &survey, &earlier, report).await?;
        if !plan.unlisted.is_empty() {
            self.warn(kept_unlisted(plan.unlisted.len()), report);
        }
        if !plan.released.is_empty() {
            self.warn(released(plan.released.len()), report);
        }
        if self.options.dry_run {
            report.connections += 1;
            report.describe(&plan, &survey.listing, &self.options.filter, &earlier.accepted);
            return Ok(RoundEnd::Done);
        }
        self.progress.phase(Phase::Transferring);
        self.carry_out(plan, survey, earlier, is_last, report).await
    }

    async fn plan(&self, survey: &mut Survey) -> Result<Schedule, PullError> {
        let entries = survey.listing.entries.take();
        let is_partial = survey.mode == Mode::Incremental && survey.reach == Reach::Everything;
        if entries.is_empty() && is_partial {
            return Ok(Schedule::default());
        }
        let folds_names = match self.options.dry_run {
            true => self.store.seems_to_fold_names().await?,
            false => self.store.folds_names(entries.iter().any(is_accented)).await?,
        };
        let records = match !is_partial || folds_names.is_any() {
            // It was not forgotten, because this run is not to write anything.
            _ if survey.disbelieved => Vec::new(),
            true => self.state.all_records().await?,
            false => {
                let paths: Vec<VaultPath> = entries.iter().map(|entry| entry.path.clone()).collect();
                self.state.records(&paths).await?.into_iter().flatten().collect()
            }
        };
        let mut records: HashMap<VaultPath, Record> =
            records.into_iter().map(|record| (record.path.clone(), record)).collect();
        if survey.may_have_vanished(&self.source.vault.id) {
            let vanished = self.vanished(&entries, &records, survey).await?;
            records.extend(vanished.into_iter().map(|record| (record.path.clone(), record)));
        }
        let sources = self.sources(&entries, &records).await?;
        let mut plan = Schedule::new(ScheduleInput {
            entries,
            unclear: survey.listing.unclear(),
            records,
            sources,
            filter: &self.options.filter,
            mode: survey.mode,
            reach: survey.reach,
            rechecked: survey.known.rechecking.unwrap_or_default(),
            folds_names,
        });
        let repositories = self.repositories(&plan, survey.fresh).await?;
        plan.refuse(|path| {
            self.store.admits(path).map_err(|error| error.to_string())?;
            repositories.admits(path)
        });
        Ok(plan)
    }

    /// Holds the deletions back if there are too many.
    async fn hold_back(
        &self,
        plan: &mut Schedule,
        survey: &Survey,
        earlier: &Earlier,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let now = plan.count_deletions(&earlier.confirmed);
        if now == 0 {
            return Ok(());
        }
        // What is held back already counts too: a vault that is emptied in several steps is emptied all the same.
        let now = now.saturating_add(report.held_back());
        let recent = brake::recent(&survey.known.deletions, brake::this_minute());
        let files = self.state.files().await?.saturating_add(recent);
        if !self.options.max_delete.allows(now.saturating_add(recent), files) {
            plan.hold_back(&earlier.confirmed);
            self.warn(held_back(now, recent, files), report);
        }
        Ok(())
    }

    /// Looks where the plan would complete a bare git repository, in a destination that holds nothing if it is `fresh`.
    async fn repositories(&self, plan: &Schedule, fresh: bool) -> Result<Repositories, PullError> {
        let mut repositories = Repositories::wanted(plan.wanted_paths());
        if !fresh {
            let folders = repositories.folders();
            if !folders.is_empty() {
                repositories.present(self.store.repository_parts(folders).await?);
            }
        }
        Ok(repositories)
    }

    /// Looks up where the destination has the contents that are wanted.
    async fn sources(
        &self,
        entries: &[RemoteEntry],
        records: &HashMap<VaultPath, Record>,
    ) -> Result<HashMap<ContentHash, VaultPath>, PullError> {
        let wanted: HashSet<ContentHash> = entries
            .iter()
            .filter_map(|entry| match entry.kind {
                EntryKind::File { hash, .. } => Some((entry, hash)),
                EntryKind::Folder | EntryKind::Deleted { .. } => None,
            })
            .filter(|(entry, hash)| {
                let known = records.get(&entry.path).and_then(Record::file);
                known.is_none_or(|known| known.hash != *hash)
            })
            .map(|(_, hash)| hash)
            .collect();
        let wanted: Vec<ContentHash> = wanted.into_iter().collect();
        let found = self.state.sources(&wanted).await?;
        Ok(wanted.into_iter().zip(found).filter_map(|(hash, path)| Some((hash, path?))).collect())
    }

    async fn carry_out(
        &self,
        mut plan: Schedule,
        survey: Survey,
        earlier: Earlier,
        is_last: bool,
        report: &mut Report,
    ) -> Result<RoundEnd, PullError> {
        let mut watermark = Watermark::new(survey.floor, survey.version);
        let refused = survey.listing.refused.values().map(|refused| refused.deferred.message.uid);
        let mut rechecked = (survey.mode == Mode::Full)
            .then(|| Watermark::new(survey.known.rechecking.unwrap_or_default(), survey.version));
        plan.pending().chain(refused).for_each(|uid| {
            watermark.begin(uid);
            rechecked.iter_mut().for_each(|rechecked| rechecked.begin(uid));
        });
        let keys = self.source.keys.clone();
        let mut ledger = Ledger::new(
            self.state.clone(),
            keys.clone(),
            self.options.filter.clone(),
            watermark,
            survey.known,
            earlier.remembered,
            report,
        );
        ledger.accepted = earlier.accepted;
        ledger.confirmed_deletions = earlier.confirmed;
        survey.listing.withdrawn.into_keys().for_each(|key| ledger.settled(key));
        survey.listing.refused.into_values().for_each(|refused| ledger.undecodable(refused.deferred));
        survey.listing.impossible.into_iter().for_each(|(failure, _)| ledger.report.fail(failure));
        let mut link = Link {
            client: self.source.client.clone(),
            target: self.target(),
            version: survey.version,
            options: self.options.fetch.clone(),
            session: Some(survey.session),
            governor: self.options.governor.clone(),
        };
        // An older vault says nothing of what came after it.
        let cursor = match survey.reach {
            Reach::Additions => ledger.cursor(),
            _ => survey.cursor.next(),
        };
        // Where everything is to be kept, the word of the service does not make a content nobody's.
        let historian = (survey.reach != Reach::KeepEverything)
            .then(|| Historian::new(self.source.client.clone(), self.target(), survey.version));
        let scout = Scout { store: self.store.clone(), fresh: survey.fresh, historian };
        let (store, state, progress) = (self.store.clone(), self.state.clone(), self.progress.clone());
        let mut publisher = Publisher::new(store, state, &mut ledger, progress, self.stop.clone());
        publisher.doubt(std::mem::take(&mut plan.doubted)).await?;
        plan.released.drain(..).for_each(|path| publisher.ledger.abandoned(path));
        publisher.ledger.open(rechecked, &self.options.filter.fingerprint()).await?;
        let marker = self.begin_marking(publisher.ledger, &plan, &survey.marker).await?;
        let (applied, marked) = tokio::join!(
            self.apply(&mut publisher, plan, &scout, &mut link, &keys),
            self.write_marker(marker.as_ref()),
        );
        let gone = match applied {
            Err(PullError::Store(StoreError::Stopped { .. })) => Vec::new(),
            applied => applied?,
        };
        if let Some(destination) = marked? {
            ledger.identify(destination);
        }
        // A session that nothing was fetched over is one connection all the same.
        ledger.report.connections +=
            u64::from(link.session.is_some()) + scout.historian.as_ref().map_or(0, Historian::connections);
        self.finish(ledger, gone, earlier.obsolete, cursor, is_last).await
    }

    /// Carries the plan out, in the order that its fields are in.
    async fn apply(
        &self,
        publisher: &mut Publisher<'_, '_>,
        plan: Schedule,
        scout: &Scout,
        link: &mut Link,
        keys: &VaultKeys,
    ) -> Result<Vec<Transfer>, PullError> {
        let Schedule { rescues, mut removals, folder_removals, mut folders, touches, mut transfers, .. } =
            publisher.note(plan);
        publisher.ledger.commit().await?;
        let planned = rescues.iter().chain(&transfers);
        let (files, bytes) = planned.fold((0, 0_u64), |(files, bytes), transfer| {
            let targets = transfer.targets.len() as u64;
            (files + targets, bytes.saturating_add(targets.saturating_mul(transfer.size)))
        });
        self.progress.planned(files, bytes);
        publisher.touch(touches, scout).await?;
        let rescued = publisher.rescue(rescues, &mut removals, scout, &self.stop).await?;
        publisher.remove(removals, folder_removals, &self.stop).await?;
        if !self.stop.is_cancelled() {
            publisher.publish(rescued.held).await?;
        }
        transfers.extend(rescued.later);
        transfers.extend(std::mem::take(&mut publisher.left_over));
        // Where there was nothing, no folder is in the way of anything, and nothing in the way of a folder: they are made
        // while contents are fetched.
        let may_wait = scout.fresh && !transfers.is_empty();
        if !may_wait && !self.stop.is_cancelled() {
            publisher.create_folders(std::mem::take(&mut folders)).await?;
        }
        publisher.refuse_what_does_not_fit(&mut transfers, scout).await?;
        let mut gone = Vec::new();
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
            let summary = publisher.transfer(folders, transfers, scout, link, keys, &self.stop).await?;
            gone.extend(summary.gone);
            let report = &mut publisher.ledger.report;
            report.connections += summary.fetched.connections;
            report.requests += summary.fetched.requests;
            report.bytes_received += summary.fetched.bytes;
            // Each time round these have one target less.
            transfers = std::mem::take(&mut publisher.left_over);
        }
        if !self.stop.is_cancelled() && gone.is_empty() {
            publisher.remove_renamed(rescued.sources).await?;
        }
        Ok(gone)
    }

    async fn finish(
        &self,
        mut ledger: Ledger<'_>,
        gone: Vec<Transfer>,
        obsolete: Vec<DeferredKey>,
        cursor: Option<CursorEntry>,
        is_last: bool,
    ) -> Result<RoundEnd, PullError> {
        self.progress.phase(Phase::Finishing);
        if self.stop.is_cancelled() {
            // What is staged is kept for the next run.
            ledger.commit().await?;
            return Ok(RoundEnd::Done);
        }
        for transfer in &gone {
            let reason = "the server no longer has this version of it, and lists no newer one";
            if is_last {
                ledger.transfer_failed(transfer, reason);
            } else {
                ledger.transfer_postponed(transfer, reason);
            }
        }
        self.store.discard_staged().await?;
        ledger.close(self.options.filter.fingerprint(), obsolete, cursor).await?;
        Ok(if gone.is_empty() { RoundEnd::Done } else { RoundEnd::Overtaken })
    }
}

/// What to tell of files and folders that a full pull does not remove though the vault does not list them.
fn kept_unlisted(count: usize) -> String {
    format!(
        "the vault lists something whose path cannot be read, which may be anything that is here; so what it does not \
         list any more was kept ({count} paths). When that is mended, a full pull removes them"
    )
}

/// What to tell of deletions that are too many.
fn held_back(now: u64, recent: u64, files: u64) -> String {
    let before = match recent {
        0 => String::new(),
        recent => format!(", after {recent} in the last hour"),
    };
    format!(
        "the vault deleted or emptied {now} of the {files} files here{before}, more than the limit; they are kept. Look at the \
         vault, then `obsync confirm` lets exactly these deletions go"
    )
}

/// What to tell of files and folders that a pull that keeps everything does not count to the vault any more.
fn released(count: usize) -> String {
    format!(
        "{count} files and folders of earlier pulls are not as the vault lists them; they were kept, and obsync neither \
         changes nor removes them any more"
    )
}

/// Whether an entry's path can be written in several Unicode forms.
fn is_accented(entry: &RemoteEntry) -> bool {
    !entry.path.as_str().is_ascii()
}
