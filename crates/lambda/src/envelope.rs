//! Finds what is asked for in whatever form an event comes in: one rule for all of them.
//!
//! Text is read as JSON, else as Base64 of a JSON object. Nothing (`null`, `{}`, an empty text) means every vault. An
//! object with an `action` is the request itself. An event of EventBridge is a request if it is a schedule, or if its
//! `detail` has an `action`. A message of SNS and a `Payload` of Step Functions are envelopes: the same holds for what
//! is in them, and for that of one more envelope in it. Batches (of SQS, SNS and Pipes) and requests of HTTP are read at
//! the outside only.
//!
//! Events are hostile. Nothing that is not asked for is kept, so an event takes no more memory than a few times its size:
//! the types of the crate `aws_lambda_events` make 288 bytes of a record `{}`. Nothing here recurses deeper than envelopes
//! may be nested.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};
use obsync_protocol::limits::{EVENT, EVENT_MESSAGES};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::{Action, Event, EventError, Message, quoted_reason};

/// Fields that tell the forms of events apart.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Form<'e> {
    #[serde(borrow)]
    action: Option<&'e RawValue>,
    // Batches: SQS, SNS, and the other services that invoke functions; Step Functions' distributed map.
    #[serde(borrow, rename = "Records")]
    records: Option<&'e RawValue>,
    #[serde(borrow, rename = "Items")]
    items: Option<&'e RawValue>,
    // EventBridge.
    #[serde(borrow, rename = "detail-type")]
    detail_type: Option<&'e RawValue>,
    #[serde(borrow)]
    source: Option<&'e RawValue>,
    #[serde(borrow)]
    detail: Option<&'e RawValue>,
    // A notification of SNS.
    #[serde(borrow, rename = "Type")]
    kind: Option<&'e RawValue>,
    #[serde(borrow, rename = "Message")]
    message: Option<&'e RawValue>,
    // Step Functions: the result of another task.
    #[serde(borrow, rename = "Payload")]
    payload: Option<&'e RawValue>,
    // What S3 sends when notifications are set up.
    #[serde(borrow, rename = "Event")]
    s3_event: Option<&'e RawValue>,
    // Function URLs, API Gateway (payload formats 1.0 and 2.0), load balancers.
    #[serde(borrow)]
    request_context: Option<&'e RawValue>,
    #[serde(borrow)]
    http_method: Option<&'e RawValue>,
    #[serde(borrow)]
    query_string_parameters: Option<&'e RawValue>,
    #[serde(borrow)]
    body: Option<&'e RawValue>,
    #[serde(borrow)]
    is_base64_encoded: Option<&'e RawValue>,
}

/// One of the `Records` of an event, or an element of a list.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Record<'e> {
    #[serde(borrow)]
    message_id: Option<&'e RawValue>,
    #[serde(borrow)]
    body: Option<&'e RawValue>,
    #[serde(borrow)]
    attributes: Option<&'e RawValue>,
    #[serde(borrow)]
    event_source: Option<&'e RawValue>,
    #[serde(borrow, rename = "eventSourceARN")]
    event_source_arn: Option<&'e RawValue>,
    // SNS begins its names with capitals.
    #[serde(borrow, rename = "EventSource")]
    sns_source: Option<&'e RawValue>,
    #[serde(borrow, rename = "Sns")]
    sns: Option<&'e RawValue>,
}

/// Attributes of a message that say whether its queue keeps an order.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Attributes<'e> {
    #[serde(borrow)]
    message_group_id: Option<&'e RawValue>,
    #[serde(borrow)]
    sequence_number: Option<&'e RawValue>,
}

/// The fields of nested objects that are looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner<'e> {
    #[serde(borrow)]
    action: Option<&'e RawValue>,
    #[serde(borrow)]
    http: Option<&'e RawValue>,
    #[serde(borrow)]
    method: Option<&'e RawValue>,
    #[serde(borrow)]
    vault_id: Option<&'e RawValue>,
    #[serde(borrow, rename = "Message")]
    message: Option<&'e RawValue>,
}

