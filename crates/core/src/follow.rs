//! Following: a loop that runs again whenever the vault or the destination changes, and in any case from time
//! to time.
//!
//! The session of the first run stays open: it receives the vault's changes, and later runs list, fetch and
//! send over it ([`crate::line`]). Changes of the destination come from a [`Watch`], which is never relied on
//! alone: from time to time, and whenever a session ends, a run lists over a new session and scans
//! everything. The loop tracks the age of its knowledge, and reports to its [`Observer`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use obsync_client::{ClientError, RetryPolicy};
use obsync_protocol::VaultPath;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::ClockWatch;
use crate::confirmation;
use crate::destination::Destination;
use crate::error::PullError;
use crate::line::{Line, Lines};
use crate::progress::Progress;
use crate::pull::pull_over;
use crate::report::{Outcome, Report};
use crate::run::{PullOptions, PullSource};
use crate::state::StateStore;
use crate::two_way::{SyncOptions, sync_over};

/// Time that a stopping run has to end in good order.
const PATIENCE: Duration = Duration::from_millis(700);
/// Time to wait for a session to close.
const GOODBYE: Duration = Duration::from_millis(100);
/// Shortest wait before a refused file is sent again.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);
/// A session that lasted this long shows that the service works: the pauses start again with the shortest.
const LASTING: Duration = Duration::from_secs(60);

/// Options of following.
#[derive(Clone, Debug)]
pub struct FollowOptions {
    /// Kind of run.
    pub way: FollowWay,
    /// Longest time between full scans of a watched destination, however much news there is meanwhile.
    pub scan_every: Duration,
    /// The same for a destination without a watcher.
    pub scan_every_unwatched: Duration,
    /// Pauses while the service cannot be reached. Retries are unlimited.
    pub retry: RetryPolicy,
    /// When notified, ends the current wait: a run lists over a new session and scans everything.
    pub look_again: Arc<Notify>,
}

/// Kind of each run.
#[derive(Clone, Debug)]
pub enum FollowWay {
    /// A pull.
    Pull(PullOptions),
    /// A sync, or a push.
    Sync(SyncOptions),
}

impl FollowWay {
    /// The same, restricted to paths that have come to rest and, if known, to local changes alone.
    fn only(&self, only: Option<HashSet<VaultPath>>, restless: HashSet<VaultPath>) -> Self {
        match self {
            FollowWay::Pull(options) => FollowWay::Pull(options.clone()),
            FollowWay::Sync(options) => {
                let options = options.clone();
                let (leaves_what_changes, respects_refusals) = (true, true);
                FollowWay::Sync(SyncOptions {
                    restless,
                    only,
                    leaves_what_changes,
                    respects_refusals,
                    ..options
                })
            }
        }
    }
}

impl FollowOptions {
    /// Default pauses while the service is unreachable.
    #[must_use]
    pub fn usual_retry() -> RetryPolicy {
        RetryPolicy {
            attempts: usize::MAX,
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(300),
        }
    }

    /// Options with the default pauses.
    #[must_use]
    pub fn new(way: FollowWay) -> Self {
        FollowOptions {
            way,
            scan_every: Duration::from_secs(600),
            scan_every_unwatched: Duration::from_secs(60),
            retry: Self::usual_retry(),
            look_again: Arc::default(),
        }
    }
}

/// Reports changes in a destination.
#[async_trait]
pub trait Watch: Send {
    /// Waits until something has changed and come to rest. Cancel safe.
    async fn changed(&mut self);

    /// Paths that changed and have not come to rest yet: a run skips them.
    fn restless(&self) -> HashSet<VaultPath> {
        HashSet::new()
    }

    /// Paths that changed and came to rest since the last call. `None` if not all are known, and everything
    /// has to be scanned.
    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        None
    }

    /// The reason why it does not see every change, if so.
    fn blind(&self) -> Option<String> {
        None
    }
}

/// Activity of a follower.
#[derive(Clone, Debug)]
pub enum Following {
    /// A run is under way.
    Running,
    /// Connected; waits for changes. The last report names what is left to do.
    Waiting,
    /// The session ended for the first time in a while; another one is opened after this time.
    Reconnecting {
        /// The reason.
        reason: String,
        /// Pause before the attempt.
        after: Duration,
    },
    /// The service or the destination is unusable; retried after this time.
    Retrying {
        /// The reason.
        reason: String,
        /// Pause before the attempt.
        after: Duration,
    },
}

/// Receives a follower's activity. Called often; all methods must return at once.
pub trait Observer: Send + Sync {
    /// The activity changed.
    fn following(&self, _following: &Following) {}

