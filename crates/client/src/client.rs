//! The REST client: one HTTP client, limits on time and size, and retries.
//!
//! The calls are in [`calls`](crate::calls).

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, ORIGIN};
use ::http::{Method, Request, request};
use backon::{BackoffBuilder, ExponentialBackoff};
use bytes::Bytes;
use http_body_util::Full;
use jiff::Timestamp;
use obsync_net::{Connector, NameWait, Network, WAITS, watched};
use obsync_protocol::{Redactor, RestError, RestReply, RestRequest, with_reasons};
use rustls::ClientConfig;
use tokio::time::timeout;
use tracing::{debug, info};
use url::Url;

use crate::connect::from_network;
use crate::error::ClientError;
use crate::host::HostRules;
use crate::http::{Head, HttpClient, is_page, read};
use crate::options::{ClientOptions, RetryPolicy};
use crate::skew::{ClockSkew, Skew};
use crate::speed::Speed;

/// `Origin` of sign-in requests: the service expects its own web page (docs/PROTOCOL.md section 2).
const SIGN_IN_ORIGIN: &str = "https://obsidian.md";

/// Talks to the service. Cloning is cheap and shares connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
    speed: Arc<Speed>,
}

struct ClientInner {
    http: HttpClient,
    api_url: Url,
    options: ClientOptions,
    hosts: HostRules,
    skew: Skew,
    /// For sessions. Created by the first one, or together with the REST client.
    tls: OnceLock<Result<Arc<ClientConfig>, ClientError>>,
}

/// Which failures of a call may be retried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Any: the call is idempotent.
    Harmless,
    /// Only those where the first attempt certainly had no effect.
    Unsent,
}

/// Extra steps of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    /// As a browser on the service's web site: `OPTIONS` first, and an `Origin`.
    FromWebSite,
}

