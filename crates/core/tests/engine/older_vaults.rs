//! Vaults that are older on the server than in the destination, and pulls that keep everything.

use std::sync::Arc;

use obsync_core::{Mode, NoProgress, Outcome, Report, StateStore, pull};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_rolled_back_on_the_server_deletes_nothing() {
    let (bench, mut after) = rolled_back().await;
    for mode in [Mode::Incremental, Mode::Full] {
        after.options.mode = mode;
        let report = pull_from(&after, &bench).await;
        assert_eq!((report.outcome, report.deleted.files), (Outcome::VaultOlder, 0), "{report:#?}");
        assert_eq!((report.older_vault, report.version), (Some(2), 5));
    }
    assert_eq!(bench.files(), ["0.md", "1.md", "2.md", "3.md", "4.md", "new.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_rolled_back_on_the_server_is_told_in_every_pull() {
    let (bench, after) = rolled_back().await;
    for _ in 0..2 {
        let report = pull_from(&after, &bench).await;
        assert_eq!(report.outcome, Outcome::VaultOlder);
        assert!(report.warnings[0].contains("rolled back"), "{report:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_older_vault_what_is_new_is_brought_and_what_is_newer_here_is_kept() {
    let (bench, after) = rolled_back().await;
    // Version 1 of this path is older than the pulled version 5.
    after.vault.write("4.md", "an old text", T).unwrap();
    let report = pull_from(&after, &bench).await;
    assert_eq!(report.pulled.files, 1, "{report:#?}");
    assert_eq!((bench.read("new.md"), bench.read("4.md")), ("new".to_owned(), "4".to_owned()));
    // When the vault has caught up, its changes are applied as usual.
    for n in 0..3 {
        after.vault.write("later.md", format!("{n}"), T).unwrap();
    }
    after.vault.write("4.md", "a newer text", T).unwrap();
    let report = pull_from(&after, &bench).await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(bench.read("4.md"), "a newer text");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_vault_that_is_accepted_lowers_the_version_and_removes_only_in_a_full_pull() {
    let (bench, mut after) = rolled_back().await;
    after.vault.write("4.md", "an old text", T).unwrap();
    after.options.accept_older_vault = true;
    let report = pull_from(&after, &bench).await;
    assert_eq!(
        (report.outcome, report.version, report.deleted.files),
        (Outcome::Complete, 3, 0),
        "{report:#?}"
    );
    assert_eq!(bench.read("4.md"), "an old text");
    assert_eq!(bench.files().len(), 6);
    after.options.accept_older_vault = false;
    let report = pull_from(&after, &bench).await;
    assert!(report.is_unchanged() && report.outcome == Outcome::Complete, "{report:#?}");
    after.options.mode = Mode::Full;
    let report = pull_from(&after, &bench).await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(bench.files(), ["0.md", "4.md", "new.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_vault_that_is_accepted_removes_nothing_for_a_full_pull_that_was_cut_off_before() {
    let (bench, mut after) = rolled_back().await;
    let begun = obsync_core::VaultState { full_up_to: Some(0), ..bench.state().load().await.unwrap() };
    let commit = obsync_core::Commit { state: begun, ..obsync_core::Commit::default() };
    bench.state().commit(commit).await.unwrap();
    after.options.accept_older_vault = true;
    let report = pull_from(&after, &bench).await;
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 0), "{report:#?}");
    after.options.accept_older_vault = false;
    let report = pull_from(&after, &bench).await;
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.files().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_destination_is_filled_from_an_older_vault() {
    let (bench, after) = rolled_back().await;
    std::fs::remove_dir_all(bench.dest()).unwrap();
    let report = pull_from(&after, &bench).await;
    assert_eq!(report.outcome, Outcome::VaultOlder);
    assert_eq!(bench.files(), ["0.md", "new.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_server_only_claims_hides_no_later_change() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.server.faults().update(|faults| faults.set("ready-version=9007199254740992").unwrap());
    assert_eq!(bench.pull().await.version, 1);
    bench.vault.write("b.md", "b", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files, report.version), (Outcome::Complete, 1, 2));
    bench.server.faults().clear();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_an_earlier_release_took_from_the_server_is_recovered_from() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.pull().await;
    let poisoned = obsync_core::VaultState { version: 1 << 53, ..bench.state().load().await.unwrap() };
    let commit = obsync_core::Commit { state: poisoned, ..obsync_core::Commit::default() };
    bench.state().commit(commit).await.unwrap();
    bench.vault.write("b.md", "b", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::VaultOlder, 1), "{report:#?}");
    bench.options.accept_older_vault = true;
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_keeps_everything_removes_nothing_and_sets_aside_what_differs() {
    let (bench, mut after) = rolled_back().await;
    after.vault.write("3.md", "another text", T).unwrap();
    after.options.keep_everything = true;
    let report = pull_from(&after, &bench).await;
    assert_eq!(
        (report.outcome, report.deleted.files, report.version),
        (Outcome::Complete, 0, 3),
        "{report:#?}"
    );
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(bench.read("3.md"), "another text");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "3");
    // Kept files are the user's: a full pull does not remove them either.
    (after.options.keep_everything, after.options.mode) = (false, Mode::Full);
    let report = pull_from(&after, &bench).await;
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.files().len(), 7);
}

/// A destination at version 5, and another server with a vault of the same id at version 2, as after a
/// roll-back. Of five files it has the first.
async fn rolled_back() -> (Bench, Bench) {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.vault.write(&format!("{n}.md"), format!("{n}"), T).unwrap();
    }
    bench.pull().await;
    let after = bench.anew().await;
    after.vault.write("0.md", "0", T).unwrap();
    after.vault.write("new.md", "new", T).unwrap();
    (bench, after)
}

/// Pulls from one bench's server to another bench's destination.
async fn pull_from(server: &Bench, destination: &Bench) -> Report {
    let (destination, state) = (destination.store(), destination.state());
    let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
    pull(&server.source, destination, state, &server.options, none, stop).await.unwrap()
}
