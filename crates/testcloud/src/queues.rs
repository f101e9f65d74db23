//! SQS: queues that accept messages, so that tests can inspect them. Clients cannot receive any; tests pass
//! them to functions like an event source mapping.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::credentials::{ACCOUNT, REGION};
use super::faults::Verdict;
use super::gate::Gate;
use super::http::{self, Dropped, FullBody, Tasks};
use super::json_api::{fault_answer, json_answer, json_error};
use super::log::Service;

/// The content type of the protocol.
const JSON: &str = "application/x-amz-json-1.0";
/// The largest batch, and so the largest message with its attributes, in bytes (SQS quotas).
const BATCH_MAX: usize = 1024 * 1024;
/// Most messages of one batch.
const BATCH_ENTRIES: usize = 10;
/// JSON takes up to six bytes for one of a message.
const BODY_MAX: usize = 7 * BATCH_MAX;

/// A message accepted by a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// The body.
    pub body: String,
    /// The text attributes.
    pub attributes: BTreeMap<String, String>,
    /// The group, in a FIFO queue.
    pub group: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueCall {
    queue_url: String,
    #[serde(default)]
    entries: Vec<QueueEntry>,
}

/// A queue: all messages that it accepted, and the unserved ones.
#[derive(Debug, Default)]
struct Queue {
    taken: Vec<SentMessage>,
    waiting: VecDeque<SentMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueEntry {
    id: String,
    message_body: String,
    #[serde(default)]
    message_attributes: BTreeMap<String, Attribute>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    data_type: String,
    #[serde(default)]
    string_value: String,
}

impl QueueEntry {
    /// The size by SQS's rules: the body, and names, types and values of attributes.
    fn size(&self) -> usize {
        let attributes = self.message_attributes.iter();
        let attributes = attributes.map(|(name, it)| name.len() + it.data_type.len() + it.string_value.len());
        self.message_body.len() + attributes.sum::<usize>()
    }

    /// True if it has only characters that SQS allows.
    fn is_sound(&self) -> bool {
        let is_taken =
            |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
        let values = self.message_attributes.values().map(|attribute| &attribute.string_value);
        !self.message_body.is_empty()
            && values.chain([&self.message_body]).all(|text| text.chars().all(is_taken))
    }
}

struct QueueFailure {
    kind: &'static str,
    message: String,
}

impl QueueFailure {
    fn absent() -> Self {
        let message = "The specified queue does not exist.".to_owned();
        QueueFailure { kind: "com.amazonaws.sqs#QueueDoesNotExist", message }
    }
}

/// The name of a queue by its URL.
fn name_of(url: &str) -> &str {
    url.rsplit_once('/').map_or("", |(_, name)| name)
}

/// Queues of a cloud, by name; client requests are counted, calls of this type's methods are not.
#[derive(Debug, Clone, Default)]
pub struct Queues {
    queues: Arc<Mutex<BTreeMap<String, Queue>>>,
    endpoint: String,
}

impl Queues {
    /// Creates a queue; returns its URL. One whose name ends in `.fifo` is a FIFO queue.
    pub fn create(&self, name: &str) -> String {
        self.lock().entry(name.to_owned()).or_default();
        format!("{}/{ACCOUNT}/{name}", self.endpoint)
    }

    /// The messages that a queue accepted, in order; none if it does not exist.
    pub fn messages(&self, name: &str) -> Vec<SentMessage> {
        self.lock().get(name).map(|queue| queue.taken.clone()).unwrap_or_default()
    }

    /// Number of unserved messages in a queue.
    pub fn waiting(&self, name: &str) -> usize {
        self.lock().get(name).map_or(0, |queue| queue.waiting.len())
    }

    /// Takes up to `most` messages out of a queue to serve them, the oldest first.
    pub fn take(&self, name: &str, most: usize) -> Vec<SentMessage> {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(name) else { return Vec::new() };
        let count = queue.waiting.len().min(most);
        queue.waiting.drain(..count).collect()
    }

    /// Puts an unserved message back, behind all others.
    pub fn give_back(&self, name: &str, message: SentMessage) {
        self.lock().entry(name.to_owned()).or_default().waiting.push_back(message);
    }

    /// The ARN of a queue.
    pub fn arn(name: &str) -> String {
        format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
    }

    /// Carries out `GetQueueAttributes`.
    fn attributes(&self, call: &QueueCall) -> Result<Value, QueueFailure> {
        match self.lock().get(name_of(&call.queue_url)) {
            Some(queue) => Ok(json!({
                "Attributes": { "ApproximateNumberOfMessages": queue.waiting.len().to_string() },
            })),
            None => Err(QueueFailure::absent()),
        }
    }

    fn carry_out(&self, operation: &str, call: QueueCall) -> Result<Value, QueueFailure> {
        match operation {
            "GetQueueAttributes" => self.attributes(&call),
            _ => self.send(call),
        }
    }

