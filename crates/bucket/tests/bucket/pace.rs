//! Concurrency of requests to a bucket.

use std::time::Duration;

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::stage;
use obsync_core::{DestinationExt, Expect, Publication, PublicationContent};
use obsync_testcloud::{RequestCounts, Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::bench::Bench;
use crate::buckets::S3Bucket;

const T: i64 = 1_722_222_222_123;
/// A latency above anything else.
const FAR: Duration = Duration::from_millis(60);

fn far_away(bucket: &S3Bucket) {
    bucket.cloud.faults().update(|faults| faults.s3.latency = FAR);
}

/// Publishes this many small files at once.
async fn publish(store: &BucketDestination, round: &str, files: usize) {
    let mut batch = Vec::with_capacity(files);
    for number in 0..files {
        let text = format!("note {number} of {round}");
        let staged = stage(store, &format!("{round}/{number}.md"), text.as_bytes(), 1).await;
        batch.push(Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent });
    }
    let published = store.publish(batch).await;
    assert!(published.iter().all(Result::is_ok));
}

fn most(bucket: &S3Bucket) -> usize {
    bucket.cloud.most_under_way(Service::S3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_far_away_is_asked_more_at_a_time_and_never_more_than_is_allowed() {
    let bucket = S3Bucket::new().await;
    far_away(&bucket);
    publish(&bucket.store().await, "many", 1500).await;
    assert!((17..=64).contains(&most(&bucket)), "{}", most(&bucket));

    bucket.cloud.begin_maxima_anew();
    let few = bucket.store_with(BucketOptions { concurrency: 5, ..bucket.options.clone() }).await;
    publish(&few, "few", 50).await;
    assert_eq!(most(&bucket), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_throttles_is_asked_half_as_much_at_a_time() {
    let bucket = S3Bucket::new().await;
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { latency: FAR, throttled: Chance::next(1), ..ServiceFaults::default() };
    });
    let store = bucket.store().await;
    publish(&store, "throttled", 16).await;
    bucket.cloud.begin_maxima_anew();
    publish(&store, "next", 24).await;
    assert!((8..16).contains(&most(&bucket)), "{}", most(&bucket));
}

/// The most concurrent requests before an object is copied: until then objects are only looked at.
async fn most_before_the_first_copy(bucket: &S3Bucket) -> usize {
    bucket.cloud.wait_for(|counts| counts.of(Service::S3, "CopyObject") > 0).await;
    most(bucket)
}

fn write_notes(bench: &Bench, folder: &str, files: u64, mtime: i64) {
    for number in 0..files {
        bench.vault.write(&format!("{folder}/{number}.md"), format!("note {number}"), mtime).unwrap();
    }
}

/// A vault in a distant bucket, in which a folder of this many notes was renamed since.
async fn renamed_far_away(files: u64) -> Bench {
    let bench = Bench::new().await;
    write_notes(&bench, "Inbox", files, T);
    bench.pull().await;
    bench.vault.rename("Inbox", "Archive").unwrap();
    far_away(&bench.bucket);
    bench.bucket.cloud.begin_maxima_anew();
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_files_that_stay_are_staged_many_at_a_time() {
    let bench = Bench::new().await;
    write_notes(&bench, "Templates", 100, T);
    bench.pull().await;
    write_notes(&bench, "Copies", 100, T + 1);
    far_away(&bench.bucket);
    bench.bucket.cloud.begin_maxima_anew();
    let (report, staging) = tokio::join!(bench.pull(), most_before_the_first_copy(&bench.bucket));
    assert_eq!((report.copied.files, report.requests), (100, 0));
    assert!(staging >= 16, "{staging}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_are_made_many_at_a_time_and_cost_two_requests_each() {
    const RENAMED: u64 = 300;
    let bench = renamed_far_away(RENAMED).await;
    let before = bench.bucket.cloud.counts();
    let (report, staging) = tokio::join!(bench.pull(), most_before_the_first_copy(&bench.bucket));
    assert_eq!((report.copied.files, report.deleted.files, report.requests), (RENAMED, RENAMED, 0));
    let counts = bench.bucket.cloud.counts().since(&before);
    let of = |operation| counts.of(Service::S3, operation);
    // Its facts and the copy; a few more to probe conditions.
    assert!(of("HeadObject") <= RENAMED + 2 && of("CopyObject") == RENAMED + 1, "{counts}");
    assert!(counts.total(Service::S3) <= 2 * RENAMED + 12, "{counts}");
    assert!(staging >= 16, "{staging}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_be_at_a_new_name_after_the_list_was_read_is_kept() {
    let bench = renamed_far_away(100).await;
    let listed = bench.bucket.count("ListObjectsV2");
    let looked = bench.bucket.count("HeadObject");
    let intruder = async {
        // The list was read when the first object is looked at.
        let is_listed = |counts: &RequestCounts| {
            counts.of(Service::S3, "ListObjectsV2") > listed && counts.of(Service::S3, "HeadObject") > looked
        };
        bench.bucket.cloud.wait_for(is_listed).await;
        bench.bucket.put("Archive/7.md", b"somebody else's");
    };
    let (report, ()) = tokio::join!(bench.pull(), intruder);
    assert_eq!(report.conflicts.len(), 1, "{report:#?}");
    assert_eq!(bench.bucket.text("Archive/7.md").as_deref(), Some("note 7"));
    let kept = bench.bucket.text(report.conflicts[0].kept_as.as_str());
    assert_eq!(kept.as_deref(), Some("somebody else's"));
}
