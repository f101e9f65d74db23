//! Syncs one vault to the bucket: takes the lease, pulls, records the progress, reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions};
use obsync_client::{ClientError, FetchOptions};
use obsync_core::pin::VaultKind;
use obsync_core::{
    Destination as _, DestinationError, Governor, Mode, Problem, ProblemCode, PullError, PullOptions,
    PullSource, Report, StateError, SyncOptions, Tally, pull, sync,
};
use obsync_dynamodb::{
    ChainEnd, ChainEntry, ChainStep, DynamoState, LEASE_AFTER_DEADLINE, LeaseOptions, Opened, ProgressStatus,
    StateKey, StoredProgress, TrackedState, Tracker,
};
use obsync_protocol::VaultKeys;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::chain::{self, Limits};
use crate::choice::Listed;
use crate::closing::Stages;
use crate::deadline::{ANSWER_LIMIT, Deadline};
use crate::direction::Direction;
use crate::failure::Failure;
use crate::freshness::key_of;
use crate::memory::Allowance;
use crate::nesting::{Neighbours, Nested, nested};
use crate::pacing::Pacing;
use crate::vault_report::{FollowUp, VaultReport, VaultStatus};
use crate::warm::{Account, AccountError, Warm};

/// Attempts at judging pins when another run writes one meanwhile.
const PIN_ATTEMPTS: usize = 5;
/// Longest wait for another's lease that expires soon: that of a killed invocation ends two seconds after its
/// time, and so does that of a predecessor which handed on before its background work ended.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);
// A predecessor hands on at the earliest when the time for its answer begins.
const _: () =
    assert!(LEASE_PATIENCE.as_millis() > LEASE_AFTER_DEADLINE.as_millis() + ANSWER_LIMIT.as_millis());

/// State shared by all vaults of an invocation.
pub(crate) struct Invocation {
    /// State of the process.
    pub(crate) warm: Arc<Warm>,
    pub(crate) account: Arc<Account>,
    /// When it ends.
    pub(crate) deadline: Arc<Deadline>,
    /// Admits transfers.
    pub(crate) governor: Governor,
    /// Memory limits of each vault.
    pub(crate) allowance: Allowance,
    /// Connections that each vault may have.
    pub(crate) connections: usize,
    pub(crate) mode: Mode,
    /// The name of the mode.
    pub(crate) sync_type: &'static str,
    pub(crate) direction: Direction,
    /// Maximum size of the list of changed files in each vault's report, in bytes, if the event requests that
    /// list.
    pub(crate) list_changes: Option<u64>,
    /// The owner of leases, shown to others.
    pub(crate) owner: String,
    /// Limits fetching to the destination's rate.
    pub(crate) pacing: Pacing,
    /// Checks that no vault's place overlaps another's.
    pub(crate) neighbours: Neighbours,
    /// The step of a chain that the event requests.
    pub(crate) entry: ChainEntry,
    /// Limits of chains.
    pub(crate) limits: Limits,
}

/// A vault and its destination.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) vault: Listed,
    /// A warning that precedes all others.
    pub(crate) warning: Option<String>,
    pub(crate) place: BucketLocation,
}

/// Why a vault could not be synced.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Store(#[from] DestinationError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Nested(#[from] Nested),
    #[error(
        "the time ran out before the run could stop; the next invocation continues from the last checkpoint"
    )]
    CutOff,
    #[error("the time ran out before the vault's turn; the next invocation syncs it")]
    NotBegun,
    #[error("other runs keep recording the encryption of the vault; the next invocation tries again")]
    PinsChange,
    #[error(
        "another run took the vault over while this one was delayed; everything that this one recorded stays valid"
    )]
    TakenOver,
    #[error(
        "another invocation did this part of the work or is doing it; nothing is left to do for this one"
    )]
    Superseded,
}

impl SyncError {
    /// The service's refusal, if there was one.
    fn refusal(&self) -> Option<&ClientError> {
        match self {
            SyncError::Account(AccountError::Client(error)) | SyncError::Pull(PullError::Client(error)) => {
                Some(error).filter(|error| Warm::is_refusal(error))
            }
            _ => None,
        }
    }

