//! Pulls that are stopped midway, and the files that are published in one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use obsync_conformance::WatchedState;
use obsync_core::{
    Commit, Describe, Filter, Inspect, Mode, NoProgress, Outcome, Phase, Progress, PullOptions, Record,
    StateStore, SyncOptions, Unfinished, pull, sync,
};
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_that_was_stopped_is_full_again_until_one_comes_to_its_end() {
    let bench = Bench::new().await;
    for n in 0..600 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.pull().await;
    std::fs::remove_dir_all(bench.dest()).unwrap();
    let stop = CancellationToken::new();
    let report = bench.pull_with(Arc::new(StopAtFirst(stop.clone())), stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    let pulled = if bench.dest().exists() { bench.files().len() } else { 0 };
    assert!(pulled < 600, "it was stopped midway");
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_sync_that_was_stopped_is_full_again_until_one_comes_to_its_end() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.edit("a.md", "z");
    pretend_that_it_was_seen(&bench, "a.md").await;
    let full = SyncOptions {
        pull: PullOptions { mode: Mode::Full, ..bench.options.clone() },
        ..SyncOptions::default()
    };
    assert_eq!(bench.sync().await.pushed.files, 0, "its facts are those that are recorded");
    let stop = CancellationToken::new();
    let progress = Arc::new(StopAtScanNumber(stop.clone(), AtomicUsize::new(1)));
    let report = sync(&bench.source, bench.store(), bench.state(), &full, progress, stop).await.unwrap();
    assert_eq!((report.outcome, report.pushed.files), (Outcome::Interrupted, 0));
    let unfinished = Unfinished::of(&*bench.state(), false).await.unwrap();
    assert!(unfinished.contains(&Unfinished::FullPull), "{unfinished:?}");
    assert_eq!(bench.sync().await.pushed.files, 1, "the next one makes up for it");
    bench.assert_in_step().await;
    assert!(has(&bench, "a.md", "z"));
    let (report, unfinished) = (bench.sync().await, Unfinished::of(&*bench.state(), false).await.unwrap());
    assert_eq!((report.listed, unfinished), (0, vec![]), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_sync_that_is_due_holds_up_nothing_and_a_pull_does_not_make_up_for_it() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    let full = |bench: &Bench| SyncOptions {
        pull: PullOptions { mode: Mode::Full, ..bench.options.clone() },
        ..SyncOptions::default()
    };
    let stopped = async |options: SyncOptions, at: usize| {
        let stop = CancellationToken::new();
        let progress = Arc::new(StopAtScanNumber(stop.clone(), AtomicUsize::new(at)));
        sync(&bench.source, bench.store(), bench.state(), &options, progress, stop).await.unwrap()
    };
    stopped(full(&bench), 1).await;
    bench.edit("a.md", "edited");
    // It is stopped each time when it starts the second scan.
    let ordinary = SyncOptions { pull: bench.options.clone(), ..SyncOptions::default() };
    let report = stopped(ordinary, 2).await;
    assert_eq!((report.outcome, report.pushed.files), (Outcome::Interrupted, 1), "{report:#?}");
    assert!(has(&bench, "a.md", "edited"));
    bench.edit("b.md", "not sent yet");
    bench.pull().await;
    bench.pull().await;
    assert_eq!(bench.read("b.md"), "not sent yet", "a pull leaves it, and makes no copy");
    assert_eq!(bench.files().len(), 2);
}

/// Records the file's present facts as those of the last sync: a change that the facts do not show.
async fn pretend_that_it_was_seen(bench: &Bench, path: &str) {
    let (state, path) = (bench.state(), VaultPath::parse(path).unwrap());
    let facts = bench.store().facts(vec![path.clone()]).await.unwrap().unwrap().pop().unwrap();
    let record = state.records(&[path]).await.unwrap().pop().unwrap().unwrap();
    let records = vec![Record { facts, ..record }];
    let known = state.load().await.unwrap();
    state.commit(Commit { records, state: known, ..Commit::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_run_left_out_comes_with_the_filter_of_the_next() {
    let mut bench = Bench::new().await;
    bench.vault.write("private/a.md", "mine", T).unwrap();
    for n in 0..600 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.filter(Filter { excluded: vec![VaultPath::parse("private").unwrap()], ..Filter::default() });
    let stop = CancellationToken::new();
    bench.pull_with(Arc::new(StopAtFirst(stop.clone())), stop).await.unwrap();
    bench.filter(Filter::default());
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_makes_no_more_copies_and_the_next_makes_them() {
    let bench = Bench::new().await;
    let portion = bench.store().traits().batch_limit.portion as u64;
    for n in 0..portion + 100 {
        bench.vault.write(&format!("{n}.md"), "the same template", T + n as i64).unwrap();
    }
    let stop = CancellationToken::new();
    let report = bench.pull_with(Arc::new(StopAtFirstPlaced(stop.clone())), stop).await.unwrap();
    let brought = (report.outcome, report.pulled.files, report.copied.files);
    assert_eq!(brought, (Outcome::Interrupted, 1, portion - 1));
    assert_eq!(bench.verify().await.intact.files, portion, "what was published is recorded");
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.requests), (0, 0));
    assert_eq!(report.copied.files + report.adopted.files, 100);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_published_in_batches_of_what_the_store_takes() {
    let bench = Bench::new().await;
    let most = bench.store().traits().batch_limit.files;
    for n in 0..most + 100 {
        bench.vault.write(&format!("{}/{n}.md", n % 10), "the same template", T).unwrap();
    }
    let state = Arc::new(WatchedState::new(bench.state()));
    let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let report = pull(&bench.source, bench.store(), state.clone(), &bench.options, none, stop).await.unwrap();
    assert_eq!((report.pulled.files, report.copied.files), (1, most as u64 + 99));
    let largest = state.commits().iter().map(|commit| commit.intents.len()).max();
    assert_eq!(largest, Some(most + 100), "one portion is announced while another is published");
    drop(state);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_stop_sets_no_more_times_and_the_next_sets_them() {
    let bench = Bench::new().await;
    for (n, time) in (0..600).map(|n| (n, T)).chain((0..600).map(|n| (n, T + 60_000))) {
        if (n, time) == (0, T + 60_000) {
            bench.pull().await;
        }
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), time).unwrap();
    }
    let stop = CancellationToken::new();
    let report = bench.pull_with(Arc::new(StopAtFirstPlaced(stop.clone())), stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    let differences = bench.vault.expected().unwrap().differences(&bench.dest()).unwrap();
    assert!((1..600).contains(&differences.len()), "{} are to be set yet", differences.len());
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_that_is_told_to_stop_ends_as_interrupted() {
    let bench = in_step(&[("a.md", "a")]).await;
    bench.vault.write("new.md", "new", T).unwrap();
    bench.edit("a.md", "edited here");
    let dry = SyncOptions {
        pull: PullOptions { dry_run: true, ..bench.options.clone() },
        ..SyncOptions::default()
    };
    let stop = CancellationToken::new();
    let progress = Arc::new(StopAtScanNumber(stop.clone(), AtomicUsize::new(1)));
    let report = sync(&bench.source, bench.store(), bench.state(), &dry, progress, stop).await.unwrap();
    let steps: Vec<&str> = report.steps.iter().map(|step| step.path.as_str()).collect();
    assert_eq!(
        (report.outcome, steps),
        (Outcome::Interrupted, vec!["new.md"]),
        "half of the plan is missing"
    );
}

/// Stops a pull as soon as a file is in place.
pub(crate) struct StopAtFirstPlaced(pub(crate) CancellationToken);

impl Progress for StopAtFirstPlaced {
    fn placed(&self, _bytes: u64) {
        self.0.cancel();
    }
}

/// Stops a pull as soon as bytes arrive.
struct StopAtFirst(CancellationToken);

impl Progress for StopAtFirst {
    fn received(&self, _bytes: u64) {
        self.0.cancel();
    }
}

/// Stops a run when it starts its scan with this number.
pub(crate) struct StopAtScanNumber(pub(crate) CancellationToken, pub(crate) AtomicUsize);

impl Progress for StopAtScanNumber {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Scanning && self.1.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.cancel();
        }
    }
}
