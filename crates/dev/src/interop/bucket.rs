//! A bucket of a real service, accessed only by the object store library, to judge obsync's results
//! independently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::path::Path;
use object_store::{Attribute, ObjectStore, ObjectStoreExt};
use obsync_bucket::{BucketLocation, Service};
use obsync_testcloud::StoredObject;

use super::remote_place::RemotePlace;

/// A bucket, found by the same variables as obsync's.
#[derive(Clone, Debug)]
pub(super) struct RemoteBucket {
    pub(super) destination: Arc<dyn ObjectStore>,
    /// Its location, such as `s3://bucket`.
    pub(super) place: String,
    sites: Arc<AtomicUsize>,
}

impl RemoteBucket {
    /// The bucket of a location.
    ///
    /// # Errors
    /// When the variables are incomplete, or the service is not supported here.
    pub(super) fn open(location: &BucketLocation) -> Result<Self> {
        let bucket = location.bucket();
        let (destination, scheme): (Arc<dyn ObjectStore>, _) = match location.service() {
            Service::S3 => {
                let endpoint = endpoint()?;
                let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
                (Arc::new(builder.with_endpoint(endpoint).with_allow_http(true).build()?), "s3")
            }
            Service::Azure => {
                let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
                (Arc::new(builder.with_allow_http(true).build()?), "az")
            }
            Service::Gcs | Service::Memory => bail!("only s3:// and az:// can be tried"),
        };
        Ok(Self { destination, place: format!("{scheme}://{bucket}"), sites: Arc::default() })
    }

    /// An empty place in it.
    pub(super) fn fresh_site(&self) -> RemotePlace {
        let number = self.sites.fetch_add(1, Ordering::Relaxed);
        RemotePlace { bucket: self.clone(), prefix: format!("conformance/{number}/My Vault") }
    }

    /// The files below a prefix, without obsync's own objects.
    pub(super) async fn files(&self, prefix: &str) -> Result<Vec<StoredObject>> {
        let listed: Vec<_> = self.destination.list(Some(&Path::parse(prefix)?)).try_collect().await?;
        let own = format!("{prefix}/.obsync/");
        let mut files = Vec::new();
        for meta in listed.into_iter().filter(|meta| !meta.location.as_ref().starts_with(&own)) {
            files.push(self.file(&meta.location).await?);
        }
        Ok(files)
    }

    async fn file(&self, key: &Path) -> Result<StoredObject> {
        let found = self.destination.get(key).await.with_context(|| format!("cannot read {key}"))?;
        let mut metadata = BTreeMap::new();
        let mut content_type = None;
        for (attribute, value) in &found.attributes {
            match attribute {
                Attribute::ContentType => content_type = Some(value.to_string()),
                Attribute::Metadata(name) => {
                    metadata.insert(name.to_lowercase(), value.to_string());
                }
                _ => {}
            }
        }
        let etag = found.meta.e_tag.clone().unwrap_or_default();
        let modified = found.meta.last_modified.into();
        let content = found.bytes().await?;
        Ok(StoredObject {
            key: key.to_string(),
            content,
            metadata,
            content_type,
            storage_class: None,
            encryption: None,
            kms_key: None,
            etag,
            modified,
            parts: None,
        })
    }
}

/// The address of the tested S3. It is never Amazon's.
pub(super) fn endpoint() -> Result<String> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL_S3").unwrap_or_default();
    if endpoint.is_empty() {
        bail!("AWS_ENDPOINT_URL_S3 is not set; it says which server is to be tried");
    }
    Ok(endpoint.trim_end_matches('/').to_owned())
}
