//! The HTTP client of REST calls, and detection of answers that are not the service's.
//!
//! Captive portals, filters and challenges answer in the service's place: with a page (200, 403, 511) or a
//! redirect (302). Reporting a protocol error would mislead users, and an immediate retry changes nothing.

use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, LOCATION, USER_AGENT};
use ::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use obsync_net::{ConnectError, Connector};
use obsync_protocol::limits::ANSWER_HEAD;

use crate::connect::from_connect;
use crate::error::{ClientError, printable, reasons};

/// Connections idle for this long are closed: middleboxes drop them, too.
const IDLE: Duration = Duration::from_secs(60);

/// Sends requests over kept-alive connections. Redirects are not followed, since they would carry the token
/// to any host that an answer names.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    client: legacy::Client<Connector, Full<Bytes>>,
    user_agent: HeaderValue,
}

impl HttpClient {
    pub(crate) fn new(connector: Connector, user_agent: &str) -> Result<Self, ClientError> {
        let user_agent = HeaderValue::from_str(user_agent).map_err(|_| ClientError::InvalidOption {
            reason: "the user agent has characters that a header cannot carry; use plain ASCII".to_owned(),
        })?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(ANSWER_HEAD)
            .build(connector);
        Ok(Self { client, user_agent })
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, self.user_agent.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        self.client.request(request).await.map_err(|error| match ConnectError::within(&error) {
            Some(error) => from_connect(error, "a connection to the service"),
            None => ClientError::ConnectionLost { reason: reasons(&error) },
        })
    }
}

/// Reads a body of at most `longest` bytes as it arrives, so that a false length takes no memory.
pub(crate) async fn read(mut body: Incoming, longest: usize) -> Result<Vec<u8>, ClientError> {
    let too_long = || ClientError::protocol(format!("the service's answer is longer than {longest} bytes"));
    if body.size_hint().lower() > longest as u64 {
        return Err(too_long());
    }
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::ConnectionLost { reason: reasons(&error) })?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > longest {
            return Err(too_long());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// The head of an answer.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
}

impl Head<'_> {
    /// The error for an answer that is not the service's, as far as its head shows. Server errors (5xx) have
    /// pages too, but are transient; so are requests to slow down.
    pub(crate) fn not_the_service(self, host: &str) -> Option<ClientError> {
        let passes = self.status.is_server_error() || self.status == StatusCode::TOO_MANY_REQUESTS;
        let portal = self.status == StatusCode::NETWORK_AUTHENTICATION_REQUIRED;
        let is_it = portal || self.status.is_redirection() || (self.is_page() && !passes);
        is_it.then(|| self.error(host))
    }

    /// The error for an answer whose body is a page.
    pub(crate) fn error(self, host: &str) -> ClientError {
        let location = self.headers.get(LOCATION).and_then(|place| place.to_str().ok());
        let redirect = location.filter(|_| self.status.is_redirection()).map(|place| {
            let host = place.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
            printable(host.as_deref().unwrap_or("another page"))
        });
        ClientError::NotTheService { host: printable(host), status: self.status.as_u16(), redirect }
    }

    fn is_page(self) -> bool {
        let kind = self.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == "text/html" || kind == "application/xhtml+xml"
    }
}

/// True if a body is a page, whatever its head says: JSON never begins like this.
pub(crate) fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().starts_with(b"<")
}
