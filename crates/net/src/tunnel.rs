//! A connection through a proxy: `CONNECT` (RFC 9110 section 9.3.6) or SOCKS 5 (RFC 1928).
//!
//! The proxy resolves names, with `socks5://` and `socks5h://` alike.

use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::rt::TokioIo;
use obsync_protocol::limits::ANSWER_HEAD;
use obsync_protocol::{printable, with_reasons};
use tower_service::Service;

use crate::proxy::Proxy;
use crate::{ConnectError, Stream};

/// Messages of the SOCKS library for permanent refusals by the proxy. It has no error types for them.
const SOCKS_REFUSALS: &[&str] = &[
    "credentials not accepted",
    "does not support user/pass authentication",
    "implements authentication incorrectly",
    "connection not allowed",
];

/// The target of a tunnel, and the credentials for the proxy.
pub(crate) struct Tunnel<'a> {
    pub(crate) proxy: &'a Proxy,
    /// `host:port`, an IPv6 address in brackets.
    pub(crate) target: &'a str,
}

impl Tunnel<'_> {
    /// Requests a connection to the target from the proxy at the other end of `stream`.
    pub(crate) async fn through(&self, stream: Stream) -> Result<Stream, ConnectError> {
        match self.proxy.scheme() {
            "http" | "https" => self.by_connect(stream).await,
            _ => self.by_socks(stream).await,
        }
    }

    async fn by_connect(&self, stream: Stream) -> Result<Stream, ConnectError> {
        let broken = |error: hyper::Error| self.failed(printable(&with_reasons(&error)), true);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(ANSWER_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut connection = pin!(connection.with_upgrades());
        let request = self.request()?;
        let mut asking = pin!(async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            if !response.status().is_success() {
                return Err(self.refused(response.status()));
            }
            hyper::upgrade::on(response).await.map_err(broken)
        });
        // The connection has to be polled for the answer to arrive; it ends when the upgrade begins.
        let upgraded = tokio::select! {
            biased;
            answer = &mut asking => answer?,
            ended = &mut connection => {
                ended.map_err(broken)?;
                asking.await?
            }
        };
        let parts = upgraded
            .downcast::<TokioIo<Stream>>()
            .map_err(|_| self.failed("the connection was lost".to_owned(), true))?;
        // The other end of the tunnel waits for our first message, so earlier bytes are not from it.
        if !parts.read_buf.is_empty() {
            return Err(self.failed("it sent more than its answer".to_owned(), false));
        }
        Ok(parts.io.into_inner())
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, ConnectError> {
        let mut request =
            Request::builder().method(Method::CONNECT).uri(self.target).header(HOST, self.target);
        if let Some(authorization) = self.proxy.authorization() {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        request
            .body(Empty::new())
            .map_err(|_| self.failed("a proxy cannot be asked for a host with this name".to_owned(), false))
    }

    fn refused(&self, status: StatusCode) -> ConnectError {
        let answered = format!("it answered with HTTP status {}", status.as_u16());
        match status.as_u16() {
            407 if self.proxy.authorization().is_some() => self.failed(
                format!("{answered}; it does not accept the user and password in the proxy's address"),
                false,
            ),
            407 => self.failed(
                format!("{answered}; it wants a user and a password, as in HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"),
                false,
            ),
            408 | 429 | 500.. => self.failed(answered, true),
            _ => self.failed(format!("{answered}; it may not allow this host, see NO_PROXY"), false),
        }
    }

    async fn by_socks(&self, stream: Stream) -> Result<Stream, ConnectError> {
        let mut socks = SocksV5::new(self.proxy.uri().clone(), Opened(Some(stream)));
        if let Some((user, password)) = self.proxy.user_and_password() {
            socks = socks.with_auth(user.to_owned(), password.to_owned());
        }
        let target = format!("https://{}/", self.target).parse().map_err(|_| {
            self.failed("a proxy cannot be asked for a host with this name".to_owned(), false)
        })?;
        let opened = socks.call(target).await;
        opened.map(TokioIo::into_inner).map_err(|error| {
            let reason = error.to_string();
            let refuses = SOCKS_REFUSALS.iter().any(|refusal| reason.contains(refusal));
            self.failed(printable(&reason), !refuses)
        })
    }

    fn failed(&self, reason: String, temporary: bool) -> ConnectError {
        ConnectError::Proxy { proxy: self.proxy.to_string(), host: printable(self.target), reason, temporary }
    }
}

/// Returns a connection that is open already.
struct Opened(Option<Stream>);

impl Service<Uri> for Opened {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = Ready<Result<TokioIo<Stream>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().map(TokioIo::new).ok_or_else(|| std::io::ErrorKind::NotConnected.into()))
    }
}
