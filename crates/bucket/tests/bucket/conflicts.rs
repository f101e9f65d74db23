//! Objects that somebody else wrote are never lost.

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::{Placed, at, meta, place, publish_one, stage};
use obsync_core::{
    DestinationError, DestinationExt, Expect, FileMeta, Inspect, KnownContent, Publication,
    PublicationContent, Receive,
};
use obsync_protocol::{ContentHash, Uid, VaultId};
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::Chance;

use crate::buckets::{S3Bucket, options};
use crate::unconditional::Unconditional;

const TIME: i64 = 1_722_222_222_123;

#[tokio::test]
async fn what_obsync_wrote_in_an_earlier_life_is_replaced() {
    let bucket = S3Bucket::new().await;
    place(&bucket.store().await, "a.md", b"first", TIME, None).await;
    // The state was lost: the caller has no expectation about the object.
    assert_eq!(place(&bucket.store().await, "a.md", b"second", TIME, None).await.conflict, None);
    assert_eq!(bucket.keys(), ["a.md"]);
    assert_eq!(bucket.text("a.md").as_deref(), Some("second"));
}

#[tokio::test]
async fn what_lost_its_metadata_is_known_by_its_content() {
    let bucket = S3Bucket::new().await;
    // As another tool leaves a vault after copying it from bucket to bucket.
    bucket.put("a.md", b"first, and longer");
    let store = bucket.store().await;
    assert_eq!(place(&store, "a.md", b"second", TIME, Some(b"first, and longer")).await.conflict, None);
    assert_eq!(bucket.keys(), ["a.md"]);
    assert!(bucket.object("a.md").unwrap().metadata.contains_key("sha256"));
}

#[tokio::test]
async fn a_foreign_object_is_kept_whole_with_its_metadata() {
    let bucket = S3Bucket::new().await;
    let put = |content: &[u8], name: &str, value: &str| {
        bucket.cloud.s3().put(
            crate::buckets::BUCKET,
            &crate::buckets::key("a.md"),
            content.to_vec(),
            &[(name, value)],
        );
    };
    put(b"foreign", "author", "somebody");
    let store = bucket.store().await;
    let aside = place(&store, "a.md", b"ours", TIME, None).await.conflict.unwrap();
    let kept = bucket.object(aside.as_str()).unwrap();
    assert_eq!(kept.content, &b"foreign"[..]);
    assert_eq!(kept.metadata["author"], "somebody");
    assert_eq!(bucket.count("GetObject"), 0, "the copy is the service's work");

    // And once more within the same minute.
    put(b"another", "author", "somebody else");
    let again = place(&store, "a.md", b"ours", TIME, Some(b"ours")).await.conflict.unwrap();
    assert_ne!(again, aside);
    assert_eq!(bucket.object(again.as_str()).unwrap().metadata["author"], "somebody else");
    assert_eq!(bucket.text("a.md").as_deref(), Some("ours"));
    assert_eq!(bucket.keys().len(), 3);
}

#[tokio::test]
async fn what_is_written_between_looking_and_writing_is_kept() {
    for large in [false, true] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        place(&store, "a.md", b"first", TIME, None).await;
        // The store has looked, and then somebody else writes.
        let wanted = obsync_core::Wanted { path: at("a.md"), hash: ContentHash::of(b"x"), size: 5 };
        store.holds(vec![wanted]).await.unwrap();
        let content = if large { vec![1; 9 << 20] } else { b"second".to_vec() };
        let staged = stage(&store, "a.md", &content, TIME).await;
        bucket.put("a.md", b"edited meanwhile");
        let published = publish_one(&store, staged, Some(KnownContent::of(b"first"))).await.unwrap();
        let aside = published.conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("edited meanwhile"));
        assert_eq!(bucket.object("a.md").unwrap().content, content);
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_no_conflict() {
    for (operation, size) in [("PutObject", 6), ("CompleteMultipartUpload", 9 << 20)] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        // Avoids probing of conditions: the first answer is the file's.
        assert!(store.is_empty().await.unwrap());
        let content = vec![1; size];
        let staged = stage(&store, "a.md", &content, TIME).await;
        bucket.cloud.faults().update(|faults| {
            faults.s3 = ServiceFaults {
                operations: vec![operation.to_owned()],
                lost_answer: Chance::next(1),
                ..ServiceFaults::default()
            };
        });
        // The retry finds the object, and it is ours.
        assert_eq!(publish_one(&store, staged, None).await.unwrap().conflict, None, "{operation}");
        assert_eq!(bucket.keys(), ["a.md"]);
        assert_eq!(bucket.object("a.md").unwrap().content, content);
        assert_eq!(bucket.open_uploads(), 0);
    }
}

#[tokio::test]
async fn times_are_not_set_on_what_somebody_else_wrote() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    bucket.put("a.md", b"edited");
    let in_place = PublicationContent::InPlace { path: at("a.md"), meta: meta(b"text", TIME + 1) };
    let publication = Publication { content: in_place, expect: Expect::Content(KnownContent::of(b"text")) };
    let answer = store.publish(vec![publication]).await.pop().unwrap();
    assert!(!answer.unwrap_err().error.is_fatal());
    assert_eq!(bucket.text("a.md").as_deref(), Some("edited"));
    assert!(bucket.object("a.md").unwrap().metadata.is_empty());
}

