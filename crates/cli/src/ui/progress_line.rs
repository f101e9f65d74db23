//! Formats a pull's progress as one line of a terminal, whatever its width. ASCII only: it looks the same in
//! every locale.

use std::time::Duration;

use crate::ui::human;
use crate::ui::rate::Amount;

/// The widest bar.
const LONGEST_BAR: usize = 30;
/// A shorter bar is useless.
const SHORTEST_BAR: usize = 8;

/// The state to show.
#[derive(Debug, PartialEq)]
pub(super) enum Shown {
    /// The total is not known yet.
    Before(String),
    /// Files are being transferred.
    Moving {
        done: Amount,
        total: Amount,
        /// Bytes a second.
        speed: Option<u64>,
        left: Option<Duration>,
    },
}

impl Shown {
    /// One line of at most `width` characters, with a bar where there is space for one.
    pub(super) fn line(&self, width: usize) -> String {
        let (share, parts) = match self {
            Shown::Before(text) => (0.0, vec![text.clone()]),
            Shown::Moving { done, total, .. } => (share(*done, *total), self.parts()),
        };
        let reserved = SHORTEST_BAR + 3;
        let text = fitting(&parts, width.saturating_sub(reserved)).unwrap_or_default();
        if text.is_empty() {
            // Not even the first part fits beside a bar.
            return parts.first().map(|part| part.chars().take(width).collect()).unwrap_or_default();
        }
        let bar = (width - text.len() - 3).min(LONGEST_BAR);
        format!("[{}] {text}", bar_of(share, bar))
    }

    /// The same without a bar and a limit.
    pub(super) fn text(&self) -> String {
        match self {
            Shown::Before(text) => text.clone(),
            Shown::Moving { .. } => self.parts().join(", "),
        }
    }

    /// The parts of the line, the more important ones first.
    fn parts(&self) -> Vec<String> {
        let Shown::Moving { done, total, speed, left } = self else { return Vec::new() };
        let files = format!("{} of {}", human::number(done.files), human::files(total.files));
        let bytes = format!("{} of {}", human::size(done.bytes), human::size(total.bytes));
        let left = left.map(|left| format!("{} left", human::rough(left)));
        let speed = speed.map(|speed| format!("{}/s", human::size(speed)));
        [Some(files), left, Some(bytes), speed].into_iter().flatten().collect()
    }
}

/// As many of the parts as fit, in the order in which they are read.
fn fitting(parts: &[String], width: usize) -> Option<String> {
    let whole = parts.join(", ");
    if whole.chars().count() <= width {
        return Some(whole).filter(|text| !text.is_empty());
    }
    let (_, fewer) = parts.split_last()?;
    fitting(fewer, width)
}

/// By bytes; by files where there are none.
fn share(done: Amount, total: Amount) -> f64 {
    let (done, total) = match total.bytes {
        0 => (done.files, total.files),
        _ => (done.bytes, total.bytes),
    };
    if total == 0 { 0.0 } else { done as f64 / total as f64 }
}

fn bar_of(share: f64, length: usize) -> String {
    let full = ((share * length as f64) as usize).min(length);
    let head = usize::from(full > 0 && full < length);
    let (body, rest) = (full - head, length - full);
    format!("{}{}{}", "=".repeat(body), ">".repeat(head), " ".repeat(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving() -> Shown {
        Shown::Moving {
            done: Amount { files: 12_345, bytes: 450_000_000 },
            total: Amount { files: 40_000, bytes: 1_000_000_000 },
            speed: Some(12_300_000),
            left: Some(Duration::from_secs(46)),
        }
    }

    #[test]
    fn less_is_said_where_there_is_less_space() {
        let lines: Vec<String> = [120, 80, 60, 50, 40, 30, 20, 5, 0].map(|width| moving().line(width)).into();
        assert_eq!(
            lines,
            [
                "[============>                 ] 12,345 of 40,000 files, 46 s left, 450.0 MB of 1.0 GB, 12.3 MB/s",
                "[====>        ] 12,345 of 40,000 files, 46 s left, 450.0 MB of 1.0 GB, 12.3 MB/s",
                "[=========>              ] 12,345 of 40,000 files, 46 s left",
                "[=====>        ] 12,345 of 40,000 files, 46 s left",
                "[=====>         ] 12,345 of 40,000 files",
                "12,345 of 40,000 files",
                "12,345 of 40,000 fil",
                "12,34",
                "",
            ]
        );
    }

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        for width in 0..200 {
            for shown in [moving(), Shown::Before("listing: 11,000 changes".to_owned())] {
                let line = shown.line(width);
                assert!(line.len() <= width && line.is_ascii(), "{width}: {line}");
            }
        }
    }

    #[test]
    fn the_bar_is_empty_until_the_plan_is_known_and_full_at_the_end() {
        let before = Shown::Before("connecting".to_owned());
        assert_eq!(before.line(80), format!("[{}] connecting", " ".repeat(30)));
        let amount = Amount { files: 2, bytes: 20 };
        let end = Shown::Moving { done: amount, total: amount, speed: None, left: None };
        assert_eq!(end.line(80), format!("[{}] 2 of 2 files, 20 bytes of 20 bytes", "=".repeat(30)));
        let nothing = Shown::Moving { done: Amount::default(), total: amount, speed: None, left: None };
        assert!(nothing.line(80).starts_with("[          "));
    }

    #[test]
    fn files_without_content_move_the_bar_too() {
        let amount = |files| Amount { files, bytes: 0 };
        assert!((share(amount(1), amount(2)) - 0.5).abs() < f64::EPSILON);
        assert!(share(amount(0), amount(0)).abs() < f64::EPSILON);
    }
}
