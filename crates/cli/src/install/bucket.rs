//! Creates and sets up a bucket of S3.
//!
//! An existing bucket keeps its objects and every setting that is not in the list of steps; its lifecycle
//! rules stay beside the added ones. The documents are those of the S3 API reference, each under the action
//! that is named beside it.

use std::fmt;
use std::time::Duration;

use obsync_bucket::{BucketSettings, SettingsError};
use obsync_core::{DestinationError, ProblemCode};
use quick_xml::escape::escape;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::policy::{refuses_plain, refusing_plain};

/// The region that CreateBucket must not name (S3 API reference, "CreateBucket").
const UNNAMED_REGION: &str = "us-east-1";
/// The added lifecycle rules, each with its name and action.
const ABORTS: (&str, &str) = (
    "obsync-abort-unfinished-uploads",
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
);
const FORGETS: (&str, &str) = (
    "obsync-forget-old-versions",
    "<NoncurrentVersionExpiration><NoncurrentDays>90</NoncurrentDays></NoncurrentVersionExpiration>",
);
/// The tag of everything that obsync creates, as in deploy/template.yaml.
pub(super) const TAG: (&str, &str) = ("application", "obsync");
/// The namespace of all documents.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The settings, as named in queries.
const PUBLIC_ACCESS: &str = "publicAccessBlock";
const VERSIONING: &str = "versioning";
const ENCRYPTION: &str = "encryption";
const LIFECYCLE: &str = "lifecycle";
const POLICY: &str = "policy";
const OWNERSHIP: &str = "ownershipControls";
const TAGGING: &str = "tagging";

/// A step of setting up a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketStep {
    /// Create the bucket.
    Create,
    /// Tag it as obsync's. An existing bucket belongs to somebody, and gets no tag.
    Tag,
    /// Make it own every object, and disable access lists.
    OwnObjects,
    /// Close it to the public.
    BlockPublicAccess,
    /// Keep earlier versions of objects.
    KeepVersions,
    /// Encrypt objects by default.
    Encrypt,
    /// Abort unfinished uploads.
    AbortUploads,
    /// Remove versions that were replaced long ago. Not if a bucket that is not obsync's kept versions
    /// before: its owner wants them.
    ForgetVersions,
    /// Refuse connections without TLS.
    RequireTls,
}

impl BucketStep {
    /// All steps, in order.
    const ALL: [BucketStep; 9] = [
        BucketStep::Create,
        BucketStep::Tag,
        BucketStep::OwnObjects,
        BucketStep::BlockPublicAccess,
        BucketStep::KeepVersions,
        BucketStep::Encrypt,
        BucketStep::AbortUploads,
        BucketStep::ForgetVersions,
        BucketStep::RequireTls,
    ];

    /// The permissions that the step and its check need.
    fn rights(self) -> &'static str {
        match self {
            BucketStep::Create => "s3:ListBucket and s3:CreateBucket",
            BucketStep::Tag => "s3:GetBucketTagging and s3:PutBucketTagging",
            BucketStep::OwnObjects => "s3:GetBucketOwnershipControls and s3:PutBucketOwnershipControls",
            BucketStep::BlockPublicAccess => {
                "s3:GetBucketPublicAccessBlock and s3:PutBucketPublicAccessBlock"
            }
            BucketStep::KeepVersions => "s3:GetBucketVersioning and s3:PutBucketVersioning",
            BucketStep::Encrypt => "s3:GetEncryptionConfiguration and s3:PutEncryptionConfiguration",
            BucketStep::AbortUploads | BucketStep::ForgetVersions => {
                "s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"
            }
            BucketStep::RequireTls => "s3:GetBucketPolicy and s3:PutBucketPolicy",
        }
    }
}

impl fmt::Display for BucketStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BucketStep::Create => "make the bucket",
            BucketStep::Tag => "tag it with application=obsync",
            BucketStep::OwnObjects => "have it own all of its objects, without access lists",
            BucketStep::BlockPublicAccess => "close it to the public",
            BucketStep::KeepVersions => "keep earlier versions of objects",
            BucketStep::Encrypt => "encrypt objects",
            BucketStep::AbortUploads => "abort uploads that were not finished within a day",
            BucketStep::ForgetVersions => "forget versions that were replaced 90 days ago",
            BucketStep::RequireTls => "refuse connections without TLS",
        })
    }
}

