//! Numbers for people: counts, sizes, times.

use std::time::Duration;

pub(crate) use obsync_cli::human::{counted, date, files, number, size};

/// A duration in seconds, with more digits the shorter it is: `0.043 s`, `1.27 s`, `25.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..1.0 => format!("{seconds:.3} s"),
        ..10.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.1} s"),
    }
}

/// A rate per second: `1,234`; 0 if no time passed.
pub(crate) fn per_second(count: u64, duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    number(if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_the_digits_that_matter() {
        assert_eq!(seconds(Duration::from_millis(43)), "0.043 s");
        assert_eq!(seconds(Duration::from_millis(1_274)), "1.27 s");
        assert_eq!(per_second(10_000, Duration::from_secs(4)), "2,500");
        assert_eq!(per_second(10_000, Duration::ZERO), "0");
    }
}
