//! Logs to standard error: warnings and waits always, actions with `-v` (for people), details with `-vv` (for
//! developers).
//!
//! Only obsync's own crates are logged. Logs of the libraries below them would contain tokens (a WebSocket
//! library logs its frames), so no variable or option enables them.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::ui::console::Console;

/// The events that explain waits (`obsync_core::WAITS`).
pub(crate) const WAITS: &str = "obsync::waits";

/// Starts logging for `-v` given `verbosity` times. A program with its own logging keeps it.
pub(crate) fn start(verbosity: u8, console: &Arc<Console>) {
    let level = match verbosity {
        _ if console.is_quiet() => Level::ERROR,
        0 => Level::WARN,
        1 => Level::INFO,
        2 => Level::DEBUG,
        _ => Level::TRACE,
    };
    // A target is matched by its prefix: this matches every crate of obsync.
    let targets = Targets::new().with_target("obsync", level);
    let targets = match level {
        Level::WARN => targets.with_target(WAITS, Level::INFO),
        _ => targets,
    };
    let registry = tracing_subscriber::registry().with(targets);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(LogSink(Arc::clone(console)));
    let _ = match verbosity {
        0 | 1 => registry.with(layer.event_format(Sentence)).try_init(),
        _ => registry.with(layer).try_init(),
    };
}

/// For people an event looks like every other line of the program.
struct Sentence;

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let kind = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            _ => "",
        };
        write!(writer, "obsync: {kind}")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Writes through the console, so that a progress bar is not torn.
#[derive(Debug)]
struct LogSink(Arc<Console>);

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

/// One line of the log.
#[derive(Debug)]
struct Line<'a>(&'a Console);

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.write_err(&self.0.printable(&String::from_utf8_lossy(text)));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
