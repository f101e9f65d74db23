//! Followers: changes of either side are synced as they arrive, and temporary errors are waited out.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use obsync_client::RetryPolicy;
use obsync_core::quiet::QuietRule;
use obsync_core::{
    Doubt, FollowOptions, FollowWay, Following, MaxDelete, NoProgress, Observer, Outcome, Progress,
    PullError, Report, SyncDirection, SyncOptions, Watch, follow,
};
use obsync_folder::{FolderDestination, FolderWatch, Step};
use obsync_protocol::{ContentHash, Filter, VaultPath};
use obsync_sqlite::SqliteState;
use obsync_testkit::Chance;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::kills::copy;

const T: i64 = 1_700_000_000_000;

/// Timeout of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reports a change for each notification.
struct NotifiedWatch(Arc<Notify>);

#[async_trait]
impl Watch for NotifiedWatch {
    async fn changed(&mut self) {
        self.0.notified().await;
    }
}

/// A watch without changes that wakes its follower after each pause.
struct NothingAfter(Duration);

#[async_trait]
impl Watch for NothingAfter {
    async fn changed(&mut self) {
        tokio::time::sleep(self.0).await;
    }

    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        Some(HashSet::new())
    }
}

/// A watch whose file is being written all the time.
pub(crate) struct BeingWritten(pub(crate) &'static str);

#[async_trait]
impl Watch for BeingWritten {
    async fn changed(&mut self) {
        std::future::pending().await
    }

    fn restless(&self) -> HashSet<VaultPath> {
        HashSet::from([VaultPath::parse(self.0).unwrap()])
    }
}

/// The activity that a follower reported.
#[derive(Default)]
struct Said {
    states: Mutex<Vec<String>>,
    reports: Mutex<Vec<Report>>,
}

impl Observer for Said {
    fn following(&self, following: &Following) {
        let state = match following {
            Following::Running => "running".to_owned(),
            Following::Waiting => "waiting".to_owned(),
            Following::Reconnecting { reason, .. } => format!("reconnecting: {reason}"),
            Following::Retrying { reason, .. } => format!("retrying: {reason}"),
        };
        self.states.lock().unwrap().push(state);
    }

    fn ran(&self, report: &Report) {
        self.reports.lock().unwrap().push(report.clone());
    }
}

/// Notices during the runs.
#[derive(Default)]
pub(crate) struct Notices(pub(crate) Mutex<Vec<String>>);

impl Progress for Notices {
    fn notice(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn unwatched(&self, reason: &str) {
        self.0.lock().unwrap().push(format!("unwatched: {reason}"));
    }
}

/// A running follower.
pub(crate) struct Follower {
    changed: Arc<Notify>,
    said: Arc<Said>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), PullError>>,
}

impl Follower {
    pub(crate) fn begin(bench: &Bench, syncs: bool) -> Self {
        let pull = bench.options.clone();
        let way = match syncs {
            false => FollowWay::Pull(pull),
            true => FollowWay::Sync(SyncOptions {
                pull,
                max_delete_in_vault: MaxDelete::Unlimited,
                second_look: Duration::ZERO,
                ..SyncOptions::default()
            }),
        };
        let retry = RetryPolicy {
            attempts: usize::MAX,
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_millis(50),
        };
        let options = FollowOptions { retry, ..FollowOptions::new(way) };
        let changed = Arc::new(Notify::new());
        let watch: Box<dyn Watch> = Box::new(NotifiedWatch(changed.clone()));
        Self::start(bench, options, changed, watch, Arc::new(NoProgress))
    }

    /// A follower that syncs and is notified of changes by the test.
    pub(crate) fn watching(
        bench: &Bench,
        watch: Box<dyn Watch>,
        progress: Arc<dyn Progress>,
        change: impl FnOnce(&mut FollowOptions),
    ) -> Self {
        let mut options = FollowOptions::new(FollowWay::Sync(SyncOptions {
            pull: bench.options.clone(),
            max_delete_in_vault: MaxDelete::Unlimited,
            second_look: Duration::ZERO,
            ..SyncOptions::default()
        }));
        change(&mut options);
        Self::start(bench, options, Arc::new(Notify::new()), watch, progress)
    }

    /// A follower that syncs and watches its folder, as the program does, and that has sent a change.
    pub(crate) async fn at_work(bench: &Bench) -> Self {
        Self::at_work_with(bench, |_| {}).await
    }

    /// The same with other options.
    pub(crate) async fn at_work_with(bench: &Bench, change: impl FnOnce(&mut FollowOptions)) -> Self {
        let follower = Self::of_folder_with(bench, Duration::from_secs(2), change);
        follower.at_rest(1).await;
        // After one change was seen, everything is watched.
        bench.edit("watched.md", "w");
        until("it is sent", || in_vault(bench, "watched.md", "w")).await;
        follower
    }

    /// A follower that syncs and watches its folder, as the program does.
    pub(crate) fn of_folder(bench: &Bench, second_look: Duration) -> Self {
        Self::of_folder_with(bench, second_look, |_| {})
    }

    fn of_folder_with(bench: &Bench, second_look: Duration, change: impl FnOnce(&mut FollowOptions)) -> Self {
        let mut options = FollowOptions::new(FollowWay::Sync(SyncOptions {
            pull: bench.options.clone(),
            max_delete_in_vault: MaxDelete::Unlimited,
            second_look,
            ..SyncOptions::default()
        }));
        change(&mut options);
        let state = bench.state();
        let rule = QuietRule::default();
        let watch = FolderWatch::new(&bench.dest(), Filter::default(), rule, state.clone());
        let changed = Arc::new(Notify::new());
        let (watch, progress) = (Box::new(watch), Arc::new(NoProgress));
        Self::start_with(bench, state, bench.store(), options, changed, watch, progress)
    }

    fn start(
        bench: &Bench,
        options: FollowOptions,
        changed: Arc<Notify>,
        watch: Box<dyn Watch>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let destination = bench.store();
        // As the program does.
        destination.lock().unwrap();
        Self::start_with(bench, bench.state(), destination, options, changed, watch, progress)
    }

    fn start_with(
        bench: &Bench,
        state: Arc<SqliteState>,
        destination: Arc<FolderDestination>,
        options: FollowOptions,
        changed: Arc<Notify>,
        watch: Box<dyn Watch>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let (said, stop) = (Arc::new(Said::default()), CancellationToken::new());
        let source = bench.source.clone();
        let (observer, stopped) = (said.clone(), stop.clone());
        let task = tokio::spawn(async move {
            follow(&source, destination, state, &options, Some(watch), progress, observer.as_ref(), stopped)
                .await
        });
        Follower { changed, said, stop, task }
    }

    /// Waits until the follower waits for changes, after at least `runs` runs.
    pub(crate) async fn at_rest(&self, runs: usize) {
        until("it waits", || {
            self.said.reports.lock().unwrap().len() >= runs
                && self.said.states.lock().unwrap().last().is_some_and(|state| state == "waiting")
        })
        .await;
    }

    /// Waits until it has everything of the vault, and waits for changes.
    async fn up_to_date(&self, bench: &Bench) {
        let version = bench.vault.version().0;
        let has_all = || self.said.reports.lock().unwrap().last().is_some_and(|last| last.version == version);
        until("it is up to date", has_all).await;
        self.at_rest(1).await;
    }

    /// The reported activity so far.
    pub(crate) fn states(&self) -> Vec<String> {
        self.said.states.lock().unwrap().clone()
    }

    /// Number of completed runs.
    pub(crate) fn runs(&self) -> usize {
        self.said.reports.lock().unwrap().len()
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        let begun = Instant::now();
        self.task.await.unwrap().unwrap();
        // The promise is one second. The other tests use the processors as well.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

fn has_text(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == text)
}

fn in_vault(bench: &Bench, path: &str, text: &str) -> bool {
    let sha256 = ContentHash::of(text.as_bytes()).to_string();
    bench.vault.expected().unwrap().files.iter().any(|file| file.path == path && file.sha256 == sha256)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_vault_comes_without_being_asked_for() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "0", T).unwrap();
    let follower = Follower::begin(&bench, false);
    follower.at_rest(1).await;
    let note = bench.dest().join("note.md");
    let mut times = Vec::new();
    for n in 1..=20 {
        let text = n.to_string();
        bench.vault.write("note.md", &text, T + n).unwrap();
        times.push(until("it is here", || has_text(&note, &text)).await);
    }
    times.sort();
    assert!(times[10] < Duration::from_secs(2), "{times:?}");
    let is_done = || follower.said.reports.lock().unwrap().last().is_some_and(|report| report.version == 21);
    until("it is done", is_done).await;
    follower.end().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_both_sides_go_as_they_come() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let follower = Follower::begin(&bench, true);
    follower.at_rest(1).await;
    bench.edit("here.md", "here");
    follower.changed.notify_one();
    until("it is in the vault", || in_vault(&bench, "here.md", "here")).await;
    bench.vault.write("there.md", "there", T).unwrap();
    until("it is here", || has_text(&bench.dest().join("there.md"), "there")).await;
    follower.at_rest(3).await;
    std::fs::remove_file(bench.dest().join("note.md")).unwrap();
    follower.changed.notify_one();
    until("it is gone", || !bench.vault.expected().unwrap().files.iter().any(|file| file.path == "note.md"))
        .await;
    follower.at_rest(4).await;
    follower.end().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_waited_for_without_end() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let follower = Follower::begin(&bench, true);
    follower.at_rest(1).await;
    bench.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    bench.server.disconnect_all();
    until("it tries again", || {
        let states = follower.said.states.lock().unwrap();
        states.iter().filter(|state| state.starts_with("retrying")).count() >= 2
    })
    .await;
    bench.vault.write("note.md", "later", T + 1).unwrap();
    bench.edit("mine.md", "mine");
    bench.server.faults().clear();
    until("it is here", || has_text(&bench.dest().join("note.md"), "later")).await;
    until("it is there", || in_vault(&bench, "mine.md", "mine")).await;
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mended_ends_a_follower() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let follower = Follower::begin(&bench, false);
    follower.at_rest(1).await;
    bench.server.set_subscription_expired(true).unwrap();
    bench.server.disconnect_all();
    let ended = tokio::time::timeout(PATIENCE, follower.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(PullError::Client(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_replaced_below_a_follower_is_doubted_and_followed_on() {
    let bench = Bench::new().await;
    for note in ["note.md", "kept.md"] {
        bench.vault.write(note, "old", T).unwrap();
    }
    bench.sync().await;
    let (dest, backup) = (bench.dest(), bench.home().join("backup"));
    copy(&dest, &backup);
    std::fs::write(backup.join("mine.md"), "mine").unwrap();
    let follower = Follower::of_folder(&bench, Duration::ZERO);
    follower.at_rest(1).await;
    bench.vault.write("note.md", "new", T + 1).unwrap();
    until("it is here", || has_text(&dest.join("note.md"), "new")).await;
    follower.at_rest(2).await;
    // No event tells that the watched folder is another one: it is there all the time.
    std::fs::rename(&dest, bench.home().join("aside")).unwrap();
    std::fs::rename(&backup, &dest).unwrap();
    until("the backup is brought up to date", || has_text(&dest.join("note.md"), "new")).await;
    until("its note is sent", || in_vault(&bench, "mine.md", "mine")).await;
    bench.vault.write("still.md", "still", T).unwrap();
    until("it is followed on", || has_text(&dest.join("still.md"), "still")).await;
    let is_doubted =
        |report: &Report| report.doubt == Some(Doubt::OtherGeneration) && report.deleted_in_vault.files == 0;
    follower.up_to_date(&bench).await;
    assert!(follower.said.reports.lock().unwrap().iter().any(is_doubted));
    follower.end().await;
    bench.assert_in_step().await;
    assert_eq!(bench.files().len(), 4, "{:?}", bench.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_waits_for_its_folder_if_an_empty_or_another_one_is_at_its_path() {
    let other = Bench::new().await;
    other.edit("private.md", "private");
    other.sync().await;
    for (is_empty, reason) in
        [(true, "an empty folder is at its path"), (false, "another destination is at its path")]
    {
        let bench = Bench::new().await;
        bench.vault.write("note.md", "text", T).unwrap();
        bench.sync().await;
        let (dest, aside) = (bench.dest(), bench.home().join("aside"));
        let follower = Follower::begin(&bench, true);
        follower.at_rest(1).await;
        std::fs::rename(&dest, &aside).unwrap();
        match is_empty {
            true => std::fs::create_dir(&dest).unwrap(),
            false => copy(&other.dest(), &dest),
        }
        bench.vault.write("later.md", "later", T).unwrap();
        until("it says so", || {
            let states = follower.said.states.lock().unwrap();
            states.iter().any(|state| state.starts_with("retrying: ") && state.contains(reason))
        })
        .await;
        assert!(!dest.join("later.md").exists());
        std::fs::rename(&dest, bench.home().join("not it")).unwrap();
        std::fs::rename(&aside, &dest).unwrap();
        until("it is here", || has_text(&dest.join("later.md"), "later")).await;
        follower.up_to_date(&bench).await;
        assert!(bench.store().lock().is_err(), "another program could take the folder");
        follower.end().await;
        bench.assert_in_step().await;
        assert!(!bench.vault.contents().unwrap().contains_key("private.md"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_takes_the_lock_again_when_its_folder_is_back_even_if_nothing_is_to_be_written() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let (dest, aside) = (bench.dest(), bench.home().join("aside"));
    let follower = Follower::begin(&bench, true);
    follower.at_rest(1).await;
    assert!(bench.store().lock().is_err(), "its first write took the lock");
    std::fs::rename(&dest, &aside).unwrap();
    follower.changed.notify_one();
    until("it says so", || follower.states().iter().any(|state| state.starts_with("retrying: "))).await;
    let runs = follower.runs();
    std::fs::rename(&aside, &dest).unwrap();
    follower.at_rest(runs + 1).await;
    assert!(bench.store().lock().is_err(), "another program could take the folder");
    follower.end().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_only_sends_waits_for_a_vault_that_is_older_without_a_lost_session() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    bench.sync().await;
    let before = bench.vault.version();
    bench.vault.write("note.md", "later", T + 1).unwrap();
    bench.sync().await;
    bench.vault.roll_back(before).unwrap();
    let direction = SyncDirection::Push { mirrors: false };
    let watch = Box::new(NothingAfter(HOUR));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |options| {
        if let FollowWay::Sync(sync) = &mut options.way {
            sync.direction = direction;
        }
    });
    follower.at_rest(1).await;
    assert_eq!(follower.states(), ["running", "waiting"]);
    assert_eq!(follower.said.reports.lock().unwrap()[0].outcome, Outcome::VaultOlder);
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_stopped_in_the_midst_of_a_later_run_that_takes_long_ends_well() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let (is_slow, is_reached) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (slow, reached) = (is_slow.clone(), is_reached.clone());
    let at_step = move |step: Step, _: Option<&VaultPath>| {
        if step == Step::Prepared && slow.load(Ordering::Relaxed) {
            reached.store(true, Ordering::Relaxed);
            // Longer than a run that is stopped has.
            std::thread::sleep(Duration::from_millis(1500));
        }
    };
    let destination = FolderDestination::open_watched(&bench.dest(), bench.folder, at_step).unwrap();
    let options = FollowOptions::new(FollowWay::Pull(bench.options.clone()));
    let watch = Box::new(NothingAfter(HOUR));
    let (changed, progress) = (Arc::new(Notify::new()), Arc::new(NoProgress));
    let follower =
        Follower::start_with(&bench, bench.state(), Arc::new(destination), options, changed, watch, progress);
    follower.at_rest(1).await;
    is_slow.store(true, Ordering::Relaxed);
    bench.vault.write("later.md", "later", T).unwrap();
    until("it publishes", || is_reached.load(Ordering::Relaxed)).await;
    follower.end().await;
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_scanned_from_time_to_time_however_much_news_there_is() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let watch = Box::new(NothingAfter(Duration::from_millis(10)));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |options| {
        options.scan_every = Duration::from_secs(1);
    });
    follower.at_rest(1).await;
    // A watcher does not report files named like an editor's temporary ones. A minute later the file counts
    // as a note.
    bench.edit("kept.tmp", "a note of its own");
    let file = File::options().write(true).open(bench.dest().join("kept.tmp")).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
    until("it is in the vault", || in_vault(&bench, "kept.tmp", "a note of its own")).await;
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_at_once_are_opened_again_after_growing_pauses() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let watch = Box::new(NothingAfter(HOUR));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |options| {
        options.retry.min_delay = Duration::from_millis(100);
    });
    let (begun, mut runs) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(3) {
        let ended = follower.said.reports.lock().unwrap().len();
        if ended > runs {
            runs = ended;
            bench.server.disconnect_all();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Pauses of 0.1, 0.2, 0.4, 0.8 and 1.6 s at least.
    assert!((2..=6).contains(&runs), "{runs}");
    let states = follower.said.states.lock().unwrap().clone();
    let first = states.iter().find(|state| state.contains("ing: ")).unwrap();
    assert!(first.starts_with("reconnecting: "), "{states:?}");
    assert!(states.iter().any(|state| state.starts_with("retrying: ")), "{states:?}");
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_to_look_again_lists_over_a_new_session_and_scans_everything() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", T).unwrap();
    let mut look_again = None;
    let follower =
        Follower::watching(&bench, Box::new(NothingAfter(HOUR)), Arc::new(NoProgress), |options| {
            options.scan_every = HOUR;
            look_again = Some(options.look_again.clone());
        });
    follower.at_rest(1).await;
    let before = bench.server.stats().websocket_connections;
    bench.edit("unseen.md", "nobody tells of it");
    look_again.unwrap().notify_one();
    until("it is in the vault", || in_vault(&bench, "unseen.md", "nobody tells of it")).await;
    assert!(bench.server.stats().websocket_connections > before);
    follower.end().await;
}

/// A ready watcher of the bench's folder.
async fn watching_folder(bench: &Bench) -> FolderWatch {
    bench.vault.write("note.md", "text", T).unwrap();
    bench.pull().await;
    FolderWatch::new(&bench.dest(), Filter::default(), QuietRule::default(), bench.state())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_before_everything_was_watched_is_looked_for() {
    let bench = Bench::new().await;
    let mut watch = watching_folder(&bench).await;
    tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap();
    assert_eq!(watch.touched(), None);
}

#[tokio::test]
async fn a_local_change_survives_a_wait_that_is_cancelled_while_it_is_looked_up() {
    let bench = Bench::new().await;
    let mut watch = watching_folder(&bench).await;
    tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap();
    watch.touched();
    bench.edit("new.md", "new");
    // Each wait is polled once: it gets as far as the look-up.
    let mut came = false;
    for _ in 0..50 {
        came |= tokio::time::timeout(Duration::ZERO, watch.changed()).await.is_ok();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if !came {
        tokio::time::timeout(PATIENCE, watch.changed()).await.unwrap();
    }
    assert!(watch.touched().unwrap().contains(&VaultPath::parse("new.md").unwrap()));
}
