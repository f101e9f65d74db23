//! Two-way sync: first all changes of the vault are applied here, then all local changes are sent.
//!
//! A round is a pull ([`crate::run`]) that merges changes of both sides instead of keeping both, a scan of
//! the destination, and the sending of everything that differs from the records. If another device writes
//! meanwhile, another round begins. Push alone is the same without the pull: changes that only the vault has
//! are reported, not applied.

mod base_texts;
mod carrying;
mod contents;
mod flapping;
mod generation;
mod giving_way;
mod holding_back;
mod in_step;
#[cfg(test)]
mod interleavings_tests;
mod learning;
mod local;
mod merging;
mod outgoing;
mod recovery;
mod refusal_pauses;
mod refusals;
mod sending;
mod settlement;
mod unreadable;
mod unseen;
mod upload_progress;
mod vault_change;
mod witness;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use obsync_protocol::{ContentHash, VaultPath, decomposed, normalize_local_name};
use tokio_util::sync::CancellationToken;

use crate::brake::MaxDelete;
use crate::destination::{Destination, DestinationError};
use crate::error::PullError;
use crate::foreseen::Foreseen;
use crate::identity::{DestinationIdentity, Doubt};
use crate::line::Lines;
use crate::model::{DeferredCause, DeferredKind, Direction, LocalFacts, Record};
use crate::problem::ProblemCode;
use crate::progress::{Phase, Progress};
use crate::reconcile::Mode;
use crate::report::Report;
use crate::run::{PullOptions, PullSource, Run};
use crate::scan::{LocalTree, ScanInput, grouped, some_of, stays_here};
use crate::state::{Commit, DeferredParts, StateStore, VaultState, commit_beside};

use crate::quiet::shrank;
pub(crate) use outgoing::Outgoing;
use outgoing::{OutgoingInput, renewed};
pub(crate) use refusal_pauses::Refusal;
use sending::Outbox;

/// Rounds of a run, at most: the vault may change while the run is at work.
const ROUNDS: usize = 6;
/// Up to this many paths are scanned individually.
const FEW_PATHS: usize = 200;

/// Options of a sync.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// Options of the way from the vault to the destination and of both ways: filter, mode, dry run.
    pub pull: PullOptions,
    /// Both ways, or only from the destination to the vault.
    pub direction: SyncDirection,
    /// Limit of files deleted in the vault; above it, deletions are held back.
    pub max_delete_in_vault: MaxDelete,
    /// Send configuration folders too, as far as the filter includes them.
    pub sends_configuration: bool,
    /// Paths that are being changed at this moment. This run skips them; a later one sends them.
    pub restless: HashSet<VaultPath>,
    /// The only paths that can have changed here since the last run, if known: then the run begins with these
    /// and does not scan the rest.
    pub only: Option<HashSet<VaultPath>>,
    /// Leave a file that changes between the two scans of a run to the next run, which starts by itself.
    pub leaves_what_changes: bool,
    /// Do not send files that the vault refused recently until their pause is over. A run started by a user
    /// sends them all, once.
    pub respects_refusals: bool,
    /// The run is stopped at a deadline. A file that two such runs in a row were still sending at their end
    /// waits like a refused one: deletions come after it, and it would keep them from ever being sent.
    pub has_deadline: bool,
    /// Delay after a scan before the second one. Only what both find absent is deleted in the vault.
    pub second_look: Duration,
}

/// Direction of a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncDirection {
    /// Both ways.
    #[default]
    Both,
    /// From the destination to the vault. Changes that only the vault has are reported, not applied.
    Push {
        /// Replace them instead.
        mirrors: bool,
    },
}

impl From<SyncDirection> for Direction {
    fn from(direction: SyncDirection) -> Self {
        match direction {
            SyncDirection::Both => Direction::Both,
            SyncDirection::Push { .. } => Direction::Push,
        }
    }
}

