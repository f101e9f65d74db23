//! Making a bucket of S3 for vaults: what `obsync aws init` does, or would do.
//!
//! A bucket that is there already keeps its objects and every setting that is not in the list of steps; rules of its
//! lifecycle stay beside the one that is added.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, Region};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    BucketVersioningStatus, CreateBucketConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};
use obsync_core::StoreError;

use super::s3::configured_endpoint;
use super::trouble::{Action, Kind, Site, Trouble};

/// The region that is not named when a bucket is made in it (S3 API reference, "CreateBucket").
const UNNAMED_REGION: &str = "us-east-1";
/// The name of the lifecycle rule that is added.
const RULE: &str = "obsync-abort-unfinished-uploads";
/// After how many days an upload that nobody finished is aborted.
const UPLOAD_DAYS: i32 = 1;

/// Something to be done before a bucket is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketStep {
    /// Make the bucket.
    Create,
    /// Close it to the public.
    BlockPublicAccess,
    /// Keep earlier versions of objects.
    KeepVersions,
    /// Encrypt objects that do not say how.
    Encrypt,
    /// Have uploads aborted that nobody finished.
    AbortUploads,
}

impl BucketStep {
    /// All steps, in the order in which they are done.
    const ALL: [BucketStep; 5] = [
        BucketStep::Create,
        BucketStep::BlockPublicAccess,
        BucketStep::KeepVersions,
        BucketStep::Encrypt,
        BucketStep::AbortUploads,
    ];

    /// The rights that the step and the look before it need.
    fn rights(self) -> &'static str {
        match self {
            BucketStep::Create => "s3:ListBucket and s3:CreateBucket",
            BucketStep::BlockPublicAccess => {
                "s3:GetBucketPublicAccessBlock and s3:PutBucketPublicAccessBlock"
            }
            BucketStep::KeepVersions => "s3:GetBucketVersioning and s3:PutBucketVersioning",
            BucketStep::Encrypt => "s3:GetEncryptionConfiguration and s3:PutEncryptionConfiguration",
            BucketStep::AbortUploads => "s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration",
        }
    }
}

impl fmt::Display for BucketStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BucketStep::Create => "make the bucket",
            BucketStep::BlockPublicAccess => "close it to the public",
            BucketStep::KeepVersions => "keep earlier versions of objects",
            BucketStep::Encrypt => "encrypt objects",
            BucketStep::AbortUploads => "abort uploads that were not finished within a day",
        })
    }
}

/// A bucket as it is to be.
#[derive(Debug)]
pub struct BucketSetup {
    client: Client,
    bucket: String,
    region: Option<Region>,
    kms_key: Option<String>,
    site: Site,
}

impl BucketSetup {
    /// A bucket of this name in the region of `config`, encrypted with this KMS key, or with keys of S3's own. Nothing is
    /// asked yet.
    pub fn new(config: &SdkConfig, bucket: &str, kms_key: Option<String>) -> Self {
        let own_address = configured_endpoint(config).is_some();
        let client = Client::from_conf(Builder::from(config).force_path_style(own_address).build());
        BucketSetup {
            client,
            bucket: bucket.to_owned(),
            region: config.region().cloned(),
            kms_key,
            site: Site::new(format!("s3://{bucket}")),
        }
    }

    /// What is to be done, in order; nothing, where all is well. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the bucket is somebody else's, or S3 does not answer or does not allow to look.
    pub async fn missing(&self) -> Result<Vec<BucketStep>, StoreError> {
        if !self.exists().await? {
            return Ok(BucketStep::ALL.to_vec());
        }
        let mut missing = Vec::new();
        for step in BucketStep::ALL {
            if !self.is_done(step).await? {
                missing.push(step);
            }
        }
        Ok(missing)
    }

    /// Does what is to be done, and tells what that was.
    ///
    /// # Errors
    ///
    /// As for [`missing`](Self::missing), and if S3 does not allow a step. What was done until then stays.
    pub async fn set_up(&self) -> Result<Vec<BucketStep>, StoreError> {
        let missing = self.missing().await?;
        for step in &missing {
            match step {
                BucketStep::Create => self.create().await?,
                BucketStep::BlockPublicAccess => self.block_public_access().await?,
                BucketStep::KeepVersions => self.keep_versions().await?,
                BucketStep::Encrypt => self.encrypt().await?,
                BucketStep::AbortUploads => self.abort_uploads().await?,
            }
        }
        Ok(missing)
    }

