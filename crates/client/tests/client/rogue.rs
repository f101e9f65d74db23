//! Tiny servers for faults below the level of a development server: each is a script on a WebSocket or a bare
//! socket.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use obsync_client::{Client, ClientOptions, SessionTarget, Token};
use obsync_conformance::SetClock;
use obsync_protocol::{EncryptionVersion, MasterKey, VaultId, VaultKeys};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::bed::options;

/// The server's end of a connection, after the handshake.
pub(crate) struct Peer {
    websocket: WebSocketStream<TcpStream>,
}

impl Peer {
    /// The next text message; `None` when the client is gone.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match self.websocket.next().await {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        // The test notices when the client is gone.
        let _ = self.websocket.send(Message::text(text)).await;
    }

    /// Returns true if the text could still be sent.
    pub(crate) async fn is_sent(&mut self, text: &str) -> bool {
        self.websocket.send(Message::text(text)).await.is_ok()
    }

    pub(crate) async fn send_binary(&mut self, piece: Vec<u8>) {
        let _ = self.websocket.send(Message::binary(piece)).await;
    }

    /// Sends raw bytes, past the WebSocket library.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.websocket.get_mut().write_all(bytes).await;
    }

    /// Accepts the client with an empty listing.
    pub(crate) async fn welcome(&mut self) {
        self.text().await;
        self.send(r#"{"res":"ok"}"#).await;
        self.send(r#"{"op":"ready","version":1}"#).await;
    }

    /// Reads until the client leaves.
    pub(crate) async fn until_gone(&mut self) {
        while self.text().await.is_some() {}
    }
}

/// A server that runs the same script on each connection, and a client for it.
pub(crate) struct Rogue {
    pub(crate) client: Client,
    pub(crate) target: SessionTarget,
    connections: Arc<AtomicUsize>,
}

impl Rogue {
    pub(crate) async fn start<F>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(|options| options, script).await
    }

    pub(crate) async fn with<F>(
        change: impl FnOnce(ClientOptions) -> ClientOptions,
        script: impl Fn(Peer) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                // Nagle's algorithm off: a few bytes do not wait for earlier acknowledgements.
                stream.set_nodelay(true).unwrap();
                if let Ok(websocket) = tokio_tungstenite::accept_async(stream).await {
                    tokio::spawn(script(Peer { websocket }));
                }
            }
        });
        let client = Client::new(change(options(&format!("http://{host}")))).unwrap();
        let target = SessionTarget {
            token: Token::new("token"),
            vault_id: VaultId::try_new("vault").unwrap(),
            host,
            keys: keys(),
        };
        Self { client, target, connections }
    }

    /// With a clock that the script moves.
    pub(crate) async fn with_clock<F>(
        change: impl FnOnce(ClientOptions) -> ClientOptions,
        script: impl Fn(Peer, Arc<SetClock>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let clock = SetClock::new();
        let given = clock.clone();
        let options = |options| ClientOptions { clock: given, ..change(options) };
        Self::with(options, move |peer| script(peer, clock.clone())).await
    }

    /// Number of connections of the client so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Keys of a vault that no server knows. Made from hexadecimal, since key derivation is slow.
pub(crate) fn keys() -> VaultKeys {
    let master = MasterKey::from_hex(&"42".repeat(32)).unwrap();
    VaultKeys::new(&master, EncryptionVersion::V3, "salt")
}