#[derive(Debug)]
pub(crate) struct BucketInstaller {
    settings: BucketSettings,
    bucket: String,
    location: String,
    region: String,
    kms_key: Option<String>,
    /// Time limit of one request with all its retries.
    limit: Duration,
}

impl BucketInstaller {
    /// An installer of the bucket of this name in this region, encrypted with this KMS key, or with S3's own
    /// keys. `limit` is the time limit of a request. Sends no request yet.
    pub(crate) fn new(
        settings: BucketSettings,
        bucket: &str,
        region: &str,
        kms_key: Option<String>,
        limit: Duration,
    ) -> Self {
        let (location, region) = (format!("s3://{bucket}"), region.to_owned());
        BucketInstaller { settings, bucket: bucket.to_owned(), location, region, kms_key, limit }
    }

    /// The missing steps, in order; none if all is well. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if the bucket is somebody else's, or S3 does not answer or denies
    /// the check.
    pub(crate) async fn missing(&self) -> Result<Vec<BucketStep>, DestinationError> {
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

    /// Performs the missing steps, and returns them.
    ///
    /// # Errors
    ///
    /// As for [`missing`](Self::missing), and if S3 denies a step. Finished steps are not undone.
    pub(crate) async fn set_up(&self) -> Result<Vec<BucketStep>, DestinationError> {
        let missing = self.missing().await?;
        for step in &missing {
            match step {
                BucketStep::Create => self.create().await?,
                BucketStep::Tag => self.put(*step, TAGGING, &tagging()).await?,
                BucketStep::OwnObjects => self.put(*step, OWNERSHIP, &ownership()).await?,
                BucketStep::BlockPublicAccess => self.put(*step, PUBLIC_ACCESS, &public_access()).await?,
                BucketStep::KeepVersions => self.put(*step, VERSIONING, &versioning()).await?,
                BucketStep::Encrypt => {
                    self.put(*step, ENCRYPTION, &encryption(self.kms_key.as_deref())).await?;
                }
                BucketStep::AbortUploads => self.add_rule(*step, ABORTS).await?,
                BucketStep::ForgetVersions => self.add_rule(*step, FORGETS).await?,
                BucketStep::RequireTls => self.require_tls().await?,
            }
        }
        Ok(missing)
    }

    async fn exists(&self) -> Result<bool, DestinationError> {
        match self.answer(self.settings.head()).await? {
            Ok(()) => Ok(true),
            Err(refused) => match refused.status {
                Some(404) => Ok(false),
                Some(403) => Err(self.why_denied().await?),
                _ => Err(refused.source),
            },
        }
    }

    /// Why the bucket is inaccessible. HeadBucket has no error text, so another request is made that has one.
    async fn why_denied(&self) -> Result<DestinationError, DestinationError> {
        match self.answer(self.settings.get(VERSIONING)).await? {
            Err(refused) if !is_denial(&refused) => Ok(refused.source),
            _ => Ok(self.not_ours()),
        }
    }

    async fn is_done(&self, step: BucketStep) -> Result<bool, DestinationError> {
        match step {
            BucketStep::Create | BucketStep::Tag => Ok(true),
            BucketStep::OwnObjects => {
                let unset = "OwnershipControlsNotFoundError";
                let controls: Option<Ownership> = self.read(step, OWNERSHIP, unset).await?;
                Ok(controls.is_some_and(|controls| controls.is_enforced()))
            }
            BucketStep::BlockPublicAccess => {
                let unset = "NoSuchPublicAccessBlockConfiguration";
                let block: Option<PublicAccess> = self.read(step, PUBLIC_ACCESS, unset).await?;
                Ok(block.is_some_and(|block| block.is_closed()))
            }
            BucketStep::KeepVersions => self.keeps_versions().await,
            BucketStep::Encrypt => {
                let unset = "ServerSideEncryptionConfigurationNotFoundError";
                let encryption: Option<Encryption> = self.read(step, ENCRYPTION, unset).await?;
                Ok(encryption.is_some_and(|encryption| encryption.is_by(self.kms_key.as_deref())))
            }
            BucketStep::AbortUploads => self.has_rule(Rule::aborts_uploads).await,
            BucketStep::ForgetVersions => Ok(self.has_rule(Rule::forgets_versions).await?
                || (self.keeps_versions().await? && !self.is_tagged().await?)),
            BucketStep::RequireTls => Ok(self.policy().await?.is_some_and(|found| refuses_plain(&found))),
        }
    }

    async fn create(&self) -> Result<(), DestinationError> {
        let document = match self.region.as_str() {
            UNNAMED_REGION => String::new(),
            region => location_constraint(region),
        };
        let Err(refused) = self.answer(self.settings.create(&document)).await? else { return Ok(()) };
        match refused.code.as_str() {
            // Another run creates it at this very moment.
            "BucketAlreadyOwnedByYou" => Ok(()),
            "BucketAlreadyExists" => Err(self.not_ours()),
            "InvalidBucketName" => Err(self.unavailable(
                "S3 takes no bucket of this name: it needs 3 to 63 lower-case letters, digits and hyphens",
            )),
            _ => Err(self.failed(BucketStep::Create, refused)),
        }
    }

    async fn keeps_versions(&self) -> Result<bool, DestinationError> {
        let versioning: Option<Versioning> = self.read(BucketStep::KeepVersions, VERSIONING, "").await?;
        Ok(versioning.is_some_and(|versioning| versioning.status.as_deref() == Some("Enabled")))
    }

    /// True if obsync created the bucket.
    async fn is_tagged(&self) -> Result<bool, DestinationError> {
        let tagging: Option<Tagging> = self.read(BucketStep::Tag, TAGGING, "NoSuchTagSet").await?;
        let is_ours = |tag: &BucketTag| (tag.key.as_str(), tag.value.as_str()) == TAG;
        Ok(tagging.is_some_and(|tagging| tagging.tag_set.tags.iter().any(is_ours)))
    }

    async fn has_rule(&self, is_meant: impl Fn(&Rule) -> bool) -> Result<bool, DestinationError> {
        let lifecycle = self.lifecycle().await?;
        let lifecycle = lifecycle.map(|document| self.parse::<Lifecycle>(LIFECYCLE, &document));
        Ok(lifecycle.transpose()?.is_some_and(|found| found.rules.iter().any(is_meant)))
    }

    /// Adds a rule to the existing ones: they can only be written all at once.
    async fn add_rule(&self, step: BucketStep, rule: (&str, &str)) -> Result<(), DestinationError> {
        let found = self.lifecycle().await?;
        let document = with_rule(found.as_deref().unwrap_or_default(), rule)
            .map_err(|error| self.unreadable(LIFECYCLE, &error))?;
        self.put(step, LIFECYCLE, &document).await
    }

    /// Adds a statement to the existing ones.
    async fn require_tls(&self) -> Result<(), DestinationError> {
        let policy = refusing_plain(self.policy().await?, &self.bucket, &self.region);
        self.put(BucketStep::RequireTls, POLICY, &policy.to_string()).await
    }

    async fn policy(&self) -> Result<Option<Value>, DestinationError> {
        let document = self.get(BucketStep::RequireTls, POLICY, "NoSuchBucketPolicy").await?;
        let parse = |document: String| {
            serde_json::from_str(&document).map_err(|error| self.unreadable(POLICY, &error))
        };
        document.map(parse).transpose()
    }

    async fn lifecycle(&self) -> Result<Option<String>, DestinationError> {
        self.get(BucketStep::AbortUploads, LIFECYCLE, "NoSuchLifecycleConfiguration").await
    }

    /// The document of a setting, or `None` when S3 refuses with the code for an unset one.
    async fn get(
        &self,
        step: BucketStep,
        setting: &'static str,
        unset: &str,
    ) -> Result<Option<String>, DestinationError> {
        match self.answer(self.settings.get(setting)).await? {
            Ok(document) => Ok(Some(document)),
            Err(refused) if !unset.is_empty() && refused.code == unset => Ok(None),
            Err(refused) => Err(self.failed(step, refused)),
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        step: BucketStep,
        setting: &'static str,
        unset: &str,
    ) -> Result<Option<T>, DestinationError> {
        let document = self.get(step, setting, unset).await?;
        document.map(|document| self.parse(setting, &document)).transpose()
    }

    fn parse<T: DeserializeOwned>(&self, setting: &str, document: &str) -> Result<T, DestinationError> {
        quick_xml::de::from_str(document).map_err(|error| self.unreadable(setting, &error))
    }

    async fn put(
        &self,
        step: BucketStep,
        setting: &'static str,
        document: &str,
    ) -> Result<(), DestinationError> {
        let answer = self.answer(self.settings.put(setting, document)).await?;
        answer.map_err(|refused| self.failed(step, refused))
    }

    /// The answer of S3, within the time limit.
    async fn answer<T>(
        &self,
        request: impl Future<Output = Result<T, SettingsError>>,
    ) -> Result<Result<T, SettingsError>, DestinationError> {
        tokio::time::timeout(self.limit, request)
            .await
            .map_err(|_| self.unavailable(format!("S3 did not answer within {} s", self.limit.as_secs_f64())))
    }

    fn failed(&self, step: BucketStep, refused: SettingsError) -> DestinationError {
        match is_denial(&refused) {
            true => self.unusable(
                ProblemCode::AccessDenied,
                format!(
                    "access is denied when asked to {step}: the credentials need {}, and the bucket must be of their account",
                    step.rights()
                ),
            ),
            false => refused.source,
        }
    }

    fn not_ours(&self) -> DestinationError {
        self.unusable(
            ProblemCode::AccessDenied,
            "there is such a bucket, but not for these credentials: it is somebody else's (the names of buckets are the \
             same for all of AWS, so choose another), or the credentials lack s3:ListBucket",
        )
    }

    fn unreadable(&self, setting: &str, error: &dyn fmt::Display) -> DestinationError {
        self.unavailable(format!("the answer of S3 about its {setting} cannot be read: {error}"))
    }

    fn unavailable(&self, reason: impl Into<String>) -> DestinationError {
        self.unusable(ProblemCode::Destination, reason)
    }

    fn unusable(&self, code: ProblemCode, reason: impl Into<String>) -> DestinationError {
        DestinationError::Unavailable { location: self.location.clone(), reason: reason.into(), code }
    }
}

/// True if the credentials are valid, but lack the permission.
fn is_denial(refused: &SettingsError) -> bool {
    matches!(refused.code.as_str(), "AccessDenied" | "AllAccessDisabled")
}

/// CreateBucket.
fn location_constraint(region: &str) -> String {
    let region = escape(region);
    format!(
        "<CreateBucketConfiguration xmlns=\"{NAMESPACE}\"><LocationConstraint>{region}</LocationConstraint>\
         </CreateBucketConfiguration>"
    )
}

/// PutPublicAccessBlock.
fn public_access() -> String {
    format!(
        "<PublicAccessBlockConfiguration xmlns=\"{NAMESPACE}\"><BlockPublicAcls>true</BlockPublicAcls>\
         <IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy>\
         <RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
    )
}

/// PutBucketVersioning.
fn versioning() -> String {
    format!(
        "<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Enabled</Status></VersioningConfiguration>"
    )
}

/// PutBucketOwnershipControls.
fn ownership() -> String {
    format!(
        "<OwnershipControls xmlns=\"{NAMESPACE}\"><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>\
         </OwnershipControls>"
    )
}

/// PutBucketTagging.
fn tagging() -> String {
    let (key, value) = TAG;
    format!(
        "<Tagging xmlns=\"{NAMESPACE}\"><TagSet><Tag><Key>{key}</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
    )
}

/// PutBucketEncryption. With a KMS key, one bucket key: otherwise each request for an object costs one to
/// KMS.
fn encryption(kms_key: Option<&str>) -> String {
    let by = match kms_key {
        None => "<SSEAlgorithm>AES256</SSEAlgorithm>".to_owned(),
        Some(key) => {
            let key = escape(key);
            format!("<SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>{key}</KMSMasterKeyID>")
        }
    };
    format!(
        "<ServerSideEncryptionConfiguration xmlns=\"{NAMESPACE}\"><Rule><ApplyServerSideEncryptionByDefault>{by}\
         </ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule>\
         </ServerSideEncryptionConfiguration>"
    )
}

/// PutBucketLifecycleConfiguration: the rules of `document` (empty: none), verbatim, and this one, by name
/// and action.
fn with_rule(document: &str, (name, action): (&str, &str)) -> Result<String, String> {
    let mut rules = String::new();
    if !document.is_empty() {
        let parsed: Lifecycle = quick_xml::de::from_str(document).map_err(|error| error.to_string())?;
        let texts = rule_texts(document);
        if texts.len() != parsed.rules.len() {
            return Err(format!("it has {} rules, of which {} are clear", parsed.rules.len(), texts.len()));
        }
        let others = parsed.rules.iter().zip(texts).filter(|(rule, _)| rule.id.as_deref() != Some(name));
        rules.extend(others.map(|(_, text)| text));
    }
    Ok(format!(
        "<LifecycleConfiguration xmlns=\"{NAMESPACE}\">{rules}<Rule><ID>{name}</ID><Filter><Prefix></Prefix></Filter>\
         <Status>Enabled</Status>{action}</Rule></LifecycleConfiguration>"
    ))
}

/// The rules of a lifecycle with their tags. Rules are not nested.
fn rule_texts(document: &str) -> Vec<&str> {
    const END: &str = "</Rule>";
    let ends = document.match_indices(END).map(|(at, _)| at + END.len());
    let begins = document.match_indices("<Rule>").map(|(at, _)| at);
    begins.zip(ends).filter_map(|(begin, end)| document.get(begin..end)).collect()
}

/// GetPublicAccessBlock.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct PublicAccess {
    block_public_acls: bool,
    ignore_public_acls: bool,
    block_public_policy: bool,
    restrict_public_buckets: bool,
}

impl PublicAccess {
    fn is_closed(&self) -> bool {
        self.block_public_acls
            && self.ignore_public_acls
            && self.block_public_policy
            && self.restrict_public_buckets
    }
}

/// GetBucketOwnershipControls.
#[derive(Deserialize)]
struct Ownership {
    #[serde(rename = "Rule", default)]
    rules: Vec<OwnershipRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnershipRule {
    object_ownership: Option<String>,
}

impl Ownership {
    fn is_enforced(&self) -> bool {
        self.rules.iter().any(|rule| rule.object_ownership.as_deref() == Some("BucketOwnerEnforced"))
    }
}

/// GetBucketTagging.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagging {
    tag_set: TagSet,
}

#[derive(Deserialize)]
struct TagSet {
    #[serde(rename = "Tag", default)]
    tags: Vec<BucketTag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BucketTag {
    key: String,
    #[serde(default)]
    value: String,
}

/// GetBucketVersioning.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioning {
    status: Option<String>,
}

/// GetBucketEncryption.
#[derive(Deserialize)]
struct Encryption {
    #[serde(rename = "Rule", default)]
    rules: Vec<EncryptionRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EncryptionRule {
    apply_server_side_encryption_by_default: Option<DefaultEncryption>,
}

#[derive(Deserialize)]
struct DefaultEncryption {
    #[serde(rename = "KMSMasterKeyID")]
    kms_key: Option<String>,
}

impl Encryption {
    /// Default encryption uses the requested KMS key; any encryption, if none was requested.
    fn is_by(&self, kms_key: Option<&str>) -> bool {
        let mut defaults =
            self.rules.iter().filter_map(|rule| rule.apply_server_side_encryption_by_default.as_ref());
        defaults.any(|default| kms_key.is_none() || default.kms_key.as_deref() == kms_key)
    }
}

/// GetBucketLifecycleConfiguration.
#[derive(Deserialize)]
struct Lifecycle {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    filter: Option<RuleFilter>,
    abort_incomplete_multipart_upload: Option<AbortUploads>,
    noncurrent_version_expiration: Option<ForgetVersions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleFilter {
    prefix: Option<String>,
    tag: Option<IgnoredAny>,
    and: Option<IgnoredAny>,
    object_size_greater_than: Option<u64>,
    object_size_less_than: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AbortUploads {
    days_after_initiation: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ForgetVersions {
    noncurrent_days: Option<u32>,
}

impl Rule {
    /// True if it aborts all unfinished uploads after a short time.
    fn aborts_uploads(&self) -> bool {
        let days =
            self.abort_incomplete_multipart_upload.as_ref().and_then(|abort| abort.days_after_initiation);
        self.is_for_all() && days.is_some()
    }

    /// True if it removes all versions some time after they were replaced.
    fn forgets_versions(&self) -> bool {
        let days = self.noncurrent_version_expiration.as_ref().and_then(|forget| forget.noncurrent_days);
        self.is_for_all() && days.is_some()
    }

    /// True if it applies to every object.
    fn is_for_all(&self) -> bool {
        let is_for_all = self.filter.as_ref().is_some_and(|filter| {
            filter.prefix.as_deref().unwrap_or_default().is_empty()
                && filter.tag.is_none()
                && filter.and.is_none()
                && filter.object_size_greater_than.is_none()
                && filter.object_size_less_than.is_none()
        });
        is_for_all && self.status == "Enabled"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: &str = "<Rule><ID>old &lt;Rule&gt;</ID><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
        </And></Filter><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule>\
        <Rule><ID>tiny</ID><Filter><ObjectSizeLessThan>9</ObjectSizeLessThan></Filter><Status>Disabled</Status>\
        <AbortIncompleteMultipartUpload><DaysAfterInitiation>3</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>";

    fn aborting(document: &str) -> Vec<bool> {
        let lifecycle: Lifecycle = quick_xml::de::from_str(document).unwrap();
        lifecycle.rules.iter().map(Rule::aborts_uploads).collect()
    }

    fn forgetting(document: &str) -> Vec<bool> {
        let lifecycle: Lifecycle = quick_xml::de::from_str(document).unwrap();
        lifecycle.rules.iter().map(Rule::forgets_versions).collect()
    }

    #[test]
    fn other_rules_of_a_lifecycle_stay_to_the_letter() {
        let found = format!(
            "<?xml version=\"1.0\"?><LifecycleConfiguration xmlns=\"{NAMESPACE}\">{OTHERS}</LifecycleConfiguration>"
        );
        assert_eq!(aborting(&found), [false, false]);
        let written = with_rule(&found, ABORTS).unwrap();
        assert!(written.contains(OTHERS), "{written}");
        assert_eq!(aborting(&written), [false, false, true]);
    }

    #[test]
    fn a_rule_of_the_same_name_is_replaced() {
        let once = with_rule("", ABORTS).unwrap();
        assert_eq!(aborting(&once), [true]);
        let disabled = once.replace("Enabled", "Disabled");
        assert_eq!(aborting(&disabled), [false]);
        assert_eq!(with_rule(&disabled, ABORTS).unwrap(), once);
        let both = with_rule(&once, FORGETS).unwrap();
        assert_eq!((aborting(&both), forgetting(&both)), (vec![true, false], vec![false, true]));
    }

    #[test]
    fn a_lifecycle_that_is_not_understood_is_not_written_over() {
        for unclear in [
            "no document",
            "<LifecycleConfiguration><Rule a=\"b\"><Status>Enabled</Status></Rule></LifecycleConfiguration>",
        ] {
            assert!(with_rule(unclear, ABORTS).is_err(), "{unclear}");
        }
    }

    #[test]
    fn a_bucket_is_closed_only_with_all_four_ways() {
        let closed: PublicAccess = quick_xml::de::from_str(&public_access()).unwrap();
        assert!(closed.is_closed());
        for way in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"] {
            let (begin, end) = (format!("<{way}>"), format!("</{way}>"));
            let open = public_access().replace(&format!("{begin}true{end}"), &format!("{begin}false{end}"));
            assert!(!quick_xml::de::from_str::<PublicAccess>(&open).unwrap().is_closed(), "{way}");
            let silent = public_access().replace(&format!("{begin}true{end}"), "");
            assert!(!quick_xml::de::from_str::<PublicAccess>(&silent).unwrap().is_closed(), "{way}");
        }
    }

    #[test]
    fn encryption_is_by_the_key_that_is_asked_for() {
        let read = |document: &str| quick_xml::de::from_str::<Encryption>(document).unwrap();
        let plain = read(&encryption(None));
        assert!(plain.is_by(None) && !plain.is_by(Some("alias/a")));
        let by_key = read(&encryption(Some("alias/a&b")));
        assert!(by_key.is_by(None) && by_key.is_by(Some("alias/a&b")) && !by_key.is_by(Some("alias/c")));
        assert!(!read("<ServerSideEncryptionConfiguration/>").is_by(None));
    }
}
