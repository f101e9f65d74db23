//! Opens buckets of the different services.

use std::sync::Arc;

#[cfg(feature = "s3")]
use aws_config::SdkConfig;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use obsync_core::DestinationError;

use super::BucketDestination;
use super::context::Context;
use super::error::ConfigurationError;
use super::location::{BucketLocation, Service};
use super::objects::Objects;
use super::options::BucketOptions;
use super::traffic::Traffic;

impl BucketDestination {
    /// Opens a bucket, configured from the environment like the service's own tools. Sends no request yet
    /// (except for the region of a bucket on Amazon S3, if none is set).
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if the configuration is unusable, or this program was built without
    /// the service.
    pub async fn open(location: &BucketLocation, options: BucketOptions) -> Result<Self, DestinationError> {
        match location.service() {
            Service::S3 => open_s3(location, options).await,
            Service::Gcs | Service::Azure | Service::Memory => {
                let options = options.in_bounds();
                let traffic = Traffic::new(options.concurrency);
                let store = open_other(location, &options, &traffic)
                    .map_err(|reason| unavailable(location, reason))?;
                Ok(Self::with(location, Objects::new(store, &options), options, traffic))
            }
        }
    }

    /// Opens an S3 bucket with a configuration that was [loaded](super::load_aws_config) before.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    #[cfg(feature = "s3")]
    pub async fn open_s3(
        location: &BucketLocation,
        options: BucketOptions,
        config: &SdkConfig,
    ) -> Result<Self, DestinationError> {
        if location.service() != Service::S3 {
            return Self::open(location, options).await;
        }
        let options = options.in_bounds();
        let traffic = Traffic::new(options.concurrency);
        let s3 = super::s3::open(location.bucket(), &options, config, &traffic)
            .await
            .map_err(|error| unavailable(location, error))?;
        Ok(Self::with(location, Objects::of_s3(s3, &options), options, traffic))
    }

    /// A vault in an object store that is open already. There, copies with new metadata pass through this
    /// process.
    pub fn over(store: Arc<dyn ObjectStore>, location: &BucketLocation, options: BucketOptions) -> Self {
        let options = options.in_bounds();
        let traffic = Traffic::new(options.concurrency);
        Self::with(location, Objects::new(store, &options), options, traffic)
    }

    fn with(location: &BucketLocation, objects: Objects, options: BucketOptions, traffic: Traffic) -> Self {
        BucketDestination { context: Context::new(location.clone(), options, objects, traffic) }
    }
}

#[cfg(feature = "s3")]
async fn open_s3(
    location: &BucketLocation,
    options: BucketOptions,
) -> Result<BucketDestination, DestinationError> {
    let http =
        super::AwsHttp::new(&options.network).map_err(|error| unavailable(location, error.to_string()))?;
    Box::pin(BucketDestination::open_s3(location, options, &super::load_aws_config(http).await)).await
}

#[cfg(not(feature = "s3"))]
async fn open_s3(
    location: &BucketLocation,
    _options: BucketOptions,
) -> Result<BucketDestination, DestinationError> {
    Err(unavailable(location, built_without("S3")))
}

fn open_other(
    location: &BucketLocation,
    options: &BucketOptions,
    traffic: &Traffic,
) -> Result<Arc<dyn ObjectStore>, String> {
    match location.service() {
        Service::Gcs => open_gcs(location, options, traffic),
        Service::Azure => open_azure(location, options, traffic),
        Service::Memory | Service::S3 => Ok(Arc::new(InMemory::new())),
    }
}

#[cfg(any(feature = "gcs", feature = "azure"))]
fn connector(options: &BucketOptions, traffic: &Traffic) -> Result<super::http::Connector, String> {
    let network = &options.network;
    super::http::Connector::new(network.tls(), network, options.concurrency, traffic.clone())
}

#[cfg(feature = "gcs")]
fn open_gcs(
    location: &BucketLocation,
    options: &BucketOptions,
    traffic: &Traffic,
) -> Result<Arc<dyn ObjectStore>, String> {
    let store = object_store::gcp::GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(location.bucket())
        .with_retry(options.retries.of_library())
        .with_http_connector(connector(options, traffic)?)
        .build()
        .map_err(|error| format!("its configuration cannot be used: {error}"))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(_: &BucketLocation, _: &BucketOptions, _: &Traffic) -> Result<Arc<dyn ObjectStore>, String> {
    Err(built_without("Google Cloud Storage"))
}

#[cfg(feature = "azure")]
fn open_azure(
    location: &BucketLocation,
    options: &BucketOptions,
    traffic: &Traffic,
) -> Result<Arc<dyn ObjectStore>, String> {
    let store = object_store::azure::MicrosoftAzureBuilder::from_env()
        .with_container_name(location.bucket())
        .with_retry(options.retries.of_library())
        .with_http_connector(connector(options, traffic)?)
        .build()
        .map_err(|error| format!("its configuration cannot be used: {error}"))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "azure"))]
fn open_azure(_: &BucketLocation, _: &BucketOptions, _: &Traffic) -> Result<Arc<dyn ObjectStore>, String> {
    Err(built_without("Azure Blob Storage"))
}

#[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
fn built_without(service: &str) -> String {
    format!("this obsync was built without {service}; choose another destination, or a build that has it")
}

fn unavailable(location: &BucketLocation, error: impl Into<ConfigurationError>) -> DestinationError {
    let ConfigurationError { code, reason } = error.into();
    DestinationError::Unavailable { location: location.to_string(), reason, code }
}
