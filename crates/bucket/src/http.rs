//! HTTP connections to the services: one client for each bucket, which counts its requests and limits how
//! many are under way. Connections are made as all others are (`obsync_net`): raced addresses, proxies,
//! certificates.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::signer::Method;
use obsync_core::ProblemCode;
use obsync_core::blocking::lock;
use obsync_net::{
    CertificateProblem, ConnectError, NameWait, Network, NetworkError, Proxies, Proxy, Resolve, Resolving,
    is_refused,
};
use obsync_protocol::limits;
use rustls::ClientConfig;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::reasons::innermost;
use super::request_limit::RequestLimit;
use super::traffic::Traffic;
use super::waits::Waits;

/// Timeout of making a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time limit for retrying a failing resolver.
const NAMES_LIMIT: Duration = Duration::from_secs(90);
/// Timeout of a whole request: a part of 8 MiB at 30 kB/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);
/// Timeout without progress of the request or its answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Idle connections are closed after this time.
const IDLE: Duration = Duration::from_secs(90);
/// The `User-Agent`.
static AGENT: HeaderValue = HeaderValue::from_static(concat!("obsync/", env!("CARGO_PKG_VERSION")));

/// Makes the HTTP client that the library and our own requests share.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    client: HttpClient,
}

impl Connector {
    /// A client with a TLS configuration, whose connections are made by `network`. Sends at most `most`
    /// requests at a time.
    ///
    /// # Errors
    ///
    /// A sentence about the fault of the certificates.
    pub(super) fn new(
        tls: Result<ClientConfig, NetworkError>,
        network: &Network,
        most: usize,
        traffic: Traffic,
    ) -> Result<Self, String> {
        let tls = Arc::new(tls.map_err(|error| error.to_string())?);
        let proxies = network.proxies.clone();
        let network = Network { resolver: Arc::new(Names(network.resolver.clone())), ..network.clone() };
        let connections = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(most)
            .build(obsync_net::Connector::new(network, tls, CONNECT_LIMIT));
        let limit = RequestLimit::new(most, traffic.clone());
        let waits = Waits::new();
        Ok(Connector { client: HttpClient::new(Paced { connections, proxies, traffic, limit, waits }) })
    }

    #[cfg(feature = "s3")]
    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }
}

/// Resolves names, and maps names below `localhost` to this machine (RFC 6761, section 6.3): services on
/// loopback name buckets by host, as in `bucket.localhost`, and not every system knows such names.
#[derive(Debug)]
struct Names(Arc<dyn Resolve>);

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        if host.ends_with(".localhost") {
            let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            return Box::pin(std::future::ready(Ok(vec![loopback])));
        }
        self.0.resolve(host, port)
    }
}

/// A connection failure that a retry does not help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct NoWay {
    /// The code, for scripts.
    pub(super) code: ProblemCode,
    /// The message, for people.
    pub(super) reason: String,
}

impl NoWay {
    fn error(code: ProblemCode, reason: impl Into<String>) -> HttpError {
        HttpError::new(HttpErrorKind::Unknown, NoWay { code, reason: reason.into() })
    }
}

/// The same error, marked as final where a retry cannot help: a rejected certificate, a proxy that refuses, a
/// host that has never answered and where nobody listens.
fn final_error(host: &str, proxy: Option<&Proxy>, is_unknown: bool, error: HttpError) -> HttpError {
    if let Some(problem) = CertificateProblem::within(host, &error) {
        return NoWay::error(ProblemCode::Certificate, problem.to_string());
    }
    match ConnectError::within(&error) {
        Some(refused @ ConnectError::Proxy { temporary: false, .. }) => {
            NoWay::error(ProblemCode::Proxy, refused.to_string())
        }
        Some(closed @ (ConnectError::Tls { .. } | ConnectError::Trust(_))) => {
            NoWay::error(ProblemCode::Certificate, closed.to_string())
        }
        _ if is_unknown && is_refused(&error) => {
            let reason = match proxy {
                Some(proxy) => format!("the proxy {proxy} cannot be reached ({})", innermost(&error)),
                None => format!("{host} cannot be reached ({}); check the address", innermost(&error)),
            };
            NoWay::error(ProblemCode::Unreachable, reason)
        }
        _ => error,
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.client.clone())
    }
}

/// The library's error kind, which decides on retries.
fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    if error.is::<ConnectError>() {
        return HttpErrorKind::Connect;
    }
    if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
        if hyper.is_timeout() {
            return HttpErrorKind::Timeout;
        }
        if hyper.is_closed()
            || hyper.is_canceled()
            || hyper.is_incomplete_message()
            || hyper.is_body_write_aborted()
        {
            return HttpErrorKind::Request;
        }
    }
    if let Some(io) = error.downcast_ref::<io::Error>() {
        match io.kind() {
            io::ErrorKind::TimedOut => return HttpErrorKind::Timeout,
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => return HttpErrorKind::Interrupted,
            _ => {}
        }
    }
    error.source().map_or(HttpErrorKind::Unknown, kind_of)
}

