//! What the function is invoked with: direct events, schedules, queues, and HTTP requests, all of which carry
//! the same JSON.
//!
//! Events come from outside, so nothing in them is trusted: what is not known is refused with a sentence that
//! says what would be right, and no event can name more than [`MAX_VAULTS`] vaults.

use std::collections::BTreeSet;

use data_encoding::BASE64;
use obsync_core::Mode;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How many vaults one event may name.
pub(crate) const MAX_VAULTS: usize = 1000;
/// The longest name or id of a vault, in bytes.
const MAX_NAME: usize = 1024;
/// How much of something unknown is repeated in an error, in characters.
const MAX_QUOTED: usize = 60;

/// An event, understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// One thing to do; its answer is the report itself.
    Direct(Action),
    /// One thing to do for someone who speaks HTTP.
    Http(Result<Action, EventError>),
    /// Messages of a queue, each to be answered for by itself.
    Queue(Vec<Message>),
}

/// A message of a queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message {
    /// The queue's name for it.
    pub(crate) id: String,
    /// What it asks for.
    pub(crate) action: Result<Action, EventError>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Bring vaults into the bucket.
    Sync(SyncRequest),
    /// Tell how far vaults are.
    Status {
        /// Which, by id or name; all when there are none.
        vaults: BTreeSet<String>,
    },
}

/// Which vaults are to be synced, how, and to where.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SyncRequest {
    /// Which, by id or name; every one that there are credentials for when there are none.
    pub(crate) vaults: BTreeSet<String>,
    /// How thorough to be.
    pub(crate) mode: Mode,
    /// The bucket, for this event only.
    pub(crate) bucket: Option<String>,
    /// The prefix, for this event only.
    pub(crate) prefix: Option<String>,
    /// How often the function has invoked itself to get here.
    pub(crate) continuation: u32,
}

