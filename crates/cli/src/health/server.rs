//! The HTTP server of a follower: `/healthz`, `/readyz`, `/metrics`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::exit::Failed;

/// Connections at a time; the next ones wait.
const CONNECTIONS: usize = 32;
/// Time limit of a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// Time limit of a connection.
const CONNECTION: Duration = Duration::from_secs(300);
/// The longest head, in bytes; the least that hyper takes.
const LONGEST_HEAD: usize = 8 << 10;

pub(super) struct HttpAnswer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl HttpAnswer {
    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        HttpAnswer { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Listens at an address.
///
/// # Errors
/// When it is unavailable.
pub(super) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failed> {
    let failed = |error| Failed::cannot(format_args!("listen at {address} (--listen)"), &error);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves requests, without end.
pub(super) async fn serve<A>(listener: TcpListener, answer: A)
where
    A: Fn(&str) -> HttpAnswer + Clone + Send + Sync + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _ = timeout(CONNECTION, connection(stream, answer)).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, answer: impl Fn(&str) -> HttpAnswer) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &answer);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(LONGEST_HEAD);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of the health server broke");
    }
}

fn respond(method: &Method, path: &str, answer: &impl Fn(&str) -> HttpAnswer) -> Response<Full<Bytes>> {
    let answer = match *method {
        Method::GET | Method::HEAD => answer(path),
        _ => HttpAnswer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n"),
    };
    let mut response = Response::new(Full::new(answer.body.into()));
    *response.status_mut() = answer.status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    response
}
