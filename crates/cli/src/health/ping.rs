//! Pings of a monitor by the protocol of healthchecks.io: `/start`, the address itself for a success, `/fail`.
//!
//! A separate task sends them in order, so that a slow or unreachable monitor blocks nothing; of reports that
//! wait for it, only the newest is sent. The address is as sensitive as a password for the check, so messages
//! show only its host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use obsync_net::{ConnectError, Connector, Network};
use obsync_protocol::with_reasons;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use url::Url;

use crate::exit::{Exit, Failed};
use crate::ui::console::Console;

/// Time limit of one attempt.
const LIMIT: Duration = Duration::from_secs(10);
/// The pauses between attempts.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// The longest report, in bytes: healthchecks.io keeps this much by default.
const LONGEST_REPORT: usize = 10_000;

/// The news for a monitor.
#[derive(Debug)]
pub(super) enum Signal {
    Start,
    /// With the report.
    Success(String),
    /// With the report, or why there is none.
    Failure(String),
}

/// Sends pings until it is finished.
#[derive(Debug)]
pub(super) struct Ping(Mutex<Option<Sending>>);

#[derive(Debug)]
struct Sending {
    signals: UnboundedSender<Signal>,
    task: JoinHandle<()>,
}

impl Ping {
    /// Pings of one run, or one follower, to the check at `url`.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub(super) fn to(url: &Url, network: &Network, console: Arc<Console>) -> Result<Self, Failed> {
        let pinger = Pinger::new(url.clone(), network)?;
        let (signals, received) = unbounded_channel();
        let task = tokio::spawn(pinger.send_all(received, console));
        Ok(Ping(Mutex::new(Some(Sending { signals, task }))))
    }

    /// Queues a ping, and returns at once.
    pub(super) fn send(&self, signal: Signal) {
        let sending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sending) = &*sending {
            // A finished task has reported the reason.
            let _ = sending.signals.send(signal);
        }
    }

    /// Waits until everything is sent, at most until `patience` is over.
    pub(super) async fn finish(&self, patience: impl Future<Output = ()>) {
        let sending = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Sending { signals, mut task }) = sending else { return };
        drop(signals);
        tokio::select! {
            biased;
            _ = &mut task => {}
            () = patience => {
                tracing::debug!("the monitor takes too long to answer; its last pings are dropped");
                task.abort();
            }
        }
    }
}

struct Pinger {
    client: legacy::Client<Connector, Full<Bytes>>,
    url: Url,
    /// Identifies the run, so that a monitor can match start and end.
    run: String,
}

/// Why a ping did not arrive, and whether it may the next time.
struct Refusal {
    reason: String,
    passes: bool,
}

