//! The objects of a vault in the bucket: keys, metadata, content types.

use obsync_bucket::BucketOptions;
use obsync_conformance::{at, place};
use obsync_core::{DestinationError, FileMeta, Inspect, Receive};
use obsync_protocol::{ContentHash, Uid};

use crate::buckets::{BUCKET, PREFIX, S3Bucket, key, options};

/// Stages and publishes a file with all its metadata.
async fn put(bucket: &S3Bucket, path: &str, content: &[u8], meta: FileMeta) {
    let store = bucket.store().await;
    let mut writer = store.begin(&at(path), &meta).await.unwrap();
    writer.write(content.to_vec()).await.unwrap();
    let staged = writer.finish().await.unwrap();
    obsync_conformance::publish_one(&store, staged, None).await.unwrap();
}

fn meta(content: &[u8]) -> FileMeta {
    FileMeta {
        hash: ContentHash::of(content),
        size: content.len() as u64,
        mtime: 1_722_222_222_123,
        ctime: -5,
        uid: Uid(77),
    }
}

#[tokio::test]
async fn an_object_says_what_it_is() {
    let bucket = S3Bucket::new().await;
    put(&bucket, "Ünïcode/My Note +%.md", b"text", meta(b"text")).await;
    let object = bucket.cloud.s3().object(BUCKET, "notes/My Vault/Ünïcode/My Note +%.md").unwrap();
    assert_eq!(object.content, &b"text"[..]);
    assert_eq!(object.content_type.as_deref(), Some("text/markdown"));
    let metadata: Vec<(&str, &str)> =
        object.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let hash = ContentHash::of(b"text").to_string();
    let expected = [
        ("ctime", "-5"),
        ("mtime", "1722222222123"),
        ("sha256", hash.as_str()),
        ("size", "4"),
        ("uid", "77"),
    ];
    assert_eq!(metadata, expected);
}

#[tokio::test]
async fn a_large_object_says_as_much_as_a_small_one() {
    let bucket = S3Bucket::with(BucketOptions { part_size: 5 << 20, ..options() }).await;
    let content = vec![7; 11 << 20];
    put(&bucket, "Film.mp4", &content, meta(&content)).await;
    let object = bucket.object("Film.mp4").unwrap();
    assert_eq!(object.content.len(), content.len());
    assert_eq!(object.content_type.as_deref(), Some("video/mp4"));
    assert_eq!(object.metadata["sha256"], ContentHash::of(&content).to_string());
    assert_eq!(object.metadata["uid"], "77");
    assert_eq!(bucket.count("UploadPart"), 3 + 1, "one to find out about conditions");
}

#[tokio::test]
async fn encryption_and_storage_class_are_as_asked_for_however_an_object_is_written() {
    let asked = BucketOptions {
        sse_kms_key: Some("arn:aws:kms:us-east-1:123456789012:key/my-key".to_owned()),
        storage_class: Some("STANDARD_IA".to_owned()),
        part_size: 5 << 20,
        ..options()
    };
    let bucket = S3Bucket::with(asked).await;
    put(&bucket, "small.md", b"text", meta(b"text")).await;
    let large = vec![7; 6 << 20];
    put(&bucket, "large.bin", &large, meta(&large)).await;
    let store = bucket.store().await;
    let copy = store.copy(&at("small.md"), &at("copy.md"), &meta(b"text")).await.unwrap().unwrap();
    obsync_conformance::publish_one(&store, copy, None).await.unwrap();
    for path in ["small.md", "large.bin", "copy.md"] {
        let object = bucket.object(path).unwrap();
        assert_eq!(object.storage_class.as_deref(), Some("STANDARD_IA"), "{path}");
        assert_eq!(object.encryption.as_deref(), Some("aws:kms"), "{path}");
        assert!(object.kms_key.is_some_and(|key| key.ends_with("my-key")), "{path}");
    }
}

#[tokio::test]
async fn what_is_beside_the_prefix_is_another_matter() {
    let bucket = S3Bucket::new().await;
    for key in ["other", "notes/My Vault 2/a.md", "notes/My Vaul", "notes/My Vault/"] {
        bucket.cloud.s3().put(BUCKET, key, b"foreign".to_vec(), &[]);
    }
    let store = bucket.store().await;
    assert!(store.is_empty().await.unwrap());
    place(&store, "a.md", b"text", 1, None).await;
    let listed = store.list().await.unwrap().files;
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].path.as_str(), listed[0].size), ("a.md", 4));
}

#[tokio::test]
async fn a_bucket_can_be_the_vaults_alone() {
    let bucket = S3Bucket::new().await;
    let location = obsync_bucket::BucketLocation::parse(&format!("s3://{BUCKET}")).unwrap();
    let (id, secret) = bucket.cloud.credentials();
    let config = crate::buckets::config(id, secret);
    let store =
        obsync_bucket::BucketDestination::open_s3(&location, bucket.options.clone(), &config).await.unwrap();
    assert!(store.is_empty().await.unwrap());
    place(&store, "a/b.md", b"text", 1, None).await;
    assert!(bucket.cloud.s3().object(BUCKET, "a/b.md").is_some());
    assert_eq!(store.list().await.unwrap().files[0].path, "a/b.md");
    store.discard_staged().await.unwrap();
    assert!(!store.is_empty().await.unwrap());
}

#[tokio::test]
async fn keys_that_no_vault_has_are_listed_and_left_alone() {
    let bucket = S3Bucket::new().await;
    for path in ["a//b", "/c", "..", "d/", "e\u{1}f", "x+y z%41"] {
        bucket.put(path, b"foreign");
    }
    let store = bucket.store().await;
    assert!(!store.is_empty().await.unwrap());
    let mut listed: Vec<String> =
        store.list().await.unwrap().files.into_iter().map(|file| file.path).collect();
    listed.sort();
    assert_eq!(listed, ["..", "/c", "a//b", "e\u{1}f", "x+y z%41"], "d/ is how a console shows a folder");
}

#[tokio::test]
async fn a_key_of_1024_bytes_is_written_and_a_longer_one_refused() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let longest = "n".repeat(1024 - PREFIX.len() - 1);
    place(&store, &longest, b"text", 1, None).await;
    assert_eq!(key(&longest).len(), 1024);
    assert!(bucket.object(&longest).is_some());
    let error = store.begin(&at(&format!("{longest}n")), &meta(b"text")).await.err().unwrap();
    assert!(matches!(error, DestinationError::NameTooLong { .. }), "{error}");
    assert!(!error.is_fatal());
}

#[tokio::test]
async fn obsyncs_own_folder_is_no_place_for_files() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let error = store.begin(&at(".obsync/a.md"), &meta(b"text")).await.err().unwrap();
    assert!(matches!(error, DestinationError::NameRefused { .. }), "{error}");
}
