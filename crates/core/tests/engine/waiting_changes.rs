//! Changes that wait to be sent: a run does not forget one whose path it did not scan.

use std::collections::HashSet;
use std::fs;

use obsync_core::{DeferredKind, MaxDelete, Outcome, Report, StateStore, SyncOptions, confirm, held_back};
use obsync_protocol::VaultPath;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

const T: i64 = 1_700_000_000_000;

/// Syncs with no deletion allowed; if `only` has paths, only these are scanned.
async fn sync(bench: &Bench, only: &[&str], restless: &[&str]) -> Report {
    let paths = |names: &[&str]| -> HashSet<VaultPath> {
        names.iter().map(|name| VaultPath::parse(name).unwrap()).collect()
    };
    let change = |options: &mut SyncOptions| {
        options.max_delete_in_vault = MaxDelete::Files(0);
        options.only = (!only.is_empty()).then(|| paths(only));
        options.restless = paths(restless);
    };
    bench.sync_with(change).await.unwrap()
}

/// Unconfirmed deletions.
async fn waiting(bench: &Bench) -> Vec<String> {
    held_back(bench.state().as_ref()).await.unwrap()
}

/// A bench on which the deletion of `a.md` is held back.
async fn held() -> Bench {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b"), ("note.md", "n")]).await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    assert_eq!(sync(&bench, &[], &[]).await.outcome, Outcome::HeldBack);
    assert_eq!(waiting(&bench).await, ["a.md"]);
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_looks_at_few_paths_forgets_no_deletion_that_is_held_back() {
    let bench = held().await;
    bench.edit("note.md", "edited");
    let report = sync(&bench, &["note.md"], &[]).await;
    assert_eq!(
        (report.outcome, report.held_back(), report.pushed.files),
        (Outcome::HeldBack, 1, 1),
        "{report:#?}"
    );
    assert_eq!(waiting(&bench).await, ["a.md"]);
    // A file that is being changed at this moment is not checked either.
    let report = sync(&bench, &[], &["a.md"]).await;
    assert_eq!((report.outcome, report.held_back()), (Outcome::HeldBack, 1), "{report:#?}");
    assert_eq!(waiting(&bench).await, ["a.md"]);
    // It is there again.
    bench.edit("a.md", "a");
    assert_eq!(sync(&bench, &["a.md"], &[]).await.outcome, Outcome::Complete);
    assert!(waiting(&bench).await.is_empty() && has(&bench, "a.md", "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_confirmed_is_made_by_a_run_that_was_to_look_elsewhere() {
    let bench = held().await;
    let state = bench.state();
    confirm(state.as_ref(), &["a.md".to_owned()], jiff::Timestamp::now()).await.unwrap();
    drop(state);
    bench.edit("note.md", "edited");
    let report = sync(&bench, &["note.md"], &[]).await;
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Complete, 1), "{report:#?}");
    assert!(!has(&bench, "a.md", "a") && has(&bench, "note.md", "edited"));
    assert_eq!(bench.state().deferred(DeferredKind::Failed).await.unwrap(), []);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_an_earlier_pull_kept_when_the_vault_deleted_them_are_named_and_not_sent() {
    let mut bench = Bench::new().await;
    for path in ["gone.md", "note.md"] {
        bench.vault.write(path, "text", T).unwrap();
    }
    bench.pull().await;
    bench.vault.delete("gone.md").unwrap();
    bench.folder.keep_deleted = true;
    assert_eq!(bench.pull().await.retained.files, 1);
    bench.folder.keep_deleted = false;
    // The vault creates it again and deletes it again before a plain pull runs: the local file was kept
    // nevertheless.
    bench.vault.write("gone.md", "anew", T + 1000).unwrap();
    bench.vault.delete("gone.md").unwrap();
    bench.vault.write("new.md", "new", T + 1000).unwrap();
    assert_eq!(bench.pull().await.pulled.files, 1);
    assert_eq!(
        (bench.verify().await.retained, bench.read("gone.md")),
        (vec!["gone.md".to_owned()], "text".to_owned())
    );
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!((report.outcome, report.pushed.files), (Outcome::Complete, 0), "{report:#?}");
        let named = report
            .warnings
            .iter()
            .filter(|warning| warning.contains("an earlier pull kept them: \"gone.md\"."));
        assert_eq!(named.count(), 1, "{report:#?}");
    }
    assert!(!has(&bench, "gone.md", "text"));
    // Under another name it is sent.
    fs::rename(bench.dest().join("gone.md"), bench.dest().join("mine.md")).unwrap();
    assert_eq!(bench.sync().await.pushed.files, 1);
    bench.assert_in_step().await;
}