impl Default for SyncOptions {
    fn default() -> Self {
        SyncOptions {
            pull: PullOptions::default(),
            direction: SyncDirection::Both,
            max_delete_in_vault: MaxDelete::InVault,
            sends_configuration: false,
            restless: HashSet::new(),
            only: None,
            leaves_what_changes: false,
            respects_refusals: false,
            has_deadline: false,
            second_look: Duration::from_secs(2),
        }
    }
}

/// Syncs a destination and a vault both ways, or sends only, as [`SyncOptions::direction`] says.
///
/// A run that was stopped, or that could not apply every change, is a success with a report that says so.
///
/// # Errors
///
/// When the run as a whole cannot continue. Finished work is recorded, and the next run continues from there.
pub fn sync<'a>(
    source: &'a PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &'a SyncOptions,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
) -> BoxFuture<'a, Result<Report, PullError>> {
    Box::pin(
        async move { sync_over(&Lines::none(), source, destination, state, options, progress, stop).await },
    )
}

/// [`sync`] over a session that stays open.
pub(crate) async fn sync_over(
    lines: &Lines,
    source: &PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &SyncOptions,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
) -> Result<Report, PullError> {
    let begun = Instant::now();
    let known = state.load().await?;
    let mut report = Report::new(&source.vault, destination.location(), known.version);
    report.list_changes(options.pull.list_changes);
    let source = &PullSource { client: source.client.for_run(), ..source.clone() };
    // The first run of a direction deletes nothing on either side.
    let direction = Direction::from(options.direction);
    report.direction = direction;
    report.device = Some(source.client.options().device.clone());
    let is_first = known.is_first(direction);
    let mut pull = options.pull.clone();
    if is_first {
        // Also with the limit off: the user may have set it for pulls.
        pull.max_delete = MaxDelete::Files(0);
    }
    // The scan reads and the pull lists everything again; files that were changed here must not be taken for
    // damaged.
    let is_full = std::mem::take(&mut pull.mode) == Mode::Full;
    let lists_all = is_full && pull.dry_run;
    let run = Run { source, destination, state, options: &pull, direction, progress, stop, lists_all, lines };
    run.warn_of_direction(&known, &mut report);
    let now = jiff::Timestamp::now().as_millisecond();
    let two_way =
        TwoWay { run: &run, options, begun: now, is_first, is_full, destination: known.destination };
    let mut outcome = two_way.rounds(&mut report).await;
    // An interrupted full run is repeated after everything else: it may take longer than there is time.
    let is_due = !is_full && !is_first && known.full_up_to.is_some() && !options.pull.dry_run;
    let is_over = report.older_vault.is_some() || report.was_overtaken || run.stop.is_cancelled();
    if is_due && outcome.is_ok() && !is_over {
        report.forget_failures();
        outcome = TwoWay { is_full: true, ..two_way }.rounds(&mut report).await;
    }
    let has_news = !options.pull.dry_run && !report.is_unchanged();
    if outcome.is_ok() && direction == Direction::Both && has_news {
        run.keep_texts(&mut report).await;
    }
    run.conclude(outcome, report, begun).await
}

struct TwoWay<'s, 'r> {
    run: &'s Run<'r>,
    options: &'s SyncOptions,
    /// When the run began, in milliseconds since the epoch.
    begun: i64,
    is_first: bool,
    is_full: bool,
    /// The destination's identity when the run began.
    destination: Option<DestinationIdentity>,
}

/// Paths of the vault's changes that were not applied here.
#[derive(Default)]
struct Unapplied {
    /// Paths with a waiting change.
    paths: HashSet<VaultPath>,
    /// Paths with a held-back deletion.
    held_back: HashSet<VaultPath>,
    /// Files that were kept when the vault deleted them; also in `paths`.
    retained: HashSet<VaultPath>,
}

impl Unapplied {
    fn add(&mut self, cause: DeferredCause, path: Option<VaultPath>) {
        match cause {
            DeferredCause::HeldBack { .. } => self.held_back.extend(path),
            DeferredCause::Retained => {
                self.retained.extend(path.clone());
                self.paths.extend(path);
            }
            _ => self.paths.extend(path),
        }
    }
}

/// A scan without differences from the records, once these files are recorded with these facts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settling {
    known_by: String,
    files: Vec<(VaultPath, LocalFacts)>,
}

