//! Files that the vault deleted are removed in bulk, or kept if configured so.

use obsync_bucket::BucketOptions;
use obsync_conformance::{at, place};
use obsync_core::{DestinationExt, KnownContent, Removable, Removal};
use obsync_testcloud::ServiceFaults;
use obsync_testkit::Chance;

use crate::buckets::{S3Bucket, options};

fn file(path: &str, content: &[u8]) -> Removable {
    Removable { path: at(path), content: KnownContent::of(content) }
}

#[tokio::test]
async fn many_files_are_removed_by_one_request() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let mut files = Vec::new();
    for number in 0..120 {
        let path = format!("{number}.md");
        place(&store, &path, path.as_bytes(), 1, None).await;
        files.push(file(&path, path.as_bytes()));
    }
    bucket.put("7.md", b"edited");
    let removals: Vec<Removal> =
        store.remove_files(files).await.into_iter().map(|removal| removal.unwrap()).collect();
    assert_eq!(removals[7], Removal::Kept);
    assert_eq!(removals.iter().filter(|removal| **removal == Removal::Removed).count(), 119);
    assert_eq!(bucket.keys(), ["7.md"]);
    assert_eq!(bucket.count("DeleteObjects"), 2, "one to find out about conditions");
}

#[tokio::test]
async fn what_is_to_be_kept_is_not_even_looked_at() {
    let bucket = S3Bucket::with(BucketOptions { keep_deleted: true, ..options() }).await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", 1, None).await;
    let before = store.requests();
    let removal = store.remove_files(vec![file("a.md", b"text")]).await.pop().unwrap().unwrap();
    assert_eq!(removal, Removal::Retained);
    assert_eq!(store.requests(), before);
    assert_eq!(bucket.keys(), ["a.md"]);
}

#[tokio::test]
async fn a_removal_that_fails_as_a_whole_is_told_for_each_file() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "b.md"] {
        place(&store, path, b"text", 1, None).await;
    }
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults {
            operations: vec!["DeleteObjects".to_owned()],
            throttled: Chance::always(),
            ..ServiceFaults::default()
        };
    });
    let answers =
        store.remove_files(vec![file("a.md", b"text"), file("gone.md", b"x"), file("b.md", b"text")]).await;
    assert!(answers[0].as_ref().is_err_and(obsync_core::DestinationError::is_fatal));
    assert!(matches!(answers[1], Ok(Removal::Missing)));
    assert!(answers[2].as_ref().is_err_and(obsync_core::DestinationError::is_fatal));
    assert_eq!(bucket.keys(), ["a.md", "b.md"]);
}
