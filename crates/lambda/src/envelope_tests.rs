//! The events that are understood, and those that never can be.

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

/// The action of each message of a batch.
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
    events.push(json!({ "Type": "SubscriptionConfirmation", "SubscribeURL": "https://x", "Message": "m" }));
    for event in events {
        assert!(is_ignored(&direct(event.clone())), "{event}");
        assert!(is_ignored(&asked(&queue(&event.to_string()))[0]), "{event}");
        // As S3 notifies a topic, which notifies a queue.
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
    // A fair queue has groups without an order.
    assert_eq!(group(&|_| {}), None);
    assert_eq!(
        group(&|message| message["eventSourceARN"] = json!("arn:aws:sqs:x:1:q.fifo")),
        Some("g".to_owned())
    );
    assert_eq!(group(&|message| message["attributes"]["SequenceNumber"] = json!("1")), Some("g".to_owned()));
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
    // Lambda's record of a failed invocation, and a WebSocket's message.
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
        (format!(r#"{{"detail-type":"x","source":"y","detail":{}}}"#, "[".repeat(99)), "does not carry JSON"),
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
            Ok(Event::Batch(messages)) if messages.iter().all(|message| message.action.is_ok()) => "batch",
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
