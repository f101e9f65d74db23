//! Numbers for people: sizes, counts, durations, dates.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A size in decimal units: `0 bytes`, `1 byte`, `999 bytes`, `1.0 kB`, `38.2 MB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return counted(bytes, "byte", "bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // From 999.95 on, one decimal would round to 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number in groups of three digits: `11,000`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: `1 file`, `2 files`.
pub fn counted(value: u64, one: &str, many: &str) -> String {
    if value == 1 { format!("1 {one}") } else { format!("{} {many}", number(value)) }
}

/// `1 file`, `11,000 files`.
pub fn files(value: u64) -> String {
    counted(value, "file", "files")
}

/// `1 folder`, `7 folders`.
pub fn folders(value: u64) -> String {
    counted(value, "folder", "folders")
}

/// A duration: `0.4 s`, `12.3 s`, `1 min 12 s`, `2 h 3 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    // Rounding first keeps 59.97 s from becoming "60.0 s".
    let whole = seconds.round() as u64;
    if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// An estimated duration, in whole seconds: `5 s`, `1 min 12 s`, `2 h 3 min`.
pub(crate) fn rough(left: Duration) -> String {
    match left.as_secs() {
        seconds @ ..60 => format!("{} s", seconds.max(1)),
        _ => duration(left),
    }
}

/// The local date of a moment in milliseconds since the epoch, or `-` outside the calendar.
pub fn date(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| "-".to_owned(), |moment| moment.to_zoned(TimeZone::system()).date().to_string())
}

/// The local date and time of a moment in milliseconds since the epoch, or `-` outside the calendar.
pub fn time(milliseconds: i64) -> String {
    Timestamp::from_millisecond(milliseconds).map_or_else(
        |_| "-".to_owned(),
        |moment| moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// Converts points in time in a sentence from UTC (`2026-01-01T12:00:00Z`, as in states, reports and JSON) to
/// local time.
pub(crate) fn with_local_times(sentence: &str) -> String {
    const LENGTH: usize = "2026-01-01T12:00:00Z".len();
    let (mut shown, mut rest) = (String::with_capacity(sentence.len()), sentence);
    while let Some(end) = rest.find('Z') {
        let (before, after) = rest.split_at(end + 1);
        let moment = before.len().checked_sub(LENGTH).and_then(|start| before.split_at_checked(start));
        match moment.and_then(|(text, moment)| Some((text, moment.parse::<Timestamp>().ok()?))) {
            Some((text, moment)) => {
                shown.push_str(text);
                shown.push_str(&time(moment.as_millisecond()));
            }
            None => shown.push_str(before),
        }
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_use_decimal_units() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1000), "1.0 kB");
        assert_eq!(size(999_949), "999.9 kB");
        assert_eq!(size(999_950), "1.0 MB");
        assert_eq!(size(38_240_000), "38.2 MB");
        assert_eq!(size(u64::MAX), "18.4 EB");
    }

    #[test]
    fn counts_are_grouped_and_agree_with_their_noun() {
        assert_eq!(files(0), "0 files");
        assert_eq!(files(1), "1 file");
        assert_eq!(files(999), "999 files");
        assert_eq!(files(11_000), "11,000 files");
        assert_eq!(folders(1_234_567), "1,234,567 folders");
    }

    #[test]
    fn durations_change_unit_without_a_gap() {
        assert_eq!(duration(Duration::from_millis(40)), "0.0 s");
        assert_eq!(duration(Duration::from_millis(59_940)), "59.9 s");
        assert_eq!(duration(Duration::from_millis(59_960)), "1 min 0 s");
        assert_eq!(duration(Duration::from_secs(72)), "1 min 12 s");
        assert_eq!(duration(Duration::from_secs(3600 * 2 + 185)), "2 h 3 min");
    }

    #[test]
    fn estimates_are_in_whole_seconds() {
        assert_eq!(rough(Duration::from_millis(300)), "1 s");
        assert_eq!(rough(Duration::from_millis(59_999)), "59 s");
        assert_eq!(rough(Duration::from_secs(72)), "1 min 12 s");
    }

    #[test]
    fn points_in_time_of_a_sentence_are_local_and_everything_else_stays() {
        let moment = "2026-01-01T12:00:00Z".parse::<Timestamp>().unwrap();
        let local = time(moment.as_millisecond());
        for (sentence, shown) in [
            ("again after 2026-01-01T12:00:00Z, or at once", format!("again after {local}, or at once")),
            ("2026-01-01T12:00:00Z2026-01-01T12:00:00Z", format!("{local}{local}")),
            ("Zzz: \u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}Z", String::new()),
            ("Plan for 2026-13-01T12:00:00Z", String::new()),
            ("2026-01-01T12:00:00", String::new()),
        ] {
            let shown = if shown.is_empty() { sentence } else { &shown };
            assert_eq!(with_local_times(sentence), shown);
        }
    }

    #[test]
    fn impossible_dates_are_a_dash() {
        assert_eq!(date(i64::MAX), "-");
        assert_eq!(time(i64::MAX), "-");
    }
}