    /// A run ended.
    fn ran(&self, _report: &Report) {}

    /// A run failed.
    fn failed(&self, _error: &PullError) {}
}

/// Event that woke a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Woken {
    /// The vault or the destination has news.
    News,
    /// A full run is due.
    Anew,
    /// The session ended or the run failed, for this reason.
    Lost {
        reason: String,
        is_failure: bool,
    },
    Stop,
}

impl Woken {
    fn lost(reason: impl ToString) -> Self {
        Woken::Lost { reason: reason.to_string(), is_failure: false }
    }
}

/// Pauses before further attempts. They grow until a session lasts.
struct Pauses<'a> {
    policy: &'a RetryPolicy,
    next: Box<dyn Iterator<Item = Duration> + Send>,
    /// No pause since a session lasted.
    is_first: bool,
}

impl<'a> Pauses<'a> {
    fn new(policy: &'a RetryPolicy) -> Self {
        Pauses { policy, next: Box::new(policy.pauses()), is_first: true }
    }

    fn begin_again(&mut self) {
        *self = Self::new(self.policy);
    }

    /// Waits before the next attempt. The pause has jitter, so that the followers of a restarted server do
    /// not all come back at once. After a sleep of the computer the pauses start again.
    async fn pause(
        &mut self,
        reason: String,
        is_failure: bool,
        options: &FollowOptions,
        observer: &dyn Observer,
        clock: &ClockWatch<'_>,
        stop: &CancellationToken,
    ) -> Woken {
        if clock.has_slept() {
            self.begin_again();
        }
        let after = self.next.next().unwrap_or(self.policy.max_delay);
        let is_news = std::mem::take(&mut self.is_first) && !is_failure;
        observer.following(&match is_news {
            true => Following::Reconnecting { reason, after },
            false => Following::Retrying { reason, after },
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => Woken::Stop,
            () = options.look_again.notified() => Woken::Anew,
            () = clock.sleep(after) => Woken::Anew,
            // The steady time stood still meanwhile, and the network may be another one.
            () = clock.jumps() => {
                self.begin_again();
                Woken::Anew
            }
        }
    }
}

/// Follows until stopped.
///
/// # Errors
///
/// Errors that a later attempt cannot fix: a refused sign-in, an ended subscription, a damaged state, another
/// process in the same place.
#[expect(clippy::too_many_arguments, reason = "a run's, and those of the loop around it")]
pub fn follow<'a>(
    source: &'a PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &'a FollowOptions,
    watch: Option<Box<dyn Watch>>,
    progress: Arc<dyn Progress>,
    observer: &'a dyn Observer,
    stop: CancellationToken,
) -> BoxFuture<'a, Result<(), PullError>> {
    Box::pin(follow_here(source, destination, state, options, watch, progress, observer, stop))
}

#[expect(clippy::too_many_arguments, reason = "those of `follow`")]
async fn follow_here(
    source: &PullSource,
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    options: &FollowOptions,
    mut watch: Option<Box<dyn Watch>>,
    progress: Arc<dyn Progress>,
    observer: &dyn Observer,
    stop: CancellationToken,
) -> Result<(), PullError> {
    let mut pauses = Pauses::new(&options.retry);
    let lines = Lines::kept(matches!(options.way, FollowWay::Sync(_)));
    // True if the watch has reported every local change since the last run.
    let mut is_watch_enough = false;
    // True if the next run lists over a new session and scans everything; `looked` is the end of the last run
    // that did.
    let mut is_anew = true;
    let clock = ClockWatch::new(source.client.options().clock.as_ref());
    let mut looked = clock.now();
    let mut said_blind = false;
    let mut has_run = false;
    loop {
        let mut retry_at = None;
        observer.following(&Following::Running);
        let restless = watch.as_ref().map(|watch| watch.restless()).unwrap_or_default();
        let touched = watch.as_mut().and_then(|watch| watch.touched());
        let only = touched.filter(|_| std::mem::take(&mut is_watch_enough));
        let way = options.way.only(only, restless);
        let run = one_run(&lines, source, &destination, &state, &way, &progress, &stop);
        clock.begin();
        let outcome = match run.await {
            Ok(report) => {
                observer.ran(&report);
                has_run = true;
                if is_anew {
                    looked = clock.now();
                }
                is_watch_enough = report.outcome == Outcome::Complete && !report.was_overtaken;
                retry_at = report.retry_at;
                Ok(())
            }
            // The stop cut it off. It continues with the next start.
            Err(error) if has_run && stop.is_cancelled() && passes(&error) => return Ok(()),
            Err(error) => {
                observer.failed(&error);
                Err(error)
            }
        };
        if stop.is_cancelled() {
            return outcome;
        }
        if let (Err(_), Some(watch)) = (&outcome, watch.as_mut()) {
            take_events(watch.as_mut()).await;
        }
        if let Some(reason) = watch.as_ref().and_then(|watch| watch.blind()).filter(|_| !said_blind) {
            said_blind = true;
            progress.unwatched(&reason);
            progress.notice(&blind(&reason, options.scan_every_unwatched));
        }
        let woken = match outcome {
            // The session may be dead without notice.
            Ok(()) if clock.has_slept() => {
                lines.take();
                Woken::Anew
            }
            Ok(()) => {
                let watch = watch.as_deref_mut();
                let times = Times { looked, retry_at };
                wait(&lines, options, &state, watch, observer, &clock, times, &mut pauses, &stop).await
            }
            Err(error) if !passes(&error) => return Err(error),
            Err(error) => Woken::Lost { reason: without_repetition(&error.to_string()), is_failure: true },
        };
        let woken = match woken {
            Woken::Lost { reason, is_failure } => {
                pauses.pause(reason, is_failure, options, observer, &clock, &stop).await
            }
            woken => woken,
        };
        is_anew = match woken {
            Woken::Stop => return Ok(()),
            Woken::News => {
                is_watch_enough &= watch.as_ref().is_some_and(|watch| watch.blind().is_none());
                false
            }
            Woken::Anew | Woken::Lost { .. } => {
                is_watch_enough = false;
                true
            }
        };
    }
}

