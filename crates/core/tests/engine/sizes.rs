//! Sizes: a content must have its entry's size, and only a file that does not fit fails.

use std::fs::File;
use std::time::{Duration, Instant};

use obsync_core::{Filter, Outcome};
use obsync_protocol::VaultPath;
use obsync_testkit::RawEntry;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_is_not_as_large_as_listed_is_refused_before_anything_of_it_is_taken() {
    let bench = Bench::new().await;
    bench.vault.write("honest.md", "text", T).unwrap();
    // 33 bytes listed: 5 bytes of content.
    bench.vault.write_lying_size("liar.bin", vec![7; 32 << 20], 33).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failures.len(), report.pulled.files), (Outcome::Failures, 1, 1));
    assert!(report.failures[0].reason.contains("the vault lists 33"), "{report:#?}");
    assert!(report.bytes_received < 1 << 20, "{report:#?}");
    assert_eq!(bench.files(), ["honest.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_lies_about_its_size_does_not_fail_other_paths_of_its_content() {
    let bench = Bench::new().await;
    bench.vault.write_lying_size("first liar.md", "the same", 9 << 20).unwrap();
    bench.vault.write("honest.md", "the same", T).unwrap();
    bench.vault.write_lying_size("last liar.md", "the same", 29).unwrap();
    let report = bench.pull().await;
    let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
    assert_eq!(failed, ["first liar.md", "last liar.md"], "{report:#?}");
    assert_eq!(bench.files(), ["honest.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_size_beyond_all_space_fails_alone_before_anything_is_asked_for() {
    let bench = Bench::new().await;
    bench.vault.write_lying_size("huge.bin", "x", 7 << 50).unwrap();
    bench.vault.write("honest.md", "text", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.failures.len(), report.pulled.files, report.requests), (1, 1, 1), "{report:#?}");
    assert!(report.failures[0].reason.contains("bytes free"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_no_number_holds_hold_nobody_up_in_any_run() {
    for size in [1 << 63, u64::MAX] {
        let mut bench = Bench::new().await;
        bench.vault.write_lying_size("senseless.bin", "x", size).unwrap();
        bench.vault.write_lying_size("another.bin", "y", size).unwrap();
        bench.vault.write("honest.md", "text", T).unwrap();
        let report = bench.pull().await;
        assert_eq!((report.failures.len(), report.pulled.files), (2, 1), "{report:#?}");
        bench.vault.write("later.md", "text, too", T).unwrap();
        assert_eq!(bench.pull().await.pulled.files, 1);
        bench.pull_full().await;
        assert_eq!(bench.files(), ["honest.md", "later.md"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_no_failure_while_the_filter_leaves_it_out() {
    let mut bench = Bench::new().await;
    bench.vault.write_lying_size("senseless.bin", "x", 1 << 63).unwrap();
    let path = bench.source.keys.encode_path(&VaultPath::parse("no hash.bin").unwrap()).as_str().to_owned();
    bench.vault.write_raw(RawEntry { path, hash: "none".into(), size: 40, ..RawEntry::default() }).unwrap();
    bench.vault.write_hostile_path("a\\b.md", "x").unwrap();
    bench.vault.write("honest.md", "text", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.failures.len(), report.has_excludable_failures), (3, true), "{report:#?}");
    let excluded = ["senseless.bin", "no hash.bin"].map(|path| VaultPath::parse(path).unwrap()).to_vec();
    bench.filter(Filter { excluded, ..Filter::default() });
    for run in 0..3 {
        bench.options.dry_run = run == 0;
        let report = if run == 2 { bench.pull_full().await } else { bench.pull().await };
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
        assert!(matches!(failed[..], [path] if !path.contains(".bin")), "run {run}: {report:#?}");
        // A name that no filter can express is not among the excludable failures.
        assert!(!report.has_excludable_failures, "run {run}");
    }
    bench.filter(Filter::default());
    assert_eq!(bench.pull().await.failures.len(), 3, "a wider filter brings them back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_needs_no_space() {
    let bench = Bench::new().await;
    // A sparse file as large as the disk: it exists, though nothing of its size could be written.
    bench.vault.write_lying_size("huge.bin", "x", 7 << 50).unwrap();
    bench.vault.write("there.md", "text", T).unwrap();
    bench.edit("there.md", "text");
    let report = bench.pull().await;
    assert_eq!((report.adopted.files, report.failures.len(), report.requests), (1, 1, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_file_in_the_way_is_not_read_when_its_size_says_enough() {
    let bench = Bench::new().await;
    bench.vault.write("replaced.md", "one", T).unwrap();
    bench.vault.write("deleted.md", "one", T).unwrap();
    bench.pull().await;
    for name in ["new.md", "replaced.md", "deleted.md"] {
        File::create(bench.dest().join(name)).unwrap().set_len(4 << 40).unwrap();
    }
    bench.vault.write("new.md", "text", T).unwrap();
    bench.vault.write("replaced.md", "two", T).unwrap();
    bench.vault.delete("deleted.md").unwrap();
    let begun = Instant::now();
    let report = bench.pull().await;
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    assert_eq!(
        (report.outcome, report.conflicts.len(), report.kept.len()),
        (Outcome::Complete, 2, 1),
        "{report:#?}"
    );
    assert_eq!((bench.read("new.md"), bench.read("replaced.md")), ("text".to_owned(), "two".to_owned()));
}

/// 2 GB if `OBSYNC_TEST_LARGE` is set, else 96 MB.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_comes_whole() {
    let megabytes = if std::env::var_os("OBSYNC_TEST_LARGE").is_some() { 2048 } else { 96 };
    let bench = Bench::new().await;
    let content: Vec<u8> = (0..megabytes << 20).map(|at: usize| (at >> 3) as u8).collect();
    bench.vault.write("large.bin", content, T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 1), "{report:#?}");
    bench.assert_exact().await;
}
