//! Opens connections by the network's settings.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use obsync_protocol::{printable, with_reasons};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::certificate::tls_error;
use crate::names::{NameWait, is_temporary};
use crate::proxy::bracketed;
use crate::race::race;
use crate::stream::Discarding;
use crate::tunnel::Tunnel;
use crate::{CertificateProblem, ConnectError, Network, Stream, Tls};

/// Opens connections. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Connector {
    network: Network,
    tls: Tls,
    /// Covers everything from the addresses to the end of the TLS handshake.
    limit: Duration,
    /// For a resolver that does not work yet.
    names: Duration,
    discards_unsent: bool,
}

/// The target of a connection.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Without brackets.
    host: &'a str,
    port: u16,
}

impl Connector {
    /// Connections by `network`, with `tls` where TLS is wanted, each within `limit`.
    #[must_use]
    pub fn new(network: Network, tls: impl Into<Tls>, limit: Duration) -> Self {
        Self { network, tls: tls.into(), limit, names: Duration::ZERO, discards_unsent: false }
    }

    /// The same, and retries a resolver that does not work yet for this long.
    #[must_use]
    pub fn waiting_for_names(self, names: Duration) -> Self {
        Self { names, ..self }
    }

    /// The same, but a connection that ends without being shut down discards what it has not sent yet, also
    /// when the process dies. The system would deliver that for minutes, and the other side take it for a
    /// change that was never given up.
    #[must_use]
    pub fn discarding_unsent(self) -> Self {
        Self { discards_unsent: true, ..self }
    }

    /// Opens a connection to `host` (a name or an address), with TLS if `secure`.
    ///
    /// # Errors
    ///
    /// The reason of the failure.
    pub async fn open(&self, host: &str, port: u16, secure: bool) -> Result<Stream, ConnectError> {
        let place = Place { host: host.trim_matches(['[', ']']), port };
        let proxy = if secure { self.network.proxies.for_host(place.host, port) } else { None };
        let Some(proxy) = proxy else {
            let tcp = self.dial(place).await?;
            return if secure { self.within_limit(place, self.secure(place, tcp)).await } else { Ok(tcp) };
        };
        let proxy_place = Place { host: proxy.host(), port: proxy.port() };
        tracing::debug!(%proxy, host = place.host, port, "connecting through a proxy");
        let tcp = self.dial(proxy_place).await?;
        self.within_limit(place, async {
            let tcp = if proxy.scheme() == "https" { self.secure(proxy_place, tcp).await? } else { tcp };
            let tunnel = Tunnel { proxy: &proxy, target: &place.authority() }.through(tcp).await?;
            self.secure(place, tunnel).await
        })
        .await
    }

    /// Connects to the first address that answers.
    async fn dial(&self, place: Place<'_>) -> Result<Stream, ConnectError> {
        let mut wait = NameWait::new(self.names);
        let addresses = loop {
            let resolving = self.network.resolver.resolve(place.host, place.port);
            let error = match self.within_limit(place, async { Ok(resolving.await) }).await? {
                Ok(addresses) => break addresses,
                Err(error) => error,
            };
            let (reason, temporary) = (printable(&error.to_string()), is_temporary(&error));
            let host = printable(place.host);
            if !temporary || !wait.pause(&host, &reason).await {
                return Err(ConnectError::NoAddress { host, reason, temporary });
            }
        };
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            host: place.shown(),
            reason: printable(&error.to_string()),
            refused: error.kind() == io::ErrorKind::ConnectionRefused,
        };
        let connecting = async { race(addresses, TcpStream::connect).await.map_err(unreachable) };
        let tcp = self.within_limit(place, connecting).await?;
        // Requests are small and answered one by one: waiting to fill a packet would cost a round trip each.
        tcp.set_nodelay(true).map_err(unreachable)?;
        match self.discards_unsent {
            true => Ok(Stream::new(Discarding::new(tcp).map_err(unreachable)?)),
            false => Ok(Stream::new(tcp)),
        }
    }

    async fn secure(&self, place: Place<'_>, stream: Stream) -> Result<Stream, ConnectError> {
        let name = ServerName::try_from(place.host.to_owned()).map_err(|_| ConnectError::Tls {
            host: printable(place.host),
            reason: "the name cannot be that of a server".to_owned(),
        })?;
        let tls = self.tls.config().map_err(ConnectError::Trust)?;
        let connected = TlsConnector::from(tls).connect(name, stream).await;
        connected.map(Stream::new).map_err(|error| {
            if let Some(problem) = CertificateProblem::within(place.host, &error) {
                return ConnectError::Certificate(problem);
            }
            let reason = printable(&with_reasons(&error));
            match tls_error(&error) {
                Some(_) => ConnectError::Tls { host: place.shown(), reason },
                None => ConnectError::Unreachable { host: place.shown(), reason, refused: false },
            }
        })
    }

    async fn within_limit<T>(
        &self,
        place: Place<'_>,
        work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let late = |_| ConnectError::TimedOut { host: place.shown(), after: self.limit };
        timeout(self.limit, work).await.map_err(late)?
    }
}

impl Place<'_> {
    fn authority(&self) -> String {
        format!("{}:{}", bracketed(self.host), self.port)
    }

    /// Omits the default port.
    fn shown(&self) -> String {
        printable(&if self.port == 443 { bracketed(self.host) } else { self.authority() })
    }
}

/// For HTTP libraries.
impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let secure = uri.scheme_str() == Some("https");
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            connector.open(uri.host().unwrap_or_default(), port, secure).await.map(TokioIo::new)
        })
    }
}
