//! A lease that ends while a sync sends: from then on nothing reaches the vault.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obsync_core::{
    Commit, Deferred, DeferredKind, Intent, MaxDelete, NoProgress, PullError, Record, Report, StateError,
    StateStore, SyncOptions, VaultState, sync,
};
use obsync_protocol::{ContentHash, VaultPath};
use obsync_sqlite::SqliteState;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::two_way::{has, in_step};

/// A state whose lease ends after so many looks at it.
struct Leased {
    state: Arc<SqliteState>,
    looks: AtomicUsize,
    most: usize,
}

#[async_trait]
impl StateStore for Leased {
    fn is_held(&self) -> bool {
        self.looks.fetch_add(1, Ordering::SeqCst) < self.most
    }

    async fn load(&self) -> Result<VaultState, StateError> {
        self.state.load().await
    }

    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError> {
        self.state.records(paths).await
    }

    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError> {
        self.state.sources(contents).await
    }

    async fn all_records(&self) -> Result<Vec<Record>, StateError> {
        self.state.all_records().await
    }

    async fn deferred(&self, kind: DeferredKind) -> Result<Vec<Deferred>, StateError> {
        self.state.deferred(kind).await
    }

    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        self.state.intents().await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        // As a table does it.
        match self.looks.load(Ordering::SeqCst) > self.most {
            true => Err(StateError::LeaseLost { destination: "a test".to_owned() }),
            false => self.state.commit(commit).await,
        }
    }

    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        self.state.last_check().await
    }

    async fn note_check(&self, at: i64) {
        self.state.note_check(at).await;
    }
}

/// Syncs under a lease that ends after so many looks. How many there were.
async fn sync_under(bench: &Bench, most: usize) -> (Result<Report, PullError>, usize) {
    let leased = Arc::new(Leased { state: bench.state(), looks: AtomicUsize::new(0), most });
    let options = SyncOptions {
        pull: bench.options.clone(),
        max_delete_in_vault: MaxDelete::Unlimited,
        second_look: Duration::ZERO,
        ..SyncOptions::default()
    };
    let stop = CancellationToken::new();
    let synced =
        sync(&bench.source, bench.store(), leased.clone(), &options, Arc::new(NoProgress), stop).await;
    (synced, leased.looks.load(Ordering::SeqCst))
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
    // The first ones, those of the large file here and there, and the last ones.
    let tried = (0..looks).filter(|look| *look < 6 || *look + 6 > looks || look % (looks / 8) == 0);
    for most in tried {
        let bench = changed().await;
        let (synced, taken) = sync_under(&bench, most).await;
        // In how many pieces a file is read differs.
        assert!(synced.is_err() || taken <= most, "the lease ended at look {most} of {looks}: {synced:?}");
        bench.sync().await;
        bench.assert_in_step().await;
        assert!(has(&bench, "new name.md", "a text") && has(&bench, "edited.md", "after"), "look {most}");
        let paths: Vec<String> =
            bench.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["edited.md", "large.md", "new name.md", "stays.md"], "look {most}");
    }
}
