//! Measures how far this computer's clock is from the service's, by the `Date` header (RFC 9110 section 6.6.1).
//!
//! Two-factor codes and certificates depend on the clock, and a wrong clock is the last cause that people
//! look for.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use http::header::DATE;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// A smaller difference is not reported: `Date` counts whole seconds, and an answer takes its time.
const LEAST_SECONDS: i64 = 15;

/// No answer with a date arrived yet.
const UNKNOWN: i64 = i64::MIN;

/// A difference between this computer's clock and the service's that is worth reporting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    ahead_seconds: i64,
}

impl ClockSkew {
    fn of(ahead_seconds: i64) -> Option<Self> {
        let is_notable = ahead_seconds != UNKNOWN && ahead_seconds.abs() >= LEAST_SECONDS;
        is_notable.then_some(Self { ahead_seconds })
    }

    /// Seconds by which this computer's clock is ahead of the service's; negative if it is behind.
    #[must_use]
    pub fn ahead_seconds(self) -> i64 {
        self.ahead_seconds
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead_seconds > 0 { "ahead of" } else { "behind" };
        write!(f, "this computer's clock is {} s {side} the service's", self.ahead_seconds.unsigned_abs())
    }
}

/// The difference by the last answer.
#[derive(Debug)]
pub(crate) struct Skew(AtomicI64);

impl Default for Skew {
    fn default() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }
}

impl Skew {
    /// Records an answer that arrived at `now`.
    pub(crate) fn observe(&self, headers: &HeaderMap, now: Timestamp) {
        let date =
            headers.get(DATE).and_then(|date| DateTimeParser::new().parse_timestamp(date.as_bytes()).ok());
        if let Some(date) = date {
            self.0.store(now.as_second() - date.as_second(), Ordering::Relaxed);
        }
    }

    /// Seconds by which this computer's clock is ahead of the service's, if an answer had a date.
    pub(crate) fn ahead_seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| *ahead != UNKNOWN)
    }

    pub(crate) fn skew(&self) -> Option<ClockSkew> {
        ClockSkew::of(self.0.load(Ordering::Relaxed))
    }
}

/// The end of a sentence about something that depends on the clock.
pub(crate) fn named(skew: Option<ClockSkew>) -> String {
    skew.map(|skew| format!("; {skew}, set it right")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The text at 15:35:00 for an answer with this date.
    fn said(date: &'static str) -> Option<String> {
        let skew = Skew::default();
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(date))]);
        skew.observe(&headers, "2026-11-26T15:35:00Z".parse().unwrap());
        skew.skew().map(|skew| skew.to_string())
    }

    #[test]
    fn a_clock_that_is_wrong_by_more_than_an_answer_takes_is_named_with_its_direction() {
        let behind = Some("this computer's clock is 90 s behind the service's".to_owned());
        assert_eq!(said("Thu, 26 Nov 2026 15:36:30 GMT"), behind);
        let ahead = Some("this computer's clock is 90 s ahead of the service's".to_owned());
        assert_eq!(said("Thu, 26 Nov 2026 15:33:30 GMT"), ahead);
        assert_eq!(said("Thu, 26 Nov 2026 15:34:50 GMT"), None);
    }

    #[test]
    fn a_date_that_is_none_says_nothing() {
        for date in ["", "yesterday", "Thu, 26 Nov 2026 25:36:30 GMT"] {
            assert_eq!(said(date), None, "{date:?}");
        }
        assert_eq!(Skew::default().skew(), None);
    }
}
