//! The proxy between clients and the engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::faults::Verdict;
use super::super::gate::Gate;
use super::super::http::{self, Dropped, FullBody, Tasks};
use super::super::json_api::{fault_answer, json_error};
use super::super::log::Service;
use super::backups::Backups;
use super::batch::{self, HeldBack};
use super::capacity::Meter;
use super::engine::Engine;

/// The largest request of DynamoDB, in bytes.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// Timeout of the engine for a request; it is on this machine, so it takes milliseconds.
const ENGINE_LIMIT: Duration = Duration::from_secs(60);

/// The content type of the protocol.
pub(super) const JSON: &str = "application/x-amz-json-1.0";

struct Proxy {
    gate: Gate,
    engine: Arc<Engine>,
    client: Client<HttpConnector, Full<Bytes>>,
    backups: Arc<Backups>,
    meter: Meter,
}

/// Serves clients at `listener` by forwarding to the engine.
pub(super) fn serve(
    listener: TcpListener,
    tasks: &Tasks,
    gate: Gate,
    engine: Arc<Engine>,
    meter: Meter,
    backups: Arc<Backups>,
) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let proxy = Arc::new(Proxy { gate, engine, client, backups, meter });
    http::serve(listener, tasks, move |request| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.answer(request).await }
    });
}

impl Proxy {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<FullBody>, Dropped> {
        let _under_way = self.gate.under_way.enter(Service::DynamoDb);
        let (parts, body) = request.into_parts();
        let body = match http::whole_body(body, BODY_MAX).await {
            Ok(body) => body,
            Err(response) => return Ok(response),
        };
        let target = http::header_text(&parts.headers, "x-amz-target");
        let operation = target.rsplit_once('.').map_or("Unknown", |(_, operation)| operation).to_owned();
        let table = batch::table_of(&body);
        let admitted = self.gate.admit(Service::DynamoDb, &operation, table, body.len() as u64).await;
        if admitted.verdict == Verdict::Dropped {
            return Err(Dropped);
        }
        let response = match fault_answer(Service::DynamoDb, &operation, JSON, admitted.verdict) {
            Some(response) => response,
            None => self.carry_out(parts, &operation, body).await,
        };
        self.gate.end(admitted, response.status().as_u16()).await?;
        Ok(response)
    }

    /// Forwards to the engine; for a batch struck by a fault, only the first half.
    async fn carry_out(&self, parts: Parts, operation: &str, body: Bytes) -> Response<FullBody> {
        let is_batch = matches!(operation, "BatchWriteItem" | "BatchGetItem");
        if is_batch
            && self.gate.faults.leaves_unprocessed()
            && let Some((first, held_back)) = HeldBack::split(operation, &body)
        {
            let Some(first) = first else {
                return http::answer(StatusCode::OK, JSON, held_back.alone());
            };
            let response = self.forward(parts, operation, first).await;
            return held_back.add_to(response).await;
        }
        if let Some(answer) = self.backups.answer(&self.engine, operation, &body) {
            return answer;
        }
        self.forward(parts, operation, body).await
    }

    async fn forward(&self, parts: Parts, operation: &str, body: Bytes) -> Response<FullBody> {
        match self.ask(parts, operation, Meter::asking(operation, body)).await {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(error, "the database engine cannot be asked");
                json_error(StatusCode::INTERNAL_SERVER_ERROR, JSON, "InternalServerError", &error)
            }
        }
    }

    async fn ask(
        &self,
        mut parts: Parts,
        operation: &str,
        body: Bytes,
    ) -> Result<Response<FullBody>, String> {
        let uri = format!("http://{}/", self.engine.address);
        parts.uri = uri.parse::<Uri>().map_err(|error| error.to_string())?;
        // Both describe the received connection and body, not the forwarded ones.
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::HOST] {
            parts.headers.remove(name);
        }
        let request = Request::from_parts(parts, Full::new(body));
        let whole = async {
            let (parts, body) =
                self.client.request(request).await.map_err(|error| error.to_string())?.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>((parts, body))
        };
        let in_time = timeout(ENGINE_LIMIT, whole).await;
        let (mut parts, body) = in_time.map_err(|_| format!("no answer within {ENGINE_LIMIT:?}"))??;
        parts.headers.remove(header::TRANSFER_ENCODING);
        self.meter.note(operation, &body);
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}
