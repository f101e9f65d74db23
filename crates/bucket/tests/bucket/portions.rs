//! Portions of a batch: one is announced to the state while another is published.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use obsync_bucket::BucketOptions;
use obsync_core::{
    Commit, DeferredKind, DeferredPart, Intent, NoProgress, Outcome, Record, StateError, StateStore,
    VaultState,
};
use obsync_protocol::{ContentHash, VaultPath};
use obsync_sqlite::SqliteState;
use obsync_testcloud::Service;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::buckets::{S3Bucket, options};

const T: i64 = 1_722_222_222_123;

/// A state that compares what is committed to it with the bucket, at that moment.
struct Witness {
    state: Arc<SqliteState>,
    bench: Arc<Bench>,
    /// Number of announcements during the publication of earlier announced files.
    overlaps: AtomicUsize,
}

impl Witness {
    fn in_bucket(&self) -> HashSet<String> {
        self.bench.bucket.keys().into_iter().collect()
    }

    /// Every visible object was announced first, and every recorded one is visible.
    async fn check(&self, commit: &Commit) {
        let seen = self.in_bucket();
        let (intents, records) =
            (self.state.intents().await.unwrap(), self.state.all_records().await.unwrap());
        let known = intents.iter().filter_map(Intent::placed).chain(&records);
        let known: HashSet<&str> = known.map(|record| record.path.as_str()).collect();
        assert!(seen.iter().all(|path| known.contains(path.as_str())), "{seen:?} of {known:?}");
        assert!(commit.records.iter().all(|record| seen.contains(record.path.as_str())));
    }

    /// Returns true if an earlier announcement persists because it is not published yet. Waits until more of
    /// it is.
    async fn overlaps(&self, commit: &Commit) -> bool {
        let announced = self.state.intents().await.unwrap();
        if !commit.intents.iter().any(|intent| announced.contains(intent)) {
            return false;
        }
        let before = self.bench.bucket.cloud.counts();
        let goes_on =
            |counts: &obsync_testcloud::RequestCounts| counts.since(&before).of(Service::S3, "PutObject") > 0;
        self.bench.bucket.cloud.wait_for(goes_on).await;
        true
    }
}

#[async_trait]
impl StateStore for Witness {
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

    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        self.state.deferred_part(kind, from).await
    }

    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        self.state.intents().await
    }

    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        self.state.last_check().await
    }

    async fn note_check(&self, at: i64) {
        self.state.note_check(at).await;
    }

    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        self.check(&commit).await;
        if self.overlaps(&commit).await {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        self.state.commit(commit.clone()).await?;
        self.check(&Commit { records: Vec::new(), ..commit }).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_portion_is_published_the_next_is_announced_and_nothing_is_seen_before_that() {
    let few = BucketOptions { batch_files: 16, concurrency: 4, ..options() };
    let bench = Arc::new(Bench::with(S3Bucket::with(few).await).await);
    for number in 0..200 {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.bucket.cloud.faults().update(|faults| faults.s3.latency = Duration::from_millis(20));
    let state = bench.state().await;
    let witness = Arc::new(Witness { state, bench: bench.clone(), overlaps: AtomicUsize::new(0) });
    let report =
        bench.pull_to(witness.clone(), Arc::new(NoProgress), CancellationToken::new()).await.unwrap();
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 200));
    // Sixteen files are one portion, 64 one batch: of its four portions, three are announced beside another.
    let overlaps = witness.overlaps.load(Ordering::Relaxed);
    assert!(overlaps >= 6, "{overlaps}");
    bench.bucket.cloud.faults().clear();
    drop(witness);
    bench.assert_exact().await;
}
