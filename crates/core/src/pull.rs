//! A pull from beginning to end: listing, plan, and carrying it out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use obsync_client::{Client, ClientError, FetchOptions, Session, SessionTarget, Token};
use obsync_protocol::limits::{
    ENTRIES_KEPT, ENTRIES_RECEIVED, LISTING_BREAKS, LISTING_MEMORY, UNREADABLE_ENTRIES,
};
use obsync_protocol::{ContentHash, Filter, Uid, VaultId, VaultInfo, VaultKeys, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::cursor::{CursorCheck, REGROWN};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::governor::Governor;
use crate::history::Historian;
use crate::identity::{Doubt, MarkerFound};
use crate::ledger::{Ledger, Remembered};
use crate::listing::{Excess, Listing};
use crate::model::{
    CursorEntry, DeferredCause, DeferredKey, DeferredKind, FileMeta, Intent, KnownContent, Record, RecordKind,
};
use crate::progress::{Phase, Progress};
use crate::publish::Publisher;
use crate::reconcile::{Mode, Reach};
use crate::report::{Outcome, Report};
use crate::repositories::Repositories;
use crate::schedule::{Schedule, ScheduleInput, Transfer};
use crate::state::{Commit, StateStore, VaultState};
use crate::store::{Found, Publication, PublicationContent, PublishFailure, StoreError, VaultStore, Wanted};
use crate::transfer::{Link, Scout};
use crate::watermark::Watermark;

/// How often a pull lists again because something that it wanted was replaced meanwhile.
const ROUNDS: usize = 3;

/// How many files are looked at at a time.
const LOOKED_AT: usize = 256;

/// A listing that broke off after so many entries is no failed attempt.
const GOOD_PART: u64 = 256;

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
    /// What the caller found out about the destination, of which the state knows nothing.
    pub doubt: Option<Doubt>,
    /// Connections and requests in flight.
    pub fetch: FetchOptions,
    /// How much the transfers may hold in memory.
    pub governor: Governor,
    /// How much the listing may take in memory, in bytes; `None`: [`LISTING_MEMORY`].
    pub listing_memory: Option<u64>,
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
    let pull = Pull { source, store, state, options, progress, stop };
    let outcome = pull.rounds(&mut report).await;
    report.warnings.extend(pull.store.warnings());
    pull.store.end_run().await;
    report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    outcome?;
    report.conclude(options.dry_run, pull.stop.is_cancelled());
    if report.outcome == Outcome::Complete {
        pull.state.note_check(jiff::Timestamp::now().as_millisecond()).await;
    }
    Ok(report)
}

pub(crate) struct Pull<'a> {
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

/// What a round found out before it does anything.
struct Survey {
    mode: Mode,
    reach: Reach,
    known: VaultState,
    /// The version below which nothing has to be done again.
    floor: u64,
    /// The destination holds nothing.
    fresh: bool,
    /// What is known of the destination does not come from the run that filled it.
    is_lost: bool,
    /// Nothing that is recorded is believed, though it could not be forgotten.
    disbelieved: bool,
    /// Where the destination has its marker.
    marker: MarkerFound,
    listing: Listing,
    /// What the listing says of the newest entry.
    cursor: CursorCheck,
    /// The version that the listing goes up to.
    version: u64,
    session: Session,
}

impl Survey {
    /// Whether the destination can have files that an earlier run, of which nothing is known any more, put there and that the
    /// vault deleted since: it is this vault's, and nothing is recorded of it.
    fn may_have_vanished(&self, vault: &VaultId) -> bool {
        let is_whole = self.known.version == 0 && self.reach == Reach::Everything;
        is_whole && self.is_lost && !self.fresh && self.marker.is_of(vault)
    }

    /// Whether the listing stands for the whole vault, so that nothing that was deferred before counts beside it.
    fn is_whole(&self) -> bool {
        self.mode == Mode::Full || self.reach.lowers()
    }
}

/// Changes that earlier runs deferred.
struct Earlier {
    /// Those that nothing has to be known of any more.
    obsolete: Vec<DeferredKey>,
    /// Those that failed.
    remembered: Remembered,
}

