//! The conformance suite against a service of another maker: versitygw, MinIO, R2, …
//!
//! `OBSYNC_INTEROP_S3=http://127.0.0.1:7070 OBSYNC_INTEROP_KEY=… OBSYNC_INTEROP_SECRET=… cargo test --workspace --test bucket --
//! --ignored others`. The bucket `my-bucket` must be there; each run writes below prefixes of its own and leaves them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt};
use obsync_bucket::{BucketLocation, BucketOptions, BucketStore};
use obsync_conformance::{DestinationSite, at, check_destination, meta, place, publish_one, stage};
use obsync_core::{Destination, DestinationExt, KnownContent, Removable, Removal};

use crate::sites::{BUCKET, config, options};

/// A prefix of a bucket of another service.
struct Elsewhere {
    options: BucketOptions,
    key: String,
    secret: String,
    prefix: String,
    /// To look at it beside the store.
    beside: Arc<dyn ObjectStore>,
}

impl Elsewhere {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} must be set"));
        let (endpoint, key, secret) = (
            variable("OBSYNC_INTEROP_S3"),
            variable("OBSYNC_INTEROP_KEY"),
            variable("OBSYNC_INTEROP_SECRET"),
        );
        // The library's own client, which nothing else here makes, takes the process's provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let beside = AmazonS3Builder::new()
            .with_bucket_name(BUCKET)
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id(&key)
            .with_secret_access_key(&secret)
            .build()
            .unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let prefix = format!("my notes+/{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let options = BucketOptions { endpoint: Some(endpoint), ..options() };
        Elsewhere { options, key, secret, prefix, beside: Arc::new(beside) }
    }

    fn location(&self) -> BucketLocation {
        BucketLocation::parse(&format!("s3://{BUCKET}/{}", self.prefix)).unwrap()
    }

    fn at(&self, path: &str) -> Path {
        Path::parse(format!("{}/{path}", self.prefix)).unwrap()
    }
}

#[async_trait]
impl DestinationSite for Elsewhere {
    type Store = BucketStore;

    async fn open(&self) -> BucketStore {
        let config = config(&self.key, &self.secret);
        BucketStore::open_s3(&self.location(), self.options.clone(), &config).await.unwrap()
    }

    async fn plant(&self, path: &str, content: &[u8]) {
        self.beside.put(&self.at(path), content.to_vec().into()).await.unwrap();
    }

    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        Some(self.beside.get(&self.at(path)).await.ok()?.bytes().await.unwrap().to_vec())
    }

    async fn mtime(&self, path: &str) -> Option<i64> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.beside.get_opts(&self.at(path), options).await.ok()?;
        found.attributes.get(&Attribute::Metadata("mtime".into()))?.parse().ok()
    }

    fn has_folders(&self) -> bool {
        false
    }

    fn keeps_staged(&self) -> bool {
        false
    }
}

#[tokio::test]
#[ignore = "needs a service of another maker"]
async fn a_bucket_of_another_service_is_a_vault_store() {
    check_destination(async || Elsewhere::new()).await;
}

#[tokio::test]
#[ignore = "needs a service of another maker"]
async fn each_operation_works_with_another_service() {
    let site = Elsewhere::new();
    let store = site.open().await;
    let large = vec![7; 11 << 20];
    place(&store, "a b+c%20ü.md", b"text", 1, None).await;
    place(&store, "large.bin", &large, 1, None).await;
    for (from, to, content) in [("a b+c%20ü.md", "copy.md", &b"text"[..]), ("large.bin", "copy.bin", &large)]
    {
        let staged = store.copy(&at(from), &at(to), &meta(content, 2)).await.unwrap().unwrap();
        publish_one(&store, staged, None).await.unwrap();
    }
    // Somebody else writes in the moment between look and write, small and large.
    for (path, content) in [("copy.md", b"later".to_vec()), ("copy.bin", vec![8; 9 << 20])] {
        let staged = stage(&store, path, &content, 3).await;
        site.plant(path, b"somebody else's").await;
        let aside = publish_one(&store, staged, None).await.unwrap().conflict.unwrap();
        assert_eq!(site.content(aside.as_str()).await.as_deref(), Some(&b"somebody else's"[..]), "{path}");
        assert_eq!(site.content(path).await, Some(content), "{path}");
    }
    let mut listed: Vec<String> =
        store.list().await.unwrap().files.into_iter().map(|file| file.path).collect();
    listed.retain(|path| !path.contains("onflict"));
    listed.sort();
    assert_eq!(listed, ["a b+c%20ü.md", "copy.bin", "copy.md", "large.bin"]);
    let gone = ["a b+c%20ü.md", "copy.md"].map(|path| {
        let content: &[u8] = if path == "copy.md" { b"later" } else { b"text" };
        Removable { path: at(path), content: KnownContent::of(content) }
    });
    for removal in store.remove_files(gone.to_vec()).await {
        assert_eq!(removal.unwrap(), Removal::Removed);
    }
    store.discard_staged().await.unwrap();
    store.end_run().await;
    println!("{store:?}\nwarnings: {:?}", store.warnings());
}
