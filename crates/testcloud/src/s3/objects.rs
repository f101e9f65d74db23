//! Operations on whole objects: put, get, head, copy, delete.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Backend;
use super::conditions::{check_read, check_write, etag, from_header};
use super::content::{Claims, receive};
use super::manners::Asked;
use super::store::{Attributes, Object, State};

/// Most bytes of names and values of user metadata together.
const METADATA_MAX: usize = 2048;

/// The attributes of inputs that have them: `PutObject`, `CreateMultipartUpload`, `CopyObject`.
macro_rules! attributes_of {
    ($input:expr) => {
        Attributes {
            metadata: $input.metadata.take().unwrap_or_default().into_iter().collect(),
            content_type: $input.content_type.take(),
            content_encoding: $input.content_encoding.take(),
            content_disposition: $input.content_disposition.take(),
            content_language: $input.content_language.take(),
            cache_control: $input.cache_control.take(),
            storage_class: $input.storage_class.take().map(|class| class.as_str().to_owned()),
            encryption: $input.server_side_encryption.take().map(|kind| kind.as_str().to_owned()),
            kms_key: $input.ssekms_key_id.take(),
            bucket_key: $input.bucket_key_enabled,
        }
    };
}
pub(super) use attributes_of;

/// Applies S3's checks, and fills in the bucket's encryption.
pub(super) fn settle(mut attributes: Attributes, state: &mut State, bucket: &str) -> S3Result<Attributes> {
    let length: usize = attributes.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > METADATA_MAX {
        return Err(s3_error!(MetadataTooLarge, "Your metadata headers exceed the maximum allowed size"));
    }
    // `aws-chunked` describes the transfer of the request; S3 does not store it.
    attributes.content_encoding = attributes.content_encoding.and_then(|encodings| {
        let kept: Vec<&str> =
            encodings.split(',').map(str::trim).filter(|one| *one != "aws-chunked").collect();
        (!kept.is_empty()).then(|| kept.join(","))
    });
    let bucket = state.bucket(bucket)?;
    if attributes.encryption.is_none() {
        let rules = bucket.settings.encryption.as_ref().map(|encryption| encryption.rules.as_slice());
        let by_default = rules
            .and_then(|rules| rules.first())
            .and_then(|rule| rule.apply_server_side_encryption_by_default.as_ref());
        attributes.encryption = Some(match by_default {
            Some(default) => default.sse_algorithm.as_str().to_owned(),
            None => ServerSideEncryption::AES256.to_owned(),
        });
        attributes.kms_key = by_default.and_then(|default| default.kms_master_key_id.clone());
    }
    Ok(attributes)
}

pub(super) async fn put(
    backend: &Backend,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let S3Request { mut input, trailing_headers, .. } = req;
    let claims = Claims {
        md5: input.content_md5.take(),
        length: input.content_length,
        checksum: Checksum {
            checksum_crc32: input.checksum_crc32.take(),
            checksum_crc32c: input.checksum_crc32c.take(),
            checksum_crc64nvme: input.checksum_crc64nvme.take(),
            checksum_sha1: input.checksum_sha1.take(),
            checksum_sha256: input.checksum_sha256.take(),
            checksum_type: None,
        },
    };
    let attributes = attributes_of!(input);
    let (content, checksum) = receive(input.body.take(), claims, trailing_headers).await?;
    let mut state = backend.store.lock();
    let attributes = settle(attributes, &mut state, &input.bucket)?;
    let bucket = state.bucket(&input.bucket)?;
    let there = bucket.objects.get(&input.key).map(Arc::as_ref);
    let (if_match, if_none_match) = (input.if_match.as_ref(), input.if_none_match.as_ref());
    let heeded = |header, condition| backend.heeded("PutObject", header, condition);
    check_write(there, heeded("if-match", if_match), heeded("if-none-match", if_none_match))?;
    let object = Object { checksum: checksum.clone(), ..Object::whole(content, attributes) };
    let output = PutObjectOutput {
        e_tag: etag(&object.etag),
        server_side_encryption: object.attributes.encryption.clone().map(Into::into),
        ssekms_key_id: object.attributes.kms_key.clone(),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..PutObjectOutput::default()
    };
    bucket.objects.insert(input.key, Arc::new(object));
    backend.written(&mut state, &input.bucket);
    Ok(S3Response::new(output))
}

