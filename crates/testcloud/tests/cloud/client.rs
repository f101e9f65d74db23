//! The real clients, connected to a cloud.

use std::error::Error;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use obsync_testcloud::{Cloud, CloudFaults, CloudOptions, Service};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) const BUCKET: &str = "notes";

/// A cloud with one empty bucket.
pub(crate) async fn cloud() -> Outcome<Cloud> {
    let cloud = Cloud::start(CloudOptions::default()).await?;
    cloud.s3().create_bucket(BUCKET);
    Ok(cloud)
}

/// Sets these faults and no others: earlier ones would restart, used up or not.
pub(crate) fn only(cloud: &Cloud, change: impl FnOnce(&mut CloudFaults)) {
    let mut faults = CloudFaults::default();
    change(&mut faults);
    cloud.faults().set(faults);
}

fn http() -> SharedHttpClient {
    Builder::new().build_http()
}

fn credentials(cloud: &Cloud) -> Credentials {
    let (key, secret) = cloud.credentials();
    Credentials::from_keys(key, secret, None)
}

fn region(cloud: &Cloud) -> Region {
    Region::new(cloud.region())
}

/// A client for S3 that signs with these keys.
pub(crate) fn s3_with(cloud: &Cloud, credentials: Credentials) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http())
        .endpoint_url(cloud.endpoint(Service::S3))
        .force_path_style(true)
        .credentials_provider(credentials)
        .region(region(cloud))
        // Tests count attempts themselves.
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

pub(crate) fn s3(cloud: &Cloud) -> aws_sdk_s3::Client {
    s3_with(cloud, credentials(cloud))
}

pub(crate) fn dynamodb(cloud: &Cloud) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http())
        .endpoint_url(cloud.endpoint(Service::DynamoDb))
        .credentials_provider(credentials(cloud))
        .region(region(cloud))
        .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

pub(crate) fn secrets_manager(cloud: &Cloud) -> aws_sdk_secretsmanager::Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http())
        .endpoint_url(cloud.endpoint(Service::SecretsManager))
        .credentials_provider(credentials(cloud))
        .region(region(cloud))
        .retry_config(aws_sdk_secretsmanager::config::retry::RetryConfig::disabled())
        .build();
    aws_sdk_secretsmanager::Client::from_conf(config)
}

/// A client for Lambda at this address, which a function knows only by its variables.
pub(crate) fn lambda_at(endpoint: &str, credentials: Credentials) -> aws_sdk_lambda::Client {
    let config = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http())
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .region(Region::new("us-east-1"))
        .retry_config(aws_sdk_lambda::config::retry::RetryConfig::disabled())
        .build();
    aws_sdk_lambda::Client::from_conf(config)
}

pub(crate) fn lambda(cloud: &Cloud) -> aws_sdk_lambda::Client {
    lambda_at(&cloud.endpoint(Service::Lambda), credentials(cloud))
}

/// The error code of a service's answer; the debug form of any other outcome.
pub(crate) fn code<T, E: ProvideErrorMetadata>(outcome: Result<T, SdkError<E>>) -> String {
    match outcome {
        Ok(_) => "no error".to_owned(),
        Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
            Some(code) => code.to_owned(),
            None => format!("no answer: {}", error_kind(&error)),
        },
    }
}

fn error_kind<E>(error: &SdkError<E>) -> &'static str {
    match error {
        SdkError::DispatchFailure(_) => "connection",
        SdkError::TimeoutError(_) => "time",
        SdkError::ServiceError(_) => "status",
        _ => "other",
    }
}