/// Why an event cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventError {
    /// It is nothing that the function is ever invoked with.
    #[error("the event is {what}; send a JSON object such as {{\"action\":\"sync\"}}")]
    NotAnObject {
        /// What it is.
        what: &'static str,
    },
    /// It does not say what to do.
    #[error("the event has no \"action\"; send \"sync\" or \"status\"")]
    NoAction,
    /// It says something else than what the function can do.
    #[error("the action {action:?} is unknown; there are \"sync\" and \"status\"")]
    UnknownAction {
        /// What it says, shortened.
        action: String,
    },
    /// A field is not what it has to be.
    #[error("the event cannot be used: {reason}")]
    BadField {
        /// Which, and what would be right.
        reason: String,
    },
    /// What a message or a request carries is not JSON.
    #[error("{carrier} does not carry JSON ({reason})")]
    NotJson {
        /// What it came in.
        carrier: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The fields of a direct event. What is not known is refused: a typing error in `dest_bucket` must not send
/// notes to another bucket.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    action: String,
    vault_id: Option<String>,
    vaults: Option<Vec<String>>,
    sync_type: Option<SyncType>,
    dest_bucket: Option<String>,
    dest_prefix: Option<String>,
    #[serde(default)]
    continuation: u32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SyncType {
    Incremental,
    Complete,
}

impl Event {
    /// Understands what the function was invoked with.
    ///
    /// # Errors
    /// [`EventError`] for what it cannot have been meant for.
    pub(crate) fn parse(payload: &Value) -> Result<Self, EventError> {
        let object = match payload {
            Value::Null => return Ok(Event::Direct(Action::every_vault())),
            Value::Object(object) if object.is_empty() => return Ok(Event::Direct(Action::every_vault())),
            Value::Object(object) => object,
            other => return Err(EventError::NotAnObject { what: kind_of(other) }),
        };
        if let Some(Value::Array(records)) = object.get("Records") {
            return Ok(Event::Queue(records.iter().map(Message::parse).collect::<Result<_, _>>()?));
        }
        if object.contains_key("requestContext") {
            return Ok(Event::Http(request(object)));
        }
        if is_from_event_bridge(object) {
            return scheduled(object).map(Event::Direct);
        }
        Action::parse(payload).map(Event::Direct)
    }
}

impl Action {
    /// What an empty event means.
    fn every_vault() -> Self {
        Action::Sync(SyncRequest::default())
    }

    /// Understands the JSON that every kind of event carries.
    fn parse(event: &Value) -> Result<Self, EventError> {
        let object = match event {
            Value::Object(object) => object,
            other => return Err(EventError::NotAnObject { what: kind_of(other) }),
        };
        let action = match object.get("action") {
            None => return Err(EventError::NoAction),
            Some(Value::String(action)) => action.as_str(),
            Some(other) => {
                let reason = format!("\"action\" is {}, not a text", kind_of(other));
                return Err(EventError::BadField { reason });
            }
        };
        if !matches!(action, "sync" | "status") {
            return Err(EventError::UnknownAction { action: quoted(action) });
        }
        let fields = Fields::deserialize(event)
            .map_err(|error| EventError::BadField { reason: quoted_reason(&error.to_string()) })?;
        let is_sync = action == "sync";
        fields.check(is_sync)?;
        let vaults = fields.vaults()?;
        Ok(match is_sync {
            true => Action::Sync(fields.request(vaults)),
            false => Action::Status { vaults },
        })
    }
}

impl Fields {
    /// A status has no destination and is not thorough.
    fn check(&self, is_sync: bool) -> Result<(), EventError> {
        let is_of_sync = [
            ("sync_type", self.sync_type.is_some()),
            ("dest_bucket", self.dest_bucket.is_some()),
            ("dest_prefix", self.dest_prefix.is_some()),
        ];
        match is_of_sync.into_iter().find(|(_, is_there)| !is_sync && *is_there) {
            Some((name, _)) => {
                let reason = format!("\"{name}\" means nothing to the action \"{}\"", self.action);
                Err(EventError::BadField { reason })
            }
            None => Ok(()),
        }
    }

    /// The vaults named in both ways together.
    fn vaults(&self) -> Result<BTreeSet<String>, EventError> {
        let bad = |reason: String| Err(EventError::BadField { reason });
        let named = self.vault_id.iter().chain(self.vaults.iter().flatten());
        let vaults: BTreeSet<String> = named.cloned().collect();
        if self.vault_id.is_none() && self.vaults.as_ref().is_some_and(Vec::is_empty) {
            return bad("\"vaults\" is empty; leave it out for every vault".to_owned());
        }
        if vaults.len() > MAX_VAULTS {
            return bad(format!("it names {} vaults; {MAX_VAULTS} are the most", vaults.len()));
        }
        if let Some(name) = vaults.iter().find(|name| name.is_empty() || name.len() > MAX_NAME) {
            return bad(format!("a vault's id or name has 1 to {MAX_NAME} bytes, not {}", name.len()));
        }
        Ok(vaults)
    }

    fn request(self, vaults: BTreeSet<String>) -> SyncRequest {
        SyncRequest {
            vaults,
            mode: match self.sync_type {
                Some(SyncType::Complete) => Mode::Full,
                Some(SyncType::Incremental) | None => Mode::Incremental,
            },
            bucket: self.dest_bucket,
            prefix: self.dest_prefix,
            continuation: self.continuation,
        }
    }
}

impl SyncRequest {
    /// The event that asks for the rest of this: these vaults, one more time.
    pub(crate) fn continued(&self, vaults: impl IntoIterator<Item = String>) -> Value {
        let mut event = serde_json::json!({
            "action": "sync",
            "vaults": vaults.into_iter().collect::<Vec<_>>(),
            "sync_type": self.sync_type(),
            "continuation": self.continuation.saturating_add(1),
        });
        for (name, value) in [("dest_bucket", &self.bucket), ("dest_prefix", &self.prefix)] {
            if let Some(value) = value {
                event[name] = Value::from(value.as_str());
            }
        }
        event
    }

    /// The word for its mode.
    pub(crate) fn sync_type(&self) -> &'static str {
        match self.mode {
            Mode::Full => "complete",
            Mode::Incremental => "incremental",
        }
    }
}

impl Message {
    /// Understands a message. One that says nothing right is a failure of that message alone.
    fn parse(record: &Value) -> Result<Self, EventError> {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let not_a_queue = || EventError::BadField {
            reason: "it has \"Records\" that are not messages of an SQS queue".to_owned(),
        };
        if text("eventSource").is_some_and(|source| source != "aws:sqs") {
            return Err(not_a_queue());
        }
        let (Some(id), Some(body)) = (text("messageId"), text("body")) else {
            return Err(not_a_queue());
        };
        Ok(Message {
            id: id.to_owned(),
            action: carried("the message", body).and_then(|body| Action::parse(&body)),
        })
    }
}

/// Schedules of EventBridge, and other events that its rules pass on.
fn is_from_event_bridge(object: &Map<String, Value>) -> bool {
    object.contains_key("detail-type") && object.get("source").is_some_and(Value::is_string)
}

