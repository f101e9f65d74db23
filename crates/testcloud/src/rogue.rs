//! A cloud service with arbitrary answers, for attacks on clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::CloudError;
use super::http::{self, Tasks};

/// The answer to a request: raw bytes on the wire, the answer's head included.
pub type RogueAnswer = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// A server on loopback that reads requests and sends a test's answers. It stops when it is dropped.
#[derive(Debug)]
pub struct Rogue {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    tasks: Tasks,
}

impl Rogue {
    /// Starts a server. `answer` is given the request's first line (method, path and query) and its body.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        answer: impl Fn(&str, &str) -> RogueAnswer + Send + Sync + 'static,
    ) -> Result<Self, CloudError> {
        let (listener, address) = http::listen(0).await?;
        let rogue =
            Rogue { address, sent: Arc::default(), requests: Arc::default(), tasks: Tasks::default() };
        let (sent, requests, tasks) =
            (Arc::clone(&rogue.sent), Arc::clone(&rogue.requests), rogue.tasks.clone());
        let answer = Arc::new(answer);
        rogue.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, sent, requests) =
                    (Arc::clone(&answer), Arc::clone(&sent), Arc::clone(&requests));
                tasks.spawn(async move {
                    // A client that leaves has enough.
                    let _ = converse(stream, &*answer, &sent, &requests).await;
                });
            }
        });
        Ok(rogue)
    }

    /// Its address as a service endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes sent to clients so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests received so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.tasks.shutdown.cancel();
    }
}

async fn converse(
    stream: TcpStream,
    answer: &(dyn Fn(&str, &str) -> RogueAnswer + Send + Sync),
    sent: &AtomicU64,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let line = line.trim();
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        requests.fetch_add(1, Ordering::Relaxed);
        for stretch in answer(first.trim(), &String::from_utf8_lossy(&body)) {
            stream.write_all(&stretch).await?;
            sent.fetch_add(stretch.len() as u64, Ordering::Relaxed);
        }
        stream.flush().await?;
    }
}

/// An answer of this status and type with a body of a stated length.
pub fn rogue_answer(status: u16, content_type: &str, body: &str) -> RogueAnswer {
    let head = format!(
        "HTTP/1.1 {status} Rogue\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Box::new([head.into_bytes(), body.as_bytes().to_vec()].into_iter())
}

/// An answer of this status and type whose body repeats `stretch` until the client is gone.
pub fn rogue_flood(status: u16, content_type: &str, stretch: &str) -> RogueAnswer {
    let head = format!(
        "HTTP/1.1 {status} Rogue\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let times = (64 << 10) / stretch.len().max(1) + 1;
    let body = stretch.repeat(times);
    let chunk = format!("{:x}\r\n{body}\r\n", body.len()).into_bytes();
    Box::new(std::iter::once(head.into_bytes()).chain(std::iter::repeat(chunk)))
}