/// Too much time has passed.
#[derive(Debug, thiserror::Error)]
enum Late {
    #[error("nothing came or went for {} s", SILENCE_LIMIT.as_secs())]
    Silence,
    #[error("it took longer than {} s", REQUEST_LIMIT.as_secs())]
    Whole,
}

impl Late {
    fn error(self) -> HttpError {
        HttpError::new(HttpErrorKind::Timeout, self)
    }
}

/// A request's body, which records when a chunk of it is taken.
struct Outgoing {
    body: HttpRequestBody,
    moved: Arc<Mutex<Instant>>,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        *lock(&self.moved) = Instant::now();
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, which fails when nothing arrives for too long.
struct Answering {
    body: Incoming,
    /// The deadline of the whole request.
    end: Pin<Box<Sleep>>,
    /// Runs while it is awaited.
    silence: Option<Pin<Box<Sleep>>>,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let Answering { body, end, silence } = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            *silence = None;
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| HttpError::new(kind_of(&error), error))),
            );
        }
        let silence = silence.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + SILENCE_LIMIT)));
        if silence.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Late::Silence.error())));
        }
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Late::Whole.error())));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// True if a request reads the content of an object, which is streamed. All other answers are read into
/// memory as a whole.
fn asks_for_content(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let is_list = names.any(|name| ["list-type", "uploads", "uploadId", "comp", "restype"].contains(&name));
    request.method() == Method::GET && !is_list
}

/// Reads a whole answer, up to the longest plausible length.
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

/// The connections of a bucket.
type Connections = legacy::Client<obsync_net::Connector, Outgoing>;

#[derive(Debug)]
struct Paced {
    connections: Connections,
    proxies: Proxies,
    traffic: Traffic,
    limit: RequestLimit,
    waits: Waits,
}

impl Paced {
    /// Sends a request. Waits for a resolver that does not work yet, as after a boot.
    async fn once_resolved(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut wait = NameWait::new(NAMES_LIMIT);
        loop {
            let outcome = self.send(request.clone()).await;
            let failed = outcome.as_ref().err().and_then(|error| ConnectError::within(error)).cloned();
            if !wait.pause_after(failed).await {
                return outcome;
            }
        }
    }

    /// Sends a request once, and waits for the head of its answer.
    async fn send(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let begun = Instant::now();
        let (end, moved) = (begun + REQUEST_LIMIT, Arc::new(Mutex::new(begun)));
        request.headers_mut().entry(USER_AGENT).or_insert_with(|| AGENT.clone());
        let request = request.map(|body| Outgoing { body, moved: Arc::clone(&moved) });
        let mut answering = pin!(self.connections.request(request));
        let answer = loop {
            let silent = *lock(&moved) + SILENCE_LIMIT;
            match timeout_at(silent.min(end), &mut answering).await {
                Ok(answer) => break answer,
                Err(_) if Instant::now() >= end => return Err(Late::Whole.error()),
                // A chunk of the request was sent meanwhile.
                Err(_) if *lock(&moved) + SILENCE_LIMIT > silent => {}
                Err(_) => return Err(Late::Silence.error()),
            }
        };
        let answer = answer.map_err(|error| HttpError::new(kind_of(&error), error))?;
        let end = Box::pin(sleep_until(end));
        Ok(answer.map(|body| HttpResponseBody::new(Answering { body, end, silence: None })))
    }

    fn proxy_for(&self, request: &HttpRequest) -> Option<Proxy> {
        let uri = request.uri();
        let is_encrypted = uri.scheme_str() == Some("https");
        is_encrypted.then(|| self.proxies.for_host(uri.host()?, uri.port_u16().unwrap_or(443))).flatten()
    }
}

/// The same error with the proxy of the connection added, since that may be the reason. Errors from the proxy
/// itself name it already.
fn by_way_of(proxy: Option<Proxy>, error: HttpError) -> HttpError {
    let is_answer = matches!(ConnectError::within(&error), Some(ConnectError::Proxy { .. }));
    match proxy.filter(|_| error.kind() == HttpErrorKind::Connect && !is_answer) {
        Some(proxy) => {
            let (proxy, reason) = (proxy.to_string(), innermost(&error));
            HttpError::new(HttpErrorKind::Connect, Detour { proxy, reason })
        }
        None => error,
    }
}

/// A connection by a proxy that failed.
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
        let answer = self.waits.answer(&host, self.once_resolved(request)).await;
        let outcome = answer.map_err(|error| final_error(&host, proxy.as_ref(), is_unknown, error));
        let outcome = outcome.map_err(|error| by_way_of(proxy, error));
        permit.end(&outcome);
        match outcome {
            Ok(answer) if is_of_content && answer.status().is_success() => Ok(answer),
            Ok(answer) => bounded(answer).await,
            Err(error) => Err(error),
        }
    }
}

/// True for the content type of web pages.
pub(super) fn is_html(kind: &str) -> bool {
    kind.get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
}
