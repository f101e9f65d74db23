//! Memory that a hostile listing takes: the peak of this process, which includes the server.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../engine/bench.rs"]
#[allow(dead_code, reason = "shared with the tests of the engine")]
mod bench;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use obsync_conformance::not_tested;
use obsync_core::{
    DeferredKind, Filter, Mode, NoProgress, Outcome, PullError, PullOptions, StateStore, pull,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::VaultPath;
use obsync_sqlite::SqliteState;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use bench::Bench;

/// Memory limit of a pull above the process's use before it, in bytes.
const MOST: u64 = 150 << 20;

/// Time limit of a pull: none of the attacks is slow.
const MOST_TIME: Duration = Duration::from_secs(120);

/// The peak is that of the process, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_entries_that_cannot_be_read_ends_the_run_within_its_memory() {
    let _alone = ALONE.lock().await;
    for kind in ["undecodable", "undecodable-deletions"] {
        let bench = flooded(&format!("{kind}:1000000")).await;
        let (result, taken) = measured(&bench).await;
        let error = result.unwrap_err();
        assert!(matches!(error, PullError::TooManyUnreadable { .. }), "{error}");
        assert!(taken < MOST, "{kind} took {} MB", taken >> 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_paths_that_cannot_be_read_cost_little_now_and_in_every_later_run() {
    let _alone = ALONE.lock().await;
    let bench = flooded("undecodable-long:20000").await;
    let (result, taken) = measured(&bench).await;
    assert_eq!(result.unwrap().outcome, Outcome::Failures);
    assert!(taken < MOST, "the first run took {} MB", taken >> 20);
    bench.server.faults().clear();
    let (result, taken) = measured(&bench).await;
    // The flood had higher versions than the vault has.
    assert_eq!(result.unwrap().outcome, Outcome::VaultOlder);
    assert_eq!(
        bench.state().deferred(DeferredKind::Failed).await.unwrap().len(),
        20_000,
        "they are remembered"
    );
    assert!(taken < MOST, "the second run took {} MB", taken >> 20);
}

/// Changes that can be read and not applied are stored, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_applied_is_remembered_up_to_a_bound_and_costs_later_runs_little() {
    let _alone = ALONE.lock().await;
    let bench = flooded("below-a-file:250000").await;
    let report = measured(&bench).await.0.unwrap();
    assert_eq!((report.outcome, report.failed()), (Outcome::Failures, 250_000), "{:?}", report.warnings);
    let remembered = || async { bench.state().deferred(DeferredKind::Failed).await.unwrap().len() };
    let first = remembered().await;
    assert!((50_000..=100_000).contains(&first), "{first}");
    // The version stays below the changes that were not stored, so that they are listed again.
    assert!(report.version < 250_000, "{}", report.version);
    measured(&bench).await.0.unwrap();
    assert!(remembered().await <= 100_000);
    bench.server.faults().clear();
    let (result, taken) = measured(&bench).await;
    result.unwrap();
    assert!(taken < MOST, "a later run took {} MB", taken >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_repeat_one_path_and_version_take_the_place_of_one() {
    let _alone = ALONE.lock().await;
    let bench = flooded("repeated:1000000").await;
    let (result, taken) = measured(&bench).await;
    let report = result.unwrap();
    assert_eq!((report.outcome, report.listed), (Outcome::Complete, 1_000_001));
    assert!(taken < MOST, "it took {} MB", taken >> 20);
}

/// Listed and planned; a run that fetches them has a test of its own. The resident memory of the process is more than
/// that of the run if earlier tests left memory in the allocator's arenas: the least of three runs counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_files_are_listed_and_planned_within_400_mb() {
    let _alone = ALONE.lock().await;
    let mut least = u64::MAX;
    for _ in 0..3 {
        let mut bench = flooded("files:1000000").await;
        bench.options.dry_run = true;
        let (result, taken) = measured(&bench).await;
        let report = result.unwrap();
        assert_eq!(
            (report.outcome, report.pulled.files),
            (Outcome::DryRun, 1_000_001),
            "{:?}",
            report.warnings
        );
        least = least.min(taken);
        if least < 400_000_000 {
            break;
        }
    }
    println!("{} MB", least / 1_000_000);
    assert!(least < 400_000_000, "it took {} MB", least / 1_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_takes_more_memory_than_it_may_says_how_much_is_needed() {
    let _alone = ALONE.lock().await;
    let mut bench = flooded("folders:500000").await;
    bench.options.listing_memory = Some(32 << 20);
    let (result, taken) = measured(&bench).await;
    let error = result.unwrap_err();
    assert!(matches!(error, PullError::ListingTooLarge { entries: 500_001, .. }), "{error}");
    assert!(error.to_string().contains("Give the function "), "{error}");
    assert!(taken < MOST, "it took {} MB", taken >> 20);
}

/// Changes that a filter leaves out are stored in their listed form, which takes twice the memory of an
/// entry: no run has all of them in memory, and those that another filter brings back count like listed ones.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_filter_leaves_out_costs_no_run_more_than_the_same_number_of_listed_entries() {
    const LEFT_OUT: u64 = 100_000;
    /// Of a run of few entries, in bytes.
    const SLACK: u64 = 64 << 20;
    let _alone = ALONE.lock().await;
    let mut bench = Bench::new().await;
    bench.vault.write("note.md", "text", 1_700_000_000_000).unwrap();
    for number in 0..LEFT_OUT {
        let path = format!("Media/{}/picture {number}.md", number % 100);
        bench.vault.write(&path, "x", 1_700_000_000_000).unwrap();
    }
    let without = |folders: &[&str]| {
        let excluded = folders.iter().map(|folder| VaultPath::parse(folder).unwrap()).collect();
        Filter { excluded, ..Filter::default() }
    };
    let within = async |what: &str, bench: &Bench, most: u64| {
        let (result, taken) = measured(bench).await;
        let report = result.unwrap();
        assert_eq!(report.outcome, Outcome::Complete, "{what}: {report:#?}");
        println!("{what}: {} MB", taken / 1_000_000);
        assert!(taken < most, "{what} took {} MB", taken / 1_000_000);
    };
    let as_listed = LEFT_OUT * 400 + SLACK;
    bench.filter(without(&["Media"]));
    within("the first pull", &bench, as_listed).await;
    bench.vault.delete("Media/0/picture 0.md").unwrap();
    within("the deletion of a file that is left out", &bench, SLACK).await;
    bench.options.mode = Mode::Full;
    within("a full pull", &bench, as_listed).await;
    bench.options.mode = Mode::Incremental;
    bench.filter(without(&["Media", "Other"]));
    within("another filter", &bench, as_listed).await;
    bench.filter(without(&["Media"]));
    bench.options.listing_memory = Some(4 << 20);
    let (result, taken) = measured(&bench).await;
    let error = result.unwrap_err();
    assert!(matches!(error, PullError::ListingTooLarge { entries: 99_999.., .. }), "{error}");
    assert!(taken < SLACK, "it took {} MB", taken >> 20);
    bench.options.listing_memory = None;
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    assert_eq!(bench.files(), ["note.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_are_not_what_was_listed_take_neither_memory_nor_time() {
    let _alone = ALONE.lock().await;
    for fault in [
        "lie-size",
        "huge-header",
        "huge-text",
        "extra-piece",
        "corrupt-content",
        "wrong-hash",
        "missing-hash",
        "garbage-answer",
        "bare-answer",
    ] {
        let bench = Bench::new().await;
        for number in 0..20 {
            bench.vault.write(&format!("{number}.bin"), vec![number; 100_000], 1_700_000_000_000).unwrap();
        }
        bench.server.faults().update(|faults| faults.set(fault).unwrap());
        let (result, taken) = measured(&bench).await;
        println!("{fault}: {} MB, {:?}", taken >> 20, result.as_ref().map(|report| report.outcome));
        for number in 0..20 {
            // Files that are there are right; there are no others.
            if let Ok(written) = fs::read(bench.dest().join(format!("{number}.bin"))) {
                assert!(written == [number; 100_000], "{fault}: {number}.bin is wrong");
            }
        }
        assert!(taken < MOST, "{fault} took {} MB", taken >> 20);
    }
}

/// The listing of a further connection is skipped: none of it is kept, and its size is limited.
#[tokio::test(flavor = "multi_thread")]
async fn further_connections_whose_listing_has_no_end_take_no_memory() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new().await;
    for number in 0..500 {
        bench.vault.write(&format!("{number}.bin"), vec![7; 2000 + number], 1_700_000_000_000).unwrap();
    }
    // Slow answers make further connections worthwhile.
    bench.server.faults().set("endless-listing=after:1,latency=5ms".parse().unwrap());
    let (result, taken) = measured(&bench).await;
    let report = result.unwrap();
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 500));
    assert!(report.connections > 1, "{report:#?}");
    assert!(taken < MOST, "it took {} MB", taken >> 20);
}

/// The service sends frames of 2 MiB; the first connection accepts the encrypted size of a whole file of 15
/// MiB.
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_the_largest_size_are_accepted_within_the_memory() {
    let _alone = ALONE.lock().await;
    let mut bench = Bench::new().await;
    bench.options.fetch.connections = 1;
    for number in 0..6 {
        bench.vault.write(&format!("{number}.bin"), vec![number; 15 << 20], 1_700_000_000_000).unwrap();
    }
    bench.server.faults().set("pieces=whole".parse().unwrap());
    let (result, taken) = measured(&bench).await;
    assert_eq!(result.unwrap().pulled.files, 6);
    // The server encrypts a content and sends it from this process, too.
    assert!(taken < MOST, "it took {} MB", taken >> 20);
    bench.assert_exact().await;
}

/// An old vault: many notes, and many more deletions before them. It takes minutes: set `OBSYNC_TEST_LARGE`.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_million_notes_with_two_million_deletions_behind_them_are_pulled() {
    if std::env::var_os("OBSYNC_TEST_LARGE").is_none() {
        not_tested("it takes minutes");
        return;
    }
    let _alone = ALONE.lock().await;
    let bench = Bench::new().await;
    for number in 0..500_000 {
        bench
            .vault
            .write(&format!("{}/{number}.md", number % 500), format!("{number}"), 1_700_000_000_000)
            .unwrap();
    }
    bench.server.faults().set("flood=deletions:2000000".parse().unwrap());
    let (report, taken) = measured(&bench).await;
    let report = report.unwrap();
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 500_000), "{:?}", report.warnings);
    println!("{} MB, {} s", taken >> 20, report.duration_ms / 1000);
}

