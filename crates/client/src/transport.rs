//! A WebSocket connection: the handshake, frames in and out.
//!
//! This is the only module that knows the WebSocket library. `tokio-tungstenite` was chosen by measurement
//! (docs/PERFORMANCE.md has the figures): with a read buffer of 64 KiB it receives 2 MiB frames as fast as a loopback
//! socket gives them, hands payloads over as `Bytes` without a copy, and its reads can be cancelled.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use obsync_net::Connector;
#[cfg(test)]
use obsync_protocol::limits::FIRST_CONNECTION_FRAME;
use obsync_protocol::limits::{PONG_BUFFER, WRITE_BUFFER};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::clock::Clock;
use crate::connect::from_connect;
use crate::error::{ClientError, printable, reasons};
use crate::frames::{Flood, Frames};
use crate::host::SyncAddress;
use crate::http::Head;

/// Larger buffers were slower in the measurement, and small frames keep the buffer that they came in alive.
const READ_BUFFER: usize = 64 << 10;

/// The header and the mask of a pong, in bytes.
const PONG_OVERHEAD: usize = 6;

/// The wait while connecting, in error texts.
const CONNECTION: &str = "a connection to the vault's server";

/// Longest wait for the closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// A message as received. Control frames are handled below this level.
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
}

impl Incoming {
    /// Its length in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(piece) => piece.len(),
        }
    }

    /// The same message in memory of its own. A small one otherwise keeps a whole read buffer alive.
    pub(crate) fn detached(self) -> Self {
        match self {
            Self::Text(text) if text.len() < READ_BUFFER => Self::Text(text.as_str().into()),
            Self::Binary(piece) if piece.len() < READ_BUFFER => Self::Binary(Bytes::copy_from_slice(&piece)),
            large => large,
        }
    }
}

/// Any byte stream: plain TCP or TLS.
trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> ByteStream for T {}

/// An open WebSocket connection.
pub(crate) struct Socket {
    websocket: WebSocketStream<Metered>,
}

impl Socket {
    /// Connects within `limit`. A frame or message longer than `longest` bytes ends the connection before
    /// memory is allocated for it.
    pub(crate) async fn connect(
        address: &SyncAddress,
        connector: &Connector,
        user_agent: &str,
        longest: usize,
        limit: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ClientError> {
        let connecting = async {
            let stream = connector.open(&address.name, address.port, address.tls).await;
            let stream = stream.map_err(|error| from_connect(&error, CONNECTION))?;
            handshake(Box::new(stream), address, user_agent, longest, clock).await
        };
        match timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ClientError::TimedOut { what: CONNECTION, after: limit }),
        }
    }

    /// A connection over any stream, for tests of the layers above.
    #[cfg(test)]
    pub(crate) async fn over(stream: tokio::io::DuplexStream) -> Self {
        let clock = Arc::new(crate::clock::SystemClock);
        let stream = Metered::new(Box::new(stream), Frames::new(clock.steady()), clock);
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let config = config(FIRST_CONNECTION_FRAME);
        Self { websocket: WebSocketStream::from_raw_socket(stream, role, Some(config)).await }
    }

    /// Queues a text; [`Socket::poll_flush`] sends it. A cancelled call never loses queued messages.
    pub(crate) fn queue_text(&mut self, text: String) -> Result<(), ClientError> {
        self.queue(Message::text(text))
    }

    /// Queues a binary frame.
    pub(crate) fn queue_binary(&mut self, piece: Bytes) -> Result<(), ClientError> {
        self.queue(Message::binary(piece))
    }

    fn queue(&mut self, message: Message) -> Result<(), ClientError> {
        // Callers flush after a bounded number of messages, so the library's buffer is full only if the
        // server accepts nothing at all.
        Pin::new(&mut self.websocket).start_send(message).map_err(from_websocket)
    }

    /// Tries to send the queue.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Pin::new(&mut self.websocket).poll_flush(cx).map_err(from_websocket)
    }

    /// Receives the next message. Answers pings on the way; [`Frames`] limits their number.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, ClientError>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.websocket).poll_next(cx)) {
                Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
                Some(Ok(Message::Binary(piece))) => Ok(Incoming::Binary(piece)),
                Some(Ok(Message::Close(frame))) => Err(closed(frame)),
                Some(Ok(Message::Ping(payload))) => match self.answer_waits(payload.len()) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(error)) => Err(from_websocket(error)),
                None => Err(ClientError::lost("it was closed")),
            });
        }
    }

    /// The library has queued the answer to a ping. Without this limit a server that sends pings and reads
    /// nothing would fill the write buffer.
    fn answer_waits(&mut self, payload: usize) -> Result<(), ClientError> {
        let waiting = &mut self.websocket.get_mut().pongs_waiting;
        *waiting += payload + PONG_OVERHEAD;
        if *waiting > PONG_BUFFER {
            return Err(ClientError::protocol("it sends pings and does not read the answers"));
        }
        Ok(())
    }

    /// The bytes of binary messages so far.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.websocket.get_ref().frames.binary_bytes()
    }

    /// When the last byte of content arrived.
    pub(crate) fn last_content(&self) -> Instant {
        self.websocket.get_ref().frames.last_binary()
    }

    /// When the last byte arrived.
    pub(crate) fn last_read(&self) -> Instant {
        self.websocket.get_ref().last_read
    }

    /// When the system last accepted a byte from us.
    pub(crate) fn last_write(&self) -> Instant {
        self.websocket.get_ref().last_write
    }

    /// Number of bytes that the system has accepted from us so far.
    pub(crate) fn written(&self) -> u64 {
        self.websocket.get_ref().written
    }

    /// Sends a close frame, if that is possible at once, and ends the connection.
    pub(crate) async fn close(mut self) {
        // The connection is given up anyway, so an error here concerns nobody.
        let closing = async {
            self.websocket.close(None).await?;
            // Without this the close frame may be discarded with the connection.
            self.websocket.get_mut().shutdown().await.map_err(WsError::Io)
        };
        let _ = timeout(CLOSE_LIMIT, closing).await;
    }
}

