//! Following: one loop that runs again whenever the vault or the destination was changed, and in any case from time to time.
//!
//! Between two runs a session listens to what the vault tells. It is opened at the version that the last run ended with, so that
//! nothing falls between: what came since is in its listing. Changes of the destination come from a [`Watch`], which is never
//! relied on alone. The loop always knows how old its knowledge is, and tells its [`Observer`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use obsync_client::{ClientError, RetryPolicy, Session};
use obsync_protocol::{PushMessage, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::destination::Destination;
use crate::error::PullError;
use crate::model::Direction;
use crate::progress::Progress;
use crate::report::Report;
use crate::run::{PullOptions, PullSource, Run, pull};
use crate::state::StateStore;
use crate::two_way::{SyncOptions, sync};

/// How often a wall clock is compared with the time that passed.
const TICK: Duration = Duration::from_secs(10);
/// A wall clock that is off by more has jumped: the computer slept, and the session may be dead without a word.
const JUMP: Duration = Duration::from_secs(30);
/// How long a run that is to stop may take to end in good order.
const PATIENCE: Duration = Duration::from_millis(700);

/// How to follow.
#[derive(Clone, Debug)]
pub struct FollowOptions {
    /// Which way.
    pub way: FollowWay,
    /// How long a destination that is watched goes without a scan at most.
    pub scan_every: Duration,
    /// The same where nothing watches it.
    pub scan_every_unwatched: Duration,
    /// How to go on where the service cannot be reached. It is tried without end.
    pub retry: RetryPolicy,
}

/// What is done in each run.
#[derive(Clone, Debug)]
pub enum FollowWay {
    /// A pull.
    Pull(PullOptions),
    /// A sync, or a push.
    Sync(SyncOptions),
}

impl FollowWay {
    /// The same, for paths that have come to rest.
    fn without(&self, restless: HashSet<VaultPath>) -> Self {
        match self {
            FollowWay::Pull(options) => FollowWay::Pull(options.clone()),
            FollowWay::Sync(options) => FollowWay::Sync(SyncOptions { restless, ..options.clone() }),
        }
    }
}

impl FollowOptions {
    /// The usual pauses.
    #[must_use]
    pub fn new(way: FollowWay) -> Self {
        FollowOptions {
            way,
            scan_every: Duration::from_secs(600),
            scan_every_unwatched: Duration::from_secs(60),
            retry: RetryPolicy {
                attempts: usize::MAX,
                min_delay: Duration::from_secs(1),
                max_delay: Duration::from_secs(300),
            },
        }
    }
}

/// Tells of changes in a destination.
#[async_trait]
pub trait Watch: Send {
    /// Waits until something was changed and has come to rest. Can be cancelled without loss.
    async fn changed(&mut self);

    /// The paths that were changed and have not come to rest yet: a run leaves them alone.
    fn restless(&self) -> HashSet<VaultPath> {
        HashSet::new()
    }

    /// Why it does not see every change, if it does not.
    fn blind(&self) -> Option<String> {
        None
    }
}

/// What a follower does.
#[derive(Clone, Debug)]
pub enum Following {
    /// A run is under way.
    Running,
    /// Everything is in step; it waits for changes.
    Waiting,
    /// The service or the destination cannot be used; it is tried again after this time.
    Retrying {
        /// Why.
        reason: String,
        /// When.
        after: Duration,
    },
}

/// Takes news of a follower. Called often; all methods return at once.
pub trait Observer: Send + Sync {
    /// It does something else now.
    fn following(&self, _following: &Following) {}

    /// A run came to its end.
    fn ran(&self, _report: &Report) {}
}

/// What woke a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The vault has news, or the destination, or it is time.
    Run,
    /// The session is over.
    Reconnect,
    Stop,
}

