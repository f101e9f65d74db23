//! Multipart uploads: begun, filled with parts, completed or aborted, listed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Backend;
use super::conditions::{check_read, check_write, etag};
use super::content::{Claims, receive};
use super::objects::{attributes_of, settle, source_of};
use super::store::{Attributes, Content, Object, Part, Upload};

/// The valid part numbers.
const PART_NUMBERS: RangeInclusive<i32> = 1..=10_000;

/// The smallest part except the last one, in bytes.
const PART_MIN: u64 = 5 * 1024 * 1024;

pub(super) fn create(
    backend: &Backend,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let mut input = req.input;
    let attributes = attributes_of!(input);
    let mut state = backend.store.lock();
    let attributes = settle(attributes, &mut state, &input.bucket)?;
    let id = state.next_upload_id();
    let output = CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(id.clone()),
        server_side_encryption: attributes.encryption.clone().map(Into::into),
        ssekms_key_id: attributes.kms_key.clone(),
        ..CreateMultipartUploadOutput::default()
    };
    let upload = Upload { key: input.key, attributes, started: SystemTime::now(), parts: BTreeMap::new() };
    state.bucket(&input.bucket)?.uploads.insert(id, upload);
    Ok(S3Response::new(output))
}

fn check_number(number: i32) -> S3Result<()> {
    if PART_NUMBERS.contains(&number) {
        return Ok(());
    }
    Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"))
}

pub(super) async fn put_part(
    backend: &Backend,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let S3Request { mut input, trailing_headers, .. } = req;
    check_number(input.part_number)?;
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
    let (content, checksum) = receive(input.body.take(), claims, trailing_headers).await?;
    let part = Part::new(content);
    let output = UploadPartOutput {
        e_tag: etag(&part.etag()),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..UploadPartOutput::default()
    };
    let mut state = backend.store.lock();
    let upload = state.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
    upload.parts.insert(input.part_number, part);
    Ok(S3Response::new(output))
}

pub(super) fn copy_part(
    backend: &Backend,
    req: S3Request<UploadPartCopyInput>,
) -> S3Result<S3Response<UploadPartCopyOutput>> {
    let input = req.input;
    check_number(input.part_number)?;
    let (source_bucket, source_key) = source_of(&input.copy_source)?;
    let mut state = backend.store.lock();
    let source = state.object(source_bucket, source_key)?;
    check_read(&source, input.copy_source_if_match.as_ref(), input.copy_source_if_none_match.as_ref())?;
    let range = match &input.copy_source_range {
        Some(text) => {
            let range = Range::parse(text).map_err(|_| s3_error!(InvalidArgument))?;
            range.check(source.content.size).map_err(|_| s3_error!(InvalidRange))?
        }
        None => 0..source.content.size,
    };
    let part = Part::new(source.content.slice(range));
    let result = CopyPartResult {
        e_tag: etag(&part.etag()),
        last_modified: Some(part.modified.into()),
        ..CopyPartResult::default()
    };
    let upload = state.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
    upload.parts.insert(input.part_number, part);
    let output = UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() };
    Ok(S3Response::new(output))
}

pub(super) fn complete(
    backend: &Backend,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    let upload = bucket.upload(&input.key, &input.upload_id)?;
    let object = assemble(upload, &named)?;
    if backend.gate.faults.equal_parts() && !are_equal(upload, &named) {
        return Err(s3_error!(InvalidPart, "All non-trailing parts must have the same length."));
    }
    let there = bucket.objects.get(&input.key).map(Arc::as_ref);
    // An upload whose condition fails remains, to be aborted (S3 user guide, conditional writes).
    let heeded = |header, condition| backend.heeded("CompleteMultipartUpload", header, condition);
    let if_none_match = heeded("if-none-match", input.if_none_match.as_ref());
    check_write(there, heeded("if-match", input.if_match.as_ref()), if_none_match)?;
    let output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        e_tag: etag(&object.etag),
        server_side_encryption: object.attributes.encryption.clone().map(Into::into),
        ssekms_key_id: object.attributes.kms_key.clone(),
        ..CompleteMultipartUploadOutput::default()
    };
    bucket.uploads.remove(&input.upload_id);
    bucket.objects.insert(input.key, Arc::new(object));
    backend.written(&mut state, &input.bucket);
    Ok(S3Response::new(output))
}

/// True if all parts have one size, and the last no larger one.
fn are_equal(upload: &Upload, named: &[CompletedPart]) -> bool {
    let parts = named.iter().filter_map(|part| upload.parts.get(&part.part_number?));
    let sizes: Vec<u64> = parts.map(|part| part.content.size).collect();
    match (sizes.first(), sizes.split_last()) {
        (Some(size), Some((last, others))) => last <= size && others.iter().all(|other| other == size),
        _ => true,
    }
}

