//! An open connection: plain, with TLS, or through a proxy.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

trait Bytes: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Bytes for T {}

/// A TCP connection that discards unsent bytes when it is dropped, unless it was shut down.
pub(crate) struct Discarding(TcpStream);

impl Discarding {
    pub(crate) fn new(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_zero_linger()?;
        Ok(Self(tcp))
    }
}

impl AsyncRead for Discarding {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Discarding {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        stretches: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, stretches)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        #[expect(deprecated, reason = "only a time to linger blocks the thread; this takes it back")]
        self.0.set_linger(None)?;
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// An open connection.
pub struct Stream(Box<dyn Bytes>);

impl Stream {
    pub(crate) fn new(stream: impl AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        stretches: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, stretches)
    }

    /// Without this the HTTP library copies every body together with its head.
    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// More than the buffers of both sides take.
    const MUCH: usize = 64 << 20;

    /// A connection that nobody reads, full of unsent bytes, and the other side with their number.
    async fn full() -> (Discarding, TcpStream, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (there, _) = listener.accept().await.unwrap();
        let mut here = Discarding::new(here).unwrap();
        let (bytes, mut sent) = (vec![7; 1 << 20], 0);
        while sent < MUCH
            && let Some(written) = futures_util::FutureExt::now_or_never(here.write(&bytes))
        {
            sent += written.unwrap();
        }
        assert!(sent < MUCH, "the system takes everything");
        (here, there, sent)
    }

    async fn received(mut there: TcpStream) -> io::Result<usize> {
        let (mut buffer, mut received) = (vec![0; 1 << 20], 0);
        loop {
            match there.read(&mut buffer).await? {
                0 => return Ok(received),
                read => received += read,
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_delivers_nothing_more() {
        let (here, there, sent) = full().await;
        drop(here);
        let received = received(there).await;
        let is_cut = received.as_ref().map_or(true, |received| *received < sent);
        assert!(is_cut, "{received:?} of {sent}");
    }

    #[tokio::test]
    async fn a_connection_that_is_shut_down_delivers_everything() {
        let (mut here, there, sent) = full().await;
        here.shutdown().await.unwrap();
        drop(here);
        assert_eq!(received(there).await.unwrap(), sent);
    }
}