#[tokio::test]
async fn a_service_without_conditional_writes_is_asked_first() {
    let bucket = S3Bucket::new().await;
    let paths: Vec<String> = (0..40).map(|number| format!("{number:02}.md")).collect();
    for path in &paths[10..] {
        bucket.put(path, format!("foreign {path}").as_bytes());
    }
    let refusing = Unconditional::before(&bucket.cloud.endpoint(Service::S3)).await;
    let options = BucketOptions { endpoint: Some(refusing), ..bucket.options.clone() };
    let store = bucket.store_with(options).await;
    assert!(!store.is_empty().await.unwrap());
    for path in &paths {
        let foreign = (*path >= paths[10]).then(|| format!("foreign {path}"));
        let placed = place(&store, path, b"ours", TIME, None).await;
        let kept = placed.conflict.map(|aside| bucket.text(aside.as_str()).unwrap());
        assert_eq!((kept, bucket.text(path).as_deref()), (foreign, Some("ours")), "{path}");
    }
}

fn id(vault: &str) -> Option<VaultId> {
    Some(vault.parse().unwrap())
}

/// Places version `uid` of a file.
async fn place_version(
    store: &BucketDestination,
    content: &[u8],
    uid: u64,
) -> Result<Placed, DestinationError> {
    let meta = FileMeta { uid: Uid(uid), ..meta(content, TIME) };
    let mut writer = store.begin(&at("a.md"), &meta).await.unwrap();
    writer.write(content.to_vec()).await.unwrap();
    let staged = writer.finish().await.unwrap();
    publish_one(store, staged, None).await.map_err(|failure| failure.error)
}

#[tokio::test]
async fn a_later_version_of_the_same_vault_replaces_an_earlier_one_and_never_the_other_way_round() {
    for vault in [None, id("one")] {
        let bucket = S3Bucket::with(BucketOptions { vault: vault.clone(), ..options() }).await;
        // Of an earlier life, of which nothing is recorded any more.
        place_version(&bucket.store().await, b"early", 5).await.unwrap();
        let published = place_version(&bucket.store().await, b"late", 9).await.unwrap();
        assert_eq!(published.conflict, None);
        assert_eq!(
            bucket.object("a.md").unwrap().metadata.get("vault").cloned(),
            vault.map(|vault| vault.to_string())
        );

        // A zombie with outdated knowledge.
        let error = place_version(&bucket.store().await, b"between", 7).await.unwrap_err();
        assert!(matches!(error, DestinationError::Changed { version: Some(Uid(9)), .. }), "{error:?}");
        assert_eq!(bucket.text("a.md").as_deref(), Some("late"));
        assert_eq!(bucket.keys(), ["a.md"]);
    }
}

#[tokio::test]
async fn what_another_vault_put_there_is_kept_as_a_conflicted_copy() {
    let bucket = S3Bucket::new().await;
    let of = |vault| bucket.store_with(BucketOptions { vault: id(vault), ..bucket.options.clone() });
    place_version(&of("one").await, b"of one", 5).await.unwrap();
    // Whichever uid is higher: uids of different vaults are unrelated.
    for (vault, uid, content, before) in [("two", 9, b"of two", "of one"), ("three", 3, b"of 2nd", "of two")]
    {
        let aside = place_version(&of(vault).await, content, uid).await.unwrap().conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some(before));
        assert_eq!(bucket.object("a.md").unwrap().content, &content[..]);
    }
    // The same content cannot be lost.
    assert_eq!(place_version(&of("four").await, b"of 2nd", 1).await.unwrap().conflict, None);
}

#[tokio::test]
async fn times_are_set_though_the_answer_is_lost() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    lose_the_answer_of_a_copy(&bucket);
    let in_place = PublicationContent::InPlace { path: at("a.md"), meta: meta(b"text", TIME + 1) };
    let publication = Publication { content: in_place, expect: Expect::Content(KnownContent::of(b"text")) };
    store.publish(vec![publication]).await.pop().unwrap().unwrap();
    assert_eq!(bucket.object("a.md").unwrap().metadata["mtime"], (TIME + 1).to_string());
}

#[tokio::test]
async fn one_copy_is_kept_aside_though_the_answer_is_lost() {
    let bucket = S3Bucket::new().await;
    bucket.put("a.md", b"foreign");
    lose_the_answer_of_a_copy(&bucket);
    let aside = place(&bucket.store().await, "a.md", b"ours", TIME, None).await.conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("foreign"));
    assert_eq!(bucket.keys().len(), 2);
}

fn lose_the_answer_of_a_copy(bucket: &S3Bucket) {
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults {
            operations: vec!["CopyObject".to_owned()],
            lost_answer: Chance::next(1),
            ..ServiceFaults::default()
        };
    });
}
