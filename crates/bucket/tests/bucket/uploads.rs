//! Large contents are uploaded in parts, and no invisible part is left.

use std::time::{Duration, SystemTime};

use obsync_bucket::BucketOptions;
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{Destination, FileWriter, Inspect, Receive};
use obsync_testcloud::ServiceFaults;
use obsync_testkit::Chance;

use crate::buckets::{BUCKET, S3Bucket, key, options};

const TIME: i64 = 1_722_222_222_123;
const PART: usize = 5 << 20;

async fn bucket() -> S3Bucket {
    S3Bucket::with(BucketOptions { part_size: PART, ..options() }).await
}

fn content(size: usize) -> Vec<u8> {
    (0..size as u32).map(|byte| (byte % 251) as u8).collect()
}

/// Faults for one kind of request.
fn faults(operation: &str, set: impl FnOnce(&mut ServiceFaults)) -> ServiceFaults {
    let mut faults = ServiceFaults { operations: vec![operation.to_owned()], ..ServiceFaults::default() };
    set(&mut faults);
    faults
}

#[tokio::test]
async fn content_of_one_part_is_put_and_more_goes_up_in_parts() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    // Avoids probing of conditions.
    assert!(store.is_empty().await.unwrap());
    for (path, size, parts) in [("one", PART, 0), ("more", PART + 1, 2), ("two", 2 * PART, 2)] {
        let before = bucket.count("UploadPart");
        let content = content(size);
        place(&store, path, &content, TIME, None).await;
        assert_eq!(bucket.object(path).unwrap().content, content, "{path}");
        assert_eq!(bucket.count("UploadPart") - before, parts, "{path}");
    }
    assert_eq!(bucket.count("PutObject"), 1);
}

#[tokio::test]
async fn parts_go_up_while_the_content_arrives_and_show_nothing() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    let content = content(4 * PART);
    let mut writer = store.begin(&at("a.bin"), &meta(&content, TIME)).await.unwrap();
    writer.write(content[..3 * PART].to_vec()).await.unwrap();
    bucket.cloud.wait_for(|counts| counts.of(obsync_testcloud::Service::S3, "UploadPart") >= 2).await;
    assert!(bucket.object("a.bin").is_none());
    assert!(store.is_empty().await.unwrap());
    writer.write(content[3 * PART..].to_vec()).await.unwrap();
    let staged = writer.finish().await.unwrap();
    assert!(bucket.object("a.bin").is_none());
    publish_one(&store, staged, None).await.unwrap();
    assert_eq!(bucket.object("a.bin").unwrap().content, content);
    assert_eq!(bucket.open_uploads(), 0);
}

/// A writer that has taken three parts of four.
async fn half_written(store: &impl Destination) -> Box<dyn FileWriter> {
    let content = content(4 * PART);
    let mut writer = store.begin(&at("a.bin"), &meta(&content, TIME)).await.unwrap();
    writer.write(content[..3 * PART].to_vec()).await.unwrap();
    writer
}

#[tokio::test]
async fn a_content_that_breaks_off_is_aborted() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    let writer = half_written(&store).await;
    assert_eq!(bucket.open_uploads(), 1);
    drop(writer);
    store.end_run().await;
    assert_eq!(bucket.open_uploads(), 0);
    assert_eq!(bucket.count("AbortMultipartUpload"), 1);
}

#[tokio::test]
async fn a_content_that_is_staged_and_not_published_is_aborted_at_the_end_of_the_run() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    drop(stage(&store, "a.bin", &content(3 * PART), TIME).await);
    assert_eq!(bucket.open_uploads(), 1);
    store.end_run().await;
    assert_eq!(bucket.open_uploads(), 0);
    assert!(bucket.keys().is_empty());
}

#[tokio::test]
async fn a_publication_that_fails_is_aborted() {
    for operation in ["CompleteMultipartUpload", "HeadObject"] {
        let bucket = bucket().await;
        let store = bucket.store().await;
        let staged = stage(&store, "a.bin", &content(3 * PART), TIME).await;
        bucket.cloud.faults().update(|all| {
            all.s3 = faults(operation, |faults| faults.internal_error = Chance::always());
        });
        let failure = publish_one(&store, staged, None).await.unwrap_err();
        assert!(failure.error.is_fatal(), "{}", failure.error);
        store.end_run().await;
        assert_eq!(bucket.open_uploads(), 0, "{operation}");
        assert!(bucket.keys().is_empty());
    }
}

#[tokio::test]
async fn a_part_that_cannot_be_sent_ends_the_content_and_is_aborted() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|all| {
        all.s3 = faults("UploadPart", |faults| faults.throttled = Chance::always());
    });
    let content = content(4 * PART);
    let mut writer = store.begin(&at("a.bin"), &meta(&content, TIME)).await.unwrap();
    let mut failed = None;
    for part in content.chunks(PART) {
        if let Err(error) = writer.write(part.to_vec()).await {
            failed = Some(error);
            break;
        }
    }
    let error = failed.unwrap();
    assert!(error.is_fatal() && error.to_string().contains("throttles"), "{error}");
    drop(writer);
    store.end_run().await;
    assert_eq!(bucket.open_uploads(), 0);
}

