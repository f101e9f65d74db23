//! Operations on buckets and their settings.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::Backend;
use super::store::Bucket;

/// The region that S3 omits in location constraints.
const UNNAMED_REGION: &str = "us-east-1";

pub(super) fn create(
    backend: &Backend,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let input = req.input;
    let region = input
        .create_bucket_configuration
        .and_then(|configuration| configuration.location_constraint)
        .map(|region| region.as_str().to_owned());
    let mut state = backend.store.lock();
    if state.buckets.contains_key(&input.bucket) {
        return Err(s3_error!(
            BucketAlreadyOwnedByYou,
            "Your previous request to create the named bucket succeeded and you already own it."
        ));
    }
    let location = Some(format!("/{}", input.bucket));
    state.buckets.insert(input.bucket, Bucket::new(region));
    Ok(S3Response::new(CreateBucketOutput { location }))
}

pub(super) fn delete(
    backend: &Backend,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let mut state = backend.store.lock();
    if !state.bucket(&req.input.bucket)?.objects.is_empty() {
        return Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"));
    }
    state.buckets.remove(&req.input.bucket);
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

fn region_of(bucket: &Bucket) -> String {
    bucket.settings.region.clone().unwrap_or_else(|| UNNAMED_REGION.to_owned())
}

pub(super) fn head(
    backend: &Backend,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    let mut state = backend.store.lock();
    let bucket = state.bucket(&req.input.bucket)?;
    let bucket_region = Some(region_of(bucket));
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

pub(super) fn location(
    backend: &Backend,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    let mut state = backend.store.lock();
    let region = state.bucket(&req.input.bucket)?.settings.region.clone();
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: region.map(Into::into) }))
}

pub(super) fn list(
    backend: &Backend,
    _req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let state = backend.store.lock();
    let shown = state.buckets.iter().map(|(name, bucket)| s3s::dto::Bucket {
        name: Some(name.clone()),
        creation_date: Some(bucket.created.into()),
        bucket_region: Some(region_of(bucket)),
    });
    Ok(S3Response::new(ListBucketsOutput { buckets: Some(shown.collect()), ..ListBucketsOutput::default() }))
}

/// An error that `s3s` has no variant for; it would answer 500 without an explicit status.
fn not_set(code: &'static str, message: &'static str) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(code.into()), message);
    error.set_status_code(hyper::StatusCode::NOT_FOUND);
    error
}