    async fn exists(&self) -> Result<bool, StoreError> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(true),
            Err(error) => match trouble(&error) {
                found if found.kind == Kind::Missing => Ok(false),
                found if found.kind == Kind::Denied => Err(self.why_denied().await),
                found => Err(self.site.bucket_error(Action::Look, &found)),
            },
        }
    }

    /// Why the bucket may not be looked at. Such an answer has no words, so something is asked that is answered with some.
    async fn why_denied(&self) -> StoreError {
        match self.client.get_bucket_versioning().bucket(&self.bucket).send().await {
            Err(error) if !is_denial(&error) => self.site.bucket_error(Action::Look, &trouble(&error)),
            _ => self.not_ours(),
        }
    }

    async fn is_done(&self, step: BucketStep) -> Result<bool, StoreError> {
        match step {
            BucketStep::Create => Ok(true),
            BucketStep::BlockPublicAccess => self.blocks_public_access().await,
            BucketStep::KeepVersions => self.keeps_versions().await,
            BucketStep::Encrypt => self.encrypts().await,
            BucketStep::AbortUploads => Ok(self.lifecycle().await?.iter().any(aborts_uploads)),
        }
    }

    async fn create(&self) -> Result<(), StoreError> {
        let region = self.region.as_ref().map(Region::as_ref).filter(|region| *region != UNNAMED_REGION);
        let place = region.map(|region| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(region))
                .build()
        });
        let request = self.client.create_bucket().bucket(&self.bucket).set_create_bucket_configuration(place);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.code() {
                // Another run makes it at this very moment.
                Some("BucketAlreadyOwnedByYou") => Ok(()),
                Some("BucketAlreadyExists") => Err(self.not_ours()),
                Some("InvalidBucketName") => Err(self.site.unavailable(
                    "S3 takes no bucket of this name: it needs 3 to 63 lower-case letters, digits and hyphens",
                )),
                _ => Err(self.failed(BucketStep::Create, &error)),
            },
        }
    }

    async fn blocks_public_access(&self) -> Result<bool, StoreError> {
        let answer = self.client.get_public_access_block().bucket(&self.bucket).send().await;
        let answer =
            self.unless(answer, "NoSuchPublicAccessBlockConfiguration", BucketStep::BlockPublicAccess)?;
        let block = answer.and_then(|answer| answer.public_access_block_configuration);
        Ok(block.is_some_and(|block| {
            [
                block.block_public_acls,
                block.block_public_policy,
                block.ignore_public_acls,
                block.restrict_public_buckets,
            ] == [Some(true); 4]
        }))
    }

    async fn block_public_access(&self) -> Result<(), StoreError> {
        let block = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .block_public_policy(true)
            .ignore_public_acls(true)
            .restrict_public_buckets(true)
            .build();
        let request = self
            .client
            .put_public_access_block()
            .bucket(&self.bucket)
            .public_access_block_configuration(block);
        self.done(BucketStep::BlockPublicAccess, request.send().await)
    }

    async fn keeps_versions(&self) -> Result<bool, StoreError> {
        let answer = self.client.get_bucket_versioning().bucket(&self.bucket).send().await;
        let answer = answer.map_err(|error| self.failed(BucketStep::KeepVersions, &error))?;
        Ok(answer.status == Some(BucketVersioningStatus::Enabled))
    }

    async fn keep_versions(&self) -> Result<(), StoreError> {
        let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request =
            self.client.put_bucket_versioning().bucket(&self.bucket).versioning_configuration(versioning);
        self.done(BucketStep::KeepVersions, request.send().await)
    }

    /// Whether objects are encrypted as asked for; however they are, where nothing was.
    async fn encrypts(&self) -> Result<bool, StoreError> {
        let answer = self.client.get_bucket_encryption().bucket(&self.bucket).send().await;
        let missing = "ServerSideEncryptionConfigurationNotFoundError";
        let answer = self.unless(answer, missing, BucketStep::Encrypt)?;
        let rules = answer.and_then(|answer| answer.server_side_encryption_configuration);
        let rules = rules.map(|configuration| configuration.rules).unwrap_or_default();
        Ok(rules.iter().filter_map(|rule| rule.apply_server_side_encryption_by_default.as_ref()).any(
            |default| match &self.kms_key {
                None => true,
                key => default.kms_master_key_id == *key,
            },
        ))
    }

    async fn encrypt(&self) -> Result<(), StoreError> {
        let algorithm = match self.kms_key {
            Some(_) => ServerSideEncryption::AwsKms,
            None => ServerSideEncryption::Aes256,
        };
        let default = ServerSideEncryptionByDefault::builder()
            .sse_algorithm(algorithm)
            .set_kms_master_key_id(self.kms_key.clone())
            .build()
            .map_err(|error| self.site.unavailable(error.to_string()))?;
        // One key for many objects: without it each request for an object costs one to KMS.
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default)
            .bucket_key_enabled(self.kms_key.is_some())
            .build();
        let configuration = ServerSideEncryptionConfiguration::builder().rules(rule).build();
        let configuration = configuration.map_err(|error| self.site.unavailable(error.to_string()))?;
        let request = self.client.put_bucket_encryption().bucket(&self.bucket);
        self.done(
            BucketStep::Encrypt,
            request.server_side_encryption_configuration(configuration).send().await,
        )
    }

    async fn lifecycle(&self) -> Result<Vec<LifecycleRule>, StoreError> {
        let answer = self.client.get_bucket_lifecycle_configuration().bucket(&self.bucket).send().await;
        let answer = self.unless(answer, "NoSuchLifecycleConfiguration", BucketStep::AbortUploads)?;
        Ok(answer.and_then(|answer| answer.rules).unwrap_or_default())
    }

    /// Adds a rule to those that there are: they can only be written all at once.
    async fn abort_uploads(&self) -> Result<(), StoreError> {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(UPLOAD_DAYS).build();
        let rule = LifecycleRule::builder()
            .id(RULE)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix("").build())
            .abort_incomplete_multipart_upload(abort)
            .build()
            .map_err(|error| self.site.unavailable(error.to_string()))?;
        let mut rules = self.lifecycle().await?;
        rules.retain(|rule| rule.id.as_deref() != Some(RULE));
        rules.push(rule);
        let lifecycle = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        let lifecycle = lifecycle.map_err(|error| self.site.unavailable(error.to_string()))?;
        let request = self.client.put_bucket_lifecycle_configuration().bucket(&self.bucket);
        self.done(BucketStep::AbortUploads, request.lifecycle_configuration(lifecycle).send().await)
    }

    /// The answer, or `None` when it is that there is no such setting.
    fn unless<T, E>(
        &self,
        answer: Result<T, SdkError<E>>,
        not_set: &str,
        step: BucketStep,
    ) -> Result<Option<T>, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.code() == Some(not_set) => Ok(None),
            Err(error) => Err(self.failed(step, &error)),
        }
    }

    fn done<T, E>(&self, step: BucketStep, answer: Result<T, SdkError<E>>) -> Result<(), StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        answer.map(drop).map_err(|error| self.failed(step, &error))
    }

    fn failed<E>(&self, step: BucketStep, error: &SdkError<E>) -> StoreError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match is_denial(error) {
            true => self.site.unavailable(format!(
                "access is denied when asked to {step}: the credentials need {}, and the bucket must be of their account",
                step.rights()
            )),
            false => self.site.bucket_error(Action::SetUp, &trouble(error)),
        }
    }

    fn not_ours(&self) -> StoreError {
        self.site.unavailable(
            "there is such a bucket, but not for these credentials: it is somebody else's (the names of buckets are the \
             same for all of AWS, so choose another), or the credentials lack s3:ListBucket",
        )
    }
}

