//! The S3 endpoint: signatures, the gate, and the answers.

use std::sync::{Arc, OnceLock};

use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Error, S3ErrorCode, S3Result, s3_error};
use tokio::net::TcpListener;

use super::super::credentials::{ACCESS_KEY, SECRET_KEY};
use super::super::faults::Verdict;
use super::super::gate::{Admitted, Gate};
use super::super::http::{self, Dropped, Tasks};
use super::super::log::Service;
use super::Backend;
use super::manners::{Asked, PAGE};

/// The largest body accepted, in bytes: parts of an upload are far smaller.
const BODY_MAX: usize = 512 * 1024 * 1024;

/// The gate's verdict, passed from inside the service to the connection.
#[derive(Debug, Clone, Default)]
struct Passage(Arc<OnceLock<Admitted>>);

/// Provides the only key.
struct Keys;

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY {
            return Ok(SecretKey::from(SECRET_KEY));
        }
        let message = "The AWS Access Key Id you provided does not exist in our records.";
        Err(s3_error!(InvalidAccessKeyId, "{message}"))
    }
}

/// Lets signed requests through the gate once their operation is known.
struct Access {
    gate: Gate,
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let resource = match cx.s3_path() {
            S3Path::Root => String::new(),
            S3Path::Bucket { bucket } => bucket.to_string(),
            S3Path::Object { bucket, key } => format!("{bucket}/{key}"),
        };
        let length = http::header_text(cx.headers(), "content-length").parse().unwrap_or_default();
        let operation = cx.s3_op().name().to_owned();
        let named = resource.clone();
        let admitted = self.gate.admit(Service::S3, &operation, resource, length).await;
        if let Some(passage) = cx.extensions_mut().get::<Passage>() {
            // Each request passes once.
            let _ = passage.0.set(admitted);
        }
        if self.gate.faults.hosts_only() && !names_bucket(http::header_text(cx.headers(), "host")) {
            return Err(by_path());
        }
        let asked = Asked::by(cx.headers());
        if let Some(refusal) = self.gate.faults.refusal(&operation, &named, asked) {
            return Err(refusal.error());
        }
        match admitted.verdict {
            Verdict::Throttled => Err(s3_error!(SlowDown, "Please reduce your request rate.")),
            Verdict::Forbidden => Err(s3_error!(AccessDenied, "Access Denied")),
            Verdict::InternalError => {
                Err(s3_error!(InternalError, "We encountered an internal error. Please try again."))
            }
            Verdict::Dropped => Err(s3_error!(InternalError, "dropped on purpose")),
            Verdict::Pass | Verdict::LostAnswer | Verdict::Unanswered | Verdict::Hang => {
                match cx.credentials() {
                    Some(_) => Ok(()),
                    None => Err(s3_error!(AccessDenied, "Access Denied: the request is not signed")),
                }
            }
        }
    }
}

/// The refusal of services that accept buckets only by host.
fn by_path() -> S3Error {
    let code = S3ErrorCode::Custom("SecondLevelDomainForbidden".into());
    let message = "Please use virtual hosted style to access.";
    let mut error = S3Error::with_message(code, message);
    error.set_status_code(StatusCode::FORBIDDEN);
    error
}

/// True if a host names a bucket.
fn names_bucket(host: &str) -> bool {
    host.split_once(':').map_or(host, |(name, _)| name).ends_with(".localhost")
}

/// Buckets are below `localhost`; every other host names none.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        Ok(match name.strip_suffix(".localhost") {
            Some(bucket) => VirtualHost::new("localhost").with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

/// Serves the buckets on this listener.
pub(super) fn serve(listener: TcpListener, tasks: &Tasks, backend: Backend) {
    let gate = backend.gate.clone();
    let mut builder = S3ServiceBuilder::new(backend);
    builder.set_auth(Keys);
    builder.set_host(Hosts);
    builder.set_access(Access { gate: gate.clone() });
    let service = builder.build();
    http::serve(listener, tasks, move |request| answer(request, service.clone(), gate.clone()));
}

async fn answer(
    request: Request<Incoming>,
    service: S3Service,
    gate: Gate,
) -> Result<Response<Body>, Dropped> {
    let _under_way = gate.under_way.enter(Service::S3);
    let (mut parts, body) = request.into_parts();
    // Read whole before it is handled: an early answer would reset the connection of a client that is still
    // sending, and which of the two it notices first would be chance.
    let body = match http::whole_body(body, BODY_MAX).await {
        Ok(body) => body,
        Err(response) => return Ok(response.map(Body::http_body)),
    };
    let passage = Passage::default();
    parts.extensions.insert(passage.clone());
    let length = body.len() as u64;
    let path = parts.uri.path().to_owned();
    let is_head = parts.method == Method::HEAD;
    let response = service.call(Request::from_parts(parts, Body::from(body))).await;
    let response = response.unwrap_or_else(|error| {
        tracing::warn!(?error, "an S3 request failed");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    });
    let admitted = match passage.0.get() {
        Some(admitted) => *admitted,
        // Refused before its operation was known.
        None => gate.note(Service::S3, "Unknown", path, length),
    };
    gate.end(admitted, response.status().as_u16()).await?;
    Ok(if response.headers().contains_key(PAGE) { page(response.status(), is_head) } else { response })
}

/// A web page, well-formed as XML.
fn page(status: StatusCode, is_head: bool) -> Response<Body> {
    let text = "<!DOCTYPE html>\n<html><body><p>This site is blocked.</p></body></html>";
    let body = if is_head { Body::empty() } else { Body::from(text.to_owned()) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}