pub(super) fn put_versioning(
    backend: &Backend,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.versioning = Some(input.versioning_configuration);
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub(super) fn versioning(
    backend: &Backend,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let mut state = backend.store.lock();
    let versioning = state.bucket(&req.input.bucket)?.settings.versioning.clone().unwrap_or_default();
    Ok(S3Response::new(GetBucketVersioningOutput {
        status: versioning.status,
        ..GetBucketVersioningOutput::default()
    }))
}

pub(super) fn put_encryption(
    backend: &Backend,
    req: S3Request<PutBucketEncryptionInput>,
) -> S3Result<S3Response<PutBucketEncryptionOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.encryption =
        Some(input.server_side_encryption_configuration);
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub(super) fn encryption(
    backend: &Backend,
    req: S3Request<GetBucketEncryptionInput>,
) -> S3Result<S3Response<GetBucketEncryptionOutput>> {
    let mut state = backend.store.lock();
    let set = state.bucket(&req.input.bucket)?.settings.encryption.clone();
    // Every bucket is encrypted with S3's own keys by default (since January 2023).
    let encryption = set.unwrap_or_else(|| ServerSideEncryptionConfiguration {
        rules: vec![ServerSideEncryptionRule {
            apply_server_side_encryption_by_default: Some(ServerSideEncryptionByDefault {
                kms_master_key_id: None,
                sse_algorithm: ServerSideEncryption::from_static(ServerSideEncryption::AES256),
            }),
            bucket_key_enabled: Some(false),
        }],
    });
    let server_side_encryption_configuration = Some(encryption);
    Ok(S3Response::new(GetBucketEncryptionOutput { server_side_encryption_configuration }))
}

pub(super) fn put_public_access(
    backend: &Backend,
    req: S3Request<PutPublicAccessBlockInput>,
) -> S3Result<S3Response<PutPublicAccessBlockOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.public_access =
        Some(input.public_access_block_configuration);
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub(super) fn public_access(
    backend: &Backend,
    req: S3Request<GetPublicAccessBlockInput>,
) -> S3Result<S3Response<GetPublicAccessBlockOutput>> {
    let mut state = backend.store.lock();
    let set = state.bucket(&req.input.bucket)?.settings.public_access.clone();
    let set = set.ok_or_else(|| {
        not_set("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
    })?;
    Ok(S3Response::new(GetPublicAccessBlockOutput { public_access_block_configuration: Some(set) }))
}

pub(super) fn put_lifecycle(
    backend: &Backend,
    req: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.lifecycle = input.lifecycle_configuration;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub(super) fn lifecycle(
    backend: &Backend,
    req: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let mut state = backend.store.lock();
    let set = state.bucket(&req.input.bucket)?.settings.lifecycle.clone();
    let set = set.ok_or_else(|| {
        not_set("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
    })?;
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(set.rules),
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}

pub(super) fn put_policy(
    backend: &Backend,
    req: S3Request<PutBucketPolicyInput>,
) -> S3Result<S3Response<PutBucketPolicyOutput>> {
    let input = req.input;
    if serde_json::from_str::<serde_json::Value>(&input.policy).is_err() {
        return Err(s3_error!(MalformedPolicy, "Policies must be valid JSON"));
    }
    backend.store.lock().bucket(&input.bucket)?.settings.policy = Some(input.policy);
    Ok(S3Response::new(PutBucketPolicyOutput::default()))
}

pub(super) fn policy(
    backend: &Backend,
    req: S3Request<GetBucketPolicyInput>,
) -> S3Result<S3Response<GetBucketPolicyOutput>> {
    let mut state = backend.store.lock();
    let policy = state.bucket(&req.input.bucket)?.settings.policy.clone();
    if policy.is_none() {
        return Err(not_set("NoSuchBucketPolicy", "The bucket policy does not exist"));
    }
    Ok(S3Response::new(GetBucketPolicyOutput { policy }))
}

pub(super) fn put_ownership(
    backend: &Backend,
    req: S3Request<PutBucketOwnershipControlsInput>,
) -> S3Result<S3Response<PutBucketOwnershipControlsOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.ownership = Some(input.ownership_controls);
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub(super) fn ownership(
    backend: &Backend,
    req: S3Request<GetBucketOwnershipControlsInput>,
) -> S3Result<S3Response<GetBucketOwnershipControlsOutput>> {
    let mut state = backend.store.lock();
    let ownership_controls = state.bucket(&req.input.bucket)?.settings.ownership.clone();
    if ownership_controls.is_none() {
        return Err(not_set(
            "OwnershipControlsNotFoundError",
            "The bucket ownership controls were not found",
        ));
    }
    Ok(S3Response::new(GetBucketOwnershipControlsOutput { ownership_controls }))
}

pub(super) fn put_tagging(
    backend: &Backend,
    req: S3Request<PutBucketTaggingInput>,
) -> S3Result<S3Response<PutBucketTaggingOutput>> {
    let input = req.input;
    backend.store.lock().bucket(&input.bucket)?.settings.tagging = Some(input.tagging);
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub(super) fn tagging(
    backend: &Backend,
    req: S3Request<GetBucketTaggingInput>,
) -> S3Result<S3Response<GetBucketTaggingOutput>> {
    let mut state = backend.store.lock();
    let set = state.bucket(&req.input.bucket)?.settings.tagging.clone();
    let set = set.ok_or_else(|| not_set("NoSuchTagSet", "The TagSet does not exist"))?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: set.tag_set }))
}
