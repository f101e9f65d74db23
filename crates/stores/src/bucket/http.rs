//! The way to the services: one HTTP client for each store, which counts its requests and lets them go one after the other
//! when there are many.

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
use obsync_protocol::limits;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;

use super::traffic::Traffic;
use super::turns::Turns;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
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
    /// A client for a service with TLS, or without it (`plain`): then it needs no certificates, of which a container may
    /// have none. At most `most` requests are under way at a time.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with the system's certificates.
    pub(super) fn new(plain: bool, most: usize, traffic: Traffic) -> Result<Self, String> {
        let tls = tls(plain).map_err(|error| format!("the system's certificates cannot be used: {error}"))?;
        let builder = reqwest::Client::builder()
            .user_agent(concat!("obsync/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .http1_only()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            .read_timeout(SILENCE_LIMIT)
            .pool_max_idle_per_host(most)
            .dns_resolver(Loopback)
            // A redirect would be signed for the wrong host; what it means is that the region is wrong.
            .redirect(reqwest::redirect::Policy::none());
        let builder = if plain { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| format!("no HTTP client can be made: {error}"))?;
        let turns = Turns::new(most, traffic.clone());
        Ok(Connector { client: HttpClient::new(Paced { client, traffic, turns }) })
    }

    /// The client.
    #[cfg(feature = "s3")]
    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }
}

/// The system's resolver, but for names below `localhost`, which are this machine wherever they are asked (RFC 6761, section
/// 6.3): `bucket.localhost` is how services on loopback name buckets by host, and not every system knows such names.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if name.as_str().ends_with(".localhost") {
                let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                return Ok(Box::new(std::iter::once(loopback)) as Addrs);
            }
            // The port is set by the client.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Cryptography is ring's, named explicitly so that no process-wide default has to be installed.
fn tls(plain: bool) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(if plain {
        config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    } else {
        config.with_platform_verifier()?.with_no_client_auth()
    })
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
    traffic: Traffic,
    turns: Turns,
}

#[async_trait]
impl HttpService for Paced {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let turn = self.turns.take(&request).await;
        self.traffic.count();
        let is_of_content = asks_for_content(&request);
        let outcome = HttpService::call(&self.client, request).await;
        turn.end(&outcome);
        match outcome {
            Ok(answer) if is_of_content && answer.status().is_success() => Ok(answer),
            Ok(answer) => bounded(answer).await,
            Err(error) => Err(error),
        }
    }
}
