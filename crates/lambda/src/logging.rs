//! Logs as JSON, one object a line, as CloudWatch wants them.
//!
//! Only obsync's own crates are heard. What the libraries below them log would show tokens (a WebSocket
//! library logs its frames), so no variable turns that on. Note titles are not logged above the level
//! `debug`.

use std::env;
use std::io::{self, Write};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The level that the function's logging configuration asks for (Lambda developer guide, "Log level"), or
/// `info`.
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

/// Starts logging to standard output.
pub(crate) fn start() {
    let layer = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(io::stdout);
    // A target is matched by its beginning: this is every crate of obsync.
    let targets = Targets::new().with_target("obsync", level());
    // A program that has its own logging keeps it.
    let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
}

/// Writes a line that is JSON already.
pub(crate) fn line(document: &str) {
    let mut out = io::stdout().lock();
    // Where nobody listens, nothing is to be said.
    let _ = writeln!(out, "{document}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_that_of_the_functions_configuration() {
        assert_eq!(level_of(None), Level::INFO);
        assert_eq!(level_of(Some("debug")), Level::DEBUG);
        assert_eq!(level_of(Some("FATAL")), Level::ERROR);
        assert_eq!(level_of(Some("loud")), Level::INFO);
    }
}
