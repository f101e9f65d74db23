//! TLS in front of a server without TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Removes TLS and forwards everything. Stops when it is dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    server: Arc<OnceLock<SocketAddr>>,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    connections: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl TlsFront {
    /// Listens on a loopback address, any port.
    ///
    /// # Errors
    /// When the address is unavailable.
    pub async fn on(address: IpAddr, config: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let stop = CancellationToken::new();
        let front = Self {
            address: listener.local_addr()?,
            server: Arc::default(),
            config: Arc::new(Mutex::new(config)),
            connections: Arc::default(),
            _stop: stop.clone().drop_guard(),
        };
        let (server, connections) = (Arc::clone(&front.server), Arc::clone(&front.connections));
        let config = Arc::clone(&front.config);
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut tasks = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let config = Arc::clone(&config.lock().unwrap_or_else(PoisonError::into_inner));
                let acceptor = TlsAcceptor::from(config);
                let server = server.get().copied();
                tasks.spawn(async move {
                    let (mut tls, Some(server)) = (acceptor.accept(tcp).await?, server) else {
                        return Ok(());
                    };
                    copy_bidirectional(&mut tls, &mut TcpStream::connect(server).await?).await?;
                    io::Result::Ok(())
                });
            }
        }));
        Ok(front)
    }

    /// Forwards everything to this server from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        // A second server would be a mistake of the test, which then sees the first one's answers.
        let _ = self.server.set(server);
    }

    /// Presents another certificate from now on, on new connections: the old one expired, or was replaced.
    pub fn show(&self, config: Arc<ServerConfig>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connections received.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}