/// Takes the watcher's events after a failed run, which no wait follows: they may say that it sees no changes
/// any more.
async fn take_events(watch: &mut dyn Watch) {
    const WAITS: Duration = Duration::from_millis(100);
    let taking = async {
        while watch.blind().is_none() {
            watch.changed().await;
        }
    };
    let _ = tokio::time::timeout(WAITS, taking).await;
}

/// True if a later attempt may succeed.
fn passes(error: &PullError) -> bool {
    match error {
        PullError::Client(error) => error.is_retryable() || error.ends_run() || is_passing(error),
        PullError::Store(error) => !matches!(error, crate::destination::DestinationError::Locked { .. }),
        PullError::State(error) => matches!(error, crate::state::StateError::Unavailable { .. }),
        _ => false,
    }
}

/// A reason without the advice to run the command again, which a follower does by itself.
fn without_repetition(reason: &str) -> String {
    const ADVICE: [&str; 5] = [
        ", it goes on where it stopped",
        ", and run the same command again",
        " and run the same command again",
        "; run the same command again later",
        "; run the same command again",
    ];
    ADVICE.iter().fold(reason.to_owned(), |reason, advice| reason.replace(advice, ""))
}

/// True for temporary errors of the service.
fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::Service { .. } | ClientError::Http { .. } | ClientError::VaultFull)
}

async fn one_run(
    lines: &Lines,
    source: &PullSource,
    destination: &Arc<dyn Destination>,
    state: &Arc<dyn StateStore>,
    way: &FollowWay,
    progress: &Arc<dyn Progress>,
    stop: &CancellationToken,
) -> Result<Report, PullError> {
    let (destination, state, progress) = (destination.clone(), state.clone(), progress.clone());
    let run = async {
        let known = state.load().await?.destination;
        destination.look_at_place(known.map(|known| known.id)).await?;
        match way {
            FollowWay::Pull(options) => {
                pull_over(lines, source, destination, state, options, progress, stop.clone()).await
            }
            FollowWay::Sync(options) => {
                sync_over(lines, source, destination, state, options, progress, stop.clone()).await
            }
        }
    };
    let mut run = Box::pin(run);
    tokio::select! {
        biased;
        outcome = &mut run => outcome,
        () = stop.cancelled() => match tokio::time::timeout(PATIENCE, run).await {
            Ok(outcome) => outcome,
            // Its unfinished changes are announced, and the next run settles them.
            Err(_) => Err(crate::destination::DestinationError::Stopped { location: source.vault.name.clone() }.into()),
        },
    }
}

/// Times at which a follower wakes without news.
#[derive(Clone, Copy)]
struct Times {
    /// Time of the last full scan.
    looked: Instant,
    /// Time when a refused file is sent again, in milliseconds since the epoch.
    retry_at: Option<i64>,
}