/// A whole run, and one with all of them recorded that checks each again. It takes minutes: set
/// `OBSYNC_TEST_LARGE`.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_folders_are_pulled_and_looked_at_again_within_400_mb() {
    if std::env::var_os("OBSYNC_TEST_LARGE").is_none() {
        not_tested("it takes minutes");
        return;
    }
    let _alone = ALONE.lock().await;
    let mut bench = flooded("folders:1000000").await;
    for mode in [Mode::Incremental, Mode::Full] {
        bench.options.mode = mode;
        let (result, taken) = measured(&bench).await;
        let report = result.unwrap();
        assert_eq!(report.outcome, Outcome::Complete, "{:?}", report.warnings);
        println!("{mode:?}: {} MB, {} s", taken / 1_000_000, report.duration_ms / 1000);
        assert!(taken < 400_000_000, "{mode:?} took {} MB", taken / 1_000_000);
    }
}

/// Environment of a process that pulls: the server, the folder with destination and state, and the mode.
const SERVER: &str = "OBSYNC_TEST_SERVER";
const HOME: &str = "OBSYNC_TEST_HOME";
const IS_FULL: &str = "OBSYNC_TEST_IS_FULL";
/// Begins the line in which such a process names its peak, in bytes.
const PEAK: &str = "peak: ";