/// Result of a look at the destination.
enum Decided {
    /// Changes to send, and the scan that is settled once all of them are recorded.
    Outgoing(Box<Outgoing>, Option<Settling>),
    /// A path has to be fetched again, so the vault is listed anew.
    Relisted,
    /// The run was stopped, or the destination cannot be scanned.
    Stopped,
}

/// A scan of few paths: the paths, the records of them and of their parent folders, and the result.
type FewScanned = (Arc<HashSet<VaultPath>>, Arc<Vec<Record>>, LocalTree);

/// Recorded contents of these files, without empty ones.
fn contents_of(paths: &[VaultPath], records: &[Record]) -> HashSet<ContentHash> {
    let paths: HashSet<&VaultPath> = paths.iter().collect();
    let files = records.iter().filter(|record| paths.contains(&record.path)).filter_map(Record::file);
    files.filter(|file| file.size > 0).map(|file| file.hash).collect()
}

/// True if a file lost half of its bytes or more.
fn has_shrunk(tree: &LocalTree, records: &[Record]) -> bool {
    tree.files.iter().any(|found| {
        let base = records.iter().find(|record| record.path == found.path).and_then(Record::file);
        base.is_some_and(|base| shrank(Some(found.content.size), Some(base.size)))
    })
}

impl TwoWay<'_, '_> {
    async fn rounds(&self, report: &mut Report) -> Result<(), PullError> {
        let run = self.run;
        if !self.forget_missing(report).await? {
            return Ok(());
        }
        if self.is_full {
            self.make_full().await?;
        }
        for round in 1..=ROUNDS {
            if round > 1 {
                if run.stop.is_cancelled() {
                    return Ok(());
                }
                // A round retries everything that failed in the one before.
                report.forget_failures();
            }
            match self.options.direction {
                SyncDirection::Both => run.pull(report).await?,
                SyncDirection::Push { mirrors } => {
                    if !run.learn(mirrors, report).await? {
                        return Ok(());
                    }
                }
            }
            if !report.merged.is_empty() {
                run.renew_generation(self.destination.as_ref()).await?;
            }
            if run.stop.is_cancelled() || report.older_vault.is_some() {
                return Ok(());
            }
            let (outgoing, settling) = match self.outgoing(round, report).await? {
                Decided::Outgoing(outgoing, settling) => (*outgoing, settling),
                Decided::Relisted => continue,
                Decided::Stopped => return Ok(()),
            };
            // A push sends the local state, even if that is older.
            let may_go_back = matches!(self.options.direction, SyncDirection::Push { .. });
            if outgoing.went_back(jiff::Timestamp::now().as_millisecond())
                && !may_go_back
                && report.doubt.is_none()
            {
                run.doubt_destination(Doubt::OlderFiles, report).await?;
                match run.options.dry_run {
                    true => return Ok(()),
                    false => continue,
                }
            }
            if run.options.dry_run {
                self.describe(&outgoing, report);
                return Ok(());
            }
            if outgoing.is_empty() {
                self.note_settled(settling).await?;
                return self.note_complete().await;
            }
            if run.stop.is_cancelled() {
                return Ok(());
            }
            run.renew_generation(self.destination.as_ref()).await?;
            let known = run.state.load().await?;
            let slow_since = self.options.has_deadline.then_some(self.begun);
            let Some(outbox) = Outbox::open(run, known, slow_since, report).await? else { continue };
            let sent = outbox.send(outgoing, report).await?;
            match sent.lost {
                Some(error) if round == ROUNDS => return Err(error.into()),
                Some(error) => run.progress.notice(&format!("{error}; going on")),
                None if !sent.needs_another_round => {
                    self.note_settled(settling).await?;
                    return self.note_complete().await;
                }
                None => {}
            }
        }
        if run.stop.is_cancelled() {
            return Ok(());
        }
        report.was_overtaken = true;
        run.warn("the vault kept changing while this ran; the next run goes on".to_owned(), report);
        Ok(())
    }

