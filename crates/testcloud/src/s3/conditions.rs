//! Conditional requests (RFC 9110 section 13) as S3 answers them.

use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Error, S3Result, s3_error};

use super::store::Object;

fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

/// Checks whether an object may be written where `there` is now.
///
/// S3 supports `If-None-Match: *` and `If-Match: <etag>` for writes; with the second, a missing object is
/// 404.
pub(super) fn check_write(
    there: Option<&Object>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    match (if_none_match, there) {
        (Some(ETagCondition::Any), Some(_)) => return Err(precondition_failed()),
        (Some(ETagCondition::ETag(_)), _) => {
            return Err(s3_error!(NotImplemented, "If-None-Match of a write must be *"));
        }
        _ => {}
    }
    match (if_match, there) {
        (Some(condition), Some(object)) if !matches(condition, object) => Err(precondition_failed()),
        (Some(_), None) => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
        _ => Ok(()),
    }
}

/// Checks whether an object may be read.
pub(super) fn check_read(
    object: &Object,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !matches(condition, object)) {
        return Err(precondition_failed());
    }
    if if_none_match.is_some_and(|condition| matches(condition, object)) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// The condition in a header that `s3s` ignores for this operation.
pub(super) fn from_header(headers: &hyper::HeaderMap, name: &str) -> S3Result<Option<ETagCondition>> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let condition = ETagCondition::parse_http_header(value.as_bytes());
    condition.map(Some).map_err(|_| s3_error!(InvalidArgument, "{name} is not an entity tag"))
}

/// An entity tag in wire format.
pub(super) fn etag(value: &str) -> Option<ETag> {
    Some(ETag::Strong(value.to_owned()))
}
