//! Publishing many small files to a bucket of the loopback cloud's S3, compared with as many bare PUTs with
//! the same concurrency: the store's own cost.
//!
//! The service runs in this process, so the figures include both sides of every request.

#![expect(clippy::unwrap_used, reason = "in a benchmark a failure is told by a panic")]

use std::sync::Arc;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use futures_util::{StreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt};
use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions};
use obsync_core::{Describe, DestinationExt, Expect, FileMeta, Publication, PublicationContent, Receive};
use obsync_protocol::{ContentHash, Uid, VaultPath};
use obsync_testcloud::{Cloud, CloudOptions, Service};
use tokio::runtime::Runtime;

/// Files, and bytes of each.
const FILES: usize = 10_000;
const SIZE: usize = 2048;
/// Requests in flight.
const CONCURRENCY: usize = 16;
const BUCKET: &str = "bench";

fn main() {
    divan::main();
}

fn content(number: usize) -> Vec<u8> {
    let mut content = vec![b'x'; SIZE];
    content[..8].copy_from_slice(&(number as u64).to_le_bytes());
    content
}

/// A runtime and an empty bucket.
fn bucket() -> (Runtime, Cloud) {
    let runtime = Runtime::new().unwrap();
    let cloud = runtime.block_on(Cloud::start(CloudOptions::default())).unwrap();
    cloud.s3().create_bucket(BUCKET);
    (runtime, cloud)
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn bare_puts(bencher: divan::Bencher<'_, '_>) {
    bencher.counter(divan::counter::ItemsCount::new(FILES)).with_inputs(bucket).bench_local_values(
        |(runtime, cloud)| {
            runtime.block_on(async {
                let (id, secret) = cloud.credentials();
                let store = AmazonS3Builder::new()
                    .with_bucket_name(BUCKET)
                    .with_region(cloud.region())
                    .with_endpoint(cloud.endpoint(Service::S3))
                    .with_allow_http(true)
                    .with_access_key_id(id)
                    .with_secret_access_key(secret)
                    .with_http_connector(Plain)
                    .build()
                    .unwrap();
                let store: Arc<dyn ObjectStore> = Arc::new(store);
                stream::iter(0..FILES)
                    .map(|number| {
                        let store = store.clone();
                        async move {
                            let key = Path::from(format!("notes/{}/{number}.md", number % 100));
                            store.put(&key, content(number).into()).await.unwrap();
                        }
                    })
                    .buffer_unordered(CONCURRENCY)
                    .collect::<Vec<()>>()
                    .await;
            });
        },
    );
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn the_store(bencher: divan::Bencher<'_, '_>) {
    bencher
        .counter(divan::counter::ItemsCount::new(FILES))
        .with_inputs(bucket)
        .bench_local_values(|(runtime, cloud)| runtime.block_on(publish_all(&cloud)));
}

async fn publish_all(cloud: &Cloud) {
    let (id, secret) = cloud.credentials();
    let credentials = Credentials::new(id, secret, None, None, "bench");
    let config = SdkConfig::builder()
        .region(Region::new(cloud.region()))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let location = BucketLocation::parse(&format!("s3://{BUCKET}/notes")).unwrap();
    let options = BucketOptions {
        endpoint: Some(cloud.endpoint(Service::S3)),
        concurrency: CONCURRENCY,
        ..BucketOptions::default()
    };
    let store = BucketDestination::open_s3(&location, options, &config).await.unwrap();
    let files: Vec<usize> = (0..FILES).collect();
    for chunk in files.chunks(store.traits().batch_limit.files) {
        let mut batch = Vec::with_capacity(chunk.len());
        for number in chunk {
            let content = content(*number);
            let path = VaultPath::parse(&format!("{}/{number}.md", number % 100)).unwrap();
            let meta = FileMeta {
                hash: ContentHash::of(&content),
                size: content.len() as u64,
                mtime: 1,
                ctime: 1,
                uid: Uid(*number as u64),
            };
            let mut writer = store.begin(&path, &meta).await.unwrap();
            writer.write(content).await.unwrap();
            let content = PublicationContent::Staged(writer.finish().await.unwrap());
            batch.push(Publication { content, expect: Expect::Absent });
        }
        assert!(store.publish(batch).await.iter().all(Result::is_ok));
    }
}

/// The library's own HTTP client without certificates, which loopback does not need.
#[derive(Debug)]
struct Plain;

impl object_store::client::HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(plain_tls())
            .no_proxy()
            .http1_only()
            .build()
            .unwrap();
        Ok(object_store::client::HttpClient::new(client))
    }
}

fn plain_tls() -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
