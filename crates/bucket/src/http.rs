//! The way to the services: one HTTP client for each store, which counts its requests and lets them go one after the other
//! when there are many.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures_util::TryStreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::signer::Method;
use obsync_core::ProblemCode;
use obsync_net::{CertificateProblem, NameWait, Network, NetworkError, Proxies, Proxy, is_refused};
use obsync_protocol::{limits, with_reasons};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;

use super::reasons::innermost;
use super::request_limit::RequestLimit;
use super::traffic::Traffic;
use super::waits::Waits;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For how long a resolver that does not work yet is asked again.
const NAMES_LIMIT: Duration = Duration::from_secs(90);
/// How long a request may take as a whole: a part of 8 MiB at 30 kB/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);
/// How long an answer may pause.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Makes the HTTP client that the library and our own requests share.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: HttpClient,
}

impl Connector {
    /// A client with a TLS configuration, whose connections with TLS go through `proxies`. At most `most` requests are under
    /// way at a time.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the certificates or the proxy.
    pub(super) fn new(
        tls: Result<ClientConfig, NetworkError>,
        network: &Network,
        most: usize,
        traffic: Traffic,
    ) -> Result<Self, String> {
        let tls = tls.map_err(|error| error.to_string())?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("obsync/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .http1_only()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            .read_timeout(SILENCE_LIMIT)
            .pool_max_idle_per_host(most)
            .dns_resolver(Names(network.resolver.clone()))
            // A redirect would be signed for the wrong host; what it means is that the region is wrong.
            .redirect(reqwest::redirect::Policy::none())
            // The environment is read by `proxies` alone.
            .no_proxy();
        let proxies = network.proxies.clone();
        let builder = match proxies.url() {
            Some(url) => builder.proxy(proxy(url, &proxies.direct())?),
            None => builder,
        };
        let client = builder.build().map_err(|error| format!("no HTTP client can be made: {error}"))?;
        let limit = RequestLimit::new(most, traffic.clone());
        let waits = Waits::new();
        Ok(Connector { client: HttpClient::new(Paced { client, proxies, traffic, limit, waits }) })
    }

    /// The client.
    #[cfg(feature = "s3")]
    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }
}

/// The resolver, but for names below `localhost`, which are this machine wherever they are asked (RFC 6761, section 6.3):
/// `bucket.localhost` is how services on loopback name buckets by host, and not every system knows such names.
struct Names(Arc<dyn obsync_net::Resolve>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = Arc::clone(&self.0);
        Box::pin(async move {
            if name.as_str().ends_with(".localhost") {
                let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                return Ok(Box::new(std::iter::once(loopback)) as Addrs);
            }
            // The port is set by the client.
            let found = resolver.resolve(name.as_str(), 0).await.map_err(NoName)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The resolver did not find a name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoName(io::Error);

/// What the resolver said, if it may know better in a moment.
fn resolver_failure(error: &HttpError) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(NoName(failed)) = current.downcast_ref() {
            return NameWait::may_help(failed).then(|| failed.to_string());
        }
        next = current.source();
    }
    None
}

/// The way through a proxy. Its address is not repeated in errors: it may hold a password.
fn proxy(url: &str, direct: &str) -> Result<reqwest::Proxy, String> {
    let proxy = reqwest::Proxy::https(url).map_err(|_| "the proxy's address cannot be used".to_owned())?;
    Ok(proxy.no_proxy(reqwest::NoProxy::from_string(direct)))
}

/// A way that is closed, and will be the next time as well.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct NoWay {
    /// Why, for scripts.
    pub(super) code: ProblemCode,
    /// Why, for people.
    pub(super) reason: String,
}

impl NoWay {
    fn error(code: ProblemCode, reason: impl Into<String>) -> HttpError {
        HttpError::new(HttpErrorKind::Unknown, NoWay { code, reason: reason.into() })
    }
}

