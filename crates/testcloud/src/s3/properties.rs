//! The settings of a bucket in terms of CloudFormation (`AWS::S3::Bucket`), for comparison with a template.

use s3s::dto::{LifecycleRule, ServerSideEncryptionRule, Tag};
use serde_json::{Map, Value, json};

use super::store::Settings;

/// The set properties only.
pub(super) fn of(settings: &Settings) -> Value {
    let encryption = settings.encryption.as_ref().map(|encryption| {
        let rules: Vec<Value> = encryption.rules.iter().map(encryption_rule).collect();
        json!({ "ServerSideEncryptionConfiguration": rules })
    });
    let versioning = settings.versioning.as_ref().and_then(|versioning| versioning.status.as_ref());
    let ownership = settings.ownership.as_ref().map(|ownership| {
        let rule = |ownership: &str| json!({ "ObjectOwnership": ownership });
        let rules: Vec<Value> =
            ownership.rules.iter().map(|found| rule(found.object_ownership.as_str())).collect();
        json!({ "Rules": rules })
    });
    let access = settings.public_access.as_ref().map(|access| {
        json!({
            "BlockPublicAcls": access.block_public_acls,
            "BlockPublicPolicy": access.block_public_policy,
            "IgnorePublicAcls": access.ignore_public_acls,
            "RestrictPublicBuckets": access.restrict_public_buckets,
        })
    });
    let lifecycle = settings.lifecycle.as_ref().map(|lifecycle| {
        let rules: Vec<Value> = lifecycle.rules.iter().map(lifecycle_rule).collect();
        json!({ "Rules": rules })
    });
    let tags = settings.tagging.as_ref().map(|tagging| tagging.tag_set.iter().map(tag).collect());
    with([
        ("BucketEncryption", encryption),
        ("VersioningConfiguration", versioning.map(|status| json!({ "Status": status.as_str() }))),
        ("OwnershipControls", ownership),
        ("PublicAccessBlockConfiguration", access),
        ("LifecycleConfiguration", lifecycle),
        ("Tags", tags),
    ])
}

fn encryption_rule(rule: &ServerSideEncryptionRule) -> Value {
    let by_default = rule.apply_server_side_encryption_by_default.as_ref().map(|by_default| {
        with([
            ("SSEAlgorithm", Some(json!(by_default.sse_algorithm.as_str()))),
            ("KMSMasterKeyID", by_default.kms_master_key_id.as_ref().map(|key| json!(key))),
        ])
    });
    with([
        ("BucketKeyEnabled", rule.bucket_key_enabled.map(Value::Bool)),
        ("ServerSideEncryptionByDefault", by_default),
    ])
}

fn lifecycle_rule(rule: &LifecycleRule) -> Value {
    let aborts =
        rule.abort_incomplete_multipart_upload.as_ref().and_then(|abort| abort.days_after_initiation);
    let forgets = rule.noncurrent_version_expiration.as_ref().map(|forget| {
        with([
            ("NoncurrentDays", forget.noncurrent_days.map(|days| json!(days))),
            ("NewerNoncurrentVersions", forget.newer_noncurrent_versions.map(|versions| json!(versions))),
        ])
    });
    let filter = rule.filter.as_ref().filter(|filter| {
        let prefix = filter.prefix.as_deref().unwrap_or_default();
        let is_for_all = filter.and.is_none()
            && filter.tag.is_none()
            && filter.object_size_greater_than.is_none()
            && filter.object_size_less_than.is_none();
        !is_for_all || !prefix.is_empty()
    });
    with([
        ("Id", rule.id.as_ref().map(|id| json!(id))),
        ("Status", Some(json!(rule.status.as_str()))),
        ("Filter", filter.map(|filter| json!(format!("{filter:?}")))),
        ("AbortIncompleteMultipartUpload", aborts.map(|days| json!({ "DaysAfterInitiation": days }))),
        ("NoncurrentVersionExpiration", forgets),
        ("Expiration", rule.expiration.as_ref().map(|expiration| json!(format!("{expiration:?}")))),
    ])
}

fn tag(tag: &Tag) -> Value {
    json!({ "Key": tag.key, "Value": tag.value })
}

fn with<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect::<Map<String, Value>>())
}
