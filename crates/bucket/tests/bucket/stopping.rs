//! Cancelling a run while a batch is being published.

use std::time::Duration;

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::stage;
use obsync_core::{Destination, DestinationError, DestinationExt, Expect, Publication, PublicationContent};
use obsync_testkit::Chance;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::buckets::{S3Bucket, options};

const TIME: i64 = 1_722_222_222_123;

async fn staged(store: &BucketDestination, path: &str, content: &[u8]) -> Publication {
    Publication {
        content: PublicationContent::Staged(stage(store, path, content, TIME).await),
        expect: Expect::Absent,
    }
}

/// Publishes and returns for each file whether it was done; the others must have been stopped.
async fn publish(store: &BucketDestination, batch: Vec<Publication>, stop: &CancellationToken) -> Vec<bool> {
    let answers = store.publish_until(batch, stop).await.into_iter();
    let stopped = |error: &DestinationError| matches!(error, DestinationError::Stopped { .. });
    answers.map(|answer| answer.inspect_err(|failure| assert!(stopped(&failure.error))).is_ok()).collect()
}

#[tokio::test]
async fn nothing_is_begun_once_the_run_is_told_to_stop() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let batch = vec![staged(&store, "a.md", b"a").await, staged(&store, "b.md", b"b").await];
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(publish(&store, batch, &stop).await, [false, false]);
    assert_eq!(bucket.count("PutObject"), 0);
}

#[tokio::test]
async fn what_is_under_way_may_end_and_the_rest_is_not_begun() {
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let store = bucket.store().await;
    let batch = vec![staged(&store, "a.md", b"a").await, staged(&store, "b.md", b"b").await];
    bucket.cloud.faults().update(|faults| faults.s3.latency = Duration::from_millis(400));
    let stop = CancellationToken::new();
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    };
    let (done, ()) = tokio::join!(publish(&store, batch, &stop), later);
    assert_eq!(done, [true, false]);
    assert_eq!(bucket.text("a.md").as_deref(), Some("a"));
    assert_eq!(bucket.count("PutObject"), 3, "and two to find out about conditions");
}

#[tokio::test]
async fn where_the_end_is_known_what_is_staged_is_begun_until_shortly_before_it() {
    let stop = CancellationToken::new();
    stop.cancel();
    let begins_until = |from_now: Duration| Some(Instant::now() + from_now);
    for (begins_until, begins) in [
        (begins_until(Duration::from_secs(60)), true),
        // It is over already.
        (begins_until(Duration::ZERO), false),
    ] {
        let bucket = S3Bucket::with(BucketOptions { begins_until, ..options() }).await;
        let store = bucket.store().await;
        let batch = vec![staged(&store, "a.md", b"a").await, staged(&store, "b.md", b"b").await];
        assert_eq!(publish(&store, batch, &stop).await, [begins; 2]);
        assert_eq!(bucket.text("b.md").as_deref(), begins.then_some("b"));
    }
}

#[tokio::test]
async fn what_is_begun_late_ends_in_time_too() {
    let begins_until = Some(Instant::now() + Duration::from_millis(300));
    let bucket = S3Bucket::with(BucketOptions { begins_until, ..options() }).await;
    let store = bucket.store().await;
    let batch = vec![staged(&store, "a.md", b"a").await];
    bucket.cloud.faults().update(|faults| faults.s3.hang = Chance::always());
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(publish(&store, batch, &stop).await, [false]);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_given_up_and_leaves_no_upload() {
    let options = BucketOptions { part_size: 5 << 20, grace: Duration::from_millis(50), ..options() };
    let bucket = S3Bucket::with(options).await;
    let store = bucket.store().await;
    let batch = vec![staged(&store, "a.md", b"a").await, staged(&store, "large", &vec![1; 6 << 20]).await];
    assert_eq!(bucket.open_uploads(), 1);
    bucket.cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned(), "CompleteMultipartUpload".to_owned()];
        faults.s3.hang = Chance::always();
    });
    let stop = CancellationToken::new();
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
    };
    let (done, ()) = tokio::join!(publish(&store, batch, &stop), later);
    assert_eq!(done, [false, false]);
    assert!(!store.is_quiet(), "the upload is being aborted");
    store.end_run().await;
    assert!(store.is_quiet());
    assert_eq!(bucket.open_uploads(), 0);
}