impl Times {
    /// Time until a file is sent again, a second at least. `None` if none waits.
    fn until_retry(self) -> Option<Duration> {
        let left = self.retry_at?.saturating_sub(jiff::Timestamp::now().as_millisecond());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()).max(SHORTEST_RETRY))
    }
}

/// Waits for news of either side, over the session that the last run left open.
#[expect(clippy::too_many_arguments, reason = "the loop's, of which it is a part")]
async fn wait(
    lines: &Lines,
    options: &FollowOptions,
    state: &Arc<dyn StateStore>,
    watch: Option<&mut (dyn Watch + 'static)>,
    observer: &dyn Observer,
    clock: &ClockWatch<'_>,
    times: Times,
    pauses: &mut Pauses<'_>,
    stop: &CancellationToken,
) -> Woken {
    let scans = matches!(options.way, FollowWay::Sync(_));
    let is_blind = watch.as_ref().is_none_or(|watch| watch.blind().is_some());
    let every = if is_blind && scans { options.scan_every_unwatched } else { options.scan_every };
    let due = times.looked + every;
    let Some(mut line) = lines.take() else {
        return Woken::lost("the session was lost");
    };
    if !line.gather() {
        return Woken::lost("the session was lost");
    }
    if lines.age(clock.now()) >= LASTING {
        pauses.begin_again();
    }
    if clock.now() >= due {
        // Endless news must not delay everything else for ever.
        close(line).await;
        return Woken::Anew;
    }
    let has_news = line.has_news();
    if !has_news {
        observer.following(&Following::Waiting);
    }
    let changed = async {
        match watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    };
    let retry = async {
        match times.until_retry() {
            Some(left) => clock.sleep(left).await,
            None => std::future::pending().await,
        }
    };
    let Line { session: Some(session), live, backlog, .. } = &mut line else { return Woken::Anew };
    let woken = tokio::select! {
        biased;
        () = stop.cancelled() => Woken::Stop,
        () = options.look_again.notified() => Woken::Anew,
        () = std::future::ready(()), if has_news => Woken::News,
        event = live.next() => match event {
            Ok(change) => {
                backlog.push(change);
                Woken::News
            }
            Err(error) => Woken::lost(error),
        },
        error = session.idle() => {
            tracing::debug!(%error, "the session that listens is over");
            Woken::lost(error)
        }
        () = changed => Woken::News,
        () = retry => Woken::News,
        () = clock.sleep(due.saturating_duration_since(clock.now())) => Woken::Anew,
        () = state.confirmed() => {
            match confirmation::take_all_over(state.as_ref()).await {
                Ok(()) => Woken::Anew,
                Err(error) => {
                    tracing::warn!(%error, "confirmations of deletions could not be taken over");
                    // The confirmations would wake the follower again at once.
                    match stop.run_until_cancelled(clock.sleep(options.scan_every_unwatched)).await {
                        Some(()) => Woken::Anew,
                        None => Woken::Stop,
                    }
                }
            }
        }
        // The session may be dead without notice.
        () = clock.jumps() => return Woken::Anew,
    };
    if lines.age(clock.now()) >= LASTING {
        pauses.begin_again();
    }
    // A change made here while the computer slept is noticed before the clock jump; it must not be sent over
    // a session that may be dead.
    if woken == Woken::News && clock.has_jumped() {
        return Woken::Anew;
    }
    match woken {
        Woken::News => lines.put(line),
        Woken::Lost { .. } => {}
        Woken::Anew | Woken::Stop => close(line).await,
    }
    woken
}

/// Closes a session with a short timeout.
async fn close(line: Line) {
    if let Some(session) = line.session {
        let _ = tokio::time::timeout(GOODBYE, session.close()).await;
    }
}

/// Message that changes of the destination may be missed.
fn blind(reason: &str, scan_every: Duration) -> String {
    format!(
        "not every change of the folder is seen at once ({reason}); it is scanned every {} s",
        scan_every.as_secs_f32()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_of_a_follower_do_not_ask_for_the_command_again() {
        for (of_a_run, of_a_follower) in [
            (
                "it is full; free some space and run the same command again, it goes on where it stopped",
                "it is full; free some space",
            ),
            ("it was removed; run the same command again", "it was removed"),
            (
                "it keeps failing; run the same command again later, it goes on where it stopped",
                "it keeps failing",
            ),
            ("check the network, and run the same command again", "check the network"),
            (
                "close it and run the same command again (if there is none, wait)",
                "close it (if there is none, wait)",
            ),
            ("the disk is read only", "the disk is read only"),
        ] {
            assert_eq!(without_repetition(of_a_run), of_a_follower);
        }
    }
}