pub(super) fn get(
    backend: &Backend,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let input = req.input;
    let object = backend.store.lock().object(&input.bucket, &input.key)?;
    check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let size = object.content.size;
    let range = match &input.range {
        Some(range) => range.check(size).map_err(|_| s3_error!(InvalidRange))?,
        None => 0..size,
    };
    let content = object.content.slice(range.clone());
    let content_range =
        input.range.map(|_| format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1)));
    // Checksums are of the whole object.
    let checksum = match (&content_range, &input.checksum_mode) {
        (None, Some(_)) => object.checksum.clone(),
        _ => Checksum::default(),
    };
    let attributes = object.attributes.clone();
    let body = s3s::Body::from(content.to_bytes());
    Ok(S3Response::new(GetObjectOutput {
        body: Some(body.into()),
        content_length: i64::try_from(content.size).ok(),
        content_range,
        accept_ranges: Some("bytes".to_owned()),
        e_tag: etag(&object.etag),
        last_modified: Some(object.modified.into()),
        metadata: Some(attributes.metadata.into_iter().collect()),
        content_type: attributes.content_type.or_else(binary),
        content_encoding: attributes.content_encoding,
        content_disposition: attributes.content_disposition,
        content_language: attributes.content_language,
        cache_control: attributes.cache_control,
        storage_class: shown_class(attributes.storage_class),
        server_side_encryption: attributes.encryption.map(Into::into),
        ssekms_key_id: attributes.kms_key,
        bucket_key_enabled: attributes.bucket_key,
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..GetObjectOutput::default()
    }))
}

pub(super) fn head(
    backend: &Backend,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    let object = backend.store.lock().object(&input.bucket, &input.key)?;
    check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
    let attributes = object.attributes.clone();
    let checksum = input.checksum_mode.map(|_| object.checksum.clone()).unwrap_or_default();
    Ok(S3Response::new(HeadObjectOutput {
        content_length: i64::try_from(object.content.size).ok(),
        accept_ranges: Some("bytes".to_owned()),
        e_tag: etag(&object.etag),
        last_modified: Some(object.modified.into()),
        metadata: Some(attributes.metadata.into_iter().collect()),
        content_type: attributes.content_type.or_else(binary),
        content_encoding: attributes.content_encoding,
        content_disposition: attributes.content_disposition,
        content_language: attributes.content_language,
        cache_control: attributes.cache_control,
        storage_class: shown_class(attributes.storage_class),
        server_side_encryption: attributes.encryption.map(Into::into),
        ssekms_key_id: attributes.kms_key,
        bucket_key_enabled: attributes.bucket_key,
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..HeadObjectOutput::default()
    }))
}

/// S3's type of content that was put without a type.
fn binary() -> Option<String> {
    Some("binary/octet-stream".to_owned())
}

/// S3 omits the standard class.
fn shown_class(class: Option<String>) -> Option<StorageClass> {
    class.filter(|class| class != StorageClass::STANDARD).map(Into::into)
}

/// The bucket and key of a copy's source.
pub(super) fn source_of(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket { bucket, key, .. } => Ok((bucket, key)),
        _ => Err(s3_error!(NotImplemented, "a copy is from a bucket here")),
    }
}