impl Event {
    /// Understands what the function was invoked with: the text of a JSON document.
    ///
    /// # Errors
    /// [`EventError`] for what it cannot have been meant for, where somebody reads the answer.
    pub(crate) fn parse(text: &str) -> Result<Self, EventError> {
        let text = text.trim();
        if text.starts_with('[') {
            return list(text);
        }
        if !text.starts_with('{') {
            return action(text, "the event", true).map(Event::Direct);
        }
        let form = Form::read(text, "the event")?;
        if form.action.is_none() {
            if let Some(records) = form.records {
                return batch(records.get());
            }
            if let Some(items) = form.items {
                return list(items.get());
            }
            if let Some(method) = form.method() {
                return Ok(Event::Http(request(&method, &form)));
            }
        }
        match object(text, &form, true) {
            Ok(action) => Ok(Event::Direct(action)),
            // A rule reads no answer, and would only try again.
            Err(error) if form.is_from_event_bridge() => {
                let body = text.to_owned();
                Ok(Event::Batch(vec![Message { id: None, group: None, body, action: Err(error) }]))
            }
            Err(error) => Err(error),
        }
    }
}

/// What a text asks for: the event itself, or the content of an envelope. `may_nest` says whether it may be one more
/// envelope.
fn action(text: &str, carrier: &'static str, may_nest: bool) -> Result<Action, EventError> {
    let text = text.trim();
    if text.len() > EVENT {
        return Err(EventError::TooLarge { size: text.len() });
    }
    match text.chars().next() {
        None => Ok(Action::every_vault()),
        Some('{') => object(text, &Form::read(text, carrier)?, may_nest),
        Some('"') => {
            // JSON that was made a text once more on its way.
            let inner: String = serde_json::from_str(text).map_err(|error| not_json(carrier, &error))?;
            match inner.trim() {
                "" => Ok(Action::every_vault()),
                inner if inner.starts_with('{') && may_nest => action(inner, carrier, false),
                inner if inner.starts_with('{') => Err(EventError::Nested),
                _ => Err(EventError::NotAnObject { what: "a text" }),
            }
        }
        Some(_) => match serde_json::from_str::<&RawValue>(text) {
            Ok(_) if text == "null" => Ok(Action::every_vault()),
            Ok(_) => Err(EventError::NotAnObject { what: kind_of(text) }),
            Err(error) => match decoded(text).filter(|inner| inner.trim_start().starts_with('{')) {
                Some(inner) => action(&inner, carrier, may_nest),
                None => Err(not_json(carrier, &error)),
            },
        },
    }
}

/// What an object asks for.
fn object(text: &str, form: &Form<'_>, may_nest: bool) -> Result<Action, EventError> {
    if text.len() > EVENT {
        return Err(EventError::TooLarge { size: text.len() });
    }
    if text.strip_prefix('{').is_some_and(|rest| rest.trim_start() == "}") {
        return Ok(Action::every_vault());
    }
    if let Some(action) = form.action {
        return Action::parse(action.get(), text);
    }
    if form.is_from_event_bridge() {
        return form.rule_or_schedule();
    }
    if let Some(reason) = form.is_no_request() {
        return Ok(Action::Ignore { reason });
    }
    match form.content() {
        Some(_) if !may_nest => Err(EventError::Nested),
        Some((carrier, content)) => action(&content, carrier, false),
        None => Err(EventError::NoAction),
    }
}

impl<'e> Form<'e> {
    fn read(text: &'e str, carrier: &'static str) -> Result<Self, EventError> {
        serde_json::from_str(text).map_err(|error| match error.is_data() {
            true => EventError::bad_field(error.to_string()),
            false => not_json(carrier, &error),
        })
    }

    /// Schedules of EventBridge, and other events that its rules pass on.
    fn is_from_event_bridge(&self) -> bool {
        self.detail_type.is_some() && self.source.and_then(text_of).is_some()
    }

