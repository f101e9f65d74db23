//! The HTTP side of the port: connections, CORS, the faults of REST, and the upgrade to a WebSocket.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::state::ServerState;
use super::{rest, session};
use crate::faults::FaultKind;

/// The largest REST body accepted, in bytes.
const MAX_BODY: usize = 64 * 1024;

type Body = Full<Bytes>;

/// A connection that ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped on purpose")]
struct Dropped;

/// A server's tasks: spawns new ones, and ends all.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// Accepts connections until shutdown.
pub(super) async fn accept(listener: TcpListener, state: Arc<ServerState>, tasks: Tasks) {
    loop {
        let accepted = tokio::select! {
            () = tasks.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&state), tasks.clone());
                tasks.tracker.spawn(connection);
            }
            Err(error) => {
                // Probably out of file descriptors: some will be closed soon.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, state: Arc<ServerState>, tasks: Tasks) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let ended = state.connection_token();
    let service = service_fn(move |request| {
        let (state, tasks) = (Arc::clone(&state), tasks.clone());
        async move { answer(request, state, tasks).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        () = ended.cancelled() => {}
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "HTTP connection ended");
        },
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<ServerState>,
    tasks: Tasks,
) -> Result<Response<Body>, Dropped> {
    let faults = Arc::clone(&state);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let time = state.accounts.now();
    let mut response = if wants_websocket(&request) {
        upgrade(request, state, &tasks).await
    } else if request.method() == Method::OPTIONS {
        plain(StatusCode::NO_CONTENT, "")
    } else if request.method() == Method::POST {
        call(request, &state).await?
    } else {
        plain(StatusCode::METHOD_NOT_ALLOWED, "POST, or open a WebSocket")
    };
    allow_origin(&mut response, origin);
    let shift = faults.faults.read(|faults| faults.date_shift);
    set_date(&mut response, time.saturating_add_signed(shift.into()));
    Ok(response)
}

/// One REST call: its faults, then its answer.
async fn call(request: Request<Incoming>, state: &ServerState) -> Result<Response<Body>, Dropped> {
    let path = request.uri().path().to_owned();
    state.recorder.record(|stats| {
        stats.rest_requests += 1;
        *stats.rest_by_path.entry(rest::known_path(&path)).or_default() += 1;
    });
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or was cut off"));
        }
    };
    if let Some(response) = faulty(&path, state).await? {
        return Ok(response);
    }
    Ok(match rest::call(&path, &body, state).await {
        Ok(answer) => json(answer),
        Err(rest::Failure::NotFound) => plain(StatusCode::NOT_FOUND, "no such call"),
        Err(rest::Failure::Error(error)) => json(rest::error_body(&error)),
        Err(rest::Failure::Internal(error)) => {
            tracing::warn!(%error, path, "a REST call failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the development server failed; see its log")
        }
    })
}

/// The answer of a fault, if one strikes this call.
async fn faulty(path: &str, state: &ServerState) -> Result<Option<Response<Body>>, Dropped> {
    let faults = &state.faults;
    if faults.quiet() {
        return Ok(None);
    }
    let (latency, only, status) = faults
        .read(|faults| (faults.latency + faults.service_time, faults.rest_path.clone(), faults.rest_status));
    tokio::time::sleep(latency).await;
    if only.is_some_and(|only| only != path) {
        return Ok(None);
    }
    let strikes = |kind| faults.strikes_at(kind, rest::path_number(path));
    if strikes(FaultKind::RestHang) {
        pending::<()>().await;
    }
    if strikes(FaultKind::RestDrop) {
        return Err(Dropped);
    }
    if strikes(FaultKind::RestStatusError) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        return Ok(Some(plain(status, "struck by a fault")));
    }
    if strikes(FaultKind::RestOverloaded) {
        return Ok(Some(json(rest::error_body("The server is overloaded, please try again later."))));
    }
    if strikes(FaultKind::RestManyObjects) {
        let objects = vec!["{}"; 1_300_000].join(",");
        return Ok(Some(json(format!(r#"{{"vaults":[{objects}]}}"#))));
    }
    if strikes(FaultKind::HugeToken) {
        let token = "t".repeat(5_000_000);
        return Ok(Some(json(format!(r#"{{"token":"{token}"}}"#))));
    }
    if strikes(FaultKind::RestGarbage) {
        return Ok(Some(plain(StatusCode::OK, "<html>this is no JSON</html>")));
    }
    Ok(None)
}

fn wants_websocket(request: &Request<Incoming>) -> bool {
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Answers a WebSocket handshake (RFC 6455 section 4.2) and starts the session.
async fn upgrade(request: Request<Incoming>, state: Arc<ServerState>, tasks: &Tasks) -> Response<Body> {
    if state.faults.strikes_at(FaultKind::HangUpgrade, 0) {
        pending::<()>().await;
    }
    if state.faults.strikes_at(FaultKind::RefuseUpgrade, 0) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "struck by a fault");
    }
    tokio::time::sleep(state.faults.read(|faults| faults.latency)).await;
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return plain(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
    };
    let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) else {
        return plain(StatusCode::BAD_REQUEST, "a bad Sec-WebSocket-Key");
    };
    let ended = state.connection_token();
    tasks.tracker.spawn(async move {
        tokio::select! {
            () = ended.cancelled() => {}
            () = run_session(request, state) => {}
        }
    });
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn run_session(request: Request<Incoming>, state: Arc<ServerState>) {
    let upgraded = match hyper::upgrade::on(request).await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, "the WebSocket handshake was not finished");
            return;
        }
    };
    // The plain socket again: hyper's wrapper would cost a virtual call for each read and write.
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => session::run(parts.io.into_inner(), parts.read_buf, state).await,
        Err(_) => tracing::error!("an upgraded connection is not the TCP stream it was"),
    }
}

fn allow_origin(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    let origin = origin.unwrap_or_else(|| HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

/// The date of an answer, in seconds since the epoch: the clock of the accounts, shifted by the fault.
fn set_date(response: &mut Response<Body>, time: u64) {
    let date = i64::try_from(time).ok().and_then(|time| Timestamp::from_second(time).ok());
    let date = date.and_then(|date| DateTimePrinter::new().timestamp_to_rfc9110_string(&date).ok());
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
