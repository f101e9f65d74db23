//! Shows a running pull: a bar on a terminal, a line every few seconds elsewhere, nothing with `-q`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use obsync_core::{Phase, Progress};
use tokio::task::JoinHandle;

use crate::ui::console::Console;
use crate::ui::human;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time between two redraws of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(120);

/// Counts what the engine tells, and shows it.
#[derive(Debug)]
pub(crate) struct Display {
    console: Arc<Console>,
    since: Instant,
    phase: AtomicU8,
    connected: AtomicBool,
    listed: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
    files_placed: AtomicU64,
    bytes_placed: AtomicU64,
    bytes_received: AtomicU64,
}

/// Redraws until it is dropped; then the terminal is as before.
#[derive(Debug)]
pub(crate) struct Drawing {
    console: Arc<Console>,
    bar: Option<ProgressBar>,
    ticking: Option<JoinHandle<()>>,
}

impl Display {
    /// Nothing is shown before [`draw`](Self::draw).
    pub(crate) fn new(console: Arc<Console>) -> Arc<Self> {
        Arc::new(Display {
            console,
            since: Instant::now(),
            phase: AtomicU8::new(0),
            connected: AtomicBool::new(false),
            listed: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files_placed: AtomicU64::new(0),
            bytes_placed: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        })
    }

    /// Whether the pull has ever come as far as talking to the vault's server.
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Starts showing. A bar is only for a terminal on which no log is written.
    pub(crate) fn draw(self: &Arc<Self>, verbose: bool) -> Drawing {
        let mut drawing = Drawing { console: Arc::clone(&self.console), bar: None, ticking: None };
        if self.console.is_quiet() {
            return drawing;
        }
        let display = Arc::clone(self);
        if Console::has_terminal() && !verbose {
            let bar = ProgressBar::new(0).with_style(style());
            self.console.set_bar(Some(bar.clone()));
            drawing.bar = Some(bar.clone());
            drawing.ticking = Some(tokio::spawn(every(DRAW_EVERY, move || display.redraw(&bar))));
        } else {
            drawing.ticking =
                Some(tokio::spawn(every(LINE_EVERY, move || display.console.note(&display.line()))));
        }
        drawing
    }

    fn redraw(&self, bar: &ProgressBar) {
        let (done, total) = self.bytes_done();
        bar.set_length(total);
        bar.set_position(done);
        bar.set_message(self.summary());
        bar.tick();
    }

    fn line(&self) -> String {
        format!("{} after {}", self.summary(), human::duration(self.since.elapsed()))
    }

    fn summary(&self) -> String {
        match self.phase.load(Ordering::Relaxed) {
            0 => "connecting".to_owned(),
            1 => format!(
                "listing: {}",
                human::counted(self.listed.load(Ordering::Relaxed), "change", "changes")
            ),
            2 => "comparing".to_owned(),
            _ => {
                let (done, total) = self.bytes_done();
                format!(
                    "{} of {}, {} of {}",
                    human::number(self.files_placed.load(Ordering::Relaxed)),
                    human::files(self.files.load(Ordering::Relaxed)),
                    human::size(done),
                    human::size(total)
                )
            }
        }
    }

    /// Bytes done and in all. A file counts while it arrives, and one that needs no download once it is in
    /// place.
    fn bytes_done(&self) -> (u64, u64) {
        let total = self.bytes.load(Ordering::Relaxed);
        let done = self.bytes_received.load(Ordering::Relaxed).max(self.bytes_placed.load(Ordering::Relaxed));
        (done.min(total), total)
    }
}

impl Progress for Display {
    fn phase(&self, phase: Phase) {
        let number = match phase {
            Phase::Connecting => 0,
            Phase::Listing => 1,
            Phase::Planning => 2,
            Phase::Transferring => 3,
            Phase::Finishing => 4,
            Phase::Scanning => 5,
            Phase::Sending => 6,
        };
        self.phase.store(number, Ordering::Relaxed);
        self.connected.fetch_or(number > 0, Ordering::Relaxed);
    }

    fn listed(&self, entries: u64) {
        self.listed.store(entries, Ordering::Relaxed);
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn placed(&self, bytes: u64) {
        self.files_placed.fetch_add(1, Ordering::Relaxed);
        self.bytes_placed.fetch_add(bytes, Ordering::Relaxed);
    }

    fn notice(&self, text: &str) {
        self.console.warn(text);
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.console.set_bar(None);
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {msg}, {decimal_bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

async fn every(period: Duration, mut tick: impl FnMut()) {
    loop {
        tokio::time::sleep(period).await;
        tick();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_says_where_the_pull_is() {
        let display = Display::new(Arc::new(Console::new(true)));
        assert_eq!(display.summary(), "connecting");
        assert!(!display.connected());
        display.phase(Phase::Listing);
        display.listed(11_000);
        assert_eq!(display.summary(), "listing: 11,000 changes");
        assert!(display.connected());
        display.phase(Phase::Transferring);
        display.planned(2, 3_000_000);
        display.received(1_000_000);
        display.placed(500_000);
        assert_eq!(display.summary(), "1 of 2 files, 1.0 MB of 3.0 MB");
    }

    #[test]
    fn it_never_shows_more_than_everything() {
        let display = Display::new(Arc::new(Console::new(true)));
        display.phase(Phase::Transferring);
        display.planned(1, 10);
        // A file that had to be asked for twice.
        display.received(25);
        assert_eq!(display.bytes_done(), (10, 10));
    }
}
