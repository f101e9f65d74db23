//! `obsync pull`: brings a vault to a folder or a bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use obsync_client::FetchOptions;
use obsync_core::conflicted_copy::DeviceName;
use obsync_core::pin::VaultKind;
use obsync_core::quiet::QuietRule;
use obsync_core::{
    DestinationError, Direction, Doubt, FollowOptions, FollowWay, Mode, NoProgress, Outcome, Problem,
    ProblemCode, Progress, PullError, PullOptions, PullSource, Report, StateStore, SyncDirection,
    SyncOptions, Watch, follow, pull, sync,
};
use obsync_folder::FolderWatch;
use obsync_protocol::{Filter, MasterKey, VaultId};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::following::{Both, Teller, until_reached};
use super::waiting::patiently;
use crate::account::admission::{Admitted, admit, wish};
use crate::account::sign_in;
use crate::account::vault_choice::choose;
use crate::account::vault_keys::{Lock, Unlocked};
use crate::answer::Answer;
use crate::args::{BucketDeletes, Choice, Pull, PullHere, Push, Sync};
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::health::Health;
use crate::signals;
use crate::target::destination::Destination;
use crate::target::followed::{Followed, note_failure};
use crate::target::known::{Known, Nested, Purpose};
use crate::target::objects::only_for;
use crate::target::state_place::StatePlace;
use crate::target::states::State;
use crate::ui::ask;
use crate::ui::progress::Display;
use crate::ui::{human, pull_report};

pub(super) async fn run(options: &PullHere, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    if options.mirror && !matches!(options.pull.destination, Destination::Folder(_)) {
        let message = "--mirror is for folders: a bucket has no trash for what it would take back";
        return Err(Failed::new(Exit::Usage, message));
    }
    go(Way::Pull(options), context, verbose).await
}

/// Syncs both ways: `obsync sync`.
pub(super) async fn sync_both(options: &Sync, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    go(Way::Both(options), context, verbose).await
}

/// Sends only: `obsync push`.
pub(super) async fn push(options: &Push, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    go(Way::Push(options), context, verbose).await
}

async fn go(way: Way<'_>, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    let began = Timestamp::now();
    let health = Health::begin(way.options(), way.name(), context).await?;
    let limit = TimeLimit::begin(way.options().max_time, &context.stop);
    let look_again = Arc::new(Notify::new());
    if way.options().follow {
        let (stop, console) = (context.stop.clone(), Arc::clone(&context.console));
        signals::look_again_on_hangup(Arc::clone(&look_again), stop, console);
    }
    let attempt = async || bring(way, context, verbose, &limit, &health, &look_again).await;
    let result = patiently(way.options().wait, &context.stop, attempt).await;
    let result = result.map_err(|failed| limit.explain(failed));
    if let Err(failed) = &result {
        note(way.options(), context, failed, began).await;
    }
    health.end(&result).await;
    result
}

