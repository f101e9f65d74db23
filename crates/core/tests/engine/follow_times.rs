//! Time until a follower brings a change of either side to the other, with a real watcher. Ordinary runs only
//! check that it is short; `OBSYNC_FOLLOW_TIMES=1 cargo test --release -p obsync-core --test engine
//! follow_times -- --nocapture` measures (docs/PERFORMANCE.md).

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obsync_core::quiet::QuietRule;
use obsync_core::{
    FollowOptions, FollowWay, Following, NoProgress, Observer, PullError, StateStore, SyncOptions, Watch,
    follow,
};
use obsync_folder::FolderWatch;
use obsync_protocol::Filter;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// Extent of the measurement.
struct Extent {
    notes: usize,
    folders: usize,
    changes: usize,
    edits: usize,
}

impl Extent {
    fn of_environment() -> Self {
        match std::env::var_os("OBSYNC_FOLLOW_TIMES") {
            Some(_) => Extent { notes: 10_000, folders: 500, changes: 200, edits: 5 },
            None => Extent { notes: 100, folders: 5, changes: 5, edits: 1 },
        }
    }
}

#[derive(Default)]
struct Waits(AtomicUsize);

impl Observer for Waits {
    fn following(&self, following: &Following) {
        if matches!(following, Following::Waiting) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn begin(bench: &Bench, waits: Arc<Waits>, stop: &CancellationToken) -> JoinHandle<Result<(), PullError>> {
    let (source, destination, stop) = (bench.source.clone(), bench.store(), stop.clone());
    let state: Arc<dyn StateStore> = bench.state();
    let watch: Box<dyn Watch> =
        Box::new(FolderWatch::new(&bench.dest(), Filter::default(), QuietRule::default(), state.clone()));
    let way = FollowWay::Sync(SyncOptions { pull: bench.options.clone(), ..SyncOptions::default() });
    let options = FollowOptions::new(way);
    tokio::spawn(async move {
        let progress = Arc::new(NoProgress);
        follow(&source, destination, state, &options, Some(watch), progress, waits.as_ref(), stop).await
    })
}

async fn until(mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never comes");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    begun.elapsed()
}

fn has_text(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found == text)
}

/// Median and maximum.
fn figures(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what}: median {median:.1?}, longest {longest:.1?} of {}", times.len());
    median
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_either_side_is_with_the_other_at_once() {
    let extent = Extent::of_environment();
    let bench = Bench::new().await;
    let name = |n: usize| format!("{}/{n}.md", n % extent.folders);
    for n in 0..extent.notes {
        bench.vault.write(&name(n), format!("note {n}"), T).unwrap();
    }
    bench.sync().await;
    let (waits, stop) = (Arc::new(Waits::default()), CancellationToken::new());
    let follower = begin(&bench, waits.clone(), &stop);
    until(|| waits.0.load(Ordering::SeqCst) > 0).await;
    // The watcher must be ready, too.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut there = Vec::new();
    for n in 0..extent.changes {
        let text = format!("changed there {n}");
        bench.vault.write(&name(n), &text, T + 1).unwrap();
        there.push(until(|| has_text(&bench.dest().join(name(n)), &text)).await);
    }
    let mut here = Vec::new();
    for n in 0..extent.changes {
        let n = extent.notes / 2 + n % (extent.notes / 2);
        let text = format!("changed here {n}, and longer than before");
        let before = bench.vault.version();
        fs::write(bench.dest().join(name(n)), &text).unwrap();
        here.push(until(|| bench.vault.version() > before).await);
    }
    // A file that is edited every 3 s: each edit is calm. A file that is appended to every 0.3 s is sent
    // after a quiet time.
    let mut edited = Vec::new();
    for n in 0..extent.edits {
        let path = bench.dest().join(name(extent.notes - 1));
        for part in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            fs::write(&path, format!("edit {n} part {part}, and longer than before")).unwrap();
        }
        let before = bench.vault.version();
        edited.push(until(|| bench.vault.version() > before).await);
        if n + 1 < extent.edits {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
    stop.cancel();
    follower.await.unwrap().unwrap();
    let there = figures("a change of the vault is here after", there);
    let here = figures("a calm change here is in the vault after", here);
    let edited = figures("the last of five changes 0.3 s apart is in the vault after", edited);
    let quiet = QuietRule::default().quiet_for;
    // A measurement checks the goals; an ordinary run has to tolerate a busy machine.
    let (soon, after_quiet) = match std::env::var_os("OBSYNC_FOLLOW_TIMES") {
        Some(_) => (Duration::from_millis(100), quiet + Duration::from_millis(150)),
        None => (Duration::from_secs(5), quiet + Duration::from_secs(5)),
    };
    assert!(there < soon && here < soon && edited < after_quiet, "{there:?} {here:?} {edited:?}");
    bench.sync().await;
    bench.assert_in_step().await;
}