    /// Resets the known version of the vault, so that all of it is listed and compared again; records that
    /// this is due until a run completes.
    async fn make_full(&self) -> Result<(), PullError> {
        if self.run.options.dry_run {
            return Ok(());
        }
        let known = self.run.state.load().await?;
        // The cursor stays: it detects a vault that is older than the local state.
        let state = VaultState { version: 0, full_up_to: Some(0), ..known };
        Ok(commit_beside(self.run.state.as_ref(), Commit { state, ..Commit::default() }).await?)
    }

    /// Records that the full listing and scan are complete, if they were due: all differences are sent.
    async fn note_complete(&self) -> Result<(), PullError> {
        // A stopped run may have left changes unsent.
        if !self.is_full || self.run.options.dry_run || self.run.stop.is_cancelled() {
            return Ok(());
        }
        let known = self.run.state.load().await?;
        let state = VaultState { full_up_to: None, ..known };
        Ok(commit_beside(self.run.state.as_ref(), Commit { state, ..Commit::default() }).await?)
    }

    /// Decides what to send.
    async fn outgoing(&self, round: usize, report: &mut Report) -> Result<Decided, PullError> {
        let run = self.run;
        run.progress.phase(Phase::Scanning);
        let mut waiting = self.waiting().await?;
        let has_waiting = !waiting.is_empty();
        if !has_waiting && self.is_still_in_step(report).await? {
            return Ok(Decided::Outgoing(Box::default(), None));
        }
        let few = match round {
            // Confirmed deletions can be anywhere.
            1 if !waiting.has_confirmed() => self.scan_few(report).await?,
            _ => None,
        };
        let (few, records, tree) = match few {
            Some((paths, records, tree)) => (Some(paths), records, tree),
            None => {
                // Doubted records count as none, though a dry run does not forget them.
                let believes = !(run.options.dry_run && report.doubt.is_some());
                let reads_all = self.is_full && round == 1;
                let scanned = self.scan_all(reads_all, believes, &report.foreseen).await?;
                let Some((records, tree)) = scanned else { return Ok(Decided::Stopped) };
                (None, records, tree)
            }
        };
        let records = self.note_witness(records, &tree).await?;
        let clock = &run.source.client.options().clock;
        let looked = clock.steady();
        self.tell_unknown(&tree, &records, report);
        let unapplied = self.unapplied(&report.foreseen).await?;
        if self.forget_unseen(&records, &tree, &unapplied.paths).await? {
            return Ok(Decided::Relisted);
        }
        let decide = |mut tree: LocalTree| {
            tree.leave(&self.options.restless);
            Outgoing::decide(OutgoingInput {
                records: &records,
                tree,
                filter: &run.options.filter,
                sends_configuration: self.options.sends_configuration,
                unapplied: &unapplied.paths,
                held_back: &unapplied.held_back,
                now: jiff::Timestamp::now().as_millisecond(),
                may_delete: !self.is_first,
            })
        };
        waiting.look(&tree, few.as_deref(), &self.options.restless);
        let mut outgoing = decide(tree.clone());
        let shrunk = outgoing.shrunk();
        if few.is_some() && (outgoing.has_absent() || !shrunk.is_empty()) {
            // The second scan needs all records: with only some of them, all other files would be new.
            return Box::pin(self.outgoing(round + 1, report)).await;
        }
        if (outgoing.has_absent() || !shrunk.is_empty()) && !run.options.dry_run {
            // Absence counts only if two scans find it: a mount may be going away, an editor may be saving by
            // rename. The same holds for a file that lost its text: a program may be about to write it anew.
            let look = clock.sleep_until(looked + self.options.second_look);
            if run.stop.run_until_cancelled(look).await.is_none() {
                return Ok(Decided::Stopped);
            }
            let Some(mut again) = self.scan(&records).await? else { return Ok(Decided::Stopped) };
            let absent = again.absent_as_in(&tree);
            let mut restless = self.options.restless.clone();
            if self.options.leaves_what_changes {
                // The follower's list of restless paths is from the start of the run; it lacks files that
                // were touched since.
                let changing = again.leave_what_changed_since(&tree, &contents_of(&absent, &records));
                report.was_overtaken |= !changing.is_empty();
                restless.extend(changing);
            }
            waiting.look(&again, None, &restless);
            outgoing = decide(LocalTree { absent, ..again });
            outgoing.leave_what_shrank_but(&shrunk);
        }
        self.bring_up_to_date(&mut outgoing).await?;
        if outgoing.has_absent() && !run.options.dry_run {
            let known = run.state.load().await?.destination;
            run.must_be_the_same_place(known.as_ref()).await?;
        }
        self.hold_back(&mut outgoing, waiting, report).await?;
        self.tell_retained(&outgoing, &unapplied, report);
        if matches!(self.options.direction, SyncDirection::Push { .. }) {
            outgoing.waiting.iter().for_each(|path| report.diverge(path));
        }
        self.tell_refused(&outgoing, report);
        let settling = if has_waiting { None } else { self.settling(&tree) };
        Ok(Decided::Outgoing(Box::new(outgoing), settling))
    }