async fn handshake(
    stream: Box<dyn ByteStream>,
    address: &SyncAddress,
    user_agent: &str,
    longest: usize,
    clock: Arc<dyn Clock>,
) -> Result<Socket, ClientError> {
    let mut request = address.url().into_client_request().map_err(from_websocket)?;
    let agent = HeaderValue::from_str(user_agent).map_err(|_| ClientError::InvalidOption {
        reason: "the user agent has characters that a header cannot carry; use plain ASCII".to_owned(),
    })?;
    request.headers_mut().insert(USER_AGENT, agent);
    let stream = Metered::new(stream, Frames::after_handshake(clock.steady()), clock);
    let (websocket, _) = client_async_with_config(request, stream, Some(config(longest)))
        .await
        .map_err(|error| refused(&address.authority(), error))?;
    Ok(Socket { websocket })
}

fn config(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER)
        .max_frame_size(Some(longest))
        .max_message_size(Some(longest))
}

fn closed(frame: Option<CloseFrame>) -> ClientError {
    match frame {
        Some(frame) if !frame.reason.is_empty() => {
            ClientError::lost(format!("the server closed it ({})", printable(&frame.reason)))
        }
        Some(frame) => ClientError::lost(format!("the server closed it (code {})", u16::from(frame.code))),
        None => ClientError::lost("the server closed it"),
    }
}

/// Names an answer to the handshake that is not the service's.
fn refused(host: &str, error: WsError) -> ClientError {
    match error {
        WsError::Http(response) => {
            let head = Head { status: response.status(), headers: response.headers() };
            head.not_the_service(host).unwrap_or(ClientError::Http { status: response.status().as_u16() })
        }
        other => from_websocket(other),
    }
}

/// Maps the library's errors to a lost connection or a protocol violation.
fn from_websocket(error: WsError) -> ClientError {
    match error {
        WsError::ConnectionClosed | WsError::AlreadyClosed => ClientError::lost("it was closed"),
        WsError::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Flood>()) {
            Some(flood) => ClientError::protocol(flood.to_string()),
            None => ClientError::lost(reasons(&error)),
        },
        WsError::WriteBufferFull(_) => ClientError::lost("the server accepts no data"),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            ClientError::lost("it broke off without a farewell")
        }
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            ClientError::lost("it broke off at its beginning")
        }
        WsError::Http(response) => ClientError::Http { status: response.status().as_u16() },
        // The text of this error would repeat the server's data.
        WsError::Utf8(_) => ClientError::protocol("a text message is not UTF-8"),
        other => ClientError::protocol(reasons(&other)),
    }
}

/// Notes when bytes last moved, and parses the incoming frames. A piece of 2 MiB on a slow line is one
/// message in minutes, although the connection is alive.
struct Metered {
    stream: Box<dyn ByteStream>,
    clock: Arc<dyn Clock>,
    last_read: Instant,
    last_write: Instant,
    written: u64,
    frames: Frames,
    /// Bytes of pongs since the queue was last flushed.
    pongs_waiting: usize,
}

impl Metered {
    fn new(stream: Box<dyn ByteStream>, frames: Frames, clock: Arc<dyn Clock>) -> Self {
        let now = clock.steady();
        Self { stream, clock, last_read: now, last_write: now, written: 0, frames, pongs_waiting: 0 }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            let now = self.clock.steady();
            self.last_read = now;
            self.frames.take(&buffer.filled()[before..], now).map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.last_write = self.clock.steady();
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // The library flushes the stream once its own buffer is empty.
        self.pongs_waiting = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
