//! Buckets for tests, and access to them that bypasses the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt};
use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions, Retries};
use obsync_conformance::DestinationUnderTest;
use obsync_testcloud::{Cloud, CloudOptions, Service, StoredObject};

/// The bucket of every test.
pub(crate) const BUCKET: &str = "my-bucket";
/// The start of the keys of every test.
pub(crate) const PREFIX: &str = "notes/My Vault";

/// The vault's location.
pub(crate) fn location() -> BucketLocation {
    BucketLocation::parse(&format!("s3://{BUCKET}/{PREFIX}")).unwrap()
}

/// The key of a file.
pub(crate) fn key(path: &str) -> String {
    format!("{PREFIX}/{path}")
}

/// Options with short waits.
pub(crate) fn options() -> BucketOptions {
    let retries = Retries { most: 4, within: Duration::from_secs(20), first_pause: Duration::from_millis(2) };
    BucketOptions { retries, abandoned_after: Duration::ZERO, ..BucketOptions::default() }
}

pub(crate) struct MemoryBucket {
    pub(crate) store: InMemory,
}

impl MemoryBucket {
    pub(crate) fn new() -> Self {
        MemoryBucket { store: InMemory::new() }
    }

    pub(crate) fn open(&self, options: BucketOptions) -> BucketDestination {
        BucketDestination::over(Arc::new(self.store.clone()), &location(), options)
    }

    /// Removes an object, as somebody other than obsync would.
    pub(crate) async fn remove(&self, path: &str) {
        let _ = self.store.delete(&Path::parse(key(path)).unwrap()).await;
    }
}

#[async_trait]
impl DestinationUnderTest for MemoryBucket {
    type Store = BucketDestination;

    async fn open(&self) -> BucketDestination {
        self.open(options())
    }

    async fn plant(&self, path: &str, content: &[u8]) {
        self.store.put(&Path::parse(key(path)).unwrap(), content.to_vec().into()).await.unwrap();
    }

    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        let found = self.store.get(&Path::parse(key(path)).unwrap()).await.ok()?;
        Some(found.bytes().await.unwrap().to_vec())
    }

    async fn mtime(&self, path: &str) -> Option<i64> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.store.get_opts(&Path::parse(key(path)).unwrap(), options).await.ok()?;
        found.attributes.get(&Attribute::Metadata("mtime".into()))?.parse().ok()
    }

    fn has_folders(&self) -> bool {
        false
    }

    fn keeps_staged(&self) -> bool {
        false
    }

    fn says_versions(&self) -> bool {
        true
    }
}

/// A bucket of the loopback cloud's S3.
pub(crate) struct S3Bucket {
    pub(crate) cloud: Cloud,
    pub(crate) options: BucketOptions,
}

impl S3Bucket {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: BucketOptions) -> Self {
        let cloud = Cloud::start(CloudOptions::default()).await.unwrap();
        cloud.s3().create_bucket(BUCKET);
        S3Bucket { options: BucketOptions { endpoint: Some(cloud.endpoint(Service::S3)), ..options }, cloud }
    }

    /// The store, opened as by a new run.
    pub(crate) async fn store(&self) -> BucketDestination {
        self.store_with(self.options.clone()).await
    }

    pub(crate) async fn store_with(&self, options: BucketOptions) -> BucketDestination {
        let (key, secret) = self.cloud.credentials();
        BucketDestination::open_s3(&location(), options, &config(key, secret)).await.unwrap()
    }

    pub(crate) fn object(&self, path: &str) -> Option<StoredObject> {
        self.cloud.s3().object(BUCKET, &key(path))
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.object(path).map(|object| String::from_utf8(object.content.to_vec()).unwrap())
    }

    /// Puts an object there, as somebody other than obsync would.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        self.cloud.s3().put(BUCKET, &key(path), content.to_vec(), &[]);
    }

    /// Removes an object, as somebody other than obsync would.
    pub(crate) fn delete(&self, path: &str) {
        assert!(self.cloud.s3().delete(BUCKET, &key(path)), "{path} is there");
    }

    /// All keys without the prefix, sorted, including obsync's own objects except the marker.
    pub(crate) fn keys(&self) -> Vec<String> {
        let objects = self.cloud.s3().files(BUCKET, "");
        let below = |object: StoredObject| object.key.strip_prefix(&format!("{PREFIX}/")).unwrap().to_owned();
        let mut keys: Vec<String> = objects.into_iter().map(below).collect();
        keys.sort();
        keys
    }

    /// Number of requests of one kind.
    pub(crate) fn count(&self, operation: &str) -> u64 {
        self.cloud.counts().of(Service::S3, operation)
    }

    /// Number of uploads that are neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        self.cloud.s3().uploads(BUCKET).len()
    }
}

/// The AWS SDK's configuration for an environment with these credentials.
pub(crate) fn config(key: &str, secret: &str) -> SdkConfig {
    let credentials = Credentials::new(key, secret, None, None, "test");
    SdkConfig::builder()
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

#[async_trait]
impl DestinationUnderTest for S3Bucket {
    type Store = BucketDestination;

    async fn open(&self) -> BucketDestination {
        self.store().await
    }

    async fn plant(&self, path: &str, content: &[u8]) {
        self.put(path, content);
    }

    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.object(path).map(|object| object.content.to_vec())
    }

    async fn mtime(&self, path: &str) -> Option<i64> {
        self.object(path)?.metadata.get("mtime")?.parse().ok()
    }

    fn has_folders(&self) -> bool {
        false
    }

    fn keeps_staged(&self) -> bool {
        false
    }

    fn says_versions(&self) -> bool {
        true
    }
}
