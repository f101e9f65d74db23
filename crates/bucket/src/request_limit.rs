//! Limits the requests to a service at a time to its [pace](super::pace).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use object_store::HeaderMap;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse};
use obsync_protocol::limits::RETRY_AFTER;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace::{Pace, Sort};
use super::traffic::Traffic;
use obsync_core::blocking::lock;

/// Objects of up to this many bytes take about the same time on their way.
const SMALL: usize = 64 << 10;

/// Permits to send requests. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct RequestLimit {
    free: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    traffic: Traffic,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Permits in circulation, free or taken: more than the pace until some of them are returned.
    given: usize,
    /// Until when the service asked for no further requests (`Retry-After`).
    rest: Option<Instant>,
}

/// The permit to send one request. Dropping it without reporting an answer means that the request was given
/// up.
#[derive(Debug)]
pub(super) struct RequestPermit {
    owner: RequestLimit,
    slot: Option<OwnedSemaphorePermit>,
    /// No other permit was free beside this one.
    is_last: bool,
    sort: Sort,
    sent: Instant,
}

impl RequestLimit {
    /// At most `most` requests at a time. Reports the present limit to `traffic`.
    pub(super) fn new(most: usize, traffic: Traffic) -> Self {
        let pace = Pace::new(most);
        let given = pace.requests();
        traffic.set_at_a_time(given);
        let state = Arc::new(Mutex::new(State { pace, given, rest: None }));
        RequestLimit { free: Arc::new(Semaphore::new(given)), state, traffic }
    }

    /// Waits for a permit: as long as the requests before it take, each of which has a time limit.
    pub(super) async fn take(&self, request: &HttpRequest) -> RequestPermit {
        // It is never closed.
        let slot = self.free.clone().acquire_owned().await.ok();
        let is_last = self.free.available_permits() == 0;
        let rest = lock(&self.state).rest;
        if let Some(rest) = rest {
            tokio::time::sleep_until(rest.into()).await;
        }
        RequestPermit { owner: self.clone(), slot, is_last, sort: sort(request), sent: Instant::now() }
    }

    /// Returns a permit, and adjusts their number to the pace.
    fn take_back(&self, slot: OwnedSemaphorePermit) {
        let mut state = lock(&self.state);
        let wanted = state.pace.requests();
        self.traffic.set_at_a_time(wanted);
        if wanted < state.given {
            // A returned permit would go to a waiting request at once.
            slot.forget();
            state.given -= 1;
            return;
        }
        self.free.add_permits(wanted - state.given);
        state.given = wanted;
    }
}

impl RequestPermit {
    /// Records the outcome of the request.
    pub(super) fn end(self, outcome: &Result<HttpResponse, HttpError>) {
        let now = Instant::now();
        let mut state = lock(&self.owner.state);
        if let Ok(answer) = outcome
            && answer.status().as_u16() >= 400
        {
            let rest = retry_after(answer.headers()).map(|pause| now + pause.min(RETRY_AFTER));
            state.rest = state.rest.max(rest);
        }
        match outcome {
            Ok(answer) if matches!(answer.status().as_u16(), 429 | 503) => state.pace.error(self.sent, now),
            Ok(answer) if answer.status().as_u16() < 500 => {
                state.pace.answered(self.sort, self.sent, now, self.is_last);
            }
            Err(error) if error.kind() == HttpErrorKind::Timeout => state.pace.error(self.sent, now),
            _ => {}
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.owner.take_back(slot);
        }
    }
}

/// The pause that the service demands (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

fn sort(request: &HttpRequest) -> Sort {
    let size = request.body().content_length();
    match request.method().as_str() {
        "HEAD" => Sort::Look,
        "PUT" if request.headers().contains_key("x-amz-copy-source") => Sort::Copy,
        "PUT" if size > 0 && size <= SMALL => Sort::Put,
        _ => Sort::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", text.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        let in_an_hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let date = jiff::fmt::rfc2822::to_string(&in_an_hour.to_zoned(jiff::tz::TimeZone::UTC)).unwrap();
        let pause = asked(&date).unwrap();
        assert!(pause > Duration::from_secs(3500) && pause <= Duration::from_secs(3600), "{pause:?}");
        assert!(asked("Fri, 31 Dec 1999 23:59:59 GMT").is_none(), "it is over");
        assert!(asked("soon").is_none());
    }
}