/// A first pull that downloads them, and one that checks each again, in processes of their own: the server keeps each
/// of a million contents and requests. It takes minutes: set `OBSYNC_TEST_LARGE`. The number of files can be set by
/// `OBSYNC_TEST_FILES`.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_files_are_pulled_and_looked_at_again_within_400_mb() {
    if std::env::var_os(SERVER).is_some() {
        return pull_and_name_the_peak().await;
    }
    if std::env::var_os("OBSYNC_TEST_LARGE").is_none() {
        not_tested("it takes minutes");
        return;
    }
    let _alone = ALONE.lock().await;
    let files = std::env::var("OBSYNC_TEST_FILES").map_or(1_000_000, |files| files.parse().unwrap());
    let bench = Bench::new().await;
    for number in 0..files {
        let path = format!("flood/{}/note {number}.md", number % 1000);
        bench.vault.write(&path, format!("{number}"), 1_700_000_000_000).unwrap();
    }
    for is_full in [false, true] {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let test = "a_million_files_are_pulled_and_looked_at_again_within_400_mb";
        child.args([test, "--exact", "--nocapture"]).env(SERVER, bench.server.url()).env(HOME, bench.home());
        let output = child.env(IS_FULL, is_full.to_string()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout);
        let peak = lines.lines().find_map(|line| line.strip_prefix(PEAK)).unwrap().parse::<u64>().unwrap();
        println!("full: {is_full}, {files} files, {} MB, {} s", peak / 1_000_000, begun.elapsed().as_secs());
        assert!(peak < 400 * files.max(250_000), "full: {is_full}, it took {} MB", peak / 1_000_000);
    }
}

