//! `obsync pull`, `sync` and `push`: bring a vault and a folder or bucket in step.
//!
//! - `way`: the direction and its options; `time_limit`: `--max-time`.
//! - `first_run`: output and questions before a first run.
//! - `end`: final output, and the exit status.

mod end;
mod first_run;
mod time_limit;
mod way;

use std::sync::Arc;

use jiff::Timestamp;
use obsync_core::conflicted_copy::DeviceName;
use obsync_core::pin::VaultKind;
use obsync_core::{
    DestinationError, Doubt, FollowOptions, ProblemCode, Progress, PullError, PullOptions, PullSource,
    Report, StateStore, follow,
};
use obsync_protocol::{MasterKey, VaultId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use self::end::{PullDocument, doubtful, exit_of, is_doubtful, problem};
use self::end::{conclude, failed, follower_stopped, left_to_do};
use self::first_run::{may_begin, tell_nested};
use self::time_limit::TimeLimit;
use self::way::{Way, device_name, filter, misses_deleted, pull_options};
use super::following::{Both, Teller, until_reached};
use super::waiting::patiently;
use crate::account::admission::{Admitted, admit, wish};
use crate::account::sign_in;
use crate::account::vault_choice::choose;
use crate::account::vault_keys::{Lock, Unlocked};
use crate::args::{Pull, PullHere, Push, Sync};
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::health::Health;
use crate::signals;
use crate::target::destination::Destination;
use crate::target::followed::{Followed, note_failure};
use crate::target::known::Known;
use crate::target::state_place::StatePlace;
use crate::target::states::State;
use crate::ui::progress::Display;

pub(super) async fn run(options: &PullHere, context: &Context, verbose: bool) -> Result<Exit, Failed> {
    if options.mirror && !matches!(options.pull.destination, Destination::Folder(_)) {
        let message = "--mirror is for folders: a bucket has no trash for reverted files";
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
    match options.unfit() {
        Some(reason) => Err(Failed::new(Exit::Usage, reason)),
        None => go(Way::Push(options), context, verbose).await,
    }
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

/// Records a failed run with the state of its destination, for `obsync status`.
async fn note(options: &Pull, context: &Context, failed: &Failed, began: Timestamp) {
    let is_run = !options.dry_run && !matches!(failed.exit, Exit::AlreadyRunning | Exit::Usage);
    let is_in_table = options.state.place != StatePlace::Local;
    if !is_run || (failed.of_state && is_in_table) {
        return;
    }
    let Ok(known) = Known::of(&options.destination, &options.state.place, context).await else { return };
    let Ok(state) = known.only_state().await else { return };
    // A typing error is no run to this destination.
    if is_of(&state, options) || failed.exit != Exit::NotFound {
        note_failure(&state, failed, began).await;
    }
}

/// True if a state belongs to the requested vault.
fn is_of(state: &State, options: &Pull) -> bool {
    let asked = options.vault.as_str();
    state.vault().is_some_and(|vault| vault.name == asked || vault.id.starts_with(asked))
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
    objects.device = DeviceName::new(&device_name(options));
    if let Some((sync, _)) = way.sending() {
        objects.misses_deleted = misses_deleted(sync)?;
    }
    let known = context.or_stopped(Known::of(&options.destination, &options.state.place, context)).await?;
    if let Some(reason) = options.destination.unfit()?
        && known.found_there().await.is_err()
    {
        return Err(Failed::new(Exit::Usage, reason));
    }
    // The next step reports a cancellation.
    let _ = context.stop.run_until_cancelled(health.remember(&known)).await;
    // True if an earlier run synced this vault here, so that account and vault are known.
    let is_known =
        async || options.follow && known.only_state().await.is_ok_and(|state| is_of(&state, options));
    let opening = async || source(way, &known, context).await;
    let note_attempt = async |failed: &Failed| note(options, context, failed, Timestamp::now()).await;
    let opening = until_reached(context, health, look_again, is_known, note_attempt, opening);
    let Opened { source, key, mut admitted, listed } = context.or_stopped(opening).await?;
    if admitted.is_changed(&key) {
        // Without a state nothing is removed, and all differing files are kept. The state is removed before
        // any pin records the accepted change: if this run is cut off, the next one also keeps everything, or
        // is refused.
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
        // Only a notice: each keeps to its own files.
        if state.store().load().await?.version == 0 {
            tell_nested(&known, context).await?;
        }
        // Before anything is published there.
        admitted.keep_beside(&known).await?;
        let brought =
            bring_into(&source, destination, &state, way, manner, context, verbose, health, look_again)
                .await?;
        // The state of an empty vault needs no protection by a pin.
        if brought.report.version > 0 {
            known.keep_waiting_pin().await?;
        }
        Ok(Some(brought))
    };
    let result = pulling.await;
    state.close().await;
    let confirm = known.command("confirm", &[&options.destination.text()], &[]);
    let Some(brought) = context.unless_stopped(result)? else {
        context.say("Nothing was done.")?;
        return Ok(Exit::Done);
    };
    if options.follow {
        return Ok(follower_stopped(&brought, context, limit));
    }
    let report = brought.report;
    health.reported(&report);
    let document = PullDocument { report, encryption: admitted.kind() };
    conclude(document, &confirm, options, context, limit)
}

/// Conditions of a pull besides its options.
#[derive(Clone, Copy)]
struct Manner {
    /// The doubt about the destination.
    doubt: Option<Doubt>,
    /// The user accepted a changed encryption of the vault.
    keep_everything: bool,
    /// Prints reports while it runs.
    encryption: VaultKind,
}

/// The report of a run, or the last one of a follower.
pub(super) struct Brought {
    pub(super) report: Report,
    /// It was the first one of this process.
    pub(super) is_first: bool,
    /// A report of the follower could not be printed.
    pub(super) is_unprinted: bool,
}

/// Pulls or syncs, and records the progress and the end with the state.
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
            return Ok(Brought { report, is_first: true, is_unprinted: false });
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
        // A follower ends by cancellation, which is its normal end.
        let nothing =
            || PullError::from(DestinationError::Stopped { location: options.destination.to_string() });
        teller.last().ok_or_else(nothing)
    };
    let result = or_lost(ways, state, &stop, &display).await;
    if let Some(followed) = followed {
        let ended = result.as_ref().map(|brought| &brought.report);
        let problem = ended.as_ref().ok().and_then(|report| left_to_do(report));
        followed.end(ended, problem.as_ref(), &stop).await;
    }
    result
}

/// A resumed first pull is shown with its earlier progress.
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
            // It ends in good order; its result does not count any more.
            let _ = pulling.await;
            return Err(lost.into());
        }
    };
    result.map_err(|error| failed(error, display.connected()))
}

/// Signs in, finds the vault and opens it: all checks that can refuse, before anything is written.
async fn source(way: Way<'_>, known: &Known, context: &Context) -> Result<Opened, Failed> {
    let options = way.options();
    let client = context.client_as(device_name(options))?;
    let (token, vaults) =
        sign_in::with_token(context, &client, async |token| client.vault_list(token).await).await?;
    let listed: Vec<VaultId> =
        vaults.vaults.iter().chain(&vaults.shared).map(|vault| vault.id.clone()).collect();
    let vault = choose(vaults, &options.vault, client.redactor())?;
    // With this option, the user may have recreated the vault.
    if !options.accept_encryption_change {
        known.refuse_other_vault(&vault, &listed).await?;
    }
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

/// An open vault, and its admission.
struct Opened {
    source: PullSource,
    key: MasterKey,
    admitted: Admitted,
    /// The vaults of the account.
    listed: Vec<VaultId>,
}