#[tokio::test]
async fn parts_get_through_what_passes() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|all| {
        all.s3 = ServiceFaults {
            throttled: Chance::probability(0.2),
            internal_error: Chance::probability(0.1),
            lost_answer: Chance::probability(0.1),
            ..ServiceFaults::default()
        };
    });
    for number in 0..4 {
        let content = content(2 * PART + number);
        place(&store, &format!("{number}.bin"), &content, TIME, None).await;
        assert_eq!(bucket.object(&format!("{number}.bin")).unwrap().content, content);
    }
    store.end_run().await;
    bucket.cloud.faults().clear();
    // An upload whose beginning was never confirmed can be found only by listing.
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 0);
    assert_eq!(bucket.keys().len(), 4);
}

#[tokio::test]
async fn uploads_of_a_run_that_was_killed_are_aborted_by_a_later_one() {
    let bucket = bucket().await;
    // A killed process runs no destructors, and its background work ends with it.
    let killed = bucket.store().await;
    place(&killed, "a.bin", b"an earlier version", TIME, None).await;
    std::mem::forget(half_written(&killed).await);
    bucket.cloud.s3().put(BUCKET, "notes/other", b"foreign".to_vec(), &[]);
    assert_eq!(bucket.open_uploads(), 1);
    let store = bucket.store().await;
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 0);
}

#[tokio::test]
async fn uploads_of_others_are_left_to_them() {
    let bucket = bucket().await;
    let of = |vault: &str| {
        bucket.store_with(BucketOptions { vault: Some(vault.parse().unwrap()), ..bucket.options.clone() })
    };
    // Of another vault, and of an unknown owner.
    let other = of("other").await;
    place(&other, "a.bin", b"an earlier version", TIME, None).await;
    let mut writer = half_written(&other).await;
    let mut unknown = other.begin(&at("new.bin"), &meta(&content(2 * PART), TIME)).await.unwrap();
    unknown.write(content(2 * PART)).await.unwrap();
    of("ours").await.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 2);
    writer.write(content(4 * PART)[3 * PART..].to_vec()).await.unwrap();
    publish_one(&other, writer.finish().await.unwrap(), None).await.unwrap();
    publish_one(&other, unknown.finish().await.unwrap(), None).await.unwrap();
}

#[tokio::test]
async fn what_another_machine_may_still_be_writing_is_left_alone() {
    let patient = BucketOptions { abandoned_after: Duration::from_secs(3600), part_size: PART, ..options() };
    let bucket = S3Bucket::with(patient).await;
    let other = bucket.store().await;
    place(&other, "a.bin", b"an earlier version", TIME, None).await;
    let mut writer = half_written(&other).await;
    let store = bucket.store().await;
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 1);
    // It gets there.
    writer.write(content(4 * PART)[3 * PART..].to_vec()).await.unwrap();
    publish_one(&other, writer.finish().await.unwrap(), None).await.unwrap();
    assert_eq!(bucket.object("a.bin").unwrap().content, content(4 * PART));

    std::mem::forget(half_written(&other).await);
    bucket.cloud.s3().age_uploads(BUCKET, Duration::from_secs(3601));
    let store = bucket.store().await;
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 0);
}

#[tokio::test]
async fn a_run_whose_time_is_over_spares_the_uploads_of_its_successor() {
    let bucket = bucket().await;
    place(&bucket.store().await, "a.bin", b"an earlier version", TIME, None).await;
    let successor = bucket.store().await;
    std::mem::forget(half_written(&successor).await);
    let ended = SystemTime::now() - Duration::from_secs(5);
    let of = |end| bucket.store_with(BucketOptions { abandoned_before: end, ..bucket.options.clone() });
    of(Some(ended)).await.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 1);
    of(Some(SystemTime::now() + Duration::from_secs(5))).await.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 0);
}

#[tokio::test]
async fn without_the_right_to_list_uploads_the_run_still_ends_well() {
    let bucket = bucket().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|all| {
        all.s3 = faults("ListMultipartUploads", |faults| faults.forbidden = Chance::always());
    });
    store.discard_staged().await.unwrap();
}

#[tokio::test]
async fn no_upload_outlives_runs_that_are_killed_at_any_moment() {
    let bucket = bucket().await;
    let large = content(3 * PART);
    // The objects at their keys identify their owner.
    for path in ["large.bin", "copy.bin"] {
        place(&bucket.store().await, path, b"an earlier version", TIME, None).await;
    }
    for moment in 0..30 {
        let store = bucket.store().await;
        let run = async {
            place(&store, "small.md", format!("{moment}").as_bytes(), TIME + moment, None).await;
            place(&store, "large.bin", &large, TIME + moment, None).await;
            let copy = store.copy(&at("large.bin"), &at("copy.bin"), &meta(&large, TIME + moment)).await;
            publish_one(&store, copy.unwrap().unwrap(), None).await.unwrap();
        };
        // A dropped future stops in the middle of a request, as a killed process does.
        let _ = tokio::time::timeout(Duration::from_millis(7 * moment as u64), run).await;
        drop(store);
        for object in bucket.cloud.s3().files(BUCKET, &key("")) {
            let hash = object.metadata["sha256"].clone();
            assert_eq!(obsync_protocol::ContentHash::of(&object.content).to_string(), hash, "{}", object.key);
        }
    }
    let store = bucket.store().await;
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.open_uploads(), 0);
    assert!(bucket.keys().iter().all(|key| !key.starts_with(".obsync/")), "{:?}", bucket.keys());
}
