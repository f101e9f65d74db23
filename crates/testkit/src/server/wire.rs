//! The server's end of a WebSocket: sends frames in batches, and reads available messages.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// From this length on a frame is written straight from the content: copying it into a buffer first would
/// cost more than the saved write.
const DIRECT_WRITE: usize = 32 * 1024;

/// The largest message accepted from a client, in bytes. The official client sends pieces of 2 MiB.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection was dropped on purpose")]
    Dropped,
    #[error("the session was refused")]
    Refused,
    #[error("the client broke the protocol: {0}")]
    Protocol(String),
    #[error("the client was silent for too long")]
    Silent,
    #[error("the vault could not be read or written: {0}")]
    Disk(io::Error),
    #[error("the connection failed: {0}")]
    Socket(#[from] tungstenite::Error),
}

pub(super) struct Wire {
    socket: WebSocketStream<TcpStream>,
    /// Frames to send before the connection is dropped, if it is to be.
    frames_left: Option<u64>,
}

impl Wire {
    /// Takes over a connection after its handshake, with the bytes that were read along with it.
    pub(super) async fn new(stream: TcpStream, read: Bytes) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE))
            .write_buffer_size(128 * 1024)
            // Requests are small, and the library fills the whole buffer with zeros before each read.
            .read_buffer_size(8 * 1024);
        let socket =
            WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, Some(config)).await;
        Self { socket, frames_left: None }
    }

    /// Drops the connection once it has sent this many frames.
    pub(super) fn drop_after(&mut self, frames: u64) {
        self.frames_left = Some(frames);
    }

    /// Queues a text message; sent at the latest with the next flush.
    pub(super) async fn send_text(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), End> {
        self.count_frame().await?;
        Ok(self.socket.feed(Message::Text(text.into())).await?)
    }

    /// Queues a binary frame; sent at the latest with the next flush.
    pub(super) async fn send_binary(&mut self, content: Bytes) -> Result<(), End> {
        self.count_frame().await?;
        if content.len() < DIRECT_WRITE {
            return Ok(self.socket.feed(Message::Binary(content)).await?);
        }
        self.socket.flush().await?;
        self.write_raw(&frame_header(content.len() as u64)).await?;
        self.write_raw(&content).await
    }

    /// Sends the header and the first half of a binary frame; nothing valid can follow it.
    pub(super) async fn send_half(&mut self, content: &Bytes) -> Result<(), End> {
        self.socket.flush().await?;
        self.write_raw(&frame_header(content.len() as u64)).await?;
        self.write_raw(&content[..content.len() / 2]).await
    }

    /// Sends raw frames, past the WebSocket library, until the client leaves: the first one, then the others
    /// repeatedly. Nothing is read meanwhile.
    pub(super) async fn send_for_ever(&mut self, first: &[u8], others: &[u8]) -> Result<(), End> {
        const AT_ONCE: usize = 1000;
        self.socket.flush().await?;
        self.write_raw(first).await?;
        let others = others.repeat(AT_ONCE);
        loop {
            self.write_raw(&others).await?;
        }
    }

    /// Sends a binary frame a byte at a time, pausing between them.
    pub(super) async fn send_slowly(&mut self, content: &Bytes, pause: Duration) -> Result<(), End> {
        self.socket.flush().await?;
        self.write_raw(&frame_header(content.len() as u64)).await?;
        for byte in content {
            self.write_raw(std::slice::from_ref(byte)).await?;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Passes all queued data to the network.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        Ok(self.socket.flush().await?)
    }

    /// Waits for the next message. Can be cancelled without loss.
    pub(super) async fn receive(&mut self) -> Result<Message, End> {
        self.socket.next().await.ok_or(End::Closed)?.map_err(closed)
    }

    /// The next message, if it has arrived already.
    pub(super) fn received(&mut self) -> Result<Option<Message>, End> {
        match self.socket.next().now_or_never() {
            None => Ok(None),
            Some(message) => message.ok_or(End::Closed)?.map(Some).map_err(closed),
        }
    }

    /// Sends a close frame.
    pub(super) async fn close(&mut self) {
        // The client need not receive it any more.
        let _ = self.socket.close(None).await;
    }

    async fn count_frame(&mut self) -> Result<(), End> {
        match &mut self.frames_left {
            None => Ok(()),
            Some(0) => {
                self.socket.flush().await?;
                Err(End::Dropped)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Writes past tungstenite, whose buffer is empty after a flush.
    async fn write_raw(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.socket.get_mut().write_all(bytes).await.map_err(|error| End::Socket(error.into()))
    }
}

/// A client that leaves without a close frame has closed the connection all the same.
fn closed(error: tungstenite::Error) -> End {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => End::Closed,
        other => End::Socket(other),
    }
}

/// The header of an unmasked, final binary frame (RFC 6455 section 5.2).
fn frame_header(length: u64) -> Vec<u8> {
    const FINAL_BINARY: u8 = 0x82;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => vec![FINAL_BINARY, short],
        (_, Ok(medium)) => [&[FINAL_BINARY, 126], medium.to_be_bytes().as_slice()].concat(),
        _ => [&[FINAL_BINARY, 127], length.to_be_bytes().as_slice()].concat(),
    }
}