    /// Scans everything, with the records. `None` if the run was stopped.
    async fn scan_all(
        &self,
        reads_all: bool,
        believes: bool,
        foreseen: &Foreseen,
    ) -> Result<Option<(Arc<Vec<Record>>, LocalTree)>, PullError> {
        let mut records = match believes {
            true => self.run.state.all_records().await?,
            false => Vec::new(),
        };
        if reads_all {
            records.iter_mut().for_each(|record| record.facts = None);
        }
        foreseen.apply_to_records(&mut records);
        let records = Arc::new(records);
        let Some(mut tree) = self.scan(&records).await? else { return Ok(None) };
        foreseen.apply_to_tree(&mut tree, &records);
        if !self.run.destination.traits().has_folders {
            tree.add_folders(&records);
        }
        Ok(Some((records, tree)))
    }

    /// Scans the few paths that can have changed, if they are known, and those that this run wrote. `None` if
    /// a full scan is needed: something is absent or lost half of its bytes (which needs a second scan), or a
    /// name has twins.
    async fn scan_few(&self, report: &Report) -> Result<Option<FewScanned>, PullError> {
        let has_news = self.options.direction == SyncDirection::Push { mirrors: true } && report.listed > 0;
        let is_dry = self.run.options.dry_run;
        let is_enough = !is_dry && !self.is_first && !self.is_full && !has_news && report.doubt.is_none();
        let Some(only) = self.options.only.as_ref().filter(|_| is_enough) else {
            return Ok(None);
        };
        let put_here = report.merged.iter().chain(report.conflicts.iter().map(|conflict| &conflict.kept_as));
        let paths: HashSet<VaultPath> = only.iter().chain(put_here).cloned().collect();
        let is_plain = |path: &VaultPath| normalize_local_name(path.as_str()) == path.as_str();
        if paths.len() > FEW_PATHS || !paths.iter().all(is_plain) {
            return Ok(None);
        }
        let ancestors = paths.iter().flat_map(outgoing::ancestors);
        let mut recorded: HashSet<VaultPath> = ancestors.chain(paths.iter().cloned()).collect();
        // The vault may know them by their decomposed names.
        let decomposed = recorded.iter().filter(|path| !path.as_str().is_ascii()).filter_map(decomposed);
        recorded.extend(decomposed.collect::<Vec<_>>());
        let recorded: Vec<VaultPath> = recorded.into_iter().collect();
        let records = self.run.state.records(&recorded).await?;
        let records = Arc::new(records.into_iter().flatten().collect::<Vec<Record>>());
        if !records.iter().all(|record| is_plain(&record.path)) {
            return Ok(None);
        }
        let filter = self.run.options.filter.clone();
        let input = ScanInput { records: records.clone(), filter };
        let paths = Arc::new(paths);
        let scan = self.run.destination.scan_few(input, paths.clone());
        let Some(tree) = self.run.stop.run_until_cancelled(scan).await.transpose()?.flatten() else {
            return Ok(None);
        };
        Ok((tree.is_certain() && !has_shrunk(&tree, &records)).then_some((paths, records, tree)))
    }