    fn problem(&self) -> Problem {
        Problem::new(self.code(), self.to_string())
    }

    /// The code for scripts.
    fn code(&self) -> ProblemCode {
        match self {
            SyncError::Account(error) => error.code(),
            SyncError::State(error) => error.into(),
            SyncError::Store(error) => error.into(),
            SyncError::Pull(error) => error.into(),
            SyncError::Nested(_) => ProblemCode::Usage,
            SyncError::CutOff | SyncError::NotBegun | SyncError::PinsChange => ProblemCode::Interrupted,
            SyncError::TakenOver | SyncError::Superseded => ProblemCode::AlreadyRunning,
        }
    }

    /// True if the bucket or the table is the cause.
    fn is_of_place(&self) -> bool {
        matches!(
            self,
            SyncError::Store(_)
                | SyncError::State(_)
                | SyncError::Account(AccountError::State(_))
                | SyncError::Pull(PullError::Store(_) | PullError::State(_))
        )
    }

    fn status(&self) -> VaultStatus {
        match self {
            SyncError::State(StateError::Locked { .. }) | SyncError::TakenOver => VaultStatus::Skipped,
            SyncError::Superseded => VaultStatus::Superseded,
            SyncError::CutOff | SyncError::NotBegun => VaultStatus::Incomplete,
            _ => VaultStatus::Failed,
        }
    }
}

impl Invocation {
    /// Syncs one vault. All outcomes are in the report.
    pub(crate) async fn sync(&self, job: &Job) -> VaultReport {
        let (begun, began) = (Instant::now(), jiff::Timestamp::now());
        let mut ended = self.attempt(job, &self.account).await;
        if let Some(reason) = ended.as_ref().err().and_then(SyncError::refusal).cloned() {
            let remedy = self.warm.remedy(&self.account, &job.vault.info, &reason);
            ended = match self.or_cut_off(remedy).await {
                Ok(Ok(Some(account))) => self.attempt(job, &account).await,
                Ok(Ok(None)) => ended,
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(error),
            };
        }
        if let Err(error) = &ended
            && error.status() == VaultStatus::Failed
            // A table that just refused would refuse this, too.
            && !matches!(error, SyncError::State(_))
        {
            let failure = Failure { problem: error.problem(), began };
            failure.note(&self.warm, vec![key_of(job)], &self.deadline).await;
        }
        let mut report = ended.unwrap_or_else(|error| unfinished(job, &error));
        report.encryption = VaultKind::of(&job.vault.info).as_str();
        report.warnings.splice(0..0, job.warning.clone());
        report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        report
    }

    async fn attempt(&self, job: &Job, account: &Account) -> Result<VaultReport, SyncError> {
        let (keys, notices) = self.open(job, account).await?;
        let source = PullSource {
            client: self.warm.client().clone(),
            token: account.token.clone(),
            vault: job.vault.info.clone(),
            keys,
        };
        let (state, step) = self.open_state(key_of(job)).await?;
        self.pause(&step).await;
        let (mut result, is_quiet) = Box::pin(self.pull_under_lease(&source, job, &state)).await;
        if let Ok(report) = &mut result {
            report.warnings.splice(0..0, notices);
        }
        self.let_go(job, &state, &step, result, is_quiet).await
    }

    /// Takes the lease. Not dropped at the deadline: a request in flight could take effect, and nobody would
    /// know that this run has the lease.
    async fn open_state(&self, key: StateKey) -> Result<(Arc<DynamoState>, ChainStep), SyncError> {
        let lease = LeaseOptions {
            duration: self.warm.config.lease,
            deadline: Some(self.deadline.killed()),
            patience: LEASE_PATIENCE.min(self.deadline.left()),
            ..LeaseOptions::new(self.owner.clone())
        };
        let (sender, mut receiver) = oneshot::channel();
        let (table, entry) = (self.warm.table.clone(), self.entry);
        tokio::spawn(async move {
            let opened = DynamoState::open_step(&table, key, &lease, entry).await;
            // Nobody waits for it any more.
            if let Err(Ok(Opened::Step(state, _))) = sender.send(opened) {
                give_back(&state).await;
            }
        });
        match self.or_cut_off(&mut receiver).await {
            Ok(Ok(Ok(Opened::Step(state, step)))) => Ok((Arc::from(state), step)),
            Ok(Ok(Ok(Opened::Superseded))) => Err(SyncError::Superseded),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(SyncError::CutOff),
            Err(cut_off) => {
                if let Ok(Ok(Ok(Opened::Step(state, _)))) =
                    timeout_at(self.deadline.farewell(), &mut receiver).await
                {
                    let _ = timeout_at(self.deadline.last_call(), give_back(&state)).await;
                }
                Err(cut_off)
            }
        }
    }