/// Whether a rule aborts all uploads that were not finished soon.
fn aborts_uploads(rule: &LifecycleRule) -> bool {
    let is_for_all = rule.filter.as_ref().is_some_and(|filter| {
        filter.prefix.as_deref().unwrap_or_default().is_empty()
            && filter.tag.is_none()
            && filter.and.is_none()
            && filter.object_size_greater_than.is_none()
            && filter.object_size_less_than.is_none()
    });
    let days = rule.abort_incomplete_multipart_upload.as_ref().and_then(|abort| abort.days_after_initiation);
    is_for_all && rule.status == ExpirationStatus::Enabled && days.is_some()
}

/// Whether the credentials are good, but not for this.
fn is_denial<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    matches!(error.code(), Some("AccessDenied" | "AllAccessDisabled"))
}

/// What went wrong, as the rest of this module tells it.
fn trouble<E>(error: &SdkError<E>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(refused) => {
            let body = refused.raw().body().bytes().unwrap_or_default();
            Trouble::of_answer(refused.raw().status().as_u16(), &String::from_utf8_lossy(body))
        }
        error => {
            let told = DisplayErrorContext(error).to_string();
            let lower = told.to_ascii_lowercase();
            let kind = match lower.contains("credential") || lower.contains("identity") {
                true => Kind::Unauthenticated,
                false => Kind::Unreachable,
            };
            Trouble::without_answer(kind, &told)
        }
    }
}
