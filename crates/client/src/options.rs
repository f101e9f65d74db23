//! Options of the client: the service's address, trust, timeouts.

use std::sync::Arc;
use std::time::Duration;

use obsync_net::Network;
use obsync_protocol::{Redactor, limits};

use crate::clock::{Clock, SystemClock};

/// Address of the official service's REST API (docs/PROTOCOL.md section 2).
pub const DEFAULT_API_URL: &str = "https://api.obsidian.md/";

/// Settings of a [`Client`](crate::Client). Start from [`ClientOptions::default`] and change what differs.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Base address of the REST service. `https`; plain `http` only on loopback or on an allowed host.
    pub api_url: String,
    /// Hosts beyond `*.obsidian.md` (and loopback, when the service itself is there) to which a vault's session, and with it the token, may go:
    /// `name` for any port or `name:port` for one.
    pub allow_hosts: Vec<String>,
    /// The name of this device in the vault's history.
    pub device: String,
    /// Limits of all waits.
    pub timeouts: Timeouts,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// The `User-Agent` of every call, `<client>/<version>`.
    pub user_agent: String,
    /// Proxies and certificates.
    pub network: Network,
    /// Secrets to remove from all texts of the service, in errors and names. The client adds those that it
    /// sends.
    pub redactor: Redactor,
    /// Least speed of the server, in bytes a second over [`Timeouts::speed_over`], all connections of a run
    /// together, while an answer is due and this side reads; 0 for any speed. 1,024.
    pub min_speed: u64,
    /// The clock of session limits, two-factor codes and the engine. Default: the computer's.
    pub clock: Arc<dyn Clock>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            api_url: DEFAULT_API_URL.to_owned(),
            allow_hosts: Vec::new(),
            device: String::from("obsync"),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            user_agent: concat!("obsync/", env!("CARGO_PKG_VERSION")).to_owned(),
            network: Network::default(),
            redactor: Redactor::default(),
            min_speed: limits::LEAST_SPEED,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Limits of every wait. The defaults are the protocol's (docs/PROTOCOL.md section 3) where it has one; tests use
/// milliseconds.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Connecting for a REST call. 30 s.
    pub rest_connect: Duration,
    /// One REST call as a whole, connecting included. 60 s.
    pub rest_request: Duration,
    /// Connecting for a session: name, TCP, TLS and the WebSocket handshake together. Also how long sessions
    /// and calls wait for a resolver that does not work yet. 120 s.
    pub connect: Duration,
    /// From the time an answer is due (its request sent, the previous answer complete) to its arrival. 60 s.
    pub answer: Duration,
    /// After this long without a message, a ping is sent. 10 s.
    pub ping_after: Duration,
    /// After this long without a received byte the connection is dead; also without a byte of ours accepted,
    /// or without a byte of a content that is due. 120 s.
    pub silence: Duration,
    /// The longest wait for the first or the next entry of a listing, however alive the connection is. A
    /// content is limited only by the least speed: four pieces of 2 MiB at once take long on a slow line. 600
    /// s.
    pub stall: Duration,
    /// The period over which the least speed is measured. 600 s.
    pub speed_over: Duration,
    /// Time limit of a run without any success while the service reports overload. 600 s.
    pub overloaded: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            rest_connect: Duration::from_secs(30),
            rest_request: Duration::from_secs(60),
            connect: Duration::from_secs(120),
            answer: Duration::from_secs(60),
            ping_after: Duration::from_secs(10),
            silence: Duration::from_secs(120),
            stall: limits::FIRST_ENTRY,
            speed_over: limits::LEAST_SPEED_OVER,
            overloaded: limits::OVERLOADED,
        }
    }
}

/// Retries of calls and connections: after a random pause that doubles with each failure, so that many
/// clients do not come back at once.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included. At least 1 is used.
    pub attempts: usize,
    /// The shortest pause before the second attempt; up to the same again is added at random.
    pub min_delay: Duration,
    /// The longest pause.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, min_delay: Duration::from_millis(500), max_delay: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The pauses, one before each attempt but the first.
    pub fn pauses(&self) -> impl Iterator<Item = Duration> + Send + 'static {
        backon::BackoffBuilder::build(self.backoff())
    }

    /// The back-off for `backon`.
    pub(crate) fn backoff(&self) -> backon::ExponentialBuilder {
        backon::ExponentialBuilder::default()
            .with_jitter()
            .with_factor(2.0)
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts.saturating_sub(1))
    }
}