    /// Scans everything. `None` if the run was stopped.
    async fn scan(&self, records: &Arc<Vec<Record>>) -> Result<Option<LocalTree>, PullError> {
        let filter = self.run.options.filter.clone();
        let scan = self.run.destination.scan(ScanInput { records: records.clone(), filter });
        let Some(scanned) = self.run.stop.run_until_cancelled(scan).await else { return Ok(None) };
        let reason = "it cannot be scanned, so it can only be pulled to".to_owned();
        let location = self.run.destination.location();
        let code = ProblemCode::Destination;
        Ok(Some(scanned?.ok_or(DestinationError::Unavailable { location, reason, code })?))
    }

    /// Loads the paths of the vault's changes that were not applied here.
    async fn unapplied(&self, foreseen: &Foreseen) -> Result<Unapplied, PullError> {
        let keys = &self.run.source.keys;
        let mut unapplied = Unapplied { paths: foreseen.left.clone(), ..Unapplied::default() };
        for kind in [DeferredKind::Failed, DeferredKind::Filtered] {
            let mut parts = DeferredParts::of(self.run.state.as_ref(), kind);
            while let Some(part) = parts.next().await? {
                for deferred in part.into_iter().filter(|deferred| !deferred.key.is_outgoing()) {
                    let is_diverged = deferred.cause == DeferredCause::Diverged;
                    let would_be_done = |path: &VaultPath| {
                        foreseen.merged.contains_key(path) || (is_diverged && foreseen.is_learned(path))
                    };
                    let path = keys.decode_path(&deferred.message.path).ok();
                    unapplied.add(deferred.cause, path.filter(|path| !would_be_done(path)));
                }
            }
        }
        Ok(unapplied)
    }

    /// Reports files that are not sent because of their names, and those that therefore stay in the vault.
    fn tell_refused(&self, outgoing: &Outgoing, report: &mut Report) {
        let refused = outgoing.refused.iter();
        let refused = refused.map(|(path, reason)| (format!("{:?}", path.as_str()), stays_here(reason)));
        grouped(refused).into_iter().for_each(|sentence| self.run.warn(sentence, report));
        let kept: Vec<&str> = outgoing.kept.iter().map(VaultPath::as_str).collect();
        if !kept.is_empty() {
            let sentence = format!(
                "not deleted in the vault, because the names that they have here now cannot be sent: {}",
                some_of(&kept)
            );
            self.run.warn(sentence, report);
        }
    }

    /// Reports local files that are not sent because the vault deleted them and an earlier pull kept them.
    fn tell_retained(&self, outgoing: &Outgoing, unapplied: &Unapplied, report: &mut Report) {
        let retained: Vec<&VaultPath> =
            outgoing.waiting.iter().filter(|path| unapplied.retained.contains(*path)).collect();
        if !retained.is_empty() {
            self.run.warn(retained_here(&retained), report);
        }
    }

    /// Records new facts of files whose content is unchanged, so that they are not read again.
    async fn bring_up_to_date(&self, outgoing: &mut Outgoing) -> Result<(), PullError> {
        let records: Vec<Record> = std::mem::take(&mut outgoing.renewed).into_iter().map(renewed).collect();
        if records.is_empty() || self.run.options.dry_run {
            return Ok(());
        }
        let known = self.run.state.load().await?;
        let commit = Commit { records, state: known, ..Commit::default() };
        Ok(commit_beside(self.run.state.as_ref(), commit).await?)
    }

    fn describe(&self, outgoing: &Outgoing, report: &mut Report) {
        report.describe_outgoing(outgoing);
    }
}

/// Warning about files that are kept though the vault deleted them.
fn retained_here(retained: &[&VaultPath]) -> String {
    let named: Vec<&str> = retained.iter().map(|path| path.as_str()).collect();
    format!(
        "{} of the files here are not sent, because the vault deleted them and an earlier pull kept them: {}. A copy under \
         another name is sent",
        retained.len(),
        some_of(&named)
    )
}
