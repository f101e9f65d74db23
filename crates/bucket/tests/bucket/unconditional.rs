//! A service without conditional writes: a proxy before one with them, which refuses them.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REFUSAL: &str = "<Error><Code>NotImplemented</Code><Message>no conditions here</Message></Error>";

/// The proxy. It serves as long as the runtime of the test.
pub(crate) struct Unconditional;

impl Unconditional {
    /// Starts a proxy before the service at this address, and returns its own address.
    pub(crate) async fn before(service: &str) -> String {
        let service = service.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move { serve(client, &service).await });
            }
        });
        address
    }
}

/// Serves one request of a connection.
async fn serve(mut client: TcpStream, service: &str) -> io::Result<()> {
    let mut request = Vec::new();
    let head_end = loop {
        if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let head = String::from_utf8_lossy(&request[..head_end]).into_owned();
    let header = |wanted: &str| {
        let mut headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    while request.len() < head_end + 4 + length {
        client.read_buf(&mut request).await?;
    }
    if head.starts_with("PUT") && (header("if-match").is_some() || header("if-none-match").is_some()) {
        let length = REFUSAL.len();
        let answer = format!(
            "HTTP/1.1 501 Not Implemented\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{REFUSAL}"
        );
        return client.write_all(answer.as_bytes()).await;
    }
    let mut upstream = TcpStream::connect(service).await?;
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(b"\r\nconnection: close").await?;
    upstream.write_all(&request[head_end..]).await?;
    tokio::io::copy(&mut upstream, &mut client).await.map(drop)
}