/// The object that the named parts form.
fn assemble(upload: &Upload, named: &[CompletedPart]) -> S3Result<Object> {
    let mut content = Content::default();
    let mut hasher = Md5::new();
    let number_of = |part: &CompletedPart| part.part_number.unwrap_or_default();
    // Before checks of the parts themselves: wrong order has precedence over too small parts.
    if !named.is_sorted_by(|one, next| number_of(one) < number_of(next)) {
        return Err(s3_error!(InvalidPartOrder));
    }
    for (position, named_part) in named.iter().enumerate() {
        let number = number_of(named_part);
        let part = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
        if named_part.e_tag.as_ref().is_some_and(|etag| etag.value() != part.etag()) {
            return Err(s3_error!(InvalidPart));
        }
        if part.content.size < PART_MIN && position + 1 < named.len() {
            return Err(s3_error!(EntityTooSmall));
        }
        content.append(&part.content);
        hasher.update(&part.md5);
    }
    if named.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    Ok(Object {
        content,
        attributes: upload.attributes.clone(),
        etag: format!("{}-{}", HEXLOWER.encode(&hasher.finalize()), named.len()),
        modified: SystemTime::now(),
        parts: Some(named.len()),
        checksum: Checksum::default(),
    })
}

pub(super) fn abort(
    backend: &Backend,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    bucket.upload(&input.key, &input.upload_id)?;
    bucket.uploads.remove(&input.upload_id);
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

/// The most uploads or parts in one listing.
const LIST_MAX: i32 = 1000;

pub(super) fn list(
    backend: &Backend,
    req: S3Request<ListMultipartUploadsInput>,
) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
    let input = req.input;
    if input.delimiter.is_some() || input.encoding_type.is_some() {
        return Err(s3_error!(NotImplemented, "uploads are listed without delimiter and encoding here"));
    }
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let marker = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    let mut uploads: Vec<(&String, &Upload)> = bucket
        .uploads
        .iter()
        .filter(|(id, upload)| upload.key.starts_with(&prefix) && follows(&marker, &upload.key, id))
        .collect();
    uploads.sort_by(|(a_id, a), (b_id, b)| (&a.key, a_id).cmp(&(&b.key, b_id)));
    let most = input.max_uploads.unwrap_or(LIST_MAX).clamp(0, LIST_MAX);
    let truncated = uploads.len() > most as usize;
    uploads.truncate(most as usize);
    let last = uploads.last().filter(|_| truncated);
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        prefix: input.prefix,
        key_marker: input.key_marker,
        upload_id_marker: input.upload_id_marker,
        max_uploads: Some(most),
        is_truncated: Some(truncated),
        next_key_marker: last.map(|(_, upload)| upload.key.clone()),
        next_upload_id_marker: last.map(|(id, _)| (*id).clone()),
        uploads: Some(uploads.into_iter().map(|(id, upload)| shown(id, upload)).collect()),
        ..ListMultipartUploadsOutput::default()
    }))
}

/// True if an upload comes after the markers of the previous page.
fn follows((key_marker, id_marker): &(String, Option<String>), key: &str, id: &str) -> bool {
    match id_marker {
        Some(id_marker) => (key, id) > (key_marker.as_str(), id_marker.as_str()),
        None => key > key_marker.as_str(),
    }
}

fn shown(id: &str, upload: &Upload) -> MultipartUpload {
    MultipartUpload {
        key: Some(upload.key.clone()),
        upload_id: Some(id.to_owned()),
        initiated: Some(upload.started.into()),
        storage_class: upload.attributes.storage_class.clone().map(Into::into),
        ..MultipartUpload::default()
    }
}

pub(super) fn list_parts(
    backend: &Backend,
    req: S3Request<ListPartsInput>,
) -> S3Result<S3Response<ListPartsOutput>> {
    let input = req.input;
    let mut state = backend.store.lock();
    let upload = state.bucket(&input.bucket)?.upload(&input.key, &input.upload_id)?;
    let marker = input.part_number_marker.unwrap_or_default();
    let most = input.max_parts.unwrap_or(LIST_MAX).clamp(0, LIST_MAX);
    let mut numbers: Vec<i32> = upload.parts.keys().copied().filter(|number| *number > marker).collect();
    let truncated = numbers.len() > most as usize;
    numbers.truncate(most as usize);
    let parts = numbers.iter().filter_map(|number| {
        let part = upload.parts.get(number)?;
        Some(s3s::dto::Part {
            part_number: Some(*number),
            e_tag: etag(&part.etag()),
            size: i64::try_from(part.content.size).ok(),
            last_modified: Some(part.modified.into()),
            ..s3s::dto::Part::default()
        })
    });
    Ok(S3Response::new(ListPartsOutput {
        parts: Some(parts.collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: numbers.last().copied().filter(|_| truncated),
        max_parts: Some(most),
        is_truncated: Some(truncated),
        ..ListPartsOutput::default()
    }))
}
