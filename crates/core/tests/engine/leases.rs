//! A lease that ends while a sync sends: nothing reaches the vault after that.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use obsync_conformance::WatchedState;
use obsync_core::{MaxDelete, NoProgress, PullError, Report, StateError, SyncOptions, sync};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

/// Syncs under a lease that ends after this many checks. Returns the number of checks.
async fn sync_under(bench: &Bench, most: usize) -> (Result<Report, PullError>, usize) {
    let looks = Arc::new(AtomicUsize::new(0));
    let is_held = {
        let looks = looks.clone();
        move || looks.fetch_add(1, Ordering::SeqCst) < most
    };
    let leased = Arc::new(WatchedState::new(bench.state()).held_while(is_held));
    let options = SyncOptions {
        pull: bench.options.clone(),
        max_delete_in_vault: MaxDelete::Unlimited,
        second_look: Duration::ZERO,
        ..SyncOptions::default()
    };
    let stop = CancellationToken::new();
    let synced = sync(&bench.source, bench.store(), leased, &options, Arc::new(NoProgress), stop).await;
    (synced, looks.load(Ordering::SeqCst))
}

/// A folder with a new file of several pieces, a renamed one, an edited one and deleted ones.
async fn changed() -> Bench {
    let notes = [("old name.md", "a text"), ("edited.md", "before"), ("gone.md", "gone"), ("stays.md", "s")];
    let bench = in_step(&notes).await;
    bench.edit("large.md", &"many words ".repeat(300_000));
    bench.edit("edited.md", "after");
    fs::rename(bench.dest().join("old name.md"), bench.dest().join("new name.md")).unwrap();
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_once_the_lease_may_have_ended() {
    let bench = changed().await;
    let before = bench.vault.version();
    let (synced, _) = sync_under(&bench, 0).await;
    assert!(matches!(synced, Err(PullError::State(StateError::LeaseLost { .. }))), "{synced:?}");
    assert_eq!(bench.vault.version(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_at_any_look_costs_nothing_and_the_next_run_sends_the_rest() {
    let (synced, looks) = sync_under(&changed().await, usize::MAX).await;
    assert!(synced.is_ok() && looks >= 16, "four changes, and each piece of the large file: {looks}");
    // The first checks, some of those during the large file, and the last ones.
    let tried = (0..looks).filter(|look| *look < 6 || *look + 6 > looks || look % (looks / 8) == 0);
    for most in tried {
        let bench = changed().await;
        let (synced, taken) = sync_under(&bench, most).await;
        // The number of pieces in which a file is read varies.
        assert!(synced.is_err() || taken <= most, "the lease ended at look {most} of {looks}: {synced:?}");
        bench.sync().await;
        bench.assert_in_step().await;
        assert!(has(&bench, "new name.md", "a text") && has(&bench, "edited.md", "after"), "look {most}");
        let paths: Vec<String> =
            bench.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["edited.md", "large.md", "new name.md", "stays.md"], "look {most}");
    }
}