/// A schedule says nothing and means every vault; a rule can say more in the detail.
fn scheduled(object: &Map<String, Value>) -> Result<Action, EventError> {
    match object.get("detail") {
        Some(detail) if detail.get("action").is_some() => Action::parse(detail),
        _ => Ok(Action::every_vault()),
    }
}

/// A request to a function URL or to API Gateway (payload formats 1.0 and 2.0). A `GET` only asks how things
/// are: browsers send them without being asked.
fn request(object: &Map<String, Value>) -> Result<Action, EventError> {
    let http = object.get("requestContext").and_then(|context| context.get("http"));
    let method = http.and_then(|http| http.get("method")).or(object.get("httpMethod"));
    if matches!(method.and_then(Value::as_str), Some("GET" | "HEAD")) {
        let asked = object.get("queryStringParameters").and_then(|query| query.get("vault_id"));
        return Ok(Action::Status {
            vaults: asked.and_then(Value::as_str).map(str::to_owned).into_iter().collect(),
        });
    }
    let body = object.get("body").and_then(Value::as_str).unwrap_or_default();
    let is_encoded = object.get("isBase64Encoded").and_then(Value::as_bool).unwrap_or_default();
    let not_text = |reason: String| EventError::NotJson { carrier: "the request", reason };
    let body = match is_encoded {
        true => {
            let decoded = BASE64.decode(body.as_bytes()).map_err(|error| not_text(error.to_string()))?;
            String::from_utf8(decoded).map_err(|error| not_text(error.to_string()))?
        }
        false => body.to_owned(),
    };
    if body.trim().is_empty() {
        return Ok(Action::every_vault());
    }
    match carried("the request", &body)? {
        Value::Object(object) if object.is_empty() => Ok(Action::every_vault()),
        event => Action::parse(&event),
    }
}