    /// A schedule says nothing and means every vault; a rule can say more in the detail. The detail of a schedule of
    /// EventBridge Scheduler is a text.
    fn rule_or_schedule(&self) -> Result<Action, EventError> {
        let text = |field: Option<&RawValue>| field.and_then(text_of).unwrap_or_default();
        let (kind, source) = (text(self.detail_type), text(self.source));
        let is_schedule =
            kind == "Scheduled Event" && matches!(source.as_str(), "aws.events" | "aws.scheduler");
        let detail = self.detail.map(|detail| text_of(detail).unwrap_or_else(|| detail.get().to_owned()));
        let detail = detail.unwrap_or_default();
        let asked = inner(&detail).and_then(|inner| inner.action);
        // What AWS itself sends may have an action of its own: that of a pipeline, say.
        let is_ours = |action: &&RawValue| {
            is_schedule || !source.starts_with("aws.") || matches!(action.get(), "\"sync\"" | "\"status\"")
        };
        match asked.filter(is_ours) {
            Some(action) => Action::parse(action.get(), &detail),
            None if is_schedule => Ok(Action::every_vault()),
            None => Ok(Action::Ignore {
                reason: format!(
                    "an event {:?} of {:?} is no request: only a schedule, or a detail with an \"action\", is one",
                    quoted_reason(&kind),
                    quoted_reason(&source)
                ),
            }),
        }
    }

    /// Why this is no request, if it is something that AWS sends without anybody wanting anything.
    fn is_no_request(&self) -> Option<String> {
        if self.s3_event.and_then(text_of).is_some_and(|event| event.starts_with("s3:")) {
            return Some("a test message of S3 is no request".to_owned());
        }
        if self.kind.and_then(text_of).is_some_and(|kind| kind.ends_with("Confirmation")) {
            return Some(
                "a confirmation of SNS is no request: subscribe the queue or the function".to_owned(),
            );
        }
        let first = elements(self.records?.get()).ok()?.first().and_then(|first| record(first.get()))?;
        first.of_another_service()
    }

    /// The content of an envelope, and the envelope's name.
    fn content(&self) -> Option<(&'static str, String)> {
        let message = self.message.filter(|_| self.kind.and_then(text_of).as_deref() == Some("Notification"));
        match (message, self.payload) {
            (Some(message), _) => Some(("the notification", text_of(message)?)),
            (None, Some(payload)) => {
                let text = text_of(payload).unwrap_or_else(|| payload.get().to_owned());
                Some(("the payload", text))
            }
            (None, None) => None,
        }
    }

    /// The method of an HTTP request.
    fn method(&self) -> Option<String> {
        let http = inner(self.request_context?.get()).and_then(|context| inner(context.http?.get()));
        http.and_then(|http| http.method).or(self.http_method).and_then(text_of)
    }
}

/// A request to a function URL, to API Gateway or to a load balancer. A `GET` only asks how things are: browsers send them
/// without being asked.
fn request(method: &str, form: &Form<'_>) -> Result<Action, EventError> {
    match method {
        "GET" | "HEAD" => {
            let query = form.query_string_parameters.and_then(|query| inner(query.get()));
            let asked = query.and_then(|query| query.vault_id).and_then(text_of);
            Ok(Action::Status { vaults: asked.into_iter().collect() })
        }
        "POST" | "PUT" | "PATCH" => {
            let body = match form.body {
                None => String::new(),
                Some(body) => {
                    text_of(body).ok_or_else(|| EventError::bad_field("the request's body is no text"))?
                }
            };
            let body = match form.is_base64_encoded.is_some_and(|flag| flag.get() == "true") {
                false => body,
                true => {
                    let reason = "its body is not text in Base64".to_owned();
                    let bytes = BASE64.decode(body.as_bytes()).ok();
                    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                    text.ok_or(EventError::NotJson { carrier: "the request", reason })?
                }
            };
            action(&body, "the request", true)
        }
        _ => Err(EventError::bad_field("only GET and POST mean something to the function")),
    }
}