async fn pull_and_name_the_peak() {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let source = bench::source_at(&std::env::var(SERVER).unwrap()).await;
    let dest = home.join("notes");
    let identity = bench::identity(&source, &dest);
    let destination = FolderDestination::open(&dest, FolderOptions::default()).unwrap();
    let state = SqliteState::open(&home.join("state.sqlite"), &identity).unwrap();
    let mode = if std::env::var(IS_FULL).unwrap() == "true" { Mode::Full } else { Mode::Incremental };
    let options = PullOptions { mode, ..PullOptions::default() };
    let (progress, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let report =
        pull(&source, Arc::new(destination), Arc::new(state), &options, progress, stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete, "{:?}", report.warnings);
    println!("{PEAK}{}", status("VmHWM"));
}

/// The limit of two million paths takes a while to reach: set `OBSYNC_TEST_LARGE`.
#[tokio::test(flavor = "multi_thread")]
async fn more_paths_than_a_listing_may_have_end_the_run() {
    if std::env::var_os("OBSYNC_TEST_LARGE").is_none() {
        not_tested("it takes minutes");
        return;
    }
    let _alone = ALONE.lock().await;
    let bench = flooded("folders:4000000").await;
    let (result, taken) = measured(&bench).await;
    let error = result.unwrap_err();
    assert!(matches!(error, PullError::TooManyPaths { .. }), "{error}");
    // Two million entries, plus the allowance above them.
    assert!(taken < (900 << 20) + MOST, "it took {} MB", taken >> 20);
}

/// A vault with one note whose server floods each listing.
async fn flooded(flood: &str) -> Bench {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", 1_700_000_000_000).unwrap();
    bench.server.faults().update(|faults| faults.set(&format!("flood={flood}")).unwrap());
    bench
}

/// Pulls, and returns by how much the peak of the process exceeded its memory before, in bytes.
async fn measured(bench: &Bench) -> (Result<obsync_core::Report, PullError>, u64) {
    // Resets the peak (proc(5), clear_refs).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    let is_large = std::env::var_os("OBSYNC_TEST_LARGE").is_some();
    let most_time = if is_large { 15 * MOST_TIME } else { MOST_TIME };
    let result = tokio::time::timeout(most_time, bench.try_pull()).await.unwrap();
    (result, status("VmHWM").saturating_sub(before))
}

/// A value of this process in bytes (proc(5), status).
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}