    /// Pauses, so that the obstacle of the earlier steps may pass.
    async fn pause(&self, step: &ChainStep) {
        let pause = chain::pause(step.idle, self.deadline.left());
        if !pause.is_zero() {
            tracing::info!(?pause, "the invocation before made nothing durable");
            sleep(pause).await;
        }
    }

    /// Releases the lease, and records the chain's state in the same write. That is the last write of this
    /// run.
    async fn let_go(
        &self,
        job: &Job,
        state: &DynamoState,
        step: &ChainStep,
        result: Result<VaultReport, SyncError>,
        is_quiet: bool,
    ) -> Result<VaultReport, SyncError> {
        let seen = match &result {
            Ok(report) => report.clone(),
            Err(error) => unfinished(job, error),
        };
        let (end, reason) = chain::end_of(step, &seen, is_quiet, self.limits);
        let written = timeout_at(self.deadline.farewell(), state.close_step(end)).await;
        // A lease that was not released expires by itself.
        let is_written = match written {
            Ok(Ok(is_written)) => is_written,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease could not be given back");
                false
            }
            Err(_) => {
                tracing::warn!("there was no time to give the lease back");
                false
            }
        };
        let mut report = result?;
        report.chain.clone_from(&step.chain);
        report.step = step.step;
        report.follow_up = match (end, reason) {
            (ChainEnd::HandOn { .. }, _) if is_written => FollowUp::Step(step.step.saturating_add(1)),
            (_, Some(reason)) => FollowUp::Ended(reason),
            _ => FollowUp::Nothing,
        };
        Ok(report)
    }

    /// The keys of a vault that may be opened as listed, and warnings about that. Its encryption is pinned in
    /// the table, once the service has confirmed the key and before anything is published.
    async fn open(&self, job: &Job, account: &Account) -> Result<(VaultKeys, Vec<String>), SyncError> {
        let listed = self.warm.listed_pin(&job.vault)?;
        let (table, destination) = (&self.warm.table, job.place.to_string());
        for _ in 0..PIN_ATTEMPTS {
            let pins = self.or_cut_off(table.pins(&listed, &destination)).await??;
            self.or_cut_off(self.warm.check_former_name(account, &job.vault, &pins.found())).await??;
            let opening = self.warm.judge(account, &job.vault, pins.found())?;
            let keys = tokio::select! {
                biased;
                // Key derivation takes memory and time, in vain now.
                () = self.deadline.stop().cancelled() => return Err(SyncError::NotBegun),
                keys = self.warm.keys(account, &job.vault) => keys?,
            };
            if self.or_cut_off(table.keep_pin(&opening.pin, &pins)).await?? {
                let kind = opening.pin.encryption.kind();
                if opening.is_first_contact {
                    tracing::warn!(vault_id = job.vault.info.id.as_str(), %kind, "the vault is opened for the first time");
                }
                return Ok((keys, opening.notices.iter().map(ToString::to_string).collect()));
            }
        }
        Err(SyncError::PinsChange)
    }

    /// Pulls. Also returns true if all work has ended.
    async fn pull_under_lease(
        &self,
        source: &PullSource,
        job: &Job,
        state: &Arc<DynamoState>,
    ) -> (Result<VaultReport, SyncError>, bool) {
        let opened = self.open_store(job, state).await;
        let (destination, tracker) = match opened {
            Ok(opened) => {
                self.pacing.watch(&opened.0);
                opened
            }
            Err(error @ SyncError::CutOff) => return (Ok(unfinished(job, &error)), true),
            Err(error) => return (Err(error), true),
        };
        let pulled = self.pull(source, &destination, state, &tracker).await;
        // Its requests in flight must have ended when the next invocation begins.
        let has_ended = match &pulled {
            Ok(_) => true,
            Err(_) => timeout_at(self.deadline.ends_recorded(), destination.end_run()).await.is_ok(),
        };
        let is_quiet = has_ended && destination.is_quiet();
        if self.warm.config.progress {
            self.record_end(state, &tracker, &pulled).await;
        }
        let remaining = tracker.remaining();
        let report = match pulled {
            Ok(report) => VaultReport::of_pull(report, remaining, &self.warm.config.table),
            // The token may be renewed, and all of this retried.
            Err(error) if error.refusal().is_some() => return (Err(error), is_quiet),
            Err(error) => {
                let remaining = if matches!(error, SyncError::CutOff) { remaining } else { Tally::default() };
                VaultReport { remaining, ..so_far(&tracker, unfinished(job, &error)) }
            }
        };
        let report = VaultReport {
            stages: Stages { run: tracker.durations(), publish: destination.publishing() },
            s3_requests: destination.requests(),
            invocations: tracker.invocations(),
            is_held_up: self.warm.config.progress && tracker.gives_up_next()
                || self.direction.sends().is_some() && is_held_up_there(&report),
            has_checked: tracker.has_checked(),
            ..report
        };
        (Ok(report), is_quiet)
    }

    /// Opens the bucket, and reads the progress of the run.
    async fn open_store(
        &self,
        job: &Job,
        state: &Arc<DynamoState>,
    ) -> Result<(Arc<BucketDestination>, Arc<Tracker>), SyncError> {
        if let Some(nested) = self.or_cut_off(nested(state, &job.place, &self.neighbours)).await?? {
            return Err(nested.into());
        }
        let config = &self.warm.config;
        let stored = match config.progress {
            true => self.or_cut_off(state.progress()).await??,
            false => StoredProgress::Missing,
        };
        let (vault, direction) = (&job.vault.info.id, self.direction.of_engine());
        let tracker = Tracker::new(vault, self.sync_type, direction, &stored, config.resume_within);
        let opening = BucketDestination::open_s3(&job.place, self.store_options(job), &self.warm.aws);
        let destination = self.or_cut_off(opening).await?;
        Ok((Arc::new(destination?), Arc::new(tracker)))
    }

    fn store_options(&self, job: &Job) -> BucketOptions {
        let objects = &self.warm.config.objects;
        BucketOptions {
            vault: Some(job.vault.info.id.clone()),
            sse_kms_key: objects.sse_kms_key.clone(),
            storage_class: objects.storage_class.clone(),
            keep_deleted: objects.keep_deleted,
            misses_deleted: self.direction.sends().is_some() && self.warm.config.sending.deletes,
            part_size: self.allowance.part_size,
            memory: usize::try_from(self.allowance.budget).unwrap_or(usize::MAX),
            batch_files: self.warm.config.checkpoint_files,
            // The lease guarantees that nobody else works below the prefix.
            abandoned_after: Duration::ZERO,
            abandoned_before: Some(self.deadline.killed()),
            begins_until: Some(self.deadline.published()),
            network: self.warm.config.network.clone(),
            ..BucketOptions::default()
        }
    }

    /// Pulls until it is done, the time is over, or another run has the lease.
    async fn pull(
        &self,
        source: &PullSource,
        destination: &Arc<BucketDestination>,
        state: &Arc<DynamoState>,
        tracker: &Arc<Tracker>,
    ) -> Result<Report, SyncError> {
        let options = PullOptions {
            filter: self.warm.config.filter.clone(),
            // A run that resumes a complete one continues its checks, instead of beginning them again.
            mode: if tracker.goes_on() { Mode::Incremental } else { self.mode },
            fetch: FetchOptions { connections: self.connections, ..FetchOptions::default() },
            governor: self.governor.clone(),
            listing_memory: Some(self.allowance.listing),
            max_delete: self.warm.config.max_delete,
            list_changes: self.list_changes,
            hurdle: tracker.hurdle(self.deadline.left()),
            is_narrowed: self.warm.config.sending.direction != self.direction,
            ..PullOptions::default()
        };
        let notes = self.warm.config.progress;
        let states = Arc::new(TrackedState::new(state.clone(), tracker.clone(), notes));
        let stop = self.deadline.stop().child_token();
        let run = self.run(source, destination.clone(), states, options, tracker.clone(), stop);
        tokio::select! {
            biased;
            // All further work of this run would be useless.
            () = state.lost() => Err(SyncError::TakenOver),
            report = run => match report {
                Err(PullError::State(StateError::LeaseLost { .. })) => Err(SyncError::TakenOver),
                report => Ok(report?),
            },
            () = self.deadline.over() => Err(SyncError::CutOff),
        }
    }

    /// Pulls, or syncs where changes are sent. Boxed: without optimisation the two together exceed a thread's
    /// stack.
    async fn run(
        &self,
        source: &PullSource,
        destination: Arc<BucketDestination>,
        state: Arc<TrackedState>,
        options: PullOptions,
        progress: Arc<Tracker>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        let Some(direction) = self.direction.sends() else {
            return Box::pin(pull(source, destination, state, &options, progress, stop)).await;
        };
        let sending = self.warm.config.sending;
        let options = SyncOptions {
            pull: options,
            direction,
            max_delete_in_vault: sending.max_delete,
            sends_configuration: sending.configuration,
            // Nobody waits for it, and it may come each minute.
            respects_refusals: true,
            has_deadline: true,
            ..SyncOptions::default()
        };
        Box::pin(sync(source, destination, state, &options, progress, stop)).await
    }

    /// Records in the progress record how it ended.
    async fn record_end(&self, state: &DynamoState, tracker: &Tracker, end: &Result<Report, SyncError>) {
        let unfinished =
            |status, error: &SyncError| tracker.record(status, tracker.version(), Some(&error.problem()));
        let record = match end {
            Ok(report) => tracker.record_of(report),
            // The present lease holder has its own record.
            Err(SyncError::TakenOver) => return,
            Err(error @ SyncError::CutOff) => unfinished(ProgressStatus::Interrupted, error),
            Err(error) => unfinished(ProgressStatus::Failed, error),
        };
        let write = state.write_progress(&record);
        match timeout_at(self.deadline.farewell(), write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the progress record could not be written"),
            Err(_) => tracing::warn!("there was no time to write the progress record"),
        }
    }

    /// The result of the work, if it ends in time.
    async fn or_cut_off<T>(&self, work: impl Future<Output = T>) -> Result<T, SyncError> {
        tokio::select! {
            biased;
            result = work => Ok(result),
            () = self.deadline.over() => Err(SyncError::CutOff),
        }
    }
}

