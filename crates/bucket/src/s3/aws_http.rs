//! HTTP connections of the SDK's clients: made as all others are, with bounded answers
//! ([`limits::CLOUD_ANSWER`](obsync_protocol::limits::CLOUD_ANSWER) and its like).
//!
//! So proxies, private certificates and raced addresses follow one rule (`obsync_net`), and the system's
//! certificates are read once for all, when the first connection needs them.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use obsync_net::{ConnectError, Connector, Network, NetworkError, Tls};
use tokio::time::timeout;

use super::answers::bounded;

/// Default timeout of making a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Idle connections are closed after this time.
const IDLE: Duration = Duration::from_secs(20);

/// The HTTP client of the SDK's clients. Cloning is cheap, and clones share connections.
#[derive(Clone, Debug)]
pub struct AwsHttp(SharedHttpClient);

impl AwsHttp {
    /// A client over `network`. Connects nothing, and reads no certificate of the system, before the first
    /// request.
    ///
    /// # Errors
    ///
    /// The fault of the configured certificate files.
    pub fn new(network: &Network) -> Result<Self, NetworkError> {
        network.check_files()?;
        let trusting = network.clone();
        let tls = Tls::when_needed(move || trusting.tls_for_aws());
        let connections = Connections { network: network.clone(), tls, pools: Arc::default() };
        Ok(Self(bounded(SharedHttpClient::new(connections))))
    }

    /// The client, for custom configurations.
    #[must_use]
    pub fn client(&self) -> SharedHttpClient {
        self.0.clone()
    }
}

type Pool = legacy::Client<Connector, SdkBody>;

/// The connections of all clients: one pool for each connect timeout, of which there are two or three.
#[derive(Debug)]
struct Connections {
    network: Network,
    tls: Tls,
    pools: Arc<Mutex<Vec<(Duration, Pool)>>>,
}

impl Connections {
    fn pool(&self, limit: Duration) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pool)) = pools.iter().find(|(of, _)| *of == limit) {
            return pool.clone();
        }
        let connector = Connector::new(self.network.clone(), self.tls.clone(), limit);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        pools.push((limit, Pool::clone(&pool)));
        pool
    }
}

impl HttpClient for Connections {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let pool = self.pool(settings.connect_timeout().unwrap_or(CONNECT_LIMIT));
        SharedHttpConnector::new(Sender { pool, silence: settings.read_timeout() })
    }
}

/// Sends requests over the connections of a pool.
#[derive(Debug)]
struct Sender {
    pool: Pool,
    /// Longest wait for the beginning of an answer.
    silence: Option<Duration>,
}

impl HttpConnector for Sender {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let (answering, silence) = (self.pool.request(request), self.silence);
        HttpConnectorFuture::new(async move {
            let answered = match silence {
                Some(limit) => {
                    timeout(limit, answering).await.map_err(|late| ConnectorError::timeout(late.into()))?
                }
                None => answering.await,
            };
            let answer = answered.map_err(sorted)?.map(SdkBody::from_body_1_x);
            HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The SDK's error kind, which decides on retries.
fn sorted(error: legacy::Error) -> ConnectorError {
    match ConnectError::within(&error) {
        Some(ConnectError::TimedOut { .. }) => return ConnectorError::timeout(error.into()),
        Some(failed) if failed.is_temporary() => return ConnectorError::io(error.into()),
        Some(_) => return ConnectorError::other(error.into(), None),
        None => {}
    }
    match within::<hyper::Error>(&error) {
        Some(hyper) if hyper.is_user() => ConnectorError::user(error.into()),
        Some(hyper) if hyper.is_timeout() => ConnectorError::timeout(error.into()),
        // Some services close a connection in place of an answer.
        Some(hyper) if hyper.is_incomplete_message() => {
            ConnectorError::other(error.into(), Some(ErrorKind::TransientError))
        }
        Some(hyper) if hyper.is_closed() || hyper.is_canceled() => ConnectorError::io(error.into()),
        _ if within::<io::Error>(&error).is_some() => ConnectorError::io(error.into()),
        _ => ConnectorError::other(error.into(), None),
    }
}

/// The error of this type in a source chain.
fn within<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    match error.downcast_ref() {
        Some(found) => Some(found),
        None => error.source().and_then(within),
    }
}