pub(super) fn copy(
    backend: &Backend,
    req: S3Request<CopyObjectInput>,
) -> S3Result<S3Response<CopyObjectOutput>> {
    let if_match = from_header(&req.headers, "if-match")?;
    let if_none_match = from_header(&req.headers, "if-none-match")?;
    let mut input = req.input;
    let replace =
        input.metadata_directive.as_ref().is_some_and(|what| what.as_str() == MetadataDirective::REPLACE);
    let mut given = attributes_of!(input);
    let (source_bucket, source_key) = source_of(&input.copy_source)?;
    let mut state = backend.store.lock();
    let source = state.object(source_bucket, source_key)?;
    check_read(&source, input.copy_source_if_match.as_ref(), input.copy_source_if_none_match.as_ref())?;
    let changes_storage = given.storage_class.is_some() || given.encryption.is_some();
    if source_bucket == input.bucket && source_key == input.key && !replace && !changes_storage {
        return Err(s3_error!(
            InvalidRequest,
            "This copy request is illegal because it is trying to copy an object to itself without \
             changing the object's metadata, storage class, website redirect location or encryption \
             attributes."
        ));
    }
    if !replace {
        // Storage class and encryption are never copied (S3 API reference, CopyObject).
        let Attributes { storage_class, encryption, kms_key, bucket_key, .. } = given;
        given = Attributes { storage_class, encryption, kms_key, bucket_key, ..source.attributes.clone() };
    }
    let attributes = settle(given, &mut state, &input.bucket)?;
    let bucket = state.bucket(&input.bucket)?;
    let there = bucket.objects.get(&input.key).map(Arc::as_ref);
    let heeded = |header, condition| backend.heeded("CopyObject", header, condition);
    let if_none_match = heeded("if-none-match", if_none_match.as_ref());
    check_write(there, heeded("if-match", if_match.as_ref()), if_none_match)?;
    let mut object = Object::whole(source.content.clone(), attributes);
    object.checksum = source.checksum.clone();
    let output = CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: etag(&object.etag),
            last_modified: Some(object.modified.into()),
            ..CopyObjectResult::default()
        }),
        server_side_encryption: object.attributes.encryption.clone().map(Into::into),
        ssekms_key_id: object.attributes.kms_key.clone(),
        ..CopyObjectOutput::default()
    };
    bucket.objects.insert(input.key, Arc::new(object));
    backend.written(&mut state, &input.bucket);
    Ok(S3Response::new(output))
}

pub(super) fn delete(
    backend: &Backend,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    if let Some(if_match) = backend.heeded("DeleteObject", "if-match", input.if_match.as_ref()) {
        let there = bucket.objects.get(&input.key).map(Arc::as_ref);
        check_write(there, Some(if_match), None)?;
    }
    // Deleting a missing object is no error.
    bucket.objects.remove(&input.key);
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

/// The name of a single removal in a bulk request, for [refusals](super::Refusal).
const ROW: &str = "DeleteObjects row";
/// The most keys that one request may delete.
const DELETE_MAX: usize = 1000;

pub(super) fn delete_many(
    backend: &Backend,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let input = req.input;
    if input.delete.objects.is_empty() || input.delete.objects.len() > DELETE_MAX {
        return Err(s3_error!(MalformedXML));
    }
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in input.delete.objects {
        // Each row fails separately (S3 user guide, conditional deletes).
        let resource = format!("{}/{}", input.bucket, object.key);
        let refusal = backend.gate.faults.refusal(ROW, &resource, Asked::row(object.e_tag.is_some()));
        let condition = backend.heeded("DeleteObjects", "if-match", object.e_tag.map(ETagCondition::ETag));
        let there = bucket.objects.get(&object.key).map(Arc::as_ref);
        let checked = match (refusal, &condition) {
            (Some(refusal), _) => Err(refusal.error()),
            (None, Some(_)) => check_write(there, condition.as_ref(), None),
            (None, None) => Ok(()),
        };
        match checked {
            Ok(()) => {
                bucket.objects.remove(&object.key);
                deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
            }
            Err(error) => errors.push(s3s::dto::Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(object.key),
                message: error.message().map(str::to_owned),
                version_id: None,
            }),
        }
    }
    let quiet = input.delete.quiet.unwrap_or_default();
    let deleted = (!quiet).then_some(deleted);
    let errors = (!errors.is_empty()).then_some(errors);
    Ok(S3Response::new(DeleteObjectsOutput { deleted, errors, ..DeleteObjectsOutput::default() }))
}