/// Which ways a vault and a destination are brought in step.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    Pull(&'a PullHere),
    Both(&'a Sync),
    Push(&'a Push),
}

impl<'a> Way<'a> {
    /// What all have.
    fn options(self) -> &'a Pull {
        match self {
            Way::Pull(options) => &options.pull,
            Way::Both(options) => &options.pull,
            Way::Push(options) => &options.sync.pull,
        }
    }

    /// The command.
    fn name(self) -> &'static str {
        match self {
            Way::Pull(_) => "pull",
            Way::Both(_) => "sync",
            Way::Push(_) => "push",
        }
    }

    /// Whether what was changed here is taken back.
    fn takes_back(self) -> bool {
        matches!(self, Way::Pull(options) if options.mirror)
    }

    /// What those have that send.
    fn sending(self) -> Option<(&'a Sync, SyncDirection)> {
        match self {
            Way::Pull(_) => None,
            Way::Both(options) => Some((options, SyncDirection::Both)),
            Way::Push(options) => Some((&options.sync, SyncDirection::Push { mirrors: options.mirror })),
        }
    }

    /// The same for what is noted of a run.
    fn direction(self) -> Direction {
        self.sending().map_or(Direction::Pull, |(_, direction)| direction.into())
    }

    /// What the destination is opened for.
    fn purpose(self) -> Purpose {
        Purpose {
            looks: self.options().dry_run,
            trashes: self.sending().is_some() || self.takes_back(),
            keeps_deleted: matches!(self, Way::Pull(options) if options.keep_deleted),
        }
    }

    /// What a follower does in each of its runs.
    fn follow(self, pull_options: PullOptions) -> FollowWay {
        match self.sync_options(pull_options.clone()) {
            Some(sync_options) => FollowWay::Sync(sync_options),
            None => FollowWay::Pull(pull_options),
        }
    }

    /// What tells a follower of changes of the destination, where it sends them.
    fn watch(self, filter: &Filter, states: &Arc<dyn StateStore>) -> Option<Box<dyn Watch>> {
        let (options, _) = self.sending()?;
        let Destination::Folder(folder) = &options.pull.destination else { return None };
        let rule = QuietRule { quiet_for: options.quiet_for, ..QuietRule::default() };
        Some(Box::new(FolderWatch::new(folder, filter.clone(), rule, Arc::clone(states))))
    }

    fn sync_options(self, pull: PullOptions) -> Option<SyncOptions> {
        let (options, direction) = self.sending()?;
        let usual = SyncOptions::default();
        Some(SyncOptions {
            pull,
            direction,
            max_delete_in_vault: options.max_delete_in_vault.unwrap_or(usual.max_delete_in_vault),
            sends_configuration: options.push_configs,
            ..usual
        })
    }

    /// Does it.
    async fn run(
        self,
        source: &PullSource,
        destination: Arc<dyn obsync_core::Destination>,
        states: Arc<dyn StateStore>,
        pull_options: PullOptions,
        progress: Arc<dyn Progress>,
        stop: CancellationToken,
    ) -> Result<Report, PullError> {
        match self.sync_options(pull_options.clone()) {
            Some(sync_options) => sync(source, destination, states, &sync_options, progress, stop).await,
            None => pull(source, destination, states, &pull_options, progress, stop).await,
        }
    }
}

/// Notes a run that failed where the state of its destination is, for `obsync status`.
async fn note(options: &Pull, context: &Context, failed: &Failed, began: Timestamp) {
    let is_run = !options.dry_run && !matches!(failed.exit, Exit::AlreadyRunning | Exit::Usage);
    let is_in_table = options.state.place != StatePlace::Local;
    if !is_run || (failed.of_state && is_in_table) {
        return;
    }
    let Ok(known) = Known::of(&options.destination, &options.state.place, context).await else { return };
    let Ok(state) = known.only_state().await else { return };
    // A slip of the pen is no run to this destination.
    if is_of(&state, options) || failed.exit != Exit::NotFound {
        note_failure(&state, failed, began).await;
    }
}

/// Whether a state is that of the vault that is asked for.
fn is_of(state: &State, options: &Pull) -> bool {
    let asked = options.vault.as_str();
    state.vault().is_some_and(|vault| vault.name == asked || vault.id.starts_with(asked))
}

/// The time that the user gave the run. When it is over, the run is asked to stop as by Ctrl-C.
struct TimeLimit {
    after: Option<Duration>,
    passed: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl TimeLimit {
    fn begin(after: Option<Duration>, stop: &CancellationToken) -> Self {
        let passed = Arc::new(AtomicBool::new(false));
        let task = after.map(|after| {
            let (passed, stop) = (Arc::clone(&passed), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                passed.store(true, Ordering::Relaxed);
                stop.cancel();
            })
        });
        Self { after, passed, task }
    }

    /// Why the run was stopped, for people.
    fn cause(&self) -> String {
        match self.after {
            Some(after) if self.passed.load(Ordering::Relaxed) => {
                format!("stopped after the {} s of --max-time", after.as_secs())
            }
            _ => "interrupted".to_owned(),
        }
    }