/// Follows until it is told to stop.
///
/// # Errors
///
/// What no later attempt can mend: a sign-in that is refused, a subscription that ended, a state that is damaged, another
/// process in the same place.
#[expect(clippy::too_many_arguments, reason = "a run's, and those of the loop around it")]
pub async fn follow(
    source: &PullSource,
    store: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &FollowOptions,
    mut watch: Option<Box<dyn Watch>>,
    progress: Arc<dyn Progress>,
    observer: &dyn Observer,
    stop: CancellationToken,
) -> Result<(), PullError> {
    let mut pauses = options.retry.pauses();
    // The version below which the vault was found to have news: a change that cannot be applied is news for ever.
    let mut overdue = None;
    let mut said_blind = false;
    loop {
        observer.following(&Following::Running);
        let restless = watch.as_ref().map(|watch| watch.restless()).unwrap_or_default();
        let way = options.way.without(restless);
        let run = one_run(source, &store, &state, &way, &progress, &stop);
        let outcome = match run.await {
            Ok(report) => {
                observer.ran(&report);
                pauses = options.retry.pauses();
                Ok(())
            }
            Err(error) => Err(error),
        };
        if stop.is_cancelled() {
            return outcome;
        }
        if let Some(reason) = watch.as_ref().and_then(|watch| watch.blind()).filter(|_| !said_blind) {
            said_blind = true;
            progress.notice(&blind(&reason, options.scan_every_unwatched));
        }
        let waited = match outcome {
            Ok(()) => {
                let watch = watch.as_deref_mut();
                wait(source, &store, &state, options, watch, observer, &stop, &mut overdue).await
            }
            Err(error) => Err(error),
        };
        match waited {
            Ok(Woken::Stop) => return Ok(()),
            Ok(Woken::Run | Woken::Reconnect) => {}
            Err(error) if !passes(&error) => return Err(error),
            Err(error) => {
                let after = pauses.next().unwrap_or(options.retry.max_delay);
                observer.following(&Following::Retrying { reason: error.to_string(), after });
                if stop.run_until_cancelled(tokio::time::sleep(after)).await.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether an error is one that a later attempt may not have.
fn passes(error: &PullError) -> bool {
    match error {
        PullError::Client(error) => error.is_retryable() || error.ends_run() || is_passing(error),
        PullError::Store(error) => !matches!(error, crate::destination::StoreError::Locked { .. }),
        PullError::State(error) => matches!(error, crate::state::StateError::Unavailable { .. }),
        _ => false,
    }
}

/// What a service says for a while.
fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Service { .. } | ClientError::Http { .. } | ClientError::VaultFull)
}

async fn one_run(
    source: &PullSource,
    store: &Arc<dyn Destination>,
    state: &Arc<dyn StateStore>,
    way: &FollowWay,
    progress: &Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Report, PullError> {
    let (store, state, progress) = (store.clone(), state.clone(), progress.clone());
    let run = async {
        match way {
            FollowWay::Pull(options) => pull(source, store, state, options, progress, stop.clone()).await,
            FollowWay::Sync(options) => sync(source, store, state, options, progress, stop.clone()).await,
        }
    };
    let mut run = Box::pin(run);
    tokio::select! {
        biased;
        outcome = &mut run => outcome,
        () = stop.cancelled() => match tokio::time::timeout(PATIENCE, run).await {
            Ok(outcome) => outcome,
            // What it was doing is announced, and the next run settles it.
            Err(_) => Err(crate::destination::StoreError::Stopped { location: source.vault.name.clone() }.into()),
        },
    }
}

/// Waits for news of either side.
#[expect(clippy::too_many_arguments, reason = "as for the loop that it is a part of")]
async fn wait(
    source: &PullSource,
    store: &Arc<dyn Destination>,
    state: &Arc<dyn StateStore>,
    options: &FollowOptions,
    watch: Option<&mut (dyn Watch + 'static)>,
    observer: &dyn Observer,
    stop: &CancellationToken,
    overdue: &mut Option<u64>,
) -> Result<Woken, PullError> {
    let known = state.load().await?;
    let pull_options = match &options.way {
        FollowWay::Pull(options) => options,
        FollowWay::Sync(options) => &options.pull,
    };
    let run = Run {
        source,
        store: store.clone(),
        state: state.clone(),
        options: pull_options,
        direction: Direction::Pull,
        progress: Arc::new(crate::progress::NoProgress),
        stop: stop.clone(),
    };
    let target = run.target();
    let opening = Session::open(&source.client, &target, known.version, !known.listed);
    let Some(session) = stop.run_until_cancelled(opening).await else { return Ok(Woken::Stop) };
    let mut session = session?;
    let mut live = session.live_changes();
    let mut has_news = false;
    let mut note = |entry: PushMessage| has_news |= entry.uid.0 > known.version;
    match stop.run_until_cancelled(session.listing(&mut note)).await {
        None => return Ok(Woken::Stop),
        Some(listed) => listed.map(|_| ())?,
    };
    if has_news && overdue.replace(known.version) != Some(known.version) {
        return Ok(Woken::Run);
    }
    observer.following(&Following::Waiting);
    let scans = matches!(options.way, FollowWay::Sync(_));
    let is_blind = watch.as_ref().is_none_or(|watch| watch.blind().is_some());
    let every = if is_blind && scans { options.scan_every_unwatched } else { options.scan_every };
    let changed = async {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    };
    let woken = tokio::select! {
        biased;
        () = stop.cancelled() => Woken::Stop,
        _ = live.next() => Woken::Run,
        error = session.idle() => {
            tracing::debug!(%error, "the session that listens is over");
            Woken::Reconnect
        }
        () = changed => Woken::Run,
        () = tokio::time::sleep(every) => Woken::Run,
        () = clock_jumps() => Woken::Reconnect,
    };
    if woken != Woken::Reconnect {
        // It may be dead; nobody waits for its goodbye for long.
        let _ = tokio::time::timeout(Duration::from_millis(100), session.close()).await;
    }
    Ok(woken)
}

/// Says that changes of the destination may be missed.
fn blind(reason: &str, scan_every: Duration) -> String {
    format!(
        "not every change of the folder is seen at once ({reason}); it is scanned every {} s",
        scan_every.as_secs_f32()
    )
}

/// Returns once the wall clock has jumped.
async fn clock_jumps() {
    let (mut wall, mut steady) = (SystemTime::now(), Instant::now());
    loop {
        tokio::time::sleep(TICK).await;
        let (now, passed) = (SystemTime::now(), steady.elapsed());
        if has_jumped(now.duration_since(wall).unwrap_or_default(), passed) {
            return;
        }
        (wall, steady) = (now, Instant::now());
    }
}

/// Whether the computer slept, the process was stopped, or somebody set the clock during a [`TICK`]: the time that passed by
/// the wall clock, and by the steady one.
fn has_jumped(by_wall: Duration, passed: Duration) -> bool {
    by_wall.abs_diff(passed) > JUMP || passed > TICK + JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_a_stop_and_a_set_clock_are_jumps_and_a_busy_machine_is_none() {
        let seconds = Duration::from_secs;
        assert!(has_jumped(seconds(600), TICK), "slept, with a steady clock that stood still");
        assert!(has_jumped(seconds(600), seconds(600)), "stopped");
        assert!(has_jumped(Duration::ZERO, TICK + JUMP), "the clock was set back");
        assert!(has_jumped(seconds(45), TICK), "the clock was set forward");
        assert!(!has_jumped(TICK, TICK) && !has_jumped(seconds(35), seconds(38)));
        assert!(!has_jumped(Duration::ZERO, TICK), "a second was set back");
    }
}
