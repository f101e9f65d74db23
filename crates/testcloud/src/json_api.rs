//! The error format of AWS's JSON protocols, and the answers of faults in it.

use data_encoding::HEXLOWER;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::faults::Verdict;
use super::http::{FullBody, answer};
use super::log::Service;

/// An answer of one of the JSON services.
pub(super) fn json_answer(
    status: StatusCode,
    content_type: &'static str,
    body: &serde_json::Value,
) -> Response<FullBody> {
    let mut response = answer(status, content_type, body.to_string());
    let mut id = [0; 16];
    // An id without randomness is still an id.
    let _ = getrandom::fill(&mut id);
    if let Ok(id) = HeaderValue::from_str(&HEXLOWER.encode(&id)) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    response
}

/// An error by its type, by which clients distinguish errors.
pub(super) fn json_error(
    status: StatusCode,
    content_type: &'static str,
    kind: &str,
    message: &str,
) -> Response<FullBody> {
    let body = json!({ "__type": kind, "message": message, "Message": message });
    let mut response = json_answer(status, content_type, &body);
    if let Ok(kind) = HeaderValue::from_str(kind) {
        response.headers_mut().insert("x-amzn-errortype", kind);
    }
    response
}

/// The answer of a fault; none when the request is to be carried out.
pub(super) fn fault_answer(
    service: Service,
    operation: &str,
    content_type: &'static str,
    verdict: Verdict,
) -> Option<Response<FullBody>> {
    let (status, kind, message) = match verdict {
        Verdict::Throttled => match service {
            Service::DynamoDb => (
                StatusCode::BAD_REQUEST,
                "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
                "The level of configured provisioned throughput for the table was exceeded. Consider \
                 increasing your provisioning level with the UpdateTable API."
                    .to_owned(),
            ),
            Service::Lambda => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.".to_owned())
            }
            _ => (StatusCode::BAD_REQUEST, "ThrottlingException", "Rate exceeded".to_owned()),
        },
        Verdict::Forbidden => {
            let prefix = match service {
                Service::DynamoDb => "dynamodb",
                Service::SecretsManager => "secretsmanager",
                Service::Lambda => "lambda",
                Service::Sqs => "sqs",
                Service::S3 => "s3",
            };
            let status = match service {
                Service::Lambda => StatusCode::FORBIDDEN,
                _ => StatusCode::BAD_REQUEST,
            };
            let message = format!(
                "User: arn:aws:sts::123456789012:assumed-role/obsync/test is not authorized to perform: \
                 {prefix}:{operation} because no identity-based policy allows the {prefix}:{operation} action"
            );
            (status, "AccessDeniedException", message)
        }
        Verdict::InternalError => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal server error".to_owned())
        }
        Verdict::Pass | Verdict::Hang | Verdict::Dropped | Verdict::LostAnswer | Verdict::Unanswered => {
            return None;
        }
    };
    Some(json_error(status, content_type, kind, &message))
}