impl Client {
    /// Checks the options and builds a client. Connects nothing yet.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`] for an unusable address or host; [`ClientError::Tls`] when the service
    /// uses `https` and the system has no trusted certificates.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let hosts = HostRules::new(&options.allow_hosts)?;
        let api_url = Url::parse(&options.api_url).map_err(|error| ClientError::InvalidOption {
            reason: format!(
                "the service's address is not a URL ({error}); give one such as https://api.obsidian.md/"
            ),
        })?;
        hosts.check_api_url(&api_url)?;
        let hosts = hosts.beside(&api_url);
        let tls = OnceLock::new();
        let rest_tls = if api_url.scheme() == "https" {
            let config = Arc::new(options.network.tls().map_err(|error| from_network(&error))?);
            let _ = tls.set(Ok(Arc::clone(&config)));
            config
        } else {
            no_tls()?
        };
        let connector = Connector::new(options.network.clone(), rest_tls, options.timeouts.rest_connect);
        let http = HttpClient::new(connector, &options.user_agent)?;
        let speed =
            Arc::new(Speed::new(options.min_speed, options.timeouts.speed_over, options.clock.clone()));
        Ok(Self {
            inner: Arc::new(ClientInner { http, api_url, options, hosts, skew: Skew::default(), tls }),
            speed,
        })
    }

    /// The same client with a separate speed account, for one run. Clones share the account.
    #[must_use]
    pub fn for_run(&self) -> Self {
        let options = self.options();
        let speed = Speed::new(options.min_speed, options.timeouts.speed_over, options.clock.clone());
        Self { inner: Arc::clone(&self.inner), speed: Arc::new(speed) }
    }

    pub(crate) fn speed(&self) -> Arc<Speed> {
        Arc::clone(&self.speed)
    }

    /// The options that this client was made with.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    /// Secrets to remove from all texts of the service.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.inner.options.redactor
    }

    /// The service's time in seconds since the epoch, if an answer had a `Date`.
    pub(crate) fn service_time(&self) -> Option<u64> {
        let service = self.now().as_second().checked_sub(self.inner.skew.ahead_seconds()?)?;
        u64::try_from(service).ok()
    }

    /// The time of day, clamped to the range of a timestamp.
    fn now(&self) -> Timestamp {
        Timestamp::try_from(self.options().clock.wall()).unwrap_or_default()
    }

    /// This computer's clock skew by the service's last answer, if it is worth naming.
    #[must_use]
    pub fn clock_skew(&self) -> Option<ClockSkew> {
        self.inner.skew.skew()
    }

    /// Prepares an error for the caller: removes secrets, and adds the clock skew where that may be the
    /// reason.
    pub(crate) fn finished(&self, error: ClientError) -> ClientError {
        error.with_clock(self.clock_skew()).without_secrets(self.redactor())
    }

    pub(crate) fn hosts(&self) -> &HostRules {
        &self.inner.hosts
    }

    /// Opens the connections of sessions, with the TLS configuration of REST calls where those use TLS.
    pub(crate) fn session_connector(&self, with_tls: bool) -> Result<Connector, ClientError> {
        let ClientInner { options, tls, .. } = &*self.inner;
        let config = || options.network.tls().map(Arc::new).map_err(|error| from_network(&error));
        let tls = if with_tls { tls.get_or_init(config).clone()? } else { no_tls()? };
        let limit = options.timeouts.connect;
        let connector = Connector::new(options.network.clone(), tls, limit).waiting_for_names(limit);
        // A change that was given up must not arrive after a newer one.
        Ok(connector.discarding_unsent())
    }

    /// Makes a call and retries it as far as the retry policy and `repeat` allow.
    pub(crate) async fn call<R: RestRequest + Sync>(
        &self,
        request: &R,
        manner: Manner,
        repeat: Repeat,
    ) -> Result<R::Reply, ClientError> {
        let mut pauses = Pauses::new(&self.inner.options.retry);
        let mut names = NameWait::new(self.inner.options.timeouts.connect);
        loop {
            let error = match self.call_once(request, manner).await {
                Ok(reply) => return Ok(reply),
                Err(error @ ClientError::NoAddress { temporary: true, .. }) => {
                    self.wait_for_names(&mut names, error).await?;
                    continue;
                }
                Err(error) if may_repeat(&error, repeat) => error,
                Err(error) => return Err(self.finished(error)),
            };
            let error = self.finished(error);
            if !pauses.pause(&error).await {
                return Err(error);
            }
        }
    }

    /// Waits for a resolver that does not work yet, or returns the error.
    async fn wait_for_names(&self, names: &mut NameWait, error: ClientError) -> Result<(), ClientError> {
        let ClientError::NoAddress { host, reason, .. } = &error else { return Err(error) };
        if names.pause(host, reason).await { Ok(()) } else { Err(error) }
    }

    async fn call_once<R: RestRequest>(&self, request: &R, manner: Manner) -> Result<R::Reply, ClientError> {
        let limit = self.inner.options.timeouts.rest_request;
        let late = |_| ClientError::TimedOut { what: "the service's answer", after: limit };
        let say = |waited: Duration| {
            let (waited, limit) = (waited.as_secs(), limit.as_secs());
            info!(target: WAITS, "the service has not answered for {waited} s; waiting for {limit} s at most");
        };
        watched(timeout(limit, self.attempt(request, manner)), say).await.map_err(late)?
    }

    async fn attempt<R: RestRequest>(&self, request: &R, manner: Manner) -> Result<R::Reply, ClientError> {
        if manner == Manner::FromWebSite {
            self.announce(R::PATH).await?;
        }
        let body = serde_json::to_vec(request)
            .map_err(|_| ClientError::protocol("a request could not be written"))?;
        let mut call = self.request(Method::POST, R::PATH).header(CONTENT_TYPE, "application/json");
        if manner == Manner::FromWebSite {
            call = call.header(ORIGIN, SIGN_IN_ORIGIN);
        }
        debug!(call = R::PATH, "calling the service");
        let (head, body) = self.inner.http.send(complete(call, body.into())?).await?.into_parts();
        self.inner.skew.observe(&head.headers, self.now());
        let (host, seen) = (self.host(), Head { status: head.status, headers: &head.headers });
        if let Some(error) = seen.not_the_service(host) {
            return Err(error);
        }
        if !head.status.is_success() {
            return Err(ClientError::Http { status: head.status.as_u16() });
        }
        let body = read(body, R::LONGEST_ANSWER).await?;
        if is_page(&body) {
            return Err(seen.error(host));
        }
        R::Reply::parse(&body).map_err(|error| match error {
            RestError::Service(text) if manner == Manner::FromWebSite => {
                ClientError::from_sign_in_refusal(&text, self.redactor())
            }
            RestError::Service(text) => ClientError::from_server_text(&text, self.redactor()),
            RestError::Message(error) => ClientError::protocol(error.to_string()),
        })
    }

    /// The `OPTIONS` request that a browser sends before a sign-in. The call follows, whatever the answer.
    async fn announce(&self, path: &str) -> Result<(), ClientError> {
        let options = self.request(Method::OPTIONS, path);
        let options = options
            .header(ORIGIN, SIGN_IN_ORIGIN)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(ACCESS_CONTROL_REQUEST_HEADERS, "content-type");
        let response = self.inner.http.send(complete(options, Bytes::new())?).await?;
        debug!(status = response.status().as_u16(), "announced a sign-in");
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        Request::builder().method(method).uri(self.url(path).as_str())
    }

    fn host(&self) -> &str {
        self.inner.api_url.host_str().unwrap_or_default()
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.inner.api_url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

fn no_tls() -> Result<Arc<ClientConfig>, ClientError> {
    Network::tls_for_nobody().map(Arc::new).map_err(|error| from_network(&error))
}

fn complete(call: request::Builder, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
    call.body(Full::new(body)).map_err(|error| ClientError::InvalidOption {
        reason: format!(
            "the service's address cannot be called ({error}); give one such as https://api.obsidian.md/"
        ),
    })
}

/// True for failures of a call that may pass by themselves. Timeouts are not among them: a retry would make a
/// person wait as long again.
fn may_repeat(error: &ClientError, repeat: Repeat) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::NoAddress { .. } | ClientError::Overloaded => true,
        ClientError::Proxy { temporary, .. } => *temporary,
        ClientError::Http { status } => *status == 429 || (*status >= 500 && repeat == Repeat::Harmless),
        ClientError::ConnectionLost { .. } => repeat == Repeat::Harmless,
        _ => false,
    }
}

/// The pauses between attempts: random, doubling, as many as the policy has.
pub(crate) struct Pauses {
    backoff: ExponentialBackoff,
    attempt: usize,
    attempts: usize,
}

impl Pauses {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self { backoff: policy.backoff().build(), attempt: 1, attempts: policy.attempts.max(1) }
    }

    pub(crate) fn next(&mut self) -> Option<Duration> {
        self.attempt += 1;
        self.backoff.next()
    }

    /// Logs that the call is retried after this error, and waits. `false` if it was the last attempt.
    pub(crate) async fn pause(&mut self, error: &ClientError) -> bool {
        let Some(pause) = self.next() else { return false };
        info!(target: WAITS, "{}; attempt {} of {}", with_reasons(error), self.attempt, self.attempts);
        tokio::time::sleep(pause).await;
        true
    }
}
