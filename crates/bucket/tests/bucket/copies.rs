//! Copies are made by the service.

use std::time::Duration;

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::{at, meta, place, publish_one};
use obsync_core::{Destination, DestinationExt, Inspect, KnownContent, Receive, Removable, Removal};

use crate::buckets::{MemoryBucket, S3Bucket, options};

const TIME: i64 = 1_722_222_222_123;

#[tokio::test]
async fn a_copy_passes_nothing_through_here_and_carries_its_own_metadata() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "old/a.md", b"text", TIME, None).await;
    // The first copy probes how the service handles conditions of copies.
    let first = store.copy(&at("old/a.md"), &at("first.md"), &meta(b"text", TIME)).await;
    publish_one(&store, first.unwrap().unwrap(), None).await.unwrap();
    let before = bucket.cloud.counts();
    let copy = store.copy(&at("old/a.md"), &at("new/b.canvas"), &meta(b"text", TIME + 5)).await;
    publish_one(&store, copy.unwrap().unwrap(), None).await.unwrap();
    let counts = bucket.cloud.counts().since(&before);
    let of = |operation| counts.of(obsync_testcloud::Service::S3, operation);
    assert_eq!((of("GetObject"), of("PutObject"), of("CopyObject")), (0, 0, 1), "{counts}");
    let object = bucket.object("new/b.canvas").unwrap();
    assert_eq!(object.content, &b"text"[..]);
    assert_eq!(object.metadata["mtime"], (TIME + 5).to_string());
    assert_eq!(object.content_type.as_deref(), Some("application/json"));
    assert!(bucket.object("old/a.md").is_some());
}

#[tokio::test]
async fn a_copy_of_what_changed_meanwhile_is_not_made() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    for change in [Some(&b"TEXT"[..]), None] {
        let copy = store.copy(&at("a.md"), &at("b.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
        match change {
            Some(content) => bucket.put("a.md", content),
            None => bucket.delete("a.md"),
        };
        let failure = publish_one(&store, copy, None).await.unwrap_err();
        assert!(failure.error.to_string().contains("changed meanwhile"), "{}", failure.error);
        assert!(!failure.error.is_fatal());
        assert_eq!(bucket.object("b.md").map(|object| object.key), None);
        store.end_run().await;
        if change.is_some() {
            bucket.delete("a.md");
        }
        place(&store, "a.md", b"text", TIME, None).await;
    }
}

#[tokio::test]
async fn a_copy_that_outlasts_its_source_leaves_nothing_behind() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"one", TIME, None).await;
    let published = store.copy(&at("a.md"), &at("b.md"), &meta(b"one", TIME)).await.unwrap().unwrap();
    let _dropped = store.copy(&at("a.md"), &at("c.md"), &meta(b"one", TIME)).await.unwrap().unwrap();
    assert_eq!(bucket.keys(), ["a.md"], "nothing is copied as long as its source is there");
    remove(&store, "a.md", b"one").await;
    assert_eq!(bucket.keys().len(), 2);
    assert!(store.list().await.unwrap().files.is_empty(), "what is obsync's own is not the vault's");
    publish_one(&store, published, None).await.unwrap();
    store.end_run().await;
    assert_eq!(bucket.keys(), ["b.md"]);
}

async fn remove(store: &BucketDestination, path: &str, content: &[u8]) {
    let file = Removable { path: at(path), content: KnownContent::of(content) };
    assert_eq!(store.remove_files(vec![file]).await.pop().unwrap().unwrap(), Removal::Removed);
}

#[tokio::test]
async fn parked_copies_of_a_run_that_was_killed_are_removed_by_a_later_one() {
    let bucket = S3Bucket::new().await;
    let killed = bucket.store().await;
    place(&killed, "a.md", b"one", TIME, None).await;
    let _staged = killed.copy(&at("a.md"), &at("b.md"), &meta(b"one", TIME)).await.unwrap().unwrap();
    remove(&killed, "a.md", b"one").await;
    drop(killed);
    assert_eq!(bucket.keys().len(), 1);
    place(&bucket.store().await, "z.md", b"two", TIME, None).await;
    let store = bucket.store().await;
    assert!(!store.is_empty().await.unwrap());
    store.discard_staged().await.unwrap();
    assert_eq!(bucket.keys(), ["z.md"]);
}

#[tokio::test]
async fn parked_copies_of_a_machine_that_may_be_at_work_are_left_alone() {
    let bucket = S3Bucket::new().await;
    let other = bucket.store().await;
    place(&other, "a.md", b"one", TIME, None).await;
    let staged = other.copy(&at("a.md"), &at("b.md"), &meta(b"one", TIME)).await.unwrap().unwrap();
    remove(&other, "a.md", b"one").await;
    let patient = BucketOptions { abandoned_after: Duration::from_secs(3600), ..bucket.options.clone() };
    bucket.store_with(patient).await.discard_staged().await.unwrap();
    assert_eq!(bucket.keys().len(), 1);
    // It gets there.
    publish_one(&other, staged, None).await.unwrap();
    assert_eq!(bucket.keys(), ["b.md"]);
}

#[tokio::test]
async fn where_the_service_cannot_copy_with_metadata_a_large_content_still_gets_through() {
    let bucket = MemoryBucket::new();
    let store = bucket.open(obsync_bucket::BucketOptions { part_size: 5 << 20, ..options() });
    let content: Vec<u8> = (0..12 << 20).map(|byte: u32| (byte % 253) as u8).collect();
    place(&store, "a.bin", &content, TIME, None).await;
    let copy = store.copy(&at("a.bin"), &at("b.bin"), &meta(&content, TIME + 1)).await.unwrap().unwrap();
    publish_one(&store, copy, None).await.unwrap();
    use obsync_conformance::DestinationUnderTest as _;
    assert_eq!(bucket.content("b.bin").await.unwrap(), content);
    assert_eq!(bucket.mtime("b.bin").await, Some(TIME + 1));
}
