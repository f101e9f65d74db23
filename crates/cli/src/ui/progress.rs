//! Shows a running pull: a bar on a terminal, a line every few seconds elsewhere, nothing with `-q`.

use std::collections::VecDeque;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use obsync_core::{FileAction, Phase, Progress};
use obsync_protocol::{VaultPath, shown_name};
use tokio::task::JoinHandle;

use crate::ui::console::Console;
use crate::ui::human;
use crate::ui::progress_line::Shown;
use crate::ui::rate::{Amount, Rate};
use crate::ui::width;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time between two redraws of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(120);

/// The number of [`Phase::Sending`].
const SENDING: u8 = 6;

/// A notice is not repeated for this long; this many are remembered.
const NOTICES_LAST: Duration = Duration::from_secs(24 * 3600);
const NOTICES_KEPT: usize = 256;

/// Columns that the bar leaves free: for the `^C` of whoever interrupts, and the last one, which makes some terminals begin
/// another line.
const SPARED: usize = 3;

/// Counts the engine's progress, and shows it.
#[derive(Debug)]
pub(crate) struct Display {
    console: Arc<Console>,
    since: Instant,
    phase: AtomicU8,
    connected: AtomicBool,
    listed: AtomicU64,
    planned: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    /// The part transferred by earlier runs.
    files_before: AtomicU64,
    bytes_before: AtomicU64,
    resumed: AtomicBool,
    files_placed: AtomicU64,
    bytes_placed: AtomicU64,
    bytes_received: AtomicU64,
    /// Bytes on their way to the vault, of files that are not placed.
    bytes_sending: AtomicU64,
    rate: Mutex<Rate>,
    /// The notices of the last day: the runs of a follower repeat theirs.
    noticed: Mutex<VecDeque<(Instant, String)>>,
}

