//! Contents that the vault replaces between the listing and the transfer.

use std::sync::Arc;
use std::sync::Mutex;

use obsync_core::{Mode, Outcome, Phase, Progress, Report};
use obsync_testkit::VaultHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// Changes the vault once a plan is being applied.
struct Overtakes(VaultHandle, Mutex<Option<fn(&VaultHandle)>>);

impl Progress for Overtakes {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Transferring
            && let Some(change) = self.1.lock().unwrap().take()
        {
            change(&self.0);
        }
    }
}

/// Pulls from a server that no longer has the content of `uid`, and whose vault changes after it was listed.
async fn pull_overtaken(bench: &Bench, uid: u64, change: fn(&VaultHandle)) -> Report {
    pull_from_faulty(bench, &format!("gone-answer=uid:{uid}"), change).await
}

/// Pulls from a server with a fault, whose vault changes after it was listed.
async fn pull_from_faulty(bench: &Bench, fault: &str, change: fn(&VaultHandle)) -> Report {
    bench.server.faults().set(fault.parse().unwrap());
    let progress = Overtakes(bench.vault.clone(), Mutex::new(Some(change)));
    let report = bench.pull_with(Arc::new(progress), CancellationToken::new()).await.unwrap();
    bench.server.faults().clear();
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_after_it_was_listed_comes_as_it_is_then_and_nothing_else_is_repeated() {
    let bench = Bench::new().await;
    for n in 0..50 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    let old = bench.vault.write("a.md", "old", T).unwrap();
    let report = pull_overtaken(&bench, old.0, |vault| {
        vault.write("a.md", "new", T + 5000).unwrap();
        vault.write("b.md", "also new", T + 5000).unwrap();
    });
    let report = report.await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 52), "{report:#?}");
    assert!(report.failures.is_empty(), "{report:#?}");
    assert!(report.listed <= 51 + 3, "{} entries were listed", report.listed);
    bench.assert_exact().await;
    assert_eq!(bench.pull().await.requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_after_it_was_listed_is_not_missed() {
    let bench = Bench::new().await;
    bench.vault.write("kept.md", "text", T).unwrap();
    let old = bench.vault.write("a.md", "old", T).unwrap();
    let report = pull_overtaken(&bench, old.0, |vault| {
        vault.delete("a.md").unwrap();
    });
    let report = report.await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 1), "{report:#?}");
    assert!(report.failures.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_has_no_longer_and_lists_no_newer_fails_alone_and_is_tried_again() {
    let bench = Bench::new().await;
    bench.vault.write("b.md", "text", T).unwrap();
    let old = bench.vault.write("a.md", "old", T).unwrap();
    let report = pull_overtaken(&bench, old.0, |_| ()).await;
    let [failure] = &report.failures[..] else { panic!("{report:#?}") };
    assert_eq!((failure.path.as_str(), report.outcome), ("a.md", Outcome::Failures));
    assert!(failure.reason.contains("lists no newer one"), "{failure:?}");
    assert_eq!(bench.read("b.md"), "text");
    bench.pull().await;
    bench.assert_exact().await;
}

/// A full pull finds that a recorded file is missing; meanwhile its content is touched, so that the newer
/// entry has the very content that is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_that_is_touched_meanwhile_is_not_taken_for_present() {
    let mut bench = Bench::new().await;
    let old = bench.vault.write("a.md", "text", T).unwrap();
    bench.vault.write("b.md", "another", T).unwrap();
    bench.pull().await;
    std::fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.options.mode = Mode::Full;
    let report = pull_overtaken(&bench, old.0, |vault| {
        vault.write("a.md", "text", T + 5000).unwrap();
    });
    assert_eq!(report.await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

/// Any of several equal files can be the source of a copy, and it can have another text by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_renamed_twice_keeps_its_old_name_until_it_has_the_newest() {
    const PATHS: [&str; 3] = ["a1.md", "a2.md", "a3.md"];
    for intact in PATHS {
        let bench = Bench::new().await;
        for path in PATHS {
            bench.vault.write(path, "the template", T).unwrap();
        }
        bench.pull().await;
        for path in PATHS {
            bench.vault.rename(path, &format!("new {path}")).unwrap();
        }
        PATHS.iter().filter(|path| **path != intact).for_each(|path| bench.edit(path, "a user's text"));
        let report = pull_from_faulty(&bench, "gone-answer=always", |vault| {
            for path in PATHS {
                vault.rename(&format!("new {path}"), &format!("newest {path}")).unwrap();
            }
        });
        let report = report.await;
        let texts: Vec<String> = bench.files().iter().map(|path| bench.read(path)).collect();
        for text in ["the template", "a user's text"] {
            assert!(texts.iter().any(|found| found == text), "{intact}: {texts:?}, {report:#?}");
        }
        bench.pull().await;
        for path in PATHS {
            assert_eq!(bench.read(format!("newest {path}")), "the template", "{intact}");
        }
    }
}

/// A name that no folder can have.
fn too_long() -> String {
    format!("{}.md", "x".repeat(300))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_fails_in_both_plans_of_a_run_is_one_failure() {
    let bench = Bench::new().await;
    bench.vault.write(&too_long(), "text", T).unwrap();
    let old = bench.vault.write("a.md", "old", T).unwrap();
    let report = pull_overtaken(&bench, old.0, |vault| {
        vault.write("a.md", "new", T + 5000).unwrap();
        vault.write(&too_long(), "another", T + 5000).unwrap();
    });
    let report = report.await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
    assert_eq!(bench.read("a.md"), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_failed_and_is_deleted_meanwhile_is_no_failure_of_the_run() {
    let bench = Bench::new().await;
    bench.vault.write(&too_long(), "text", T).unwrap();
    let old = bench.vault.write("a.md", "old", T).unwrap();
    let report = pull_overtaken(&bench, old.0, |vault| {
        vault.write("a.md", "new", T + 5000).unwrap();
        vault.delete(&too_long()).unwrap();
    });
    let report = report.await;
    assert_eq!((report.outcome, &report.failures[..]), (Outcome::Complete, &[][..]), "{report:#?}");
    bench.assert_exact().await;
}
