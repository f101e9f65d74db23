//! A bucket as a whole and its settings, each an XML document of the S3 API that a query names
//! (`?versioning`).

use aws_config::SdkConfig;
use object_store::signer::Method;
use obsync_core::DestinationError;

use super::client::S3;
use super::request::Request;
use crate::error::{ConfigurationError, RequestError};
use crate::error_context::{Action, ErrorContext};
use crate::options::BucketOptions;
use crate::refusal::Operation;
use crate::traffic::Traffic;

/// Reads and writes the settings of an S3 bucket, by requests signed and retried like those for its objects.
#[derive(Debug)]
pub struct BucketSettings {
    s3: S3,
    errors: ErrorContext,
}

/// A request about a bucket or its settings that was refused or not answered.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct SettingsError {
    /// The status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// The service's code, such as `NoSuchLifecycleConfiguration`; empty if there is none.
    pub code: String,
    /// The same as an error of the bucket.
    pub source: DestinationError,
}

impl BucketSettings {
    /// The settings of this bucket, which need not exist. Sends no request yet.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if the configuration is unusable.
    pub async fn open(
        bucket: &str,
        options: &BucketOptions,
        config: &SdkConfig,
    ) -> Result<Self, DestinationError> {
        let errors = ErrorContext::new(format!("s3://{bucket}"));
        let traffic = Traffic::new(options.concurrency);
        match super::open::open(bucket, options, config, &traffic).await {
            Ok(s3) => {
                errors.at_address(s3.address().url.clone());
                Ok(BucketSettings { s3, errors })
            }
            Err(ConfigurationError { code, reason }) => Err(errors.unusable(code, reason)),
        }
    }

    /// Checks that the bucket exists and these credentials may look at it (HeadBucket). A refusal has no
    /// code.
    ///
    /// # Errors
    ///
    /// The refusal, or a missing answer.
    pub async fn head(&self) -> Result<(), SettingsError> {
        self.send(Action::Look, Request::of_bucket(Operation::Settings, Method::HEAD)).await.map(drop)
    }

    /// Creates the bucket, with this document (CreateBucket) or with none.
    ///
    /// # Errors
    ///
    /// As for [`head`](Self::head).
    pub async fn create(&self, document: &str) -> Result<(), SettingsError> {
        self.write(Request::of_bucket(Operation::Settings, Method::PUT), document).await
    }

    /// Reads the document of a setting.
    ///
    /// # Errors
    ///
    /// As for [`head`](Self::head).
    pub async fn get(&self, setting: &'static str) -> Result<String, SettingsError> {
        let request = Request::of_bucket(Operation::Settings, Method::GET).query(setting, "");
        self.send(Action::SetUp, request).await
    }

    /// Replaces the document of a setting.
    ///
    /// # Errors
    ///
    /// As for [`head`](Self::head).
    pub async fn put(&self, setting: &'static str, document: &str) -> Result<(), SettingsError> {
        self.write(Request::of_bucket(Operation::Settings, Method::PUT).query(setting, ""), document).await
    }

    async fn write(&self, request: Request, document: &str) -> Result<(), SettingsError> {
        let request = request.body(document.to_owned().into_bytes().into(), None);
        // S3 demands a checksum of most settings (S3 API reference, PutBucketLifecycleConfiguration).
        let request = request.with_checksum().map_err(|error| self.error(Action::SetUp, &error))?;
        self.send(Action::SetUp, request).await.map(drop)
    }

    async fn send(&self, action: Action, request: Request) -> Result<String, SettingsError> {
        match self.s3.send(request).await {
            Ok(answer) => Ok(answer.body),
            Err(error) => Err(self.error(action, &error)),
        }
    }

    fn error(&self, action: Action, error: &RequestError) -> SettingsError {
        SettingsError {
            status: error.status(),
            code: error.code().unwrap_or_default().to_owned(),
            source: self.errors.bucket_error(action, error),
        }
    }
}