/// Redraws until it is dropped; then the terminal is as before.
#[derive(Debug)]
pub(crate) struct Drawing {
    console: Arc<Console>,
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
            planned: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files_before: AtomicU64::new(0),
            bytes_before: AtomicU64::new(0),
            resumed: AtomicBool::new(false),
            files_placed: AtomicU64::new(0),
            bytes_placed: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sending: AtomicU64::new(0),
            rate: Mutex::default(),
            noticed: Mutex::default(),
        })
    }

    /// True if the pull has ever connected to the vault's server.
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// A first pull is resumed, with this much recorded already.
    pub(crate) fn resume(&self, files: u64, bytes: u64) {
        self.in_place(files, bytes);
        self.resumed.store(true, Ordering::Relaxed);
    }

    /// Starts showing. A bar is only for a terminal that can move its cursor and on which no log is written.
    pub(crate) fn draw(self: &Arc<Self>, has_log: bool) -> Drawing {
        let mut drawing = Drawing { console: Arc::clone(&self.console), ticking: None };
        if self.console.is_quiet() {
            return drawing;
        }
        let display = Arc::clone(self);
        if Console::has_terminal() && moves_cursor() && !has_log {
            drawing.ticking = Some(tokio::spawn(every(DRAW_EVERY, move || display.redraw())));
        } else {
            let ticks = move || display.console.note(&display.line());
            drawing.ticking = Some(tokio::spawn(every(LINE_EVERY, ticks)));
        }
        drawing
    }

    fn redraw(&self) {
        let width = width::of_stderr().saturating_sub(SPARED);
        self.console.draw_bar(self.shown(Instant::now()).line(width));
    }

    fn line(&self) -> String {
        let now = Instant::now();
        format!("{} after {}", self.shown(now).text(), human::duration(now - self.since))
    }

    fn shown(&self, now: Instant) -> Shown {
        match self.phase.load(Ordering::Relaxed) {
            0 => Shown::Before("connecting".to_owned()),
            1 => {
                let listed = human::counted(self.listed.load(Ordering::Relaxed), "change", "changes");
                Shown::Before(format!("listing: {listed}"))
            }
            2 => Shown::Before("comparing".to_owned()),
            // Even if something was planned already: changes found by the scan are planned anew.
            5 => Shown::Before("looking for changes here".to_owned()),
            4 if !self.planned.load(Ordering::Relaxed) => Shown::Before("finishing".to_owned()),
            _ if !self.planned.load(Ordering::Relaxed) => Shown::Before("preparing".to_owned()),
            _ => self.moving(now),
        }
    }

    /// True if a notice was not given within a day.
    fn is_news(&self, text: &str, now: Instant) -> bool {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        while noticed.len() >= NOTICES_KEPT
            || noticed.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= NOTICES_LAST)
        {
            noticed.pop_front();
        }
        let is_news = !noticed.iter().any(|(_, known)| known == text);
        if is_news {
            noticed.push_back((now, text.to_owned()));
        }
        is_news
    }

    fn moving(&self, now: Instant) -> Shown {
        let (done, total) = self.amounts();
        let left = Amount { files: total.files - done.files, bytes: total.bytes - done.bytes };
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.note(now, done);
        let time = rate.time_left(now, left).filter(|_| left != Amount::default());
        Shown::Moving { done, total, speed: rate.speed(now), left: time }
    }

    /// The finished part, and the total. A file counts while it arrives or is sent; a file that needs neither
    /// counts once it is in place.
    fn amounts(&self) -> (Amount, Amount) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let before = Amount { files: of(&self.files_before), bytes: of(&self.bytes_before) };
        let total = Amount {
            files: before.files.saturating_add(of(&self.files)),
            bytes: before.bytes.saturating_add(of(&self.bytes)),
        };
        let bytes =
            of(&self.bytes_received).max(of(&self.bytes_placed)).saturating_add(of(&self.bytes_sending));
        let done = Amount {
            files: before.files.saturating_add(of(&self.files_placed)).min(total.files),
            bytes: before.bytes.saturating_add(bytes).min(total.bytes),
        };
        (done, total)
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
            Phase::Sending => SENDING,
        };
        self.phase.store(number, Ordering::Relaxed);
        self.connected.fetch_or(number > 0, Ordering::Relaxed);
    }

    fn listed(&self, entries: u64) {
        self.listed.store(entries, Ordering::Relaxed);
    }

    fn in_place(&self, files: u64, bytes: u64) {
        if self.resumed.load(Ordering::Relaxed) {
            // The resumed list lacks entries listed before, so this is a part of the known total.
            return;
        }
        self.files_before.store(files, Ordering::Relaxed);
        self.bytes_before.store(bytes, Ordering::Relaxed);
    }

    fn planned(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Of nothing to do no bar says how much of it is done.
        self.planned.fetch_or(files > 0, Ordering::Relaxed);
    }

    fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sending(&self, bytes: u64) {
        self.bytes_sending.store(bytes, Ordering::Relaxed);
    }

    fn placed(&self, bytes: u64) {
        self.files_placed.fetch_add(1, Ordering::Relaxed);
        self.bytes_placed.fetch_add(bytes, Ordering::Relaxed);
        if self.phase.load(Ordering::Relaxed) == SENDING {
            // Sent bytes have to be added to both counters, because the larger one is shown.
            self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn file(&self, path: &VaultPath, action: FileAction) {
        if self.console.names_files() {
            let action = match action {
                FileAction::Downloaded => "downloaded",
                FileAction::Copied => "copied",
                FileAction::Found => "found",
                FileAction::TimesSet => "set the times of",
                FileAction::Deleted => "deleted",
                FileAction::Merged => "merged",
                FileAction::Sent => "sent",
                FileAction::DeletedInVault => "deleted in the vault",
            };
            self.console.note(&format!("{action} {}", shown_name(path.as_str())));
        }
    }

    fn notice(&self, text: &str) {
        if self.is_news(text, Instant::now()) {
            self.console.warn(text);
        }
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        // Under the console's lock: a redraw that is under way now comes before or not at all.
        if let Some(ticking) = &self.ticking {
            ticking.abort();
        }
        self.console.remove_bar();
    }
}

/// True if the terminal can redraw a line, judging by its name.
fn moves_cursor() -> bool {
    env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
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

    fn display() -> Arc<Display> {
        Display::new(Arc::new(Console::new(true)))
    }

    fn text(display: &Display) -> String {
        display.shown(Instant::now()).text()
    }

    #[test]
    fn each_phase_says_where_the_pull_is() {
        let display = display();
        assert_eq!(text(&display), "connecting");
        assert!(!display.connected());
        display.phase(Phase::Listing);
        display.listed(11_000);
        assert_eq!(text(&display), "listing: 11,000 changes");
        assert!(display.connected());
        display.phase(Phase::Transferring);
        assert_eq!(text(&display), "preparing");
        display.planned(2, 3_000_000);
        display.received(1_000_000);
        display.placed(500_000);
        assert_eq!(text(&display), "1 of 2 files, 1.0 MB of 3.0 MB");
    }

    #[test]
    fn a_sync_says_that_it_looks_for_changes_and_shows_no_bar_of_nothing() {
        let display = display();
        display.phase(Phase::Transferring);
        display.planned(0, 0);
        assert_eq!(text(&display), "preparing");
        display.phase(Phase::Finishing);
        assert_eq!(text(&display), "finishing");
        display.phase(Phase::Scanning);
        assert_eq!(text(&display), "looking for changes here");
        display.phase(Phase::Sending);
        display.planned(2, 3_000_000);
        display.placed(1_000_000);
        assert_eq!(text(&display), "1 of 2 files, 1.0 MB of 3.0 MB");
        display.phase(Phase::Scanning);
        assert_eq!(text(&display), "looking for changes here", "it looks once more");
    }

    #[test]
    fn a_large_file_moves_and_has_a_speed_while_it_is_sent() {
        let display = display();
        display.phase(Phase::Transferring);
        display.planned(1, 1_000_000);
        // Content that was downloaded twice does not hide the bytes sent after it.
        display.received(2_000_000);
        display.placed(1_000_000);
        display.phase(Phase::Sending);
        display.planned(1, 100_000_000);
        let begun = Instant::now();
        let at = |second: u64| display.shown(begun + Duration::from_secs(second)).text();
        at(0);
        for second in 1..=10 {
            display.sending(second * 4_000_000);
            at(second);
        }
        assert_eq!(at(10), "1 of 2 files, 14 s left, 42.0 MB of 101.0 MB, 4.0 MB/s");
        // The connection broke, and the upload starts again.
        display.sending(0);
        assert_eq!(display.amounts().0, Amount { files: 1, bytes: 2_000_000 });
        display.sending(99_000_000);
        display.placed(100_000_000);
        display.sending(0);
        assert_eq!(display.amounts().0, Amount { files: 2, bytes: 101_000_000 });
    }

    #[test]
    fn after_a_resumption_it_is_about_the_whole_vault() {
        let display = display();
        display.phase(Phase::Transferring);
        display.in_place(400, 4_000_000);
        display.planned(600, 6_000_000);
        assert_eq!(text(&display), "400 of 1,000 files, 4.0 MB of 10.0 MB");
        display.received(1_000_000);
        display.placed(1_000_000);
        assert_eq!(text(&display), "401 of 1,000 files, 5.0 MB of 10.0 MB");
    }

    #[test]
    fn what_a_resumption_lists_again_is_not_counted_twice() {
        let display = display();
        display.resume(400, 4_000_000);
        display.phase(Phase::Transferring);
        display.in_place(10, 100_000);
        display.planned(600, 6_000_000);
        assert_eq!(text(&display), "400 of 1,000 files, 4.0 MB of 10.0 MB");
    }

    #[test]
    fn it_never_shows_more_than_everything() {
        let display = display();
        display.phase(Phase::Transferring);
        display.planned(1, 10);
        // A file that had to be asked for twice.
        display.received(25);
        display.placed(10);
        display.placed(10);
        let all = Amount { files: 1, bytes: 10 };
        assert_eq!(display.amounts(), (all, all));
    }
}
