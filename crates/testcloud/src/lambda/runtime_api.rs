//! The Lambda Runtime API, by which a function's program fetches events and answers them.
//!
//! Paths and headers are those of the AWS Lambda developer guide, "Using the Lambda runtime API", version
//! 2018-06-01. Each program gets its own server, so that none sees the events of another.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::http::{self, Dropped, FullBody, Tasks, answer};

/// The largest answer of a function, in bytes (Lambda quotas, synchronous invocation: 6 MB and a bit).
const ANSWER_MAX: usize = 6_291_556;

/// The content type of the API.
const JSON: &str = "application/json";

/// An event on its way to the program.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) request_id: String,
    pub(super) function_arn: String,
    pub(super) deadline: SystemTime,
    pub(super) payload: Bytes,
}

/// The program's answer to an event, or its error at the start.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Answer(Bytes),
    Failed { kind: String, body: Bytes },
}

/// Messages between the environment and its program.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The program is waiting for an event.
    pub(super) at_next: bool,
    pub(super) pending: Option<Event>,
    /// The request id of the event that it is handling.
    pub(super) in_work: Option<String>,
    /// Its answer to that event.
    pub(super) reply: Option<Reply>,
    /// Its error at the start.
    pub(super) init_failure: Option<Reply>,
}

pub(super) type ExchangeSender = Arc<watch::Sender<Exchange>>;

/// Serves the API on this listener.
pub(super) fn serve(listener: TcpListener, tasks: &Tasks, exchange: ExchangeSender) {
    http::serve(listener, tasks, move |request| handle(request, Arc::clone(&exchange)));
}

async fn handle(request: Request<Incoming>, exchange: ExchangeSender) -> Result<Response<FullBody>, Dropped> {
    let path = request.uri().path().to_owned();
    let Some(path) = path.strip_prefix("/2018-06-01/runtime/") else {
        return Ok(refuse(StatusCode::NOT_FOUND, "NotFound", "no such path"));
    };
    if request.method() == Method::GET && path == "invocation/next" {
        return Ok(next(&exchange).await);
    }
    let kind = http::header_text(request.headers(), "lambda-runtime-function-error-type").to_owned();
    let method = request.method().clone();
    let body = http::whole_body(request.into_body(), ANSWER_MAX).await;
    if method != Method::POST {
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "POST"));
    }
    if path == "init/error" {
        let body = body.unwrap_or_default();
        exchange.send_modify(|state| state.init_failure = Some(Reply::Failed { kind, body }));
        return Ok(accepted());
    }
    Ok(match path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) {
        Some((id, "response")) => match body {
            Ok(body) => reply(&exchange, id, Reply::Answer(body)),
            Err(_) => too_large(&exchange, id),
        },
        Some((id, "error")) => reply(&exchange, id, Reply::Failed { kind, body: body.unwrap_or_default() }),
        _ => refuse(StatusCode::NOT_FOUND, "NotFound", "no such path"),
    })
}

/// Waits for an event and returns it.
async fn next(exchange: &watch::Sender<Exchange>) -> Response<FullBody> {
    exchange.send_modify(|state| state.at_next = true);
    let mut changes = exchange.subscribe();
    loop {
        // The sender outlives this wait, so it ends only with an event.
        if changes.wait_for(|state| state.pending.is_some()).await.is_err() {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Stopped", "the environment ends");
        }
        let mut taken = None;
        exchange.send_modify(|state| {
            taken = state.pending.take();
            if let Some(event) = &taken {
                state.at_next = false;
                state.in_work = Some(event.request_id.clone());
            }
        });
        if let Some(event) = taken {
            return hand_out(event);
        }
    }
}

fn hand_out(event: Event) -> Response<FullBody> {
    let deadline = event.deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut response = answer(StatusCode::OK, JSON, event.payload);
    let headers = [
        ("lambda-runtime-aws-request-id", event.request_id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", event.function_arn),
        (
            "lambda-runtime-trace-id",
            "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0".to_owned(),
        ),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Takes the program's answer to the event that it is handling.
fn reply(exchange: &watch::Sender<Exchange>, id: &str, reply: Reply) -> Response<FullBody> {
    let mut taken = false;
    exchange.send_modify(|state| {
        if state.in_work.as_deref() == Some(id) {
            state.in_work = None;
            state.reply = Some(reply);
            taken = true;
        }
    });
    if taken { accepted() } else { refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID") }
}

fn too_large(exchange: &watch::Sender<Exchange>, id: &str) -> Response<FullBody> {
    let kind = "Function.ResponseSizeTooLarge".to_owned();
    let message =
        format!("Response payload size exceeded maximum allowed payload size ({ANSWER_MAX} bytes).");
    let body = json!({ "errorType": kind, "errorMessage": message }).to_string();
    // The answer to the program depends on the size alone.
    let _ = reply(exchange, id, Reply::Failed { kind, body: body.into() });
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn accepted() -> Response<FullBody> {
    answer(StatusCode::ACCEPTED, JSON, r#"{"status":"OK"}"#)
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Response<FullBody> {
    answer(status, JSON, json!({ "errorMessage": message, "errorType": kind }).to_string())
}