/// True if work under way at the end now waits, so that the next invocation sends the changes after it.
fn is_held_up_there(report: &VaultReport) -> bool {
    report.status == VaultStatus::Incomplete && report.failed_files > 0
}

/// The report on a vault whose run did not finish.
fn unfinished(job: &Job, error: &SyncError) -> VaultReport {
    let (id, name) = (job.vault.info.id.as_str(), &job.vault.info.name);
    let destination = job.place.to_string();
    let nothing = VaultReport::nothing(id, name, error.status(), error.to_string());
    VaultReport {
        destination,
        follow_up: match error {
            SyncError::CutOff | SyncError::NotBegun => FollowUp::SameStep,
            _ => FollowUp::Nothing,
        },
        // A newer release may be installed again; this one will never be able to read that one's state.
        is_of_place: error.is_of_place(),
        is_final: matches!(error, SyncError::State(StateError::Newer { .. })),
        ..match error {
            // No error.
            SyncError::Superseded => nothing,
            _ => nothing.coded(error.code()),
        }
    }
}

/// Releases a lease that was taken too late to be of use.
async fn give_back(state: &DynamoState) {
    if let Err(error) = state.close().await {
        tracing::warn!(%error, "the lease could not be given back");
    }
}

/// The same with the run's results until then.
fn so_far(tracker: &Tracker, report: VaultReport) -> VaultReport {
    VaultReport {
        pulled: tracker.durable_so_far(),
        version: tracker.version(),
        previous_version: tracker.previous_version(),
        ..report
    }
}