fn carried(carrier: &'static str, body: &str) -> Result<Value, EventError> {
    serde_json::from_str(body).map_err(|error| EventError::NotJson { carrier, reason: error.to_string() })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The beginning of a text that a stranger sent.
fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// The reason that the parser gives repeats what it found.
fn quoted_reason(reason: &str) -> String {
    reason.chars().take(4 * MAX_QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn direct(event: Value) -> Result<Action, EventError> {
        match Event::parse(&event)? {
            Event::Direct(action) => Ok(action),
            other => panic!("{other:?}"),
        }
    }

    fn sync(vaults: &[&str]) -> SyncRequest {
        SyncRequest {
            vaults: vaults.iter().map(|name| (*name).to_owned()).collect(),
            ..SyncRequest::default()
        }
    }

    #[test]
    fn nothing_and_a_schedule_mean_every_vault() {
        let schedule = json!({
            "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events",
            "time": "2025-01-01T00:00:00Z", "region": "eu-central-1", "resources": [], "detail": {},
        });
        for event in [Value::Null, json!({}), schedule] {
            assert_eq!(direct(event), Ok(Action::Sync(sync(&[]))));
        }
    }

    #[test]
    fn a_sync_says_which_vaults_how_and_to_where() {
        let event = json!({
            "action": "sync", "vault_id": "a", "vaults": ["b", "a"], "sync_type": "complete",
            "dest_bucket": "other", "dest_prefix": "p",
        });
        let wanted = SyncRequest {
            mode: Mode::Full,
            bucket: Some("other".to_owned()),
            prefix: Some("p".to_owned()),
            ..sync(&["a", "b"])
        };
        assert_eq!(direct(event), Ok(Action::Sync(wanted)));
        assert_eq!(direct(json!({"action": "sync", "vault_id": null})), Ok(Action::Sync(sync(&[]))));
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_would_be_right() {
        for (event, part) in [
            (json!({"action": "format"}), "\"format\" is unknown"),
            (json!({"vault_id": "a"}), "no \"action\""),
            (json!({"action": 1}), "\"action\" is a number"),
            (json!({"action": "sync", "dest_buket": "x"}), "dest_buket"),
            (json!({"action": "sync", "sync_type": "fast"}), "incremental"),
            (json!({"action": "sync", "vaults": []}), "leave it out"),
            (json!({"action": "sync", "vaults": "a"}), "sequence"),
            (json!({"action": "sync", "vault_id": ""}), "1 to 1024 bytes"),
            (json!({"action": "status", "dest_bucket": "b"}), "means nothing"),
            (json!([1]), "is a list"),
            (json!("sync"), "is a text"),
        ] {
            let error = direct(event.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{event}: {error}");
        }
        let long = direct(json!({"action": "x".repeat(1 << 20)})).unwrap_err().to_string();
        assert!(long.len() < 200);
        let many: Vec<String> = (0..=MAX_VAULTS).map(|number| number.to_string()).collect();
        assert!(direct(json!({"action": "sync", "vaults": many})).is_err());
    }

    #[test]
    fn a_status_is_of_one_vault_or_all() {
        let status = |vaults: &[&str]| Ok(Action::Status { vaults: sync(vaults).vaults });
        assert_eq!(direct(json!({"action": "status"})), status(&[]));
        assert_eq!(direct(json!({"action": "status", "vault_id": "a"})), status(&["a"]));
    }

    #[test]
    fn each_message_of_a_queue_is_judged_by_itself() {
        let record = |id: &str, body: &str| json!({"messageId": id, "eventSource": "aws:sqs", "body": body});
        let event = json!({"Records": [
            record("1", r#"{"action":"sync","vault_id":"a"}"#),
            record("2", "not json"),
            record("3", r#"{"action":"dance"}"#),
        ]});
        let Ok(Event::Queue(messages)) = Event::parse(&event) else { panic!() };
        assert_eq!(messages[0].action, Ok(Action::Sync(sync(&["a"]))));
        assert!(matches!(messages[1].action, Err(EventError::NotJson { .. })));
        assert!(matches!(messages[2].action, Err(EventError::UnknownAction { .. })));
        let other = json!({"Records": [{"eventSource": "aws:s3", "s3": {}}]});
        assert!(Event::parse(&other).is_err());
    }

    #[test]
    fn http_requests_of_both_formats_carry_the_event() {
        let body = r#"{"action":"sync","vault_id":"a"}"#;
        let url = |body: Value, encoded: bool| {
            json!({
                "version": "2.0", "requestContext": {"http": {"method": "POST", "path": "/"}}, "body": body,
                "isBase64Encoded": encoded,
            })
        };
        let gateway = json!({"resource": "/", "httpMethod": "POST", "requestContext": {}, "body": body});
        for event in [url(body.into(), false), url(BASE64.encode(body.as_bytes()).into(), true), gateway] {
            assert_eq!(Event::parse(&event), Ok(Event::Http(Ok(Action::Sync(sync(&["a"]))))));
        }
        assert_eq!(Event::parse(&url(Value::Null, false)), Ok(Event::Http(Ok(Action::every_vault()))));
        assert!(matches!(
            Event::parse(&url("{".into(), false)),
            Ok(Event::Http(Err(EventError::NotJson { .. })))
        ));
        assert!(matches!(
            Event::parse(&url("%".into(), true)),
            Ok(Event::Http(Err(EventError::NotJson { .. })))
        ));
    }

    #[test]
    fn a_get_request_only_asks_how_things_are() {
        let event = json!({
            "requestContext": {"http": {"method": "GET"}}, "queryStringParameters": {"vault_id": "a"},
        });
        let Ok(Event::Http(Ok(Action::Status { vaults }))) = Event::parse(&event) else { panic!() };
        assert_eq!(vaults, sync(&["a"]).vaults);
    }

    #[test]
    fn a_continued_event_is_understood_as_the_rest_of_the_first() {
        let first = SyncRequest { mode: Mode::Full, prefix: Some(String::new()), ..sync(&["a", "b"]) };
        let next = first.continued(["b".to_owned()]);
        let wanted = SyncRequest { vaults: sync(&["b"]).vaults, continuation: 1, ..first };
        assert_eq!(direct(next), Ok(Action::Sync(wanted)));
    }

    #[test]
    fn every_sample_event_is_understood() {
        let events = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/events");
        let mut kinds = BTreeSet::new();
        for file in std::fs::read_dir(events).unwrap() {
            let path = file.unwrap().path();
            let event = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            kinds.insert(match Event::parse(&event) {
                Ok(Event::Direct(Action::Sync(_))) => "sync",
                Ok(Event::Direct(Action::Status { .. })) => "status",
                Ok(Event::Http(Ok(_))) => "http",
                Ok(Event::Queue(messages)) if messages.iter().all(|message| message.action.is_ok()) => {
                    "queue"
                }
                other => panic!("{}: {other:?}", path.display()),
            });
        }
        assert_eq!(kinds.len(), 4);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z_\\-]{0,12}|action|sync|Records|requestContext|body".prop_map(Value::from),
        ];
        let name = "[a-z]{1,6}|action|vault_id|vaults|Records|requestContext|http|method|body|\
                    detail|detail-type|source";
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map(name, inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_event_is_too_strange_to_be_judged(event in any_json()) {
            let _ = Event::parse(&event);
        }
    }
}
