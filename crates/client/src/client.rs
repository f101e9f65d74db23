//! The way to the REST service: one HTTP client, limits on time and size, and when to try again.
//!
//! What is called lies in [`calls`](crate::calls). Redirects are not followed, since they would carry the token to
//! wherever an answer points. Proxies are not used: sessions could not go through them, and half of a
//! conversation behind a proxy helps nobody.

use std::fmt;
use std::sync::{Arc, OnceLock};

use backon::{BackoffBuilder, ExponentialBackoff};
use obsync_protocol::{Redactor, RestError, RestReply, RestRequest};
use reqwest::header::{CONTENT_TYPE, ORIGIN};
use reqwest::{Method, Response, redirect};
use rustls::ClientConfig;
use tracing::{debug, info};
use url::Url;

use crate::error::{ClientError, reasons};
use crate::host::HostRules;
use crate::options::{ClientOptions, RetryPolicy};
use crate::speed::Speed;
use crate::tls;

/// What the service wants to see as the page that a sign-in comes from (protocol.md section 2).
const SIGN_IN_ORIGIN: &str = "https://obsidian.md";

/// Talks to the service. Cloning is cheap and shares connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    speed: Arc<Speed>,
}

struct Inner {
    http: reqwest::Client,
    api_url: Url,
    options: ClientOptions,
    hosts: HostRules,
    /// For sessions; made when the first one wants it, or together with the REST client.
    tls: OnceLock<Result<Arc<ClientConfig>, ClientError>>,
}

/// Whether a call may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A second time does no harm.
    Harmless,
    /// Only when the first one certainly had no effect.
    Unsent,
}

/// How a call is made beyond the usual.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Plain,
    /// As a browser would on the service's web site: `OPTIONS` first, and an `Origin`.
    FromWebSite,
}

