//! Classifies errors of DynamoDB by the reaction that they need.

use aws_sdk_dynamodb::error::{ConnectorError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use obsync_core::{ProblemCode, StateError};
use obsync_net::CertificateProblem;
use obsync_protocol::with_reasons;

use super::table::TableName;

/// Parts of DynamoDB's messages about a request whose key is not the table's.
const WRONG_KEY: [&str; 4] = ["key element", "schema", "mismatch for key", "keys is invalid"];

/// Why a call failed.
#[derive(Debug)]
pub(super) enum CallError<E> {
    /// The condition of the request was not met. Nothing was written.
    Refused(E),
    /// Anything else.
    Failed(StateError),
}

impl<E> CallError<E> {
    /// The error of an unconditional request.
    pub(super) fn unconditional(self, unexpected: impl FnOnce() -> StateError) -> StateError {
        match self {
            CallError::Refused(_) => unexpected(),
            CallError::Failed(error) => error,
        }
    }
}

/// The fault of a request, or of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallFault {
    /// A condition was not met.
    Condition,
    /// The table or the account throttles.
    Throttled,
    /// Another request is using the same items.
    Contended,
    /// No answer, or a server error.
    Unreachable(String),
    /// No connection is possible, and a retry does not help.
    NoWay(ProblemCode, String),
    /// There is no such table.
    NoTable,
    /// The caller lacks a permission.
    Forbidden(String),
    /// No region is configured.
    NoRegion,
    /// The request went to the endpoint of another region.
    OtherRegion(String),
    /// There are no credentials.
    NoCredentials(String),
    /// The local clock differs too much from that of AWS for valid signatures.
    WrongClock(String),
    /// The table has another key schema than ours.
    WrongKey(String),
    /// An item has attributes of invalid types.
    Damaged(String),
    /// Any other error of the service.
    Other(String),
}

impl CallFault {
    /// True if a retry may succeed a little later.
    pub(super) fn passes(&self) -> bool {
        matches!(self, CallFault::Throttled | CallFault::Contended | CallFault::Unreachable(_))
    }

    /// Why a request is retried, as the end of a sentence about the table; `None` for usual reasons.
    pub(super) fn reason_to_wait(&self) -> Option<String> {
        match self {
            CallFault::Throttled => Some("throttles requests".to_owned()),
            CallFault::Unreachable(reason) => Some(format!("does not answer ({reason})")),
            _ => None,
        }
    }

    /// The message for a person.
    pub(super) fn sentence(&self, table: &TableName, attempts: usize) -> String {
        let name = table.as_str();
        match self {
            CallFault::Condition => "a request was refused that has no condition".to_owned(),
            CallFault::Throttled => format!(
                "it throttled {attempts} attempts in a row; give it on-demand capacity (`aws dynamodb update-table --table-name \
                 {name} --billing-mode PAY_PER_REQUEST`), or run again later: what was done is recorded"
            ),
            CallFault::Contended => {
                format!("{attempts} attempts in a row met other work on the same items; run again")
            }
            CallFault::Unreachable(reason) => format!("it does not answer ({reason}); run again later"),
            CallFault::NoTable => format!(
                "there is no table {name} in this account and region; make it with `obsync aws init --bucket \
                 BUCKET --table {name}`, or check the table's name and AWS_REGION"
            ),
            CallFault::Forbidden(reason) => format!(
                "AWS does not allow it ({reason}); allow this role or user to use the table {name}: `obsync aws init --bucket \
                 BUCKET --dry-run` prints the policy"
            ),
            CallFault::NoCredentials(reason) => format!(
                "there are no valid AWS credentials ({reason}); sign in to AWS (`aws sso login`), or check AWS_PROFILE"
            ),
            CallFault::NoRegion => {
                "no AWS region is set; set AWS_REGION, such as eu-central-1, or the region of the profile"
                    .to_owned()
            }
            CallFault::OtherRegion(reason) => format!(
                "its address is one of another region ({reason}); set AWS_REGION to the region of the table, or correct \
                 AWS_ENDPOINT_URL_DYNAMODB"
            ),
            CallFault::WrongClock(reason) => format!("the clock of this machine is wrong ({reason}); set it"),
            CallFault::WrongKey(reason) => format!(
                "its key is not a text named `vault_id` alone ({reason}); have `obsync aws init --bucket BUCKET --table NAME` \
                 make another table"
            ),
            CallFault::NoWay(_, reason) | CallFault::Damaged(reason) | CallFault::Other(reason) => {
                reason.clone()
            }
        }
    }

    /// The code for scripts.
    pub(super) fn code(&self) -> ProblemCode {
        match self {
            CallFault::Throttled | CallFault::Contended => ProblemCode::Overloaded,
            CallFault::Unreachable(_) => ProblemCode::Unreachable,
            CallFault::NoWay(code, _) => *code,
            CallFault::NoTable => ProblemCode::NoSuchPlace,
            CallFault::Forbidden(_) => ProblemCode::AccessDenied,
            CallFault::NoCredentials(_) | CallFault::WrongClock(_) => ProblemCode::Credentials,
            CallFault::NoRegion | CallFault::OtherRegion(_) => ProblemCode::Region,
            CallFault::Damaged(_) => ProblemCode::StateDamaged,
            CallFault::Condition | CallFault::WrongKey(_) | CallFault::Other(_) => ProblemCode::State,
        }
    }
}

