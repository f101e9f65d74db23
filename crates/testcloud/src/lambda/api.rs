//! The Invoke API: events for functions are accepted and kept until somebody runs them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;

use super::super::credentials::{ACCOUNT, REGION};
use super::super::faults::Verdict;
use super::super::gate::Gate;
use super::super::http::{self, Dropped, FullBody, Tasks, answer};
use super::super::json_api::{fault_answer, json_error};
use super::super::log::Service;

/// The content type of the API.
const JSON: &str = "application/json";

/// The largest event for asynchronous invocation, in bytes (Lambda quotas).
const EVENT_MAX: usize = 1024 * 1024;

/// An event that waits for its function.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedEvent {
    /// The function's name.
    pub function: String,
    /// The payload of its invocation.
    pub event: Value,
}

#[derive(Debug, Default)]
struct ApiState {
    functions: BTreeSet<String>,
    queue: VecDeque<QueuedEvent>,
}

/// The functions of a cloud by name, and their waiting events.
#[derive(Debug, Clone, Default)]
pub struct Lambda {
    state: Arc<Mutex<ApiState>>,
}

impl Lambda {
    /// Registers a function, so that events for it are accepted; [`LambdaRuntime::new`] does so itself.
    ///
    /// [`LambdaRuntime::new`]: super::LambdaRuntime::new
    pub fn add_function(&self, name: &str) {
        self.lock().functions.insert(name.to_owned());
    }

    /// Takes the event that has waited longest, if there is any.
    pub fn take_event(&self) -> Option<QueuedEvent> {
        self.lock().queue.pop_front()
    }

    /// The waiting events, the oldest first.
    pub fn waiting(&self) -> Vec<QueuedEvent> {
        self.lock().queue.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, ApiState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out `Invoke`.
    fn invoke(&self, function: String, kind: &str, body: &[u8]) -> Response<FullBody> {
        let refuse = |status, error: &str, message: &str| json_error(status, JSON, error, message);
        let mut state = self.lock();
        if !state.functions.contains(&function) {
            let message = format!("Function not found: {}", arn(&function));
            return refuse(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
        }
        let event = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
        let Ok(event) = event else {
            let message = "Could not parse request body into json";
            return refuse(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message);
        };
        match kind {
            "Event" => {
                state.queue.push_back(QueuedEvent { function, event });
                answer(StatusCode::ACCEPTED, JSON, "")
            }
            "DryRun" => answer(StatusCode::NO_CONTENT, JSON, ""),
            _ => {
                let message = "only the invocation types Event and DryRun are served here";
                refuse(StatusCode::BAD_REQUEST, "InvalidParameterValueException", message)
            }
        }
    }
}

pub(super) fn arn(function: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}")
}

/// The function of a request, by name or ARN; `None` when it is no `Invoke`.
fn function_of(path: &str) -> Option<String> {
    let name = path.strip_prefix("/2015-03-31/functions/")?.strip_suffix("/invocations")?;
    let name = name.replace("%3A", ":").replace("%3a", ":");
    let name = name.strip_prefix(&arn("")).unwrap_or(&name);
    Some(name.trim_end_matches(":$LATEST").to_owned())
}

/// Serves the Invoke API on this listener.
pub(in super::super) fn start(listener: TcpListener, tasks: &Tasks, gate: Gate) -> Lambda {
    let lambda = Lambda::default();
    let served = lambda.clone();
    http::serve(listener, tasks, move |request| handle(request, served.clone(), gate.clone()));
    lambda
}

async fn handle(
    request: Request<Incoming>,
    lambda: Lambda,
    gate: Gate,
) -> Result<Response<FullBody>, Dropped> {
    let function = function_of(request.uri().path()).filter(|_| request.method() == Method::POST);
    let kind = http::header_text(request.headers(), "x-amz-invocation-type").to_owned();
    let body = match http::whole_body(request.into_body(), EVENT_MAX).await {
        Ok(body) => body,
        Err(_) => {
            let message =
                format!("Request must be smaller than {EVENT_MAX} bytes for the InvokeFunction operation");
            return Ok(json_error(StatusCode::PAYLOAD_TOO_LARGE, JSON, "RequestTooLargeException", &message));
        }
    };
    let operation = if function.is_some() { "Invoke" } else { "Unknown" };
    let resource = function.clone().unwrap_or_default();
    let admitted = gate.admit(Service::Lambda, operation, resource, body.len() as u64).await;
    if admitted.verdict == Verdict::Dropped {
        return Err(Dropped);
    }
    let response = match (fault_answer(Service::Lambda, "InvokeFunction", JSON, admitted.verdict), function) {
        (Some(response), _) => response,
        (None, Some(function)) => lambda.invoke(function, &kind, &body),
        (None, None) => {
            json_error(StatusCode::NOT_FOUND, JSON, "UnknownOperationException", "not served here")
        }
    };
    gate.end(admitted, response.status().as_u16()).await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_by_its_name_or_its_arn() {
        let path = |name: &str| format!("/2015-03-31/functions/{name}/invocations");
        let encoded = arn("obsync").replace(':', "%3A");
        for name in ["obsync", "obsync:$LATEST", &arn("obsync"), &encoded] {
            assert_eq!(function_of(&path(name)).as_deref(), Some("obsync"), "{name}");
        }
        assert_eq!(function_of("/2015-03-31/functions/"), None);
    }
}