/// The same error, but as one after which nobody tries again if that cannot help: of a certificate that is not accepted,
/// of a proxy that wants another password, of a host that has never answered and where nobody listens.
fn final_error(host: &str, is_unknown: bool, error: HttpError) -> HttpError {
    if let Some(problem) = CertificateProblem::within(host, &error) {
        return NoWay::error(ProblemCode::Certificate, problem.to_string());
    }
    if with_reasons(&error).contains("proxy authorization required") {
        let reason =
            "the proxy wants another user and password than the address in HTTPS_PROXY or ALL_PROXY has";
        return NoWay::error(ProblemCode::Proxy, reason);
    }
    if is_unknown && is_refused(&error) {
        let reason = format!("{host} cannot be reached ({}); check the address", innermost(&error));
        return NoWay::error(ProblemCode::Unreachable, reason);
    }
    error
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client.clone())
    }
}

/// Whether a request is for the content of an object, which is handed on as it comes. Everything else that a service
/// answers is read into memory as a whole.
fn asks_for_content(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let is_list = names.any(|name| ["list-type", "uploads", "uploadId", "comp", "restype"].contains(&name));
    request.method() == Method::GET && !is_list
}

/// Reads an answer as a whole, if it is no longer than any honest one.
async fn bounded(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let (head, body) = answer.into_parts();
    let mut stretches = body.bytes_stream();
    let mut whole = BytesMut::new();
    while let Some(stretch) = stretches.try_next().await? {
        if whole.len() + stretch.len() > limits::CLOUD_ANSWER {
            return Err(HttpError::new(HttpErrorKind::Decode, TooLong));
        }
        whole.extend_from_slice(&stretch);
    }
    Ok(HttpResponse::from_parts(head, whole.freeze().into()))
}

#[derive(Debug, thiserror::Error)]
#[error("the service's answer is too long")]
struct TooLong;

#[derive(Debug)]
struct Paced {
    client: reqwest::Client,
    proxies: Proxies,
    traffic: Traffic,
    limit: RequestLimit,
    waits: Waits,
}

impl Paced {
    /// Sends a request. A resolver that does not work yet, as after a boot, is waited for.
    async fn once_resolved(&self, host: &str, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut wait = NameWait::new(NAMES_LIMIT);
        loop {
            let outcome = HttpService::call(&self.client, request.clone()).await;
            match outcome.as_ref().err().and_then(resolver_failure) {
                Some(reason) if wait.pause(host, &reason).await => {}
                _ => return outcome,
            }
        }
    }

    /// The proxy on the way of a request.
    fn proxy_for(&self, request: &HttpRequest) -> Option<Proxy> {
        let uri = request.uri();
        let is_encrypted = uri.scheme_str() == Some("https");
        is_encrypted.then(|| self.proxies.for_host(uri.host()?, uri.port_u16().unwrap_or(443))).flatten()
    }
}

/// The same error, with the proxy in it that the connection was to be made by: it may be the reason.
fn by_way_of(proxy: Option<Proxy>, error: HttpError) -> HttpError {
    match proxy.filter(|_| error.kind() == HttpErrorKind::Connect) {
        Some(proxy) => {
            let (proxy, reason) = (proxy.to_string(), with_reasons(&error));
            HttpError::new(HttpErrorKind::Connect, Detour { proxy, reason })
        }
        None => error,
    }
}

/// A connection by way of a proxy that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} makes no connection to it: {reason}")]
struct Detour {
    /// Its address, without user and password.
    proxy: String,
    reason: String,
}

#[async_trait]
impl HttpService for Paced {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let permit = self.limit.take(&request).await;
        self.traffic.count();
        let is_of_content = asks_for_content(&request);
        let host = request.uri().host().unwrap_or_default().to_owned();
        let is_unknown = self.waits.is_unknown();
        let proxy = self.proxy_for(&request);
        let answer = self.waits.answer(&host, self.once_resolved(&host, request)).await;
        let outcome = answer.map_err(|error| final_error(&host, is_unknown, error));
        let outcome = outcome.map_err(|error| by_way_of(proxy, error));
        permit.end(&outcome);
        self.traffic.count_answer();
        match outcome {
            Ok(answer) if is_of_content && answer.status().is_success() => Ok(answer),
            Ok(answer) => bounded(answer).await,
            Err(error) => Err(error),
        }
    }
}

/// Whether a content type is that of web pages.
pub(super) fn is_html(kind: &str) -> bool {
    kind.get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
}
