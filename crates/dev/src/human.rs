//! Numbers as people write them: counts, sizes, times.

use std::time::Duration;

/// A number in groups of three digits: `11,000`.
pub(crate) fn number(value: u64) -> String {
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
pub(crate) fn counted(value: u64, one: &str, many: &str) -> String {
    if value == 1 { format!("1 {one}") } else { format!("{} {many}", number(value)) }
}

/// `1 file`, `11,000 files`.
pub(crate) fn files(value: u64) -> String {
    counted(value, "file", "files")
}

/// A size in decimal units: `0 bytes`, `1 byte`, `38.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => counted(bytes, "byte", "bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A duration in seconds, with more digits the shorter it is: `0.043 s`, `1.27 s`, `25.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..1.0 => format!("{seconds:.3} s"),
        ..10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.1} s"),
    }
}

/// How many a second: `1,234`; 0 where no time passed.
pub(crate) fn per_second(count: u64, duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    number(if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_and_agree_with_their_noun() {
        assert_eq!(files(1), "1 file");
        assert_eq!(files(0), "0 files");
        assert_eq!(number(1_234_567), "1,234,567");
    }

    #[test]
    fn sizes_and_times_have_the_digits_that_matter() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(38_240_000), "38.2 MB");
        assert_eq!(seconds(Duration::from_millis(43)), "0.043 s");
        assert_eq!(seconds(Duration::from_millis(1_274)), "1.27 s");
        assert_eq!(per_second(10_000, Duration::from_secs(4)), "2,500");
        assert_eq!(per_second(10_000, Duration::ZERO), "0");
    }
}