/// What the server listed.
struct Listed {
    listing: Listing,
    cursor: CursorCheck,
    session: Session,
    /// The version that was asked from.
    start: u64,
}

impl Listed {
    /// The version that the listing goes up to: the highest uid that was received, whatever `ready` says.
    fn version(&self) -> u64 {
        self.start.max(self.listing.newest)
    }

    /// The newest version that the server knows of, by its own word or by an entry.
    fn server_version(&self) -> u64 {
        self.session.server_version().unwrap_or_default().max(self.listing.newest)
    }
}

impl Pull<'_> {
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
        let (obsolete, remembered) = self.add_deferred(&mut survey, report).await?;
        let plan = self.plan(&mut survey).await?;
        if !plan.unlisted.is_empty() {
            self.warn(kept_unlisted(plan.unlisted.len()), report);
        }
        if !plan.released.is_empty() {
            self.warn(released(plan.released.len()), report);
        }
        if self.options.dry_run {
            report.connections += 1;
            report.describe(&plan, &survey.listing, &self.options.filter);
            return Ok(RoundEnd::Done);
        }
        self.progress.phase(Phase::Transferring);
        self.carry_out(plan, survey, Earlier { obsolete, remembered }, is_last, report).await
    }

    /// Records what a run that died had put in place but not recorded yet.
    async fn recover(&self, known: &VaultState, report: &mut Report) -> Result<(), PullError> {
        let intents = self.state.intents().await?;
        if intents.is_empty() || self.options.dry_run {
            return Ok(());
        }
        let announced = intents.iter().filter_map(Intent::placed);
        let files: Vec<(&VaultPath, &FileMeta)> =
            announced.filter_map(|record| Some((&record.path, record.file()?))).collect();
        let wanted = files.iter().map(|(path, meta)| Wanted {
            path: (*path).clone(),
            hash: meta.hash,
            size: meta.size,
        });
        let held = self.store.holds(wanted.collect()).await?;
        // Published once more, in place: that run may have died before it was durable.
        let publications =
            files.into_iter().zip(held).filter(|(_, held)| *held).map(|((path, meta), _)| Publication {
                content: PublicationContent::InPlace { path: path.clone(), meta: meta.clone() },
                replaces: Some(meta.into()),
            });
        let publications: Vec<Publication> = publications.collect();
        let records: Vec<Record> =
            publications.iter().map(|publication| publication.content.record()).collect();
        let mut placed = Vec::new();
        for (record, published) in records.into_iter().zip(self.store.publish(publications).await) {
            match published {
                Ok(published) => placed.push(Record::seen(record.path, record.kind, published.facts)),
                // What was announced stays so, for a run that can find out what became of it.
                Err(PublishFailure { error, .. }) if error.is_fatal() => return Err(error.into()),
                Err(PublishFailure { error, .. }) => tracing::debug!(%error, "not what was announced"),
            }
        }
        let records = placed;
        let sizes: Vec<u64> = records.iter().filter_map(|record| Some(record.file()?.size)).collect();
        self.state.commit(Commit { records, state: known.clone(), ..Commit::default() }).await?;
        // To that run they do not count: it did not come to say so.
        self.progress.planned(sizes.len() as u64, sizes.iter().sum());
        for size in sizes {
            report.adopted.add(size);
            self.progress.placed(size);
        }
        Ok(())
    }

    /// Connects and lists. `None`: told to stop.
    async fn survey(&self, mode: Mode, report: &mut Report) -> Result<Option<Survey>, PullError> {
        // A service that does not answer must not keep whoever wants to stop waiting.
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(None),
            survey = self.look(mode, report) => survey.map(Some),
        }
    }

    /// Looks at the state, the destination and the vault.
    async fn look(&self, mode: Mode, report: &mut Report) -> Result<Survey, PullError> {
        let mut known = self.state.load().await?;
        let fresh = self.store.is_empty().await?;
        let had_identity = known.destination.is_some();
        let marker = self.judge_destination(&mut known, fresh, report).await?;
        // An identity that is not known any more, or is doubted, says that there may be files of an earlier run.
        let is_lost = !had_identity || report.doubt.is_some();
        if self.options.keep_everything && !known.keeping && !self.options.dry_run {
            known.keeping = true;
            self.state.commit(Commit { state: known.clone(), ..Commit::default() }).await?;
        }
        let keeps = self.options.keep_everything || known.keeping;
        self.recover(&known, report).await?;
        if fresh || mode == Mode::Full {
            // What was looked at is gone, or everything is wanted to be looked at from the beginning.
            known.rechecking = known.rechecking.map(|_| 0);
        }
        let asked = mode;
        let mode = if known.rechecking.is_some() { Mode::Full } else { mode };
        let start = match mode {
            Mode::Incremental if !keeps => known.version,
            _ => 0,
        };
        let mut listed = self.list(start, &known).await?;
        report.listed += listed.listing.received;
        let server = listed.server_version();
        // What is recorded may have been forgotten; the newest entry that was listed is not.
        let newest = known.cursor.map_or(0, |cursor| cursor.uid.0);
        let is_older = server < known.version.max(newest);
        let mode = match is_older && self.options.accept_older_vault && !fresh {
            // A full pull that was cut off wanted the vault as it was then; this one may remove only if the user says so.
            true => {
                known.rechecking = known.rechecking.filter(|_| asked == Mode::Full);
                asked
            }
            false => mode,
        };
        let is_restored = !is_older && !keeps && !listed.cursor.is_confirmed();
        if is_restored {
            self.warn(REGROWN.to_owned(), report);
            report.vault_restored = true;
        }
        let reach = match is_restored || keeps {
            true => Reach::KeepEverything,
            false => self.reach(mode, is_older),
        };
        if reach != Reach::Everything && start > 0 {
            listed = self.list(0, &known).await?;
            report.listed += listed.listing.received;
        }
        let mode = match reach {
            Reach::Additions => {
                report.older_vault = Some(server);
                self.warn(older(server, known.version.max(newest)), report);
                // Files are compared with what is listed, not looked at: the listing is not to be trusted that far.
                Mode::Incremental
            }
            _ => mode,
        };
        let floor = match reach {
            Reach::Everything if server >= known.version => known.version,
            Reach::Additions => known.version,
            Reach::Everything | Reach::Listed | Reach::KeepEverything => 0,
        };
        if floor < known.version {
            known.rechecking = known.rechecking.map(|_| 0);
        }
        let version = listed.version();
        let Listed { listing, cursor, session, .. } = listed;
        let disbelieved = self.options.dry_run && report.doubt.is_some();
        Ok(Survey {
            mode,
            reach,
            known,
            floor,
            fresh,
            is_lost,
            disbelieved,
            marker,
            listing,
            cursor,
            version,
            session,
        })
    }

    /// How far to go with what is recorded, when the vault is older than the destination or not.
    fn reach(&self, mode: Mode, is_older: bool) -> Reach {
        match (is_older, self.options.accept_older_vault) {
            (true, false) => Reach::Additions,
            (true, true) if mode == Mode::Incremental => Reach::Listed,
            _ => Reach::Everything,
        }
    }

    pub(crate) fn warn(&self, warning: String, report: &mut Report) {
        self.progress.notice(&warning);
        report.warn(warning);
    }

    /// Lists the entries after `start`.
    async fn list(&self, start: u64, known: &VaultState) -> Result<Listed, PullError> {
        let initial = start == 0 || !known.listed;
        let retry = &self.source.client.options().retry;
        let mut pauses = retry.pauses();
        let mut listing = Listing::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY));
        let mut cursor = CursorCheck::new(start, known.cursor);
        // Where a listing that broke off goes on.
        let (mut from, mut breaks) = (cursor.start(), 0);
        loop {
            self.progress.phase(Phase::Connecting);
            let mut session = Session::open(&self.source.client, &self.target(), from, initial).await?;
            self.progress.phase(Phase::Listing);
            let (before, newest) = (listing.received, listing.newest);
            let listed = self.receive(&mut session, &mut listing, &mut cursor).await;
            if let Some(excess) = listing.excess {
                return Err(self.too_large(excess, &listing));
            }
            let error = match listed {
                Ok(_) => {
                    cursor.see_news(listing.entries.iter());
                    return Ok(Listed { listing, cursor, session, start });
                }
                Err(error) if !error.is_retryable() => return Err(error.into()),
                Err(error) => error,
            };
            // The highest uid that was received once more: a rename's two entries can share one (protocol.md section 3).
            from = from.max(session.version().saturating_sub(1));
            // The same entries over and over are no progress, and nothing goes on in ever smaller steps.
            let is_good = listing.received - before >= GOOD_PART && listing.newest > newest;
            if is_good && breaks < LISTING_BREAKS {
                breaks += 1;
                pauses = retry.pauses();
            }
            let Some(pause) = pauses.next() else {
                return Err(error.into());
            };
            self.progress
                .notice(&format!("the list of changes broke off ({error}); going on from version {from}"));
            tokio::time::sleep(pause).await;
        }
    }

    /// Receives a listing to its end, or to where it is too large: where only memory is short, to its end all the same, to
    /// say how much it takes.
    async fn receive(
        &self,
        session: &mut Session,
        listing: &mut Listing,
        cursor: &mut CursorCheck,
    ) -> Result<(), ClientError> {
        let enough = CancellationToken::new();
        let mut take = |message| {
            if !cursor.see(&message, &self.source.keys) {
                if cursor.is_flooded() {
                    listing.excess = Some(Excess::Received);
                    enough.cancel();
                }
                return;
            }
            listing.add(message, &self.source.keys);
            self.progress.listed(listing.received);
            if matches!(listing.excess, Some(Excess::Received | Excess::Paths | Excess::Unreadable)) {
                enough.cancel();
            }
        };
        tokio::select! {
            biased;
            () = enough.cancelled() => Ok(()),
            listed = session.listing(&mut take) => listed.map(|_| ()),
        }
    }

    fn too_large(&self, excess: Excess, listing: &Listing) -> PullError {
        match excess {
            Excess::Received => PullError::TooManyEntries { limit: ENTRIES_RECEIVED },
            Excess::Unreadable => PullError::TooManyUnreadable { limit: UNREADABLE_ENTRIES },
            Excess::Paths => PullError::TooManyPaths { limit: ENTRIES_KEPT },
            Excess::Memory => {
                let allowed = self.options.listing_memory.unwrap_or(LISTING_MEMORY);
                PullError::ListingTooLarge { entries: listing.received, needed: listing.memory(), allowed }
            }
        }
    }

    fn target(&self) -> SessionTarget {
        SessionTarget {
            token: self.source.token.clone(),
            vault_id: self.source.vault.id.clone(),
            host: self.source.vault.host.clone(),
            keys: self.source.keys.clone(),
        }
    }

    /// Adds to the listing what earlier runs deferred and what is to be tried again now. Tells the keys that are obsolete: a
    /// full listing stands for them, or they are too many.
    async fn add_deferred(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(Vec<DeferredKey>, Remembered), PullError> {
        let mut remembered = Remembered::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY) / 8);
        let failed = self.state.deferred(DeferredKind::Failed).await?;
        let refiltered = survey.known.filter.as_deref() != Some(self.options.filter.fingerprint().as_str());
        let filtered = match survey.is_whole() || refiltered {
            true => self.state.deferred(DeferredKind::Filtered).await?,
            false => Vec::new(),
        };
        let deferred = failed.into_iter().chain(filtered);
        if survey.is_whole() || survey.disbelieved {
            return Ok((deferred.map(|deferred| deferred.key).collect(), remembered));
        }
        let mut obsolete = Vec::new();
        for deferred in deferred {
            let key = deferred.key.clone();
            match deferred.cause {
                DeferredCause::Failed { .. } => remembered.add(&deferred),
                // They stay until somebody says otherwise, or the vault does.
                DeferredCause::HeldBack { confirmed: None } | DeferredCause::Acknowledged { .. } => continue,
                DeferredCause::Filtered | DeferredCause::HeldBack { confirmed: Some(_) } => {}
            }
            if !survey.listing.add_deferred(deferred, &self.source.keys) {
                obsolete.push(key);
            }
        }
        if !obsolete.is_empty() {
            self.warn(forgotten(obsolete.len()), report);
        }
        Ok((obsolete, remembered))
    }

    async fn plan(&self, survey: &mut Survey) -> Result<Schedule, PullError> {
        let entries = survey.listing.entries.take();
        let is_partial = survey.mode == Mode::Incremental && survey.reach == Reach::Everything;
        if entries.is_empty() && is_partial {
            return Ok(Schedule::default());
        }
        let folds_names = match self.options.dry_run {
            true => self.store.seems_to_fold_names().await?,
            false => self.store.folds_names().await?,
        };
        let records = match !is_partial || folds_names {
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

    /// Files that are here though the vault deleted them, with a content that it had: what a mirror would have removed, had it
    /// known of them. Nothing is recorded of them.
    async fn vanished(
        &self,
        entries: &[RemoteEntry],
        records: &HashMap<VaultPath, Record>,
        survey: &Survey,
    ) -> Result<Vec<Record>, PullError> {
        let historian = Historian::new(self.source.client.clone(), self.target(), survey.version);
        let deleted = |entry: &&RemoteEntry| matches!(entry.kind, EntryKind::Deleted { folder: false });
        let unrecorded = entries.iter().filter(deleted).filter(|entry| !records.contains_key(&entry.path));
        let paths: Vec<&VaultPath> = unrecorded.map(|entry| &entry.path).collect();
        let mut vanished = Vec::new();
        for some in paths.chunks(LOOKED_AT) {
            let mut found_now = Vec::new();
            let wanted =
                some.iter().map(|path| Wanted { path: (*path).clone(), hash: ContentHash::EMPTY, size: 0 });
            let found = self.store.look(wanted.collect()).await?;
            for (path, found) in some.iter().zip(found) {
                let content = match found {
                    Found::Wanted => KnownContent::of(&[]),
                    Found::Other(content) => content,
                    Found::Nothing | Found::Unknown => continue,
                };
                let had = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(vanished),
                    had = historian.had(path, content) => had,
                };
                if had {
                    let KnownContent { hash, size } = content;
                    let meta = FileMeta { hash, size, mtime: 0, ctime: 0, uid: Uid(0) };
                    found_now.push(Record::new((*path).clone(), RecordKind::File(meta)));
                }
            }
            if !found_now.is_empty() && !self.options.dry_run {
                // Should their removal have to wait, a later run must know of them.
                let (records, state) = (found_now.clone(), survey.known.clone());
                self.state.commit(Commit { records, state, ..Commit::default() }).await?;
            }
            vanished.extend(found_now);
        }
        Ok(vanished)
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
        while !transfers.is_empty() && !self.stop.is_cancelled() {
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

/// What to tell of deferred changes that cannot be read and are too many.
fn forgotten(count: usize) -> String {
    format!(
        "{count} entries that cannot be read and that earlier pulls remembered were forgotten, because there are too many; \
         a pull with `--full` lists them again"
    )
}

/// What to tell of files and folders that a pull that keeps everything does not count to the vault any more.
fn released(count: usize) -> String {
    format!(
        "{count} files and folders of earlier pulls are not as the vault lists them; they were kept, and obsync neither \
         changes nor removes them any more"
    )
}

/// What to tell of a vault that is older than the destination.
fn older(server: u64, destination: u64) -> String {
    format!(
        "the vault on the server is at version {server}, but the destination was pulled from version {destination}: the \
         vault was rolled back or replaced. Nothing was removed, and only what is newer than the files here was brought; \
         README.md says under \"Exit status\" how to go on"
    )
}