    fn send(&self, call: QueueCall) -> Result<Value, QueueFailure> {
        let fail = |kind, message: &str| Err(QueueFailure { kind, message: message.to_owned() });
        let name = name_of(&call.queue_url).to_owned();
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(&name) else {
            return Err(QueueFailure::absent());
        };
        if call.entries.is_empty() || call.entries.len() > BATCH_ENTRIES {
            return fail(
                "com.amazonaws.sqs#TooManyEntriesInBatchRequest",
                "Maximum number of entries per request are 10.",
            );
        }
        if call.entries.iter().map(QueueEntry::size).sum::<usize>() > BATCH_MAX {
            return fail(
                "com.amazonaws.sqs#BatchRequestTooLong",
                "Batch requests cannot be longer than 1048576 bytes.",
            );
        }
        let is_fifo = name.ends_with(".fifo");
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in call.entries {
            let is_ordered = entry.message_group_id.is_some() && entry.message_deduplication_id.is_some();
            let code = match (entry.is_sound(), is_fifo && !is_ordered) {
                (false, _) => Some("InvalidMessageContents"),
                (true, true) => Some("MissingParameter"),
                (true, false) => None,
            };
            if let Some(code) = code {
                failed.push(json!({ "Id": entry.id, "Code": code, "SenderFault": true, "Message": code }));
                continue;
            }
            successful.push(json!({
                "Id": entry.id,
                "MessageId": format!("{name}-{}", queue.taken.len()),
                "MD5OfMessageBody": HEXLOWER.encode(&Md5::digest(entry.message_body.as_bytes())),
            }));
            let attributes = entry.message_attributes.into_iter();
            let message = SentMessage {
                body: entry.message_body,
                attributes: attributes.map(|(name, attribute)| (name, attribute.string_value)).collect(),
                group: entry.message_group_id,
            };
            queue.taken.push(message.clone());
            queue.waiting.push_back(message);
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves queues on this listener.
pub(super) fn start(listener: TcpListener, endpoint: String, tasks: &Tasks, gate: Gate) -> Queues {
    let queues = Queues { endpoint, ..Queues::default() };
    let served = queues.clone();
    http::serve(listener, tasks, move |request| answer(request, served.clone(), gate.clone()));
    queues
}

async fn answer(
    request: Request<Incoming>,
    queues: Queues,
    gate: Gate,
) -> Result<Response<FullBody>, Dropped> {
    let target = http::header_text(request.headers(), "x-amz-target");
    let operation = target.rsplit_once('.').map_or("Unknown", |(_, operation)| operation).to_owned();
    let is_signed = !http::header_text(request.headers(), "authorization").is_empty();
    let body = match http::whole_body(request.into_body(), BODY_MAX).await {
        Ok(body) => body,
        Err(response) => return Ok(response),
    };
    let call: Result<QueueCall, _> = serde_json::from_slice(&body);
    let resource = call.as_ref().map(|call| call.queue_url.clone()).unwrap_or_default();
    let admitted = gate.admit(Service::Sqs, &operation, resource, body.len() as u64).await;
    if admitted.verdict == Verdict::Dropped {
        return Err(Dropped);
    }
    let refuse = |kind: &str, message: &str| json_error(StatusCode::BAD_REQUEST, JSON, kind, message);
    let response = match (fault_answer(Service::Sqs, &operation, JSON, admitted.verdict), call) {
        (Some(response), _) => response,
        (None, _) if !is_signed => {
            refuse("MissingAuthenticationTokenException", "Missing Authentication Token")
        }
        (None, _) if !["SendMessageBatch", "GetQueueAttributes"].contains(&operation.as_str()) => refuse(
            "UnknownOperationException",
            "only SendMessageBatch and GetQueueAttributes are served here",
        ),
        (None, Err(error)) => refuse("SerializationException", &error.to_string()),
        (None, Ok(call)) => match queues.carry_out(&operation, call) {
            Ok(answer) => json_answer(StatusCode::OK, JSON, &answer),
            Err(failure) => refuse(failure.kind, &failure.message),
        },
    };
    gate.end(admitted, response.status().as_u16()).await?;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(queue: &str, entries: &Value) -> QueueCall {
        serde_json::from_value(json!({ "QueueUrl": format!("http://x/1/{queue}"), "Entries": entries }))
            .unwrap()
    }

    #[test]
    fn a_queue_keeps_what_it_takes_and_refuses_what_sqs_refuses() {
        let queues = Queues::default();
        queues.create("plain");
        queues.create("ordered.fifo");
        let sent = queues.send(call("plain", &json!([
            { "Id": "0", "MessageBody": "b", "MessageAttributes": { "a": { "DataType": "String", "StringValue": "v" } } },
            { "Id": "1", "MessageBody": "\u{0}" },
        ])));
        let sent = sent.ok().unwrap();
        assert_eq!((&sent["Successful"][0]["Id"], &sent["Failed"][0]["Id"]), (&json!("0"), &json!("1")));
        assert_eq!(queues.messages("plain")[0].attributes["a"], "v");
        let unordered = queues.send(call("ordered.fifo", &json!([{ "Id": "0", "MessageBody": "b" }])));
        assert_eq!(unordered.ok().unwrap()["Failed"][0]["Code"], "MissingParameter");
        let long = json!([{ "Id": "0", "MessageBody": "b".repeat(BATCH_MAX + 1) }]);
        assert!(queues.send(call("plain", &long)).is_err());
        assert_eq!(
            (queues.waiting("plain"), queues.take("plain", 10).len(), queues.waiting("plain")),
            (1, 1, 0)
        );
        queues.give_back("plain", queues.messages("plain")[0].clone());
        let attributes = queues.attributes(&call("plain", &json!([]))).ok().unwrap();
        assert_eq!(attributes["Attributes"]["ApproximateNumberOfMessages"], "1");
        assert!(queues.send(call("absent", &json!([{ "Id": "0", "MessageBody": "b" }]))).is_err());
    }
}
