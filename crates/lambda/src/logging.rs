//! Logs: one JSON object per line for CloudWatch, with the field names of Powertools for AWS Lambda; or plain
//! lines if the function's log format is `Text`.
//!
//! Only obsync's own crates are logged. Logs of the libraries below them would contain tokens (a WebSocket
//! library logs its frames), so no variable enables them. Note titles are logged at level `debug` at most.

use std::env;
use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use lambda_runtime::Context;
use obsync_protocol::escaped_json;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Powertools' variable for the service name in logs and metrics.
const SERVICE_VARIABLE: &str = "POWERTOOLS_SERVICE_NAME";
/// The default service name.
const SERVICE: &str = "obsync";

/// The fields of the current invocation. A process serves one at a time.
static INVOCATION: Mutex<Option<Map<String, Value>>> = Mutex::new(None);

/// The level of the function's logging configuration (Lambda developer guide, "Log level"), or `info`.
pub(crate) fn level() -> Level {
    level_of(env::var("AWS_LAMBDA_LOG_LEVEL").ok().as_deref())
}

fn level_of(word: Option<&str>) -> Level {
    match word.unwrap_or_default().to_ascii_uppercase().as_str() {
        "TRACE" => Level::TRACE,
        "DEBUG" => Level::DEBUG,
        "WARN" => Level::WARN,
        "ERROR" | "FATAL" => Level::ERROR,
        _ => Level::INFO,
    }
}

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Text,
}

impl Format {
    /// The format of the function's logging configuration (Lambda developer guide, "Log format").
    fn of(word: Option<&str>) -> Self {
        match word.is_some_and(|word| word.eq_ignore_ascii_case("text")) {
            true => Format::Text,
            false => Format::Json,
        }
    }
}

/// The service name in logs and metrics.
pub(crate) fn service() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        env::var(SERVICE_VARIABLE).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| SERVICE.to_owned())
    })
}

/// Starts logging to standard output.
pub(crate) fn start() {
    let format = Format::of(env::var("AWS_LAMBDA_LOG_FORMAT").ok().as_deref());
    // A target is matched by its prefix: this matches every crate of obsync.
    let targets = Targets::new().with_target("obsync", level());
    // A program with its own logging keeps it.
    let _ = tracing_subscriber::registry().with(Lines(format).with_filter(targets)).try_init();
}

/// Adds the invocation's fields to all lines from now on.
pub(crate) fn begin(context: &Context, is_cold: bool) {
    *invocation() = Some(fields_of(context, is_cold));
}

/// The fields of the current invocation, by Powertools' names.
pub(crate) fn invocation_fields() -> Map<String, Value> {
    invocation().clone().unwrap_or_default()
}

fn invocation() -> std::sync::MutexGuard<'static, Option<Map<String, Value>>> {
    INVOCATION.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fields_of(context: &Context, is_cold: bool) -> Map<String, Value> {
    let config = &context.env_config;
    let mut fields = Map::new();
    fields.insert("cold_start".to_owned(), json!(is_cold));
    fields.insert("function_name".to_owned(), json!(config.function_name));
    fields.insert("function_memory_size".to_owned(), json!(config.memory));
    fields.insert("function_arn".to_owned(), json!(context.invoked_function_arn));
    fields.insert("function_request_id".to_owned(), json!(context.request_id));
    if let Some(trace) = context.xray_trace_id.as_deref().and_then(root_of) {
        fields.insert("xray_trace_id".to_owned(), json!(trace));
    }
    fields
}

/// The trace id in X-Ray's header (`Root=1-…;Parent=…;Sampled=1`).
fn root_of(header: &str) -> Option<&str> {
    header.split(';').find_map(|part| part.trim().strip_prefix("Root=")).filter(|root| !root.is_empty())
}

/// Writes events.
struct Lines(Format);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut fields = LogFields::default();
        event.record(&mut fields);
        let (now, metadata) = (Timestamp::now(), event.metadata());
        line(&match self.0 {
            Format::Json => json_line(now, metadata, fields, invocation_fields()),
            Format::Text => text_line(now, metadata, &fields, &invocation_fields()),
        });
    }
}

