//! Sets the library's S3 client up like the AWS tools: region, address and credentials from the SDK's
//! standard chains.

use std::sync::Arc;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_types::service_config::ServiceConfigKey;
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpRequest, HttpRequestBody};
use object_store::signer::Method;
use obsync_core::ProblemCode;
use obsync_net::Network;

use super::address::{Address, Style};
use super::aws_http::AwsHttp;
use super::client::S3;
use super::credentials::Chain;
use crate::error::ConfigurationError;
use crate::http::Connector;
use crate::options::BucketOptions;
use crate::traffic::Traffic;

/// The region in signatures for a service of another vendor that ignores it.
const ANY_REGION: &str = "us-east-1";

/// The AWS SDK's findings in the environment: credentials, region, addresses. One can serve many stores and
/// clients.
pub async fn load_aws_config(http: AwsHttp) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest()).http_client(http.client()).load().await
}

/// Opens a bucket.
///
/// # Errors
///
/// A sentence about the fault of the configuration.
pub(crate) async fn open(
    bucket: &str,
    options: &BucketOptions,
    config: &SdkConfig,
    traffic: &Traffic,
) -> Result<S3, ConfigurationError> {
    let endpoint = endpoint(options, config);
    let plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let network = &options.network;
    // Without TLS no certificates are needed; a container may have none.
    let tls = if plain { Network::tls_for_nobody() } else { network.tls_for_aws() };
    let connector = Connector::new(tls, network, options.concurrency, traffic.clone())?;
    let region = match (config.region(), &endpoint) {
        (Some(region), _) => region.as_ref().to_owned(),
        (None, Some(_)) => ANY_REGION.to_owned(),
        (None, None) => region_of(bucket, &connector).await?,
    };
    let address = Address::of(bucket, &region, endpoint.as_deref(), style(config)?)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_allow_http(plain)
        .with_retry(options.retries.of_library())
        .with_credentials(Arc::new(Chain::new(config.credentials_provider())))
        .with_http_connector(connector.clone())
        // The library takes the bucket's address unchanged then, wherever the bucket is named in it.
        .with_virtual_hosted_style_request(true)
        .with_endpoint(&address.url);
    if let Some(key) = &options.sse_kms_key {
        builder = builder.with_sse_kms_encryption(key);
    }
    let store = builder.build().map_err(|error| format!("its configuration cannot be used: {error}"))?;
    Ok(S3 {
        store: Arc::new(store),
        http: connector.client().clone(),
        address,
        bucket: bucket.to_owned(),
        region,
        retries: options.retries,
        sse_kms_key: options.sse_kms_key.clone(),
        storage_class: options.storage_class.clone(),
        checksums: Arc::default(),
        encoding: Arc::default(),
    })
}

impl S3 {
    /// The library's store.
    pub(crate) fn store(&self) -> Arc<dyn object_store::ObjectStore> {
        self.store.clone()
    }
}

/// The address of the service, if it is not Amazon's. Empty variables count as unset, as in the SDK.
fn endpoint(options: &BucketOptions, config: &SdkConfig) -> Option<String> {
    let for_s3 = || std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|endpoint| !endpoint.is_empty());
    options.endpoint.clone().or_else(for_s3).or_else(|| config.endpoint_url().map(str::to_owned))
}

/// The addressing style by the environment and the profile.
fn style(config: &SdkConfig) -> Result<Style, String> {
    style_said(std::env::var("AWS_S3_ADDRESSING_STYLE").ok(), config)
}

/// The same with the value of the variable. An empty one counts as unset.
fn style_said(variable: Option<String>, config: &SdkConfig) -> Result<Style, String> {
    if let Some(style) = variable.filter(|style| !style.is_empty()) {
        return style.parse().map_err(|error| format!("AWS_S3_ADDRESSING_STYLE: {error}"));
    }
    let key = ServiceConfigKey::builder().service_id("s3").env("AWS_S3").profile("s3").build();
    let section = config.service_config().zip(key.ok()).and_then(|(found, key)| found.load_config(key));
    match section.as_deref().and_then(style_in) {
        Some(style) => style.parse().map_err(|error| format!("the AWS profile: {error}")),
        None => Ok(Style::Auto),
    }
}

/// The addressing style in the `s3` section of a profile: lines of names and values.
fn style_in(section: &str) -> Option<&str> {
    let mut settings = section.lines().filter_map(|line| line.split_once('='));
    settings.find(|(name, _)| name.trim() == "addressing_style").map(|(_, style)| style.trim())
}

/// The region of a bucket on Amazon S3, which the service reveals without credentials.
async fn region_of(bucket: &str, connector: &Connector) -> Result<String, ConfigurationError> {
    let unknown = || {
        let reason = "no region is set, and the bucket does not tell; set AWS_REGION".to_owned();
        ConfigurationError { code: ProblemCode::Region, reason }
    };
    let uri = format!("https://{bucket}.s3.amazonaws.com/").parse().map_err(|_| unknown())?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = uri;
    let answer = connector.client().execute(request).await.map_err(|_| unknown())?;
    let region = answer.headers().get("x-amz-bucket-region").and_then(|region| region.to_str().ok());
    region.map(str::to_owned).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    #[expect(deprecated, reason = "the crate that they moved to is no dependency")]
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};

    use super::*;

    #[expect(deprecated, reason = "the crate that they moved to is no dependency")]
    async fn config(profile: &str) -> SdkConfig {
        let files = ProfileFiles::builder().with_contents(ProfileFileKind::Config, profile).build();
        let config = aws_config::defaults(BehaviorVersion::latest()).profile_files(files);
        config.region("eu-central-1").no_credentials().load().await
    }

    #[tokio::test]
    async fn the_addressing_style_is_the_variables_or_else_the_profiles() {
        let by_profile =
            config("[default]\ns3 =\n  max_concurrent_requests = 20\n  addressing_style = virtual\n").await;
        assert_eq!(style_said(None, &by_profile), Ok(Style::Virtual));
        assert_eq!(style_said(Some(String::new()), &by_profile), Ok(Style::Virtual));
        assert_eq!(style_said(Some("path".to_owned()), &by_profile), Ok(Style::Path));
        assert!(
            style_said(Some("vhost".to_owned()), &by_profile)
                .unwrap_err()
                .contains("AWS_S3_ADDRESSING_STYLE")
        );
        let without = config("[default]\n").await;
        assert_eq!(style_said(None, &without), Ok(Style::Auto));
    }

    #[test]
    fn the_addressing_style_of_a_profile_is_found_among_other_settings() {
        assert_eq!(style_in("\nmax_concurrent_requests = 20\naddressing_style = virtual"), Some("virtual"));
        assert_eq!(style_in("max_concurrent_requests=20"), None);
        assert_eq!(style_in(""), None);
    }
}