    fn explain(&self, failed: Failed) -> Failed {
        match failed.exit {
            Exit::Unfinished if self.passed.load(Ordering::Relaxed) => {
                Failed::new(Exit::Unfinished, format!("{}; the next run goes on", self.cause()))
            }
            _ => failed,
        }
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn bring(
    way: Way<'_>,
    context: &Context,
    verbose: bool,
    limit: &TimeLimit,
    health: &Arc<Health>,
    look_again: &Arc<Notify>,
) -> Result<Exit, Failed> {
    let options = way.options();
    if matches!(way, Way::Push(_)) && options.destination.is_missing_folder() {
        let message = format!("there is no folder {} to send from; check the path", options.destination);
        return Err(Failed::new(Exit::NotFound, message).coded(ProblemCode::DestinationUnknown));
    }
    let mut objects = options.objects.for_destination(&options.destination)?;
    if let Some((sync, _)) = way.sending() {
        objects.device = DeviceName::new(&device_name(sync));
        objects.misses_deleted = misses_deleted(sync)?;
    }
    let known = context.or_stopped(Known::of(&options.destination, &options.state.place, context)).await?;
    // A run that is to stop is told so by what comes next.
    let _ = context.stop.run_until_cancelled(health.remember(&known)).await;
    // Whether an earlier run brought this vault here, so that account and vault are known.
    let is_known =
        async || options.follow && known.only_state().await.is_ok_and(|state| is_of(&state, options));
    let opening = async || source(way, &known, context).await;
    let note_attempt = async |failed: &Failed| note(options, context, failed, Timestamp::now()).await;
    let opening = until_reached(context, health, look_again, is_known, note_attempt, opening);
    let Opened { source, key, mut admitted, listed } = context.or_stopped(opening).await?;
    if admitted.is_changed(&key) {
        // Without a state nothing is removed, and everything that differs is kept. It goes before any pin says that the
        // change is accepted: should this run be cut off, the next one keeps everything, too, or is refused.
        context.unless_stopped(known.forget_all().await)?;
    }
    admitted.keep_in_home(&key, context);
    let state = context.unless_stopped(known.state_for(&source.vault, &listed, options.dry_run).await)?;
    let pulling = async {
        let manner = Manner {
            encryption: admitted.kind(),
            doubt: known.doubt(&state).await?,
            keep_everything: admitted.is_changed(&key),
        };
        let destination = context.or_stopped(known.open(objects, way.purpose(), context)).await?;
        if way.sending().is_some_and(|(sync, _)| !sync.yes)
            && !may_begin(&source, destination.clone(), &state, way, manner, context).await?
        {
            return Ok(None);
        }
        if options.dry_run {
            return bring_into(
                &source,
                destination,
                &state,
                way,
                manner,
                context,
                verbose,
                health,
                look_again,
            )
            .await
            .map(Some);
        }
        // It is only said: each keeps to its own files.
        if state.store().load().await?.version == 0 {
            tell_nested(&known, context).await?;
        }
        // Before anything is published there.
        admitted.keep_beside(&known).await?;
        let brought =
            bring_into(&source, destination, &state, way, manner, context, verbose, health, look_again)
                .await?;
        // The state of an empty vault says nothing that a pin would have to protect.
        if brought.report.version > 0 {
            known.keep_waiting_pin().await?;
        }
        Ok(Some(brought))
    };
    let result = pulling.await;
    state.close().await;
    let confirm = known.command("confirm", &[&options.destination.to_string()], &[]);
    let Some(Brought { report, is_first }) = context.unless_stopped(result)? else {
        context.say("Nothing was done.")?;
        return Ok(Exit::Done);
    };
    if options.follow {
        return Ok(follower_stopped(&report, is_first, context, limit));
    }
    health.reported(&report);
    let document = PullDocument { report, encryption: admitted.kind() };
    conclude(document, &confirm, options, context, limit)
}

/// Whether what is missing in the destination was deleted there, where that is a bucket.
fn misses_deleted(options: &Sync) -> Result<bool, Failed> {
    match (options.bucket_deletes, &options.pull.destination) {
        (BucketDeletes::OfThisBucket, folder @ Destination::Folder(_)) => {
            Err(only_for("--bucket-deletes", "buckets", folder))
        }
        (BucketDeletes::No, _) => Ok(false),
        (BucketDeletes::OfAnyBucket | BucketDeletes::OfThisBucket, _) => Ok(true),
    }
}

/// Shows somebody at a terminal what the first run that sends would do, and asks.
///
/// # Errors
/// When there is nobody to ask.
async fn may_begin(
    source: &PullSource,
    destination: Arc<dyn obsync_core::Destination>,
    state: &State,
    way: Way<'_>,
    manner: Manner,
    context: &Context,
) -> Result<bool, Failed> {
    let options = way.options();
    let known = state.store().load().await?;
    let is_first = known.direction == Direction::Pull || !known.listed;
    if !is_first || options.dry_run {
        return Ok(true);
    }
    if options.json || !ask::can_ask() {
        let message = format!(
            "there is nobody to ask whether to send from {} for the first time; give --yes",
            options.destination
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    let Manner { doubt, keep_everything, .. } = manner;
    let pull_options = PullOptions { doubt, keep_everything, dry_run: true, ..pull_options(options) };
    let (progress, stop) = (Arc::new(NoProgress), context.stop.child_token());
    let plan = way.run(source, destination, state.store(), pull_options, progress, stop).await;
    let plan = plan.map_err(|error| failed(error, true))?;
    context.say(&pull_report::sentences(&plan))?;
    context.or_stopped(ask::yes("The first run deletes nothing on either side. Go on?")).await
}

/// Says before a first pull that another destination lies inside this one, or around it.
async fn tell_nested(known: &Known, context: &Context) -> Result<(), Failed> {
    for Nested { destination, vault, inside } in known.nested().await? {
        let how = if inside.is_some() { "inside this destination" } else { "around this destination" };
        context.console.warn(&format!(
            "{destination}, to which the vault {vault:?} is pulled, lies {how}: what belongs to the one is a stranger's file to \
             the other, and whoever opens the outer one in Obsidian sees both"
        ));
    }
    Ok(())
}

/// What a pull is to heed besides its options.
#[derive(Clone, Copy)]
struct Manner {
    /// What is odd about the destination.
    doubt: Option<Doubt>,
    /// The vault is encrypted in another way than before, which the user accepted.
    keep_everything: bool,
    /// For reports that are printed while it goes on.
    encryption: VaultKind,
}

/// What a run did, or the last one of a follower.
pub(super) struct Brought {
    pub(super) report: Report,
    /// Whether it was the first one of this process.
    pub(super) is_first: bool,
}

/// Pulls or syncs, and notes where the state is how far that is and how it ended.
#[expect(clippy::too_many_arguments, reason = "what a run needs, once")]
async fn bring_into(
    source: &PullSource,
    destination: Arc<dyn obsync_core::Destination>,
    state: &State,
    way: Way<'_>,
    manner: Manner,
    context: &Context,
    verbose: bool,
    health: &Arc<Health>,
    look_again: &Arc<Notify>,
) -> Result<Brought, Failed> {
    let options = way.options();
    let display = Display::new(Arc::clone(&context.console));
    resume(&display, state.store().as_ref()).await?;
    // A follower mostly waits.
    let _drawing = (!options.follow).then(|| display.draw(verbose));
    let Manner { doubt, keep_everything, encryption } = manner;
    let mirrors = way.takes_back();
    let pull_options = PullOptions { doubt, keep_everything, mirrors, ..pull_options(options) };
    let followed = match options.dry_run {
        true => None,
        false => {
            let (mode, direction) = (pull_options.mode, way.direction());
            Some(Followed::begin(state, mode, direction, options.follow, left_to_do).await?)
        }
    };
    let (states, progress) = match &followed {
        Some(followed) => (followed.store(), followed.progress(display.clone())),
        None => (state.store(), display.clone() as Arc<dyn Progress>),
    };
    let progress = health.progress(progress);
    let stop = context.stop.child_token();
    let ways = async {
        if !options.follow {
            let report = way.run(source, destination, states, pull_options, progress, stop.clone()).await?;
            return Ok(Brought { report, is_first: true });
        }
        let pull_filter = filter(&options.choice);
        let teller = Teller::new(Arc::clone(&context.console), options.json, encryption, health.confirm());
        let notes = followed.as_ref().map(Followed::observer).unwrap_or_default();
        let observer = Both(&teller, &Both(health.as_ref(), &notes));
        let look_again = Arc::clone(look_again);
        let follow_options = FollowOptions { look_again, ..FollowOptions::new(way.follow(pull_options)) };
        let watch = way.watch(&pull_filter, &states);
        follow(source, destination, states, &follow_options, watch, progress, &observer, stop.clone())
            .await?;
        // It ends when it is told to, which is its proper end.
        let nothing =
            || PullError::from(DestinationError::Stopped { location: options.destination.to_string() });
        teller.last().ok_or_else(nothing)
    };
    let result = or_lost(ways, state, &stop, &display).await;
    if let Some(followed) = followed {
        let ended = result.as_ref().map(|brought| &brought.report);
        let problem = ended.as_ref().ok().and_then(|report| left_to_do(report));
        followed.end(ended, problem.as_ref()).await;
    }
    result
}

/// What a report leaves to do, for the record of the last run.
fn left_to_do(report: &Report) -> Option<Problem> {
    problem(report, exit_of(report), "obsync confirm", "interrupted")
}

/// A first pull that goes on is shown with what it brought already.
async fn resume(display: &Display, state: &dyn StateStore) -> Result<(), Failed> {
    if state.load().await?.listed || state.files().await? == 0 {
        return Ok(());
    }
    let records = state.all_records().await?;
    let sizes = records.iter().filter_map(|record| Some(record.file()?.size));
    let (files, bytes) =
        sizes.fold((0, 0_u64), |(files, bytes), size| (files + 1, bytes.saturating_add(size)));
    display.resume(files, bytes);
    Ok(())
}

/// Pulls until it is done, the program is to end, or another process has the destination.
async fn or_lost(
    pulling: impl Future<Output = Result<Brought, PullError>>,
    state: &State,
    stop: &CancellationToken,
    display: &Display,
) -> Result<Brought, Failed> {
    let mut pulling = Box::pin(pulling);
    let result = tokio::select! {
        biased;
        result = &mut pulling => result,
        lost = state.lost() => {
            stop.cancel();
            // It ends in good order; what it has to say does not count any more.
            let _ = pulling.await;
            return Err(lost.into());
        }
    };
    result.map_err(|error| failed(error, display.connected()))
}

/// Signs in, finds the vault and opens it: everything that can be refused before anything is written.
async fn source(way: Way<'_>, known: &Known, context: &Context) -> Result<Opened, Failed> {
    let options = way.options();
    let client = match way.sending() {
        None => context.client()?,
        Some((sync, _)) => context.client_as(device_name(sync))?,
    };
    let (token, vaults) =
        sign_in::with_token(context, &client, async |token| client.vault_list(token).await).await?;
    let listed = vaults.vaults.iter().chain(&vaults.shared).map(|vault| vault.id.clone()).collect();
    let vault = choose(vaults, &options.vault, client.redactor())?;
    let password_command = options.password_command.as_deref();
    let lock = Lock { context, client: &client, token: &token, vault: &vault, password_command };
    let has_password = options.password_stdin || password_command.is_some();
    let wish = wish(options.encryption.kind(), has_password, options.accept_encryption_change)?;
    let admitted = admit(&vault, Some(known), wish, context).await?;
    admitted.tell_change(context);
    let Unlocked { master, keys } = lock.open(&admitted, options.password_stdin).await?;
    admitted.tell(context);
    Ok(Opened { source: PullSource { client, token, vault, keys }, key: master, admitted, listed })
}

/// The name of this device in the vault's history.
fn device_name(options: &Sync) -> String {
    let host = || {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().into_owned()
    };
    options.device_name.clone().unwrap_or_else(host)
}

/// A vault that is open, and why it may be.
struct Opened {
    source: PullSource,
    key: MasterKey,
    admitted: Admitted,
    /// The vaults of the account.
    listed: Vec<VaultId>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PullDocument {
    #[serde(flatten)]
    pub(super) report: Report,
    /// How the vault is encrypted.
    pub(super) encryption: VaultKind,
}

fn pull_options(options: &Pull) -> PullOptions {
    PullOptions {
        filter: filter(&options.choice),
        mode: if options.full { Mode::Full } else { Mode::Incremental },
        dry_run: options.dry_run,
        list_changes: options.list_changes,
        accept_older_vault: options.accept_older_vault,
        accept_failures: options.accept_failures,
        max_delete: options.max_delete.unwrap_or_default(),
        fetch: FetchOptions { connections: options.connections.into(), ..FetchOptions::default() },
        ..PullOptions::default()
    }
}

fn filter(choice: &Choice) -> Filter {
    Filter {
        file_types: choice.file_types,
        configs: choice.configs,
        excluded: choice.exclude.clone(),
        config_dirs: choice.config_dir.clone(),
        code: !choice.no_code,
    }
}

/// How a follower ends that was stopped, which is its proper end unless not even its first run came to one. Everything else was
/// told as it came.
fn follower_stopped(report: &Report, is_first: bool, context: &Context, limit: &TimeLimit) -> Exit {
    if !is_first || report.outcome != Outcome::Interrupted {
        return Exit::Done;
    }
    context.console.error(&cut_short(limit));
    Exit::Unfinished
}

/// What is said of a run that was cut short.
fn cut_short(limit: &TimeLimit) -> String {
    let cause = limit.cause();
    format!("obsync: {cause}; what was pulled is kept, and the next run goes on from here")
}

/// Tells how it went. The report is a result; what needs the user's attention goes to standard error, also
/// with `-q`.
fn conclude(
    document: PullDocument,
    confirm: &str,
    options: &Pull,
    context: &Context,
    limit: &TimeLimit,
) -> Result<Exit, Failed> {
    let report = &document.report;
    let exit = exit_of(report);
    let problem = problem(report, exit, confirm, &limit.cause());
    let mut words = Vec::new();
    words.extend(pull_report::failures(report));
    words.extend(pull_report::held_back(report, confirm));
    words.extend(pull_report::not_taken_back(report));
    // With -q the warnings of the run were not printed.
    let is_doubtful = report.older_vault.is_some() || report.doubt.is_some() || report.vault_restored;
    if is_doubtful && context.console.is_quiet() {
        words.extend(report.warnings.iter().map(|warning| format!("obsync: {warning}")));
    }
    if report.outcome == Outcome::Interrupted {
        words.push(cut_short(limit));
    }
    // What is said before it can be long.
    let has_summary_last = !options.json && report.outcome == Outcome::DryRun;
    let summary = pull_report::sentences(report);
    if options.json {
        let outcome = report.outcome.into();
        context.console.answer(&Answer::new(exit, problem, document).with_outcome(outcome))?;
    } else if !has_summary_last {
        context.say(&summary)?;
    }
    words.iter().for_each(|words| context.console.error(words));
    if has_summary_last {
        // It is what was asked for, also with -q.
        context.console.result(&summary)?;
    }
    Ok(exit)
}

pub(super) fn exit_of(report: &Report) -> Exit {
    match report.outcome {
        Outcome::DryRun if report.older_vault.is_some() => Exit::VaultOlder,
        Outcome::Complete | Outcome::DryRun => Exit::Done,
        Outcome::Failures => Exit::Failures,
        Outcome::HeldBack => Exit::HeldBack,
        Outcome::VaultOlder => Exit::VaultOlder,
        Outcome::Interrupted => Exit::Unfinished,
    }
}

/// What a finished pull leaves to do, for scripts and for the record of the last run.
pub(super) fn problem(report: &Report, exit: Exit, confirm: &str, cause: &str) -> Option<Problem> {
    let problem = match exit {
        Exit::Failures => {
            let count = human::counted(report.failed(), "change", "changes");
            let problem = Problem::new(ProblemCode::Failures, format!("{count} could not be pulled"));
            match report.has_lasting_failures {
                true => problem.with_hint("--accept-failures accepts what can never be had there"),
                false => problem,
            }
        }
        Exit::HeldBack if report.held_back() == 0 => {
            let count = human::counted(report.not_taken_back(), "file", "files");
            let message =
                format!("{count} changed or added here and not taken back, because there are too many");
            Problem::new(ProblemCode::HeldBack, message).with_hint("--max-delete none takes them back")
        }
        Exit::HeldBack => {
            let count = human::counted(report.held_back(), "deletion", "deletions");
            let message = format!("{count} held back, because there are too many");
            Problem::new(ProblemCode::HeldBack, message).with_hint(format!("`{confirm}`"))
        }
        Exit::VaultOlder => {
            let message = "the vault on the server is older than the destination; nothing was removed";
            Problem::new(ProblemCode::VaultOlder, message)
        }
        Exit::Unfinished => Problem::new(ProblemCode::Interrupted, cause),
        _ => return None,
    };
    Some(problem)
}

/// A pull that could not go on: cut off once it had begun, refused before that.
fn failed(error: PullError, connected: bool) -> Failed {
    match error {
        PullError::Client(error) => match Failed::from(error) {
            Failed { exit: Exit::Unreachable, message, code, .. } if connected => {
                let message =
                    format!("{message}; what was pulled is kept, and the next run goes on from there");
                Failed::new(Exit::Unfinished, message).coded(code)
            }
            failed => failed,
        },
        PullError::State(error) => error.into(),
        PullError::Store(error) => error.into(),
        other => Failed::of(Exit::Error, &other).coded(ProblemCode::from(&other)),
    }
}

#[cfg(test)]
mod tests {
    use obsync_client::ClientError;
    use obsync_core::DestinationError;

    use super::*;

    #[test]
    fn the_same_trouble_is_refused_before_and_unfinished_after_the_pull_has_begun() {
        let lost =
            || PullError::Client(ClientError::TimedOut { what: "an answer", after: Duration::from_secs(60) });
        assert_eq!(failed(lost(), false).exit, Exit::Unreachable);
        assert_eq!(failed(lost(), true).exit, Exit::Unfinished);
        let expired = PullError::Client(ClientError::SubscriptionExpired);
        assert_eq!(failed(expired, true).exit, Exit::SignIn);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = failed(PullError::Store(DestinationError::Full { location: "notes".to_owned() }), true);
        assert_eq!(full.exit, Exit::Error);
        assert_eq!(
            full.message,
            "notes is full; free some space and run the same command again, it goes on where it stopped"
        );
    }
}