impl Pinger {
    fn new(url: Url, network: &Network) -> Result<Self, Failed> {
        let tls = match url.scheme() {
            "https" => network.tls(),
            _ => Network::tls_for_nobody(),
        };
        let tls = tls.map_err(|error| Failed::of(Exit::Usage, &error))?;
        let connector = Connector::new(network.clone(), Arc::new(tls), LIMIT);
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Pinger { client, url, run: run_id()? })
    }

    async fn send_all(self, mut signals: UnboundedReceiver<Signal>, console: Arc<Console>) {
        let mut is_down = false;
        while let Some(signal) = next(&mut signals).await {
            let (path, report) = match signal {
                Signal::Start => (Some("start"), String::new()),
                Signal::Success(report) => (None, report),
                Signal::Failure(report) => (Some("fail"), report),
            };
            let report = cut(&console.printable(&report)).to_owned();
            match self.send(path, report.into()).await {
                Ok(()) => is_down = false,
                Err(_) if is_down => {}
                Err(Refusal { reason, .. }) => {
                    is_down = true;
                    let host = self.url.host_str().unwrap_or_default();
                    console.warn_always(&format!("the ping of {host} did not arrive: {reason}"));
                }
            }
        }
    }

    /// Sends a ping, with retries where they may help.
    async fn send(&self, path: Option<&str>, report: Bytes) -> Result<(), Refusal> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let refusal = match timeout(LIMIT, self.attempt(path, report.clone())).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal { reason: format!("no answer within {} s", LIMIT.as_secs()), passes: true },
            };
            match pauses.next().filter(|_| refusal.passes) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(refusal),
            }
        }
    }

    async fn attempt(&self, path: Option<&str>, report: Bytes) -> Result<(), Refusal> {
        let final_one = |reason: String| Refusal { reason, passes: false };
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.address(path).as_str())
            .header(USER_AGENT, concat!("obsync/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::new(report))
            .map_err(|_| final_one("its address cannot be asked".to_owned()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            let reason = match ConnectError::within(&error) {
                Some(error) => with_reasons(error),
                None => with_reasons(&error),
            };
            Refusal { reason, passes: true }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(Refusal { reason: format!("it answered {}", status.as_u16()), passes })
    }

    /// The check's address for an event and a run.
    fn address(&self, path: Option<&str>) -> Url {
        let mut url = self.url.clone();
        url.set_fragment(None);
        if let (Some(path), Ok(mut segments)) = (path, url.path_segments_mut()) {
            segments.pop_if_empty().push(path);
        }
        url.query_pairs_mut().append_pair("rid", &self.run);
        url
    }
}

/// The next ping: of several reports that wait, the newest.
async fn next(signals: &mut UnboundedReceiver<Signal>) -> Option<Signal> {
    let mut next = signals.recv().await?;
    while !matches!(next, Signal::Start)
        && let Ok(newer) = signals.try_recv()
    {
        next = newer;
    }
    Some(next)
}

/// A random UUID (RFC 9562, version 4).
fn run_id() -> Result<String, Failed> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failed::cannot("draw a random number", &error))?;
    let number = u128::from_be_bytes(random) & !(0xf << 76 | 0x3 << 62) | (4 << 76 | 2 << 62);
    let digits = format!("{number:032x}");
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(parts.join("-"))
}

/// The beginning of a report.
fn cut(report: &str) -> &str {
    &report[..report.floor_char_boundary(LONGEST_REPORT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str, path: Option<&str>) -> String {
        let mut pinger = Pinger::new(Url::parse(url).unwrap(), &Network::default()).unwrap();
        pinger.run = "r".to_owned();
        pinger.address(path).into()
    }

    #[tokio::test]
    async fn what_happened_is_the_end_of_the_path_and_the_run_a_parameter() {
        assert_eq!(address("http://m/ping/c", Some("start")), "http://m/ping/c/start?rid=r");
        assert_eq!(address("http://m/ping/c/", Some("fail")), "http://m/ping/c/fail?rid=r");
        assert_eq!(address("http://m/k/my-notes?create=1#x", None), "http://m/k/my-notes?create=1&rid=r");
    }

    #[tokio::test]
    async fn of_the_reports_that_wait_for_a_slow_monitor_only_the_newest_is_sent() {
        let (sender, mut signals) = unbounded_channel();
        let report = |text: &str| Signal::Success(text.to_owned());
        for signal in [Signal::Start, report("first"), Signal::Failure("second".to_owned()), report("third")]
        {
            sender.send(signal).unwrap();
        }
        drop(sender);
        assert!(matches!(next(&mut signals).await, Some(Signal::Start)));
        let newest = next(&mut signals).await;
        assert!(matches!(&newest, Some(Signal::Success(text)) if text == "third"), "{newest:?}");
        assert!(next(&mut signals).await.is_none());
    }

    #[test]
    fn a_run_has_a_uuid_of_its_own() {
        let (one, other) = (run_id().unwrap(), run_id().unwrap());
        assert_ne!(one, other);
        let lengths: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }

    #[test]
    fn a_long_report_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = "ü".repeat(LONGEST_REPORT);
        assert_eq!(cut(&format!("a{long}")).len(), LONGEST_REPORT - 1);
    }
}