impl Client {
    /// Checks the options and prepares a client. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`] for an address or host that cannot be used; [`ClientError::Tls`] when the
    /// system has no certificates to trust and the service is to be called by `https`.
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
            let config = tls::trusting_the_system()?;
            let _ = tls.set(Ok(Arc::clone(&config)));
            ClientConfig::clone(&config)
        } else {
            tls::trusting_nobody()?
        };
        let http = http_client(&options, rest_tls)?;
        let speed = Arc::new(Speed::new(options.min_speed, options.timeouts.speed_over));
        Ok(Self { inner: Arc::new(Inner { http, api_url, options, hosts, tls }), speed })
    }

    /// The same client with an account of speed of its own, for one run. Clones share the account.
    #[must_use]
    pub fn for_run(&self) -> Self {
        let options = self.options();
        let speed = Speed::new(options.min_speed, options.timeouts.speed_over);
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

    /// The secrets that no text of the service may repeat.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.inner.options.redactor
    }

    pub(crate) fn hosts(&self) -> &HostRules {
        &self.inner.hosts
    }

    /// The TLS configuration of sessions, which is that of REST calls where those use TLS.
    pub(crate) fn tls(&self) -> Result<Arc<ClientConfig>, ClientError> {
        self.inner.tls.get_or_init(tls::trusting_the_system).clone()
    }

    /// Trusts what a test wants to be trusted, for sessions.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn trust(&self, config: Arc<ClientConfig>) {
        assert!(self.inner.tls.set(Ok(config)).is_ok(), "the client has a TLS configuration already");
    }

    /// Makes a call, again and again as far as the retry policy and `repeat` allow.
    pub(crate) async fn call<R: RestRequest + Sync>(
        &self,
        request: &R,
        manner: Manner,
        repeat: Repeat,
    ) -> Result<R::Reply, ClientError> {
        let mut pauses = Pauses::new(&self.inner.options.retry);
        loop {
            let error = match self.call_once(request, manner).await {
                Ok(reply) => return Ok(reply),
                Err(error) if may_repeat(&error, repeat) => error,
                Err(error) => return Err(error.without_secrets(self.redactor())),
            };
            let Some(pause) = pauses.next() else {
                return Err(error.without_secrets(self.redactor()));
            };
            info!(call = R::PATH, %error, ?pause, "trying again after a pause");
            tokio::time::sleep(pause).await;
        }
    }

    async fn call_once<R: RestRequest>(&self, request: &R, manner: Manner) -> Result<R::Reply, ClientError> {
        let url = self.url(R::PATH);
        if manner == Manner::FromWebSite {
            self.announce(url.clone()).await?;
        }
        let body = serde_json::to_vec(request)
            .map_err(|_| ClientError::protocol("a request could not be written"))?;
        let mut call = self.inner.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        if manner == Manner::FromWebSite {
            call = call.header(ORIGIN, SIGN_IN_ORIGIN);
        }
        debug!(call = R::PATH, "calling the service");
        let response = call.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(ClientError::Http { status: status.as_u16() });
        }
        let body = self.read(response, R::LONGEST_ANSWER).await?;
        R::Reply::parse(&body).map_err(|error| match error {
            RestError::Service(text) if manner == Manner::FromWebSite => {
                ClientError::from_sign_in_refusal(&text, self.redactor())
            }
            RestError::Service(text) => ClientError::from_server_text(&text, self.redactor()),
            RestError::Message(error) => ClientError::protocol(error.to_string()),
        })
    }

    /// The `OPTIONS` that a browser sends before a sign-in. Whatever the service answers, the call follows.
    async fn announce(&self, url: Url) -> Result<(), ClientError> {
        let options = self.inner.http.request(Method::OPTIONS, url);
        let options = options
            .header(ORIGIN, SIGN_IN_ORIGIN)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let response = options.send().await.map_err(|error| self.failed(error))?;
        debug!(status = response.status().as_u16(), "announced a sign-in");
        Ok(())
    }

    /// Reads an answer's body of at most `longest` bytes as it comes, so that a length that lies takes no memory.
    async fn read(&self, mut response: Response, longest: usize) -> Result<Vec<u8>, ClientError> {
        let too_long =
            || ClientError::protocol(format!("the service's answer is longer than {longest} bytes"));
        if response.content_length().is_some_and(|length| length > longest as u64) {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > longest {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.inner.api_url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }

    fn failed(&self, error: reqwest::Error) -> ClientError {
        let error = error.without_url();
        let timeouts = &self.inner.options.timeouts;
        if error.is_timeout() {
            return if error.is_connect() {
                ClientError::TimedOut { what: "a connection to the service", after: timeouts.rest_connect }
            } else {
                ClientError::TimedOut { what: "the service's answer", after: timeouts.rest_request }
            };
        }
        let reason = reasons(&error);
        if tls::is_certificate_trouble(&error) {
            ClientError::Tls { reason }
        } else if error.is_connect() {
            let host = self.inner.api_url.host_str().unwrap_or_default().to_owned();
            ClientError::Unreachable { host, reason }
        } else {
            ClientError::ConnectionLost { reason }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

fn http_client(options: &ClientOptions, tls: ClientConfig) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(options.timeouts.rest_connect)
        .timeout(options.timeouts.rest_request)
        .build()
        .map_err(|error| ClientError::InvalidOption { reason: reasons(&error) })
}

/// Which failures of a call the service may get over by itself. A limit that passed is not among them: the next
/// attempt would make a person wait as long again.
fn may_repeat(error: &ClientError, repeat: Repeat) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::Overloaded => true,
        ClientError::Http { status } => *status == 429 || (*status >= 500 && repeat == Repeat::Harmless),
        ClientError::ConnectionLost { .. } => repeat == Repeat::Harmless,
        _ => false,
    }
}

/// The pauses between attempts: random, doubling, and as many as the policy has.
pub(crate) struct Pauses(ExponentialBackoff);

impl Pauses {
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        Self(policy.backoff().build())
    }

    pub(crate) fn next(&mut self) -> Option<std::time::Duration> {
        self.0.next()
    }
}
