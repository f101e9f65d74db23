//! Finds the request in any form of event: one rule for all of them.
//!
//! Text is parsed as JSON, else as Base64 of a JSON object. An empty event (`null`, `{}`, an empty text)
//! means every vault. An object with an `action` is the request itself. An event of EventBridge is a request
//! if it is a schedule, or if its `detail` has an `action`. A message of SNS and a `Payload` of Step
//! Functions are envelopes: the same rules apply to their content, and to that of one more envelope in it.
//! Batches (of SQS, SNS and Pipes) and requests of HTTP are accepted only as the outermost form.
//!
//! Events are hostile. Only requested fields are kept, so an event takes at most a few times its size in
//! memory: the types of the crate `aws_lambda_events` need 288 bytes for a record `{}`. Nothing here recurses
//! deeper than the limit on nested envelopes.

use std::fmt;

use data_encoding::{BASE64, BASE64_NOPAD};
use obsync_protocol::limits::{EVENT, EVENT_MESSAGES};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::event::{Action, Event, EventError, Message, quoted_reason};

/// Fields that distinguish the forms of events.
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
    // From S3 when notifications are set up.
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

/// Attributes of a message that show whether its queue is ordered.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Attributes<'e> {
    #[serde(borrow)]
    message_group_id: Option<&'e RawValue>,
    #[serde(borrow)]
    sequence_number: Option<&'e RawValue>,
}

/// The relevant fields of nested objects.
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
    /// Parses the payload of an invocation: the text of a JSON document.
    ///
    /// # Errors
    /// [`EventError`] for an invalid event, where somebody reads the answer.
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
            // A rule does not read the answer, and would only retry.
            Err(error) if form.is_from_event_bridge() => {
                let body = text.to_owned();
                Ok(Event::Batch(vec![Message {
                    id: None,
                    queue: None,
                    group: None,
                    body,
                    action: Err(error),
                }]))
            }
            Err(error) => Err(error),
        }
    }
}

/// Parses a text: the event itself, or the content of an envelope. `may_nest`: it may be one more envelope.
fn action(text: &str, carrier: &'static str, may_nest: bool) -> Result<Action, EventError> {
    let text = text.trim();
    if text.len() > EVENT {
        return Err(EventError::TooLarge { size: text.len() });
    }
    match text.chars().next() {
        None => Ok(Action::every_vault()),
        Some('{') => object(text, &Form::read(text, carrier)?, may_nest),
        Some('"') => {
            // JSON that was encoded as a text once more on its way.
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

/// Parses an object.
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

    /// Schedules of EventBridge, and other events forwarded by its rules.
    fn is_from_event_bridge(&self) -> bool {
        self.detail_type.is_some() && self.source.and_then(text_of).is_some()
    }

    /// A schedule without details means every vault; a rule can have more in the detail. The detail of a
    /// schedule of EventBridge Scheduler is a text.
    fn rule_or_schedule(&self) -> Result<Action, EventError> {
        let text = |field: Option<&RawValue>| field.and_then(text_of).unwrap_or_default();
        let (kind, source) = (text(self.detail_type), text(self.source));
        let is_schedule =
            kind == "Scheduled Event" && matches!(source.as_str(), "aws.events" | "aws.scheduler");
        let detail = self.detail.map(|detail| text_of(detail).unwrap_or_else(|| detail.get().to_owned()));
        let detail = detail.unwrap_or_default();
        let asked = inner(&detail).and_then(|inner| inner.action);
        // AWS's own events may have an action of their own, for example a pipeline's.
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

    /// Why this is no request, for events that AWS sends unasked.
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

/// A request to a function URL, to API Gateway or to a load balancer. A `GET` only asks for the status:
/// browsers send them without being asked.
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
        _ => Message {
            id: None,
            queue: None,
            group: None,
            body: element.get().to_owned(),
            action: not_a_message(),
        },
    });
    Ok(Event::Batch(messages.collect()))
}

/// A list without a name, as EventBridge Pipes sends it: of messages, or of their transformed contents.
fn list(list: &str) -> Result<Event, EventError> {
    let elements = elements(list)?;
    if elements.is_empty() || elements.iter().any(|element| !element.get().starts_with(['{', '"'])) {
        return Err(EventError::NotAnObject { what: "a list" });
    }
    let messages = elements.into_iter().map(|element| {
        record(element.get()).and_then(|record| record.message()).unwrap_or_else(|| Message {
            id: None,
            queue: None,
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

    /// Why this is no request, for events of other services than SQS and SNS.
    fn of_another_service(&self) -> Option<String> {
        let source = self.source().filter(|source| !matches!(source.as_str(), "aws:sqs" | "aws:sns"))?;
        Some(format!("an event of {:?} is no request: it says what happened there", quoted_reason(&source)))
    }

    /// Parses a message; `None` for anything else.
    fn message(&self) -> Option<Message> {
        if let Some(reason) = self.of_another_service() {
            let action = Ok(Action::Ignore { reason });
            return Some(Message { id: None, queue: None, group: None, body: String::new(), action });
        }
        if let Some(sns) = self.sns {
            let body = inner(sns.get())?.message.and_then(text_of)?;
            let action = action(&body, "the notification", true);
            return Some(Message { id: None, queue: None, group: None, body, action });
        }
        let (id, body) = (text_of(self.message_id?)?, text_of(self.body?)?);
        let action = action(&body, "the message", true);
        let queue = self.event_source_arn.and_then(text_of);
        Some(Message { id: Some(id), queue, group: self.group(), body, action })
    }

    /// The group, if the queue is ordered. Messages of other queues can have a group, too, without an order.
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

/// A JSON string; `None` for anything else.
fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn elements(list: &str) -> Result<Vec<&RawValue>, EventError> {
    let elements: Result<Elements<'_>, _> = serde_json::from_str(list);
    elements.map(|elements| elements.0).map_err(|error| EventError::bad_field(error.to_string()))
}

/// A list within the limit of its length.
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

/// Decodes a text in Base64.
fn decoded(text: &str) -> Option<String> {
    let bytes = BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok()?;
    String::from_utf8(bytes).ok()
}

fn not_json(carrier: &'static str, error: &serde_json::Error) -> EventError {
    EventError::NotJson { carrier, reason: quoted_reason(&error.to_string()) }
}

/// The type of a JSON value.
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
#[path = "envelope_tests.rs"]
mod tests;
