//! Lower bound of transfers to S3: bare `PutObject`s of the same bytes, as many at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt};
use obsync_testcloud::{Cloud, Service, StoredObject};

/// Concurrent puts, as in obsync without round trips.
const NEAR: usize = 16;
/// The same with round trips (the default of `BucketOptions::concurrency`).
const FAR: usize = 64;

/// The bucket that is created for it, and removed.
const BUCKET: &str = "floor";

/// Puts copies of these objects into a separate bucket, and returns the time.
pub(super) async fn of(cloud: &Cloud, is_near: bool, objects: Vec<StoredObject>) -> Result<Duration> {
    cloud.s3().create_bucket(BUCKET);
    let store = Arc::new(client(cloud)?);
    let begun = Instant::now();
    stream::iter(objects)
        .map(|object| {
            let store = Arc::clone(&store);
            async move { store.put(&Path::from(object.key), object.content.into()).await }
        })
        .buffer_unordered(if is_near { NEAR } else { FAR })
        .try_for_each(|_| async { Ok(()) })
        .await
        .context("cannot put an object")?;
    let took = begun.elapsed();
    cloud.s3().remove_bucket(BUCKET);
    Ok(took)
}

fn client(cloud: &Cloud) -> Result<AmazonS3> {
    let (id, secret) = cloud.credentials();
    AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_region(cloud.region())
        .with_endpoint(cloud.endpoint(Service::S3))
        .with_allow_http(true)
        .with_access_key_id(id)
        .with_secret_access_key(secret)
        .with_http_connector(Plain)
        .build()
        .context("cannot make a client of S3")
}

/// The library's own HTTP client without certificates, which loopback does not need.
#[derive(Debug)]
struct Plain;

impl HttpConnector for Plain {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic {
            store: "S3",
            source,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.into()))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .http1_only()
            .build()
            .map_err(|error| failed(error.into()))?;
        Ok(HttpClient::new(client))
    }
}