/// The records of a service.
fn batch(records: &str) -> Result<Event, EventError> {
    let elements = elements(records)?;
    let first = elements.first().and_then(|first| record(first.get()));
    if let Some(reason) = first.and_then(|first| first.of_another_service()) {
        return Ok(Event::Direct(Action::Ignore { reason }));
    }
    let not_a_message =
        || Err(EventError::bad_field("one of the \"Records\" is no message of an SQS queue or an SNS topic"));
    let messages = elements.into_iter().map(|element| match record(element.get()).map(|it| it.message()) {
        Some(Some(message)) => message,
        _ => Message { id: None, group: None, body: element.get().to_owned(), action: not_a_message() },
    });
    Ok(Event::Batch(messages.collect()))
}

/// A list without a name, as EventBridge Pipes sends it: of messages, or of whatever was made of them on the way.
fn list(list: &str) -> Result<Event, EventError> {
    let elements = elements(list)?;
    if elements.is_empty() || elements.iter().any(|element| !element.get().starts_with(['{', '"'])) {
        return Err(EventError::NotAnObject { what: "a list" });
    }
    let messages = elements.into_iter().map(|element| {
        record(element.get()).and_then(|record| record.message()).unwrap_or_else(|| Message {
            id: None,
            group: None,
            body: element.get().to_owned(),
            action: action(element.get(), "an element of the list", true),
        })
    });
    Ok(Event::Batch(messages.collect()))
}

impl Record<'_> {
    fn source(&self) -> Option<String> {
        self.event_source.or(self.sns_source).and_then(text_of)
    }

    /// Why this is no request, if it is an event of another service than SQS and SNS.
    fn of_another_service(&self) -> Option<String> {
        let source = self.source().filter(|source| !matches!(source.as_str(), "aws:sqs" | "aws:sns"))?;
        Some(format!("an event of {:?} is no request: it says what happened there", quoted_reason(&source)))
    }

    /// The message that this is, if it is one.
    fn message(&self) -> Option<Message> {
        if let Some(reason) = self.of_another_service() {
            let action = Ok(Action::Ignore { reason });
            return Some(Message { id: None, group: None, body: String::new(), action });
        }
        if let Some(sns) = self.sns {
            let body = inner(sns.get())?.message.and_then(text_of)?;
            let action = action(&body, "the notification", true);
            return Some(Message { id: None, group: None, body, action });
        }
        let (id, body) = (text_of(self.message_id?)?, text_of(self.body?)?);
        let action = action(&body, "the message", true);
        Some(Message { id: Some(id), group: self.group(), body, action })
    }

    /// The group, if the queue keeps an order. Messages of other queues can have a group, too, that means no order.
    fn group(&self) -> Option<String> {
        let attributes: Attributes<'_> = serde_json::from_str(self.attributes?.get()).ok()?;
        let arn = self.event_source_arn.and_then(text_of);
        let is_fifo = attributes.sequence_number.is_some() || arn.is_some_and(|arn| arn.ends_with(".fifo"));
        attributes.message_group_id.filter(|_| is_fifo).and_then(text_of)
    }
}

fn record(text: &str) -> Option<Record<'_>> {
    text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

fn inner(text: &str) -> Option<Inner<'_>> {
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A text of JSON; none for anything else.
fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The elements of a list.
fn elements(list: &str) -> Result<Vec<&RawValue>, EventError> {
    let elements: Result<Elements<'_>, _> = serde_json::from_str(list);
    elements.map(|elements| elements.0).map_err(|error| EventError::bad_field(error.to_string()))
}

/// A list that is not too long.
struct Elements<'e>(Vec<&'e RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded;
        impl<'de> Visitor<'de> for Bounded {
            type Value = Vec<&'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = list.next_element()? {
                    if elements.len() == EVENT_MESSAGES {
                        let most = format_args!("it has more than {EVENT_MESSAGES} messages");
                        return Err(A::Error::custom(most));
                    }
                    elements.push(element);
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Bounded).map(Elements)
    }
}

