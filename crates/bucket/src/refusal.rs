//! The table of refusals: the next step when a service refuses a request, by operation, status and the
//! service's error code.
//!
//! A refusal concerns one request. Only rows that say so end the run or change how later requests are made.
//! The sources are the services' API references (S3: "Error responses", CopyObject, CompleteMultipartUpload,
//! DeleteObjects; R2, OSS and Ceph: their lists of unsupported requests).

/// The operations that the table distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// HEAD of an object.
    Look,
    /// GET of an object.
    Read,
    /// PUT of an object.
    Put,
    /// CreateMultipartUpload.
    Begin,
    /// UploadPart.
    Part,
    /// CompleteMultipartUpload.
    Complete,
    /// AbortMultipartUpload.
    Abort,
    /// CopyObject.
    Copy,
    /// DeleteObject.
    Delete,
    /// DeleteObjects.
    DeleteMany,
    /// ListObjectsV2.
    List,
    /// ListMultipartUploads.
    ListUploads,
    /// HeadBucket, CreateBucket, and GET or PUT of a bucket setting.
    Settings,
}

/// A refused request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused<'a> {
    pub(super) operation: Operation,
    /// It had a condition on the object at its key.
    pub(super) conditional: bool,
    /// It had a checksum of its body.
    pub(super) checksummed: bool,
    pub(super) status: u16,
    /// The service's code; empty if it gave none.
    pub(super) code: &'a str,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Retry the same request after a pause.
    Repeat,
    /// The object is not the expected one: look, and decide again.
    LookAgain,
    /// There is no such object (or upload).
    Missing,
    /// The same by other requests: a copy through this process or from the vault, single removals, an upload
    /// from its beginning.
    AnotherWay,
    /// The service does not support conditions for this operation: send none from now on.
    WithoutCondition,
    /// The bucket demands checksums: send them from now on.
    WithChecksum,
    /// This request fails alone; nothing else is affected.
    Fail,
    /// Every other request would be refused as well.
    EndRun,
}

/// Transient codes.
const PASSING: &[&str] = &[
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "ServerBusy",
    "ServiceUnavailable",
    "InternalError",
    "RequestTimeout",
    // While the name of a new bucket spreads (S3 API reference, "Error responses").
    "TemporaryRedirect",
];
/// Codes for faults of the bucket, the account, the address or the clock, whatever the request.
const GENERAL: &[&str] = &[
    "NoSuchBucket",
    "ContainerNotFound",
    "ContainerBeingDeleted",
    "AllAccessDisabled",
    "AccountProblem",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthenticationFailed",
    "InvalidSecurity",
    "RequestTimeTooSkewed",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "SecondLevelDomainForbidden",
    "InvalidStorageClass",
    "QuotaExceeded",
    "XMinioStorageFull",
    "InsufficientStorage",
];

/// Codes of a transient conflict (409) with another request. A 409 without a code may be one.
const CONTENTION: &[&str] = &["", "ConditionalRequestConflict", "OperationAborted", "Conflict"];
/// Codes of a conflict (409) with the object at the key: Azure's and OSS's terms for a failed condition.
const OCCUPIED: &[&str] = &["BlobAlreadyExists", "FileAlreadyExists"];

/// True if a conflict (409) with this code is one with another request, or with the object at the key.
pub(super) fn is_with_others(code: &str) -> bool {
    CONTENTION.contains(&code) || OCCUPIED.contains(&code)
}