fn json_line(
    now: Timestamp,
    metadata: &Metadata<'_>,
    fields: LogFields,
    of_invocation: Map<String, Value>,
) -> String {
    let mut line = Map::new();
    line.insert("level".to_owned(), json!(metadata.level().as_str()));
    line.insert("timestamp".to_owned(), json!(format!("{now:.3}")));
    line.insert("service".to_owned(), json!(service()));
    line.insert("message".to_owned(), json!(fields.message));
    let place = metadata.line().map_or(String::new(), |line| format!(":{line}"));
    line.insert("location".to_owned(), json!(format!("{}{place}", metadata.target())));
    line.extend(of_invocation);
    line.extend(fields.others);
    Value::Object(line).to_string()
}

fn text_line(
    now: Timestamp,
    metadata: &Metadata<'_>,
    fields: &LogFields,
    of_invocation: &Map<String, Value>,
) -> String {
    let request = of_invocation.get("function_request_id").and_then(Value::as_str).unwrap_or("-");
    let mut line =
        format!("{now:.3} {} {request} {}", metadata.level(), obsync_protocol::escaped(&fields.message));
    for (name, value) in &fields.others {
        // Writing to a `String` does not fail. As JSON, no value resembles another one or breaks the line.
        let _ = write!(line, " {name}={}", escaped_json(&value.to_string()));
    }
    line
}

/// The fields of an event.
#[derive(Debug, Default)]
struct LogFields {
    message: String,
    others: Map<String, Value>,
}

impl LogFields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for LogFields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, json!(value));
    }
}

/// Writes a complete line.
pub(crate) fn line(document: &str) {
    let mut out = io::stdout().lock();
    // Without a reader there is nobody to report an error to.
    let _ = writeln!(out, "{document}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_level_is_that_of_the_functions_configuration() {
        assert_eq!(level_of(None), Level::INFO);
        assert_eq!(level_of(Some("debug")), Level::DEBUG);
        assert_eq!(level_of(Some("FATAL")), Level::ERROR);
        assert_eq!(level_of(Some("loud")), Level::INFO);
    }

    #[test]
    fn the_format_is_json_unless_the_function_is_set_to_text() {
        assert_eq!(Format::of(None), Format::Json);
        assert_eq!(Format::of(Some("JSON")), Format::Json);
        assert_eq!(Format::of(Some("Text")), Format::Text);
    }

    #[test]
    fn a_trace_is_named_by_its_root() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        assert_eq!(root_of(header), Some("1-5759e988-bd862e3fe1be46a994272793"));
        assert_eq!(root_of("Parent=53995c3f42cd8ad8"), None);
        assert_eq!(root_of("Root="), None);
    }

    /// Keeps the lines of one test.
    #[derive(Clone, Default)]
    struct KeptLines(Arc<Mutex<Vec<String>>>, bool);

    impl<S: Subscriber> Layer<S> for KeptLines {
        fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
            let mut fields = LogFields::default();
            event.record(&mut fields);
            let mut context = Context::default();
            context.request_id = "r-1".to_owned();
            let now = Timestamp::from_millisecond(1_700_000_000_120).unwrap();
            let line = match self.1 {
                true => text_line(now, event.metadata(), &fields, &fields_of(&context, true)),
                false => json_line(now, event.metadata(), fields, fields_of(&context, true)),
            };
            self.0.lock().unwrap().push(line);
        }
    }

    fn logged(is_text: bool) -> String {
        let kept = KeptLines(Arc::default(), is_text);
        let subscriber = tracing_subscriber::registry().with(kept.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(vault_id = "v", files = 3_u64, reason = "two\nlines", "it is\nso");
        });
        let lines = kept.0.lock().unwrap();
        assert_eq!(lines.len(), 1);
        lines[0].clone()
    }

    #[test]
    fn a_line_has_powertools_names() {
        let line: Value = serde_json::from_str(&logged(false)).unwrap();
        for (name, value) in [
            ("level", json!("WARN")),
            ("timestamp", json!("2023-11-14T22:13:20.120Z")),
            ("service", json!("obsync")),
            ("message", json!("it is\nso")),
            ("cold_start", json!(true)),
            ("function_request_id", json!("r-1")),
            ("vault_id", json!("v")),
            ("files", json!(3)),
        ] {
            assert_eq!(line[name], value, "{name} in {line}");
        }
        assert!(line["location"].as_str().unwrap().starts_with("obsync_lambda::logging::tests:"), "{line}");
    }

    #[test]
    fn a_text_line_is_one_line() {
        let line = logged(true);
        assert!(!line.contains('\n'), "{line}");
        assert!(line.starts_with("2023-11-14T22:13:20.120Z WARN r-1 it is"), "{line}");
        assert!(line.contains(r#" reason="two\nlines""#) && line.contains(" files=3"), "{line}");
    }
}