/// The text that a text in Base64 stands for.
fn decoded(text: &str) -> Option<String> {
    let bytes = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()?;
    String::from_utf8(bytes).ok()
}

fn not_json(carrier: &'static str, error: &serde_json::Error) -> EventError {
    EventError::NotJson { carrier, reason: quoted_reason(&error.to_string()) }
}

/// What kind of value a text of JSON is.
pub(crate) fn kind_of(text: &str) -> &'static str {
    match text.trim_start().chars().next() {
        Some('n') => "null",
        Some('t' | 'f') => "true or false",
        Some('"') => "a text",
        Some('[') => "a list",
        Some('{') => "an object",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use obsync_protocol::limits::EVENT_VAULTS;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::event::tests::{direct, sync};

    const SYNC: &str = r#"{"action":"sync","vault_id":"a"}"#;

    fn parse(event: &Value) -> Result<Event, EventError> {
        Event::parse(&event.to_string())
    }

    /// What each message of a batch asks for.
    fn asked(event: &Value) -> Vec<Result<Action, EventError>> {
        match parse(event) {
            Ok(Event::Batch(messages)) => messages.into_iter().map(|message| message.action).collect(),
            other => panic!("{event}: {other:?}"),
        }
    }

    fn message(id: &str, body: &str) -> Value {
        json!({
            "messageId": id, "receiptHandle": "AQEB", "body": body, "md5OfBody": "", "messageAttributes": {},
            "attributes": { "ApproximateReceiveCount": "1" }, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:obsync", "awsRegion": "eu-central-1",
        })
    }

    fn queue(body: &str) -> Value {
        json!({ "Records": [message("1", body)] })
    }

    fn notification(message: &str) -> Value {
        json!({
            "Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t",
            "Message": message, "Timestamp": "2025-01-01T00:00:00.000Z", "SignatureVersion": "1",
            "Signature": "x", "SigningCertURL": "https://x", "UnsubscribeURL": "https://x",
        })
    }

    fn rule(kind: &str, source: &str, detail: &Value) -> Value {
        json!({
            "version": "0", "id": "1", "detail-type": kind, "source": source, "account": "123456789012",
            "time": "2025-01-01T00:00:00Z", "region": "eu-central-1", "resources": [], "detail": detail,
        })
    }

    fn schedule() -> Value {
        rule("Scheduled Event", "aws.events", &json!({}))
    }

    fn object_created() -> Value {
        let object = json!({ "key": "notes/a.md", "size": 5 });
        rule("Object Created", "aws.s3", &json!({ "bucket": { "name": "vaults" }, "object": object }))
    }

    fn s3_records() -> Value {
        json!({ "Records": [{
            "eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
            "s3": { "bucket": { "name": "vaults" }, "object": { "key": "notes/a.md" } },
        }] })
    }

    fn s3_test() -> Value {
        json!({
            "Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2025-01-01T00:00:00.000Z",
            "Bucket": "vaults", "RequestId": "1", "HostId": "1",
        })
    }

    fn is_ignored(action: &Result<Action, EventError>) -> bool {
        matches!(action, Ok(Action::Ignore { .. }))
    }

    #[test]
    fn nothing_and_a_schedule_mean_every_vault() {
        let of_scheduler = rule("Scheduled Event", "aws.scheduler", &json!("{}"));
        for event in [Value::Null, json!({}), json!(""), schedule(), of_scheduler] {
            assert_eq!(direct(event.clone()), Ok(Action::every_vault()), "{event}");
            assert_eq!(asked(&queue(&event.to_string())), [Ok(Action::every_vault())], "{event}");
        }
        for body in ["", " ", "{ }", "null"] {
            assert_eq!(asked(&queue(body)), [Ok(Action::every_vault())], "{body:?}");
        }
    }

    #[test]
    fn a_request_is_understood_in_every_envelope() {
        let wanted = Ok(Action::Sync(sync(&["a"])));
        let inner: Value = serde_json::from_str(SYNC).unwrap();
        let of_step_functions = json!({
            "action": "sync", "vault_id": "a",
            "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:aws:states:eu-central-1:123456789012:execution:x:1",
        });
        let result = json!({ "ExecutedVersion": "$LATEST", "Payload": inner, "StatusCode": 200 });
        let forms = [
            inner.clone(),
            json!(SYNC),
            of_step_functions,
            result,
            json!({ "Payload": SYNC }),
            rule("Scheduled Event", "aws.scheduler", &json!(SYNC)),
            rule("Sync", "my.app", &inner),
            rule("Sync", "my.app", &json!(SYNC)),
            notification(SYNC),
        ];
        for form in forms {
            assert_eq!(direct(form.clone()), wanted, "{form}");
            assert_eq!(asked(&queue(&form.to_string())), std::slice::from_ref(&wanted), "{form}");
            let topic = json!({ "Records": [{
                "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn",
                "Sns": notification(&form.to_string()),
            }] });
            assert_eq!(asked(&topic), std::slice::from_ref(&wanted), "{form}");
        }
        for form in [json!(SYNC), notification(SYNC), rule("Sync", "my.app", &inner)] {
            let twice = notification(&form.to_string()).to_string();
            let expected = if form["detail"].is_object() { wanted.clone() } else { Err(EventError::Nested) };
            assert_eq!(asked(&queue(&twice)), [expected], "{form}");
        }
    }

    #[test]
    fn a_body_may_be_in_base64() {
        for encoded in [BASE64.encode(SYNC.as_bytes()), BASE64_NOPAD.encode(SYNC.as_bytes())] {
            assert_eq!(asked(&queue(&encoded)), [Ok(Action::Sync(sync(&["a"])))]);
        }
        for body in ["hello", "aGVsbG8=", "bnVsbA==", "1e", "{", "=", "/w=="] {
            let asked = asked(&queue(body));
            assert!(matches!(&asked[..], [Err(EventError::NotJson { .. })]), "{body}: {asked:?}");
        }
    }

    #[test]
    fn events_about_objects_are_no_requests() {
        let mut events = vec![object_created(), s3_records(), s3_test()];
        for kind in ["Object Deleted", "Object Restore Completed", "Object Tags Added"] {
            events.push(rule(kind, "aws.s3", &json!({ "bucket": { "name": "vaults" } })));
        }
        events.push(rule(
            "CodePipeline Action Execution State Change",
            "aws.codepipeline",
            &json!({ "action": "Build" }),
        ));
        events.push(rule("Scheduled Event", "my.app", &json!({})));
        events.push(json!({ "Records": [{ "eventSource": "aws:dynamodb", "dynamodb": {} }] }));
        events
            .push(json!({ "Type": "SubscriptionConfirmation", "SubscribeURL": "https://x", "Message": "m" }));
        for event in events {
            assert!(is_ignored(&direct(event.clone())), "{event}");
            assert!(is_ignored(&asked(&queue(&event.to_string()))[0]), "{event}");
            // As S3 tells a topic, which tells a queue.
            let by_topic = notification(&event.to_string()).to_string();
            assert!(is_ignored(&asked(&queue(&by_topic))[0]), "{event}");
        }
        let kinesis = json!([{ "eventSource": "aws:kinesis", "data": "e30=", "sequenceNumber": "1" }]);
        assert!(is_ignored(&asked(&kinesis)[0]));
    }

    #[test]
    fn each_message_of_a_queue_is_judged_by_itself_in_every_form_of_a_batch() {
        let messages = [message("1", SYNC), message("2", "hello"), message("3", r#"{"action":"dance"}"#)];
        for event in [json!({ "Records": messages }), json!(messages)] {
            let Ok(Event::Batch(found)) = parse(&event) else { panic!("{event}") };
            let ids: Vec<Option<&str>> = found.iter().map(|message| message.id.as_deref()).collect();
            assert_eq!(ids, [Some("1"), Some("2"), Some("3")]);
            assert_eq!(found[0].action, Ok(Action::Sync(sync(&["a"]))));
            assert!(matches!(found[1].action, Err(EventError::NotJson { .. })));
            assert!(matches!(found[2].action, Err(EventError::UnknownAction { .. })));
            assert_eq!(found[1].body, "hello");
        }
        let made_by_a_pipe: Value = serde_json::from_str(&format!("[{SYNC},{{}}]")).unwrap();
        let wanted = [Ok(Action::Sync(sync(&["a"]))), Ok(Action::every_vault())];
        assert_eq!(asked(&made_by_a_pipe), wanted);
        assert_eq!(asked(&json!({ "Items": made_by_a_pipe, "BatchInput": {} })), wanted);
        let damaged = json!({ "Records": [message("1", SYNC), { "messageId": 1, "body": [] }, 7] });
        assert_eq!(asked(&damaged).iter().filter(|action| action.is_err()).count(), 2);
        assert!(parse(&json!({ "Records": 7 })).is_err());
        assert!(parse(&json!([])).is_err());
    }

    #[test]
    fn messages_of_fifo_queues_have_a_group() {
        let group = |change: &dyn Fn(&mut Value)| {
            let mut message = message("1", SYNC);
            message["attributes"]["MessageGroupId"] = json!("g");
            change(&mut message);
            match parse(&json!([message])) {
                Ok(Event::Batch(messages)) => messages[0].group.clone(),
                other => panic!("{other:?}"),
            }
        };
        // A fair queue has groups, and keeps no order.
        assert_eq!(group(&|_| {}), None);
        assert_eq!(
            group(&|message| message["eventSourceARN"] = json!("arn:aws:sqs:x:1:q.fifo")),
            Some("g".to_owned())
        );
        assert_eq!(
            group(&|message| message["attributes"]["SequenceNumber"] = json!("1")),
            Some("g".to_owned())
        );
        assert_eq!(group(&|message| message["attributes"] = json!("strange")), None);
    }

    #[test]
    fn what_a_rule_sends_wrong_is_a_message_as_nobody_reads_an_answer() {
        let event = rule("Sync", "my.app", &json!({ "action": "dance" }));
        let Ok(Event::Batch(messages)) = parse(&event) else { panic!() };
        assert!(matches!(messages[0].action, Err(EventError::UnknownAction { .. })));
        assert_eq!(messages[0].id, None);
    }

    #[test]
    fn http_requests_of_both_formats_carry_the_event() {
        let url = |body: Value, encoded: bool| {
            json!({
                "version": "2.0", "requestContext": {"http": {"method": "POST", "path": "/"}}, "body": body,
                "isBase64Encoded": encoded,
            })
        };
        let gateway = json!({"resource": "/", "httpMethod": "POST", "requestContext": {}, "body": SYNC});
        let encoded = url(BASE64.encode(SYNC.as_bytes()).into(), true);
        for event in [url(SYNC.into(), false), encoded, gateway] {
            assert_eq!(parse(&event), Ok(Event::Http(Ok(Action::Sync(sync(&["a"]))))));
        }
        assert_eq!(parse(&url(Value::Null, false)), Ok(Event::Http(Ok(Action::every_vault()))));
        for (body, encoded) in [("{", false), ("%", true), ("/w==", true)] {
            let event = parse(&url(body.into(), encoded));
            assert!(matches!(event, Ok(Event::Http(Err(EventError::NotJson { .. })))), "{event:?}");
        }
    }

    #[test]
    fn a_get_request_only_asks_how_things_are() {
        let of = |method: &str| {
            json!({
                "requestContext": {"http": {"method": method}}, "queryStringParameters": {"vault_id": "a"},
            })
        };
        let Ok(Event::Http(Ok(Action::Status { vaults }))) = parse(&of("GET")) else { panic!() };
        assert_eq!(vaults, sync(&["a"]).vaults);
        assert!(matches!(parse(&of("OPTIONS")), Ok(Event::Http(Err(_)))));
    }

    #[test]
    fn what_has_no_method_is_no_http_request() {
        // What Lambda sends about a failed invocation, and a WebSocket's message.
        for event in [
            json!({ "requestContext": { "functionArn": "arn" }, "requestPayload": {}, "responsePayload": {} }),
            json!({ "requestContext": { "routeKey": "$default", "connectionId": "1" }, "body": "{}" }),
        ] {
            assert_eq!(parse(&event), Err(EventError::NoAction));
        }
    }

    #[test]
    fn hostile_events_cost_little_and_get_a_short_sentence() {
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(1 << 20), close.repeat(1 << 20));
        let padded = |inner: &str| format!(r#"{{"padding":"{}",{inner}}}"#, "x".repeat(EVENT));
        let names: Vec<String> = (0..10_000).map(|number| format!("vault {number}")).collect();
        for (text, part) in [
            (deep("[", "]"), "a list"),
            (format!(r#"{{"a":{}}}"#, deep("[", "]")), "bytes"),
            (
                format!(r#"{{"detail-type":"x","source":"y","detail":{}}}"#, "[".repeat(99)),
                "does not carry JSON",
            ),
            (format!(r#"{{"Records":[{}0]}}"#, "0,".repeat(EVENT_MESSAGES)), "10000 messages"),
            (padded(r#""action":"sync""#), "1048576 are the most"),
            (
                json!({ "action": "sync", "vaults": names }).to_string(),
                "it names 10000 vaults; 1000 are the most",
            ),
            (json!({ "action": "x".repeat(EVENT / 2) }).to_string(), "is unknown"),
            (json!({ "action": "sync", "x".repeat(EVENT / 2): 1 }).to_string(), "unknown field"),
            (r#"{"action":"sync","action":"status"}"#.to_owned(), "duplicate field"),
            (r#"{"action":"sync","vault_id":"\ud800"}"#.to_owned(), "hex escape"),
        ] {
            let error = Event::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part) && error.len() < 1000, "{error}");
        }
        let matryoshka = (0..6).fold(SYNC.to_owned(), |inner, _| notification(&inner).to_string());
        assert_eq!(Event::parse(&matryoshka), Err(EventError::Nested));
        assert_eq!(EVENT_VAULTS, 1000);
    }

    #[test]
    fn every_sample_event_is_understood() {
        let events = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/events");
        let mut kinds: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for file in std::fs::read_dir(events).unwrap() {
            let path = file.unwrap().path();
            let event = std::fs::read_to_string(&path).unwrap();
            let kind = match Event::parse(&event) {
                Ok(Event::Direct(Action::Sync(_))) => "sync",
                Ok(Event::Direct(Action::Status { .. })) => "status",
                Ok(Event::Direct(Action::Ignore { .. })) => "ignored",
                Ok(Event::Http(Ok(_))) => "http",
                Ok(Event::Batch(messages)) if messages.iter().all(|message| message.action.is_ok()) => {
                    "batch"
                }
                other => panic!("{}: {other:?}", path.display()),
            };
            kinds.entry(kind).or_default().insert(path.file_name().unwrap().to_string_lossy().into_owned());
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        assert_eq!(kinds["ignored"].iter().collect::<Vec<_>>(), ["object-created.json", "s3-test.json"]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z_\\-]{0,12}|action|sync|Records|requestContext|body".prop_map(Value::from),
            r#"\{"action":"sync"\}|\{"Type":"Notification","Message":"\{\}"\}|e30="#.prop_map(Value::from),
        ];
        let name = "[a-z]{1,6}|action|vault_id|vaults|Records|requestContext|http|method|body|\
                    detail|detail-type|source|messageId|eventSource|attributes|Type|Message|Payload|Items|\
                    isBase64Encoded|httpMethod|Sns";
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
            let _ = Event::parse(&event.to_string());
        }

        #[test]
        fn no_text_is_too_strange_to_be_judged(text in ".{0,40}") {
            let _ = Event::parse(&text);
            let _ = action(&text, "the message", true);
        }
    }
}