/// The table.
pub(super) fn next(refused: &Refused<'_>) -> Next {
    let Refused { operation, conditional, checksummed, status, code } = *refused;
    let is_copy = operation == Operation::Copy;
    match (operation, status, code) {
        (_, _, code) if GENERAL.contains(&code) => Next::EndRun,
        (_, _, code) if PASSING.contains(&code) => Next::Repeat,
        (_, 301 | 302 | 307 | 308 | 401, _) => Next::EndRun,
        // "NotImplemented" names the unsupported header, but in texts that differ: the condition is the
        // likeliest one.
        // Reads need theirs: without it, the content of another version would come.
        (_, 501, _) | (_, _, "NotImplemented") if conditional && operation != Operation::Read => {
            Next::WithoutCondition
        }
        (Operation::DeleteMany, 501 | 405, _)
        | (Operation::DeleteMany, 400, "MalformedXML" | "InvalidRequest" | "InvalidArgument") => {
            if conditional {
                Next::WithoutCondition
            } else {
                Next::AnotherWay
            }
        }
        (
            Operation::Put | Operation::Part,
            400,
            "InvalidRequest" | "InvalidArgument" | "MissingContentMD5",
        ) if !checksummed => Next::WithChecksum,
        // Archived, encrypted with a customer-provided key, or with one that these credentials may not use.
        (Operation::Copy, 403, _) => Next::AnotherWay,
        (Operation::Copy, 405 | 501, _) | (Operation::Copy, _, "NotImplemented") => Next::AnotherWay,
        (Operation::Copy, 400, _) | (Operation::Copy, 409, "BlobArchived" | "BlobBeingRehydrated") => {
            Next::AnotherWay
        }
        (_, _, code) if is_copy && code.starts_with("KMS.") => Next::AnotherWay,
        (_, 501 | 405, _) | (_, _, "NotImplemented") => Next::Fail,
        (_, 408 | 429 | 500 | 502.., _) => Next::Repeat,
        // If the key changes while an upload is completed, the upload has to begin anew (S3 API reference).
        (Operation::Complete, 409, code) if CONTENTION.contains(&code) => Next::AnotherWay,
        (_, 409, code) if CONTENTION.contains(&code) => Next::Repeat,
        (_, 409, code) if OCCUPIED.contains(&code) => Next::LookAgain,
        // Any other one is permanent: an object in place of a folder (versitygw, MinIO), a policy against
        // changes (Azure).
        (_, 409, _) => Next::Fail,
        (_, 304 | 412, _) => Next::LookAgain,
        // With a condition on a version, a missing object means a changed one. A missing upload was completed
        // by a request whose answer was lost, or aborted.
        (_, 404, _) if conditional || operation == Operation::Complete => Next::LookAgain,
        (_, 404, _) => Next::Missing,
        _ => Next::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::*;

    /// Operation, status and code, condition and checksum flags, and the expected step.
    const ROWS: &[(Operation, u16, &str, bool, bool, Next)] = &[
        // Copies.
        (Copy, 403, "InvalidObjectState", true, false, Next::AnotherWay),
        (Copy, 403, "AccessDenied", false, false, Next::AnotherWay),
        (Copy, 400, "InvalidRequest", false, false, Next::AnotherWay),
        (Copy, 400, "KMS.DisabledException", true, false, Next::AnotherWay),
        (Copy, 403, "KMS.DisabledException", true, false, Next::AnotherWay),
        (Copy, 500, "KMS.InternalException", true, false, Next::AnotherWay),
        (Copy, 501, "NotImplemented", false, false, Next::AnotherWay),
        (Copy, 405, "MethodNotAllowed", false, false, Next::AnotherWay),
        (Copy, 501, "NotImplemented", true, false, Next::WithoutCondition),
        (Copy, 412, "PreconditionFailed", true, false, Next::LookAgain),
        (Copy, 404, "NoSuchKey", true, false, Next::LookAgain),
        (Copy, 404, "NoSuchKey", false, false, Next::Missing),
        (Copy, 409, "BlobArchived", false, false, Next::AnotherWay),
        (Copy, 409, "BlobBeingRehydrated", false, false, Next::AnotherWay),
        (Copy, 409, "ConditionalRequestConflict", true, false, Next::Repeat),
        (Copy, 409, "ExistingObjectIsDirectory", true, false, Next::Fail),
        (Copy, 200, "NotImplemented", true, false, Next::WithoutCondition),
        (Copy, 200, "NotImplemented", false, false, Next::AnotherWay),
        (Copy, 200, "InternalError", true, false, Next::Repeat),
        // Many removals by one request.
        (DeleteMany, 501, "NotImplemented", false, true, Next::AnotherWay),
        (DeleteMany, 405, "MethodNotAllowed", false, true, Next::AnotherWay),
        (DeleteMany, 400, "MalformedXML", false, true, Next::AnotherWay),
        (DeleteMany, 400, "InvalidRequest", false, true, Next::AnotherWay),
        (DeleteMany, 400, "InvalidArgument", false, true, Next::AnotherWay),
        (DeleteMany, 400, "UserKeyMustBeSpecified", false, true, Next::Fail),
        (DeleteMany, 403, "AccessDenied", false, true, Next::Fail),
        (DeleteMany, 501, "NotImplemented", true, true, Next::WithoutCondition),
        (DeleteMany, 405, "MethodNotAllowed", true, true, Next::WithoutCondition),
        (DeleteMany, 400, "MalformedXML", true, true, Next::WithoutCondition),
        (DeleteMany, 400, "InvalidRequest", true, true, Next::WithoutCondition),
        (DeleteMany, 400, "InvalidArgument", true, true, Next::WithoutCondition),
        // One removal.
        (Delete, 412, "PreconditionFailed", true, false, Next::LookAgain),
        (Delete, 501, "NotImplemented", true, false, Next::WithoutCondition),
        (Delete, 400, "NotImplemented", true, false, Next::WithoutCondition),
        (Delete, 405, "MethodNotAllowed", true, false, Next::Fail),
        (Delete, 409, "OperationAborted", true, false, Next::Repeat),
        (Delete, 409, "BlobImmutableDueToPolicy", false, false, Next::Fail),
        (Delete, 403, "AccessDenied", false, false, Next::Fail),
        (Delete, 404, "NoSuchKey", false, false, Next::Missing),
        // Whole objects and parts.
        (Put, 400, "InvalidRequest", true, false, Next::WithChecksum),
        (Part, 400, "InvalidRequest", false, false, Next::WithChecksum),
        (Put, 400, "InvalidArgument", true, false, Next::WithChecksum),
        (Part, 400, "InvalidArgument", false, false, Next::WithChecksum),
        (Part, 400, "MissingContentMD5", false, false, Next::WithChecksum),
        (Begin, 400, "InvalidRequest", false, false, Next::Fail),
        (Put, 400, "InvalidRequest", true, true, Next::Fail),
        (Put, 501, "NotImplemented", true, false, Next::WithoutCondition),
        (Put, 501, "NotImplemented", false, false, Next::Fail),
        (Put, 412, "PreconditionFailed", true, false, Next::LookAgain),
        (Put, 404, "NoSuchKey", true, false, Next::LookAgain),
        (Put, 409, "ConditionalRequestConflict", true, false, Next::Repeat),
        (Put, 409, "OperationAborted", true, false, Next::Repeat),
        (Put, 409, "Conflict", true, false, Next::Repeat),
        (Put, 409, "", true, false, Next::Repeat),
        (Put, 409, "BlobAlreadyExists", true, false, Next::LookAgain),
        (Put, 409, "FileAlreadyExists", true, false, Next::LookAgain),
        (Put, 409, "ObjectParentIsFile", true, false, Next::Fail),
        (Put, 409, "BlobImmutableDueToLegalHold", true, false, Next::Fail),
        (Put, 403, "AccessDenied", false, false, Next::Fail),
        (Put, 400, "KeyTooLongError", false, true, Next::Fail),
        (Put, 404, "NoSuchBucket", true, false, Next::EndRun),
        (Put, 403, "InvalidAccessKeyId", true, false, Next::EndRun),
        (Put, 400, "InvalidStorageClass", false, false, Next::EndRun),
        (Put, 507, "InsufficientStorage", false, false, Next::EndRun),
        (Put, 507, "", false, false, Next::Repeat),
        (Put, 400, "MissingContentMD5", false, false, Next::WithChecksum),
        (Put, 405, "MethodNotAllowed", false, false, Next::Fail),
        (Put, 401, "", false, false, Next::EndRun),
        // Uploads.
        (Complete, 409, "ConditionalRequestConflict", true, false, Next::AnotherWay),
        (Complete, 409, "OperationAborted", false, false, Next::AnotherWay),
        (Complete, 409, "ObjectParentIsFile", true, false, Next::Fail),
        (Complete, 412, "PreconditionFailed", true, false, Next::LookAgain),
        (Complete, 501, "NotImplemented", true, false, Next::WithoutCondition),
        (Complete, 404, "NoSuchUpload", false, false, Next::LookAgain),
        (Begin, 403, "AccessDenied", false, false, Next::Fail),
        (Begin, 501, "NotImplemented", false, false, Next::Fail),
        (Part, 403, "AccessDenied", false, false, Next::Fail),
        (Complete, 403, "AccessDenied", true, false, Next::Fail),
        (Abort, 403, "AccessDenied", false, false, Next::Fail),
        (Abort, 404, "NoSuchUpload", false, false, Next::Missing),
        (ListUploads, 501, "NotImplemented", false, false, Next::Fail),
        (ListUploads, 403, "AccessDenied", false, false, Next::Fail),
        // The bucket itself.
        (Settings, 409, "BucketAlreadyOwnedByYou", false, true, Next::Fail),
        (Settings, 409, "BucketAlreadyExists", false, true, Next::Fail),
        (Settings, 409, "OperationAborted", false, true, Next::Repeat),
        (Settings, 404, "NoSuchLifecycleConfiguration", false, false, Next::Missing),
        // Looking, reading, listing.
        (Look, 404, "", false, false, Next::Missing),
        (Look, 403, "", false, false, Next::Fail),
        (Read, 403, "AccessDenied", true, false, Next::Fail),
        (Read, 501, "NotImplemented", true, false, Next::Fail),
        (Read, 400, "NotImplemented", true, false, Next::Fail),
        (List, 403, "AccessDenied", false, false, Next::Fail),
        (List, 501, "NotImplemented", false, false, Next::Fail),
        (Read, 403, "InvalidObjectState", false, false, Next::Fail),
        (Read, 400, "KMS.DisabledException", true, false, Next::Fail),
        (Read, 409, "BlobArchived", true, false, Next::Fail),
        (Read, 412, "PreconditionFailed", true, false, Next::LookAgain),
        (Read, 304, "", true, false, Next::LookAgain),
        (List, 403, "SecondLevelDomainForbidden", false, false, Next::EndRun),
        (List, 301, "PermanentRedirect", false, false, Next::EndRun),
        (List, 302, "", false, false, Next::EndRun),
        (List, 307, "", false, false, Next::EndRun),
        (List, 308, "", false, false, Next::EndRun),
        // Transient failures.
        (Put, 503, "SlowDown", true, false, Next::Repeat),
        (List, 503, "ServiceUnavailable", false, false, Next::Repeat),
        (Put, 429, "", false, false, Next::Repeat),
        (Put, 408, "", false, false, Next::Repeat),
        (Look, 500, "", false, false, Next::Repeat),
        (Look, 502, "", false, false, Next::Repeat),
        (List, 504, "", false, false, Next::Repeat),
        (Part, 400, "RequestTimeout", false, true, Next::Repeat),
        (Complete, 200, "InternalError", true, false, Next::Repeat),
        (List, 307, "TemporaryRedirect", false, false, Next::Repeat),
    ];

    const OPERATIONS: [Operation; 13] = [
        Look,
        Read,
        Put,
        Begin,
        Part,
        Complete,
        Abort,
        Copy,
        Delete,
        DeleteMany,
        List,
        ListUploads,
        Settings,
    ];

    #[test]
    fn codes_that_are_about_everything_and_codes_that_pass_are_so_for_every_operation() {
        let codes = GENERAL.iter().map(|code| (*code, Next::EndRun));
        let codes = codes.chain(PASSING.iter().map(|code| (*code, Next::Repeat)));
        for (code, expected) in codes {
            for operation in OPERATIONS {
                for (status, conditional) in
                    [(400, false), (403, true), (404, true), (409, false), (503, true)]
                {
                    let refused = Refused { operation, conditional, checksummed: false, status, code };
                    assert_eq!(next(&refused), expected, "{refused:?}");
                }
            }
        }
    }

    #[test]
    fn every_row_of_the_table_says_what_to_do_next() {
        for (operation, status, code, conditional, checksummed, expected) in ROWS.iter().copied() {
            let refused = Refused { operation, conditional, checksummed, status, code };
            assert_eq!(next(&refused), expected, "{refused:?}");
        }
    }

    #[test]
    fn a_condition_is_forgotten_only_where_the_request_had_one() {
        for (operation, status, code, _, checksummed, _) in ROWS.iter().copied() {
            let refused = Refused { operation, conditional: false, checksummed, status, code };
            assert_ne!(next(&refused), Next::WithoutCondition, "{refused:?}");
        }
    }
}