/// Classifies the error of a request.
pub(super) fn fault<E>(error: &SdkError<E>) -> CallFault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    if let Some(problem) = CertificateProblem::within("DynamoDB", error) {
        return CallFault::NoWay(ProblemCode::Certificate, problem.to_string());
    }
    match error {
        SdkError::ServiceError(service) => {
            let (code, message) = (service.err().code(), service.err().message());
            by_code(code.unwrap_or_default(), message.unwrap_or_default(), service.raw().status().as_u16())
        }
        SdkError::DispatchFailure(failure) if failure.as_connector_error().is_some_and(broke_off) => {
            CallFault::Unreachable(with_reasons(error))
        }
        SdkError::TimeoutError(_) => CallFault::Unreachable("the time for an answer ran out".to_owned()),
        SdkError::ResponseError(_) => CallFault::Unreachable(with_reasons(error)),
        SdkError::DispatchFailure(_) | SdkError::ConstructionFailure(_) | _ => {
            let reason = with_reasons(error);
            match reason.to_ascii_lowercase() {
                text if text.contains("a region must be set") || text.contains("missing signing region") => {
                    CallFault::NoRegion
                }
                text if text.contains("credential") || text.contains("identity") => {
                    CallFault::NoCredentials(reason)
                }
                _ => CallFault::Other(reason),
            }
        }
    }
}

/// True if the connection failed. One that the other side closes before it answers is an "other" error; all
/// others of that kind are transient, too.
fn broke_off(error: &ConnectorError) -> bool {
    error.is_io() || error.is_timeout() || error.as_other().is_some()
}

/// As [`fault`], for a transaction: a cancelled one has a reason for each of its items.
pub(super) fn transaction_fault(error: &SdkError<TransactWriteItemsError>) -> CallFault {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
    else {
        return fault(error);
    };
    let reasons = cancelled.cancellation_reasons();
    let has = |code: &str| reasons.iter().any(|reason| reason.code() == Some(code));
    if has("ConditionalCheckFailed") {
        return CallFault::Condition;
    }
    if has("ProvisionedThroughputExceeded") || has("ThrottlingError") {
        return CallFault::Throttled;
    }
    if has("TransactionConflict") {
        return CallFault::Contended;
    }
    let words = reasons.iter().find_map(|reason| reason.message());
    CallFault::Other(words.or(cancelled.message()).unwrap_or("a transaction was cancelled").to_owned())
}

fn by_code(code: &str, message: &str, status: u16) -> CallFault {
    let words = || match (message, code) {
        ("", "") => format!("it answers with status {status}"),
        ("", code) => code.to_owned(),
        (message, _) => message.to_owned(),
    };
    match code {
        "ConditionalCheckFailedException" => CallFault::Condition,
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling" => CallFault::Throttled,
        "TransactionConflictException" | "TransactionInProgressException" => CallFault::Contended,
        "ResourceNotFoundException" | "TableNotFoundException" => CallFault::NoTable,
        "AccessDeniedException" | "AccessDenied" => CallFault::Forbidden(words()),
        "RequestExpired" | "RequestTimeTooSkewed" => CallFault::WrongClock(words()),
        "InvalidSignatureException"
            if message.contains("Signature expired") || message.contains("not yet current") =>
        {
            CallFault::WrongClock(words())
        }
        "InvalidSignatureException" if message.contains("valid region") => CallFault::OtherRegion(words()),
        "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId" => CallFault::NoCredentials(words()),
        "ValidationException" if WRONG_KEY.iter().any(|part| message.contains(part)) => {
            CallFault::WrongKey(words())
        }
        "ValidationException" if message.contains("incorrect data type") => CallFault::Damaged(words()),
        _ if matches!(status, 301 | 302 | 307 | 308) => CallFault::OtherRegion(words()),
        _ if status >= 500 => CallFault::Unreachable(words()),
        _ => CallFault::Other(words()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_says_is_told_as_what_to_do() {
        let table = TableName::default();
        let words = |code: &str, message: &str, status| {
            let fault = by_code(code, message, status);
            (fault.passes(), fault.sentence(&table, 3))
        };
        let lasting = |code: &str, message: &str, part: &str| {
            let (passes, sentence) = words(code, message, 400);
            assert!(!passes && sentence.contains(part), "{code}: {sentence}");
        };
        lasting("ResourceNotFoundException", "", "obsync aws init");
        lasting("AccessDeniedException", "not authorized to perform: dynamodb:Scan", "dynamodb:Scan");
        lasting("AccessDeniedException", "", "--dry-run` prints the policy");
        lasting("ExpiredTokenException", "expired", "sign in");
        lasting("InvalidSignatureException", "does not match the signature", "sign in");
        let scope = "Credential should be scoped to a valid region, not 'us-east-1'.";
        lasting("InvalidSignatureException", scope, "AWS_REGION");
        assert_eq!(by_code("", "", 301).code(), ProblemCode::Region);
        lasting("InvalidSignatureException", "Signature expired: 2020 is now earlier than 2026", "clock");
        lasting("InvalidSignatureException", "Signature not yet current: 2026 is still later", "clock");
        let schema = "The provided key element does not match the schema";
        lasting("ValidationException", schema, "make another table");
        lasting("ValidationException", "The number of conditions on the keys is invalid", "another table");
        lasting("ValidationException", "Item size has exceeded the maximum", "Item size");
        for (code, status) in [
            ("ProvisionedThroughputExceededException", 400),
            ("ThrottlingException", 400),
            ("RequestLimitExceeded", 400),
            ("TransactionInProgressException", 400),
            ("InternalServerError", 500),
            ("", 503),
        ] {
            assert!(words(code, "", status).0, "{code} passes");
        }
    }
}
