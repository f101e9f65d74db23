//! A proxy that connects to one server, whatever the requested name (`CONNECT`, RFC 9110 section 9.3.6).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The longest request that is read, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Behaviour of a proxy.
#[derive(Clone, Debug)]
pub struct ProxyRules {
    /// The server at the other end of every tunnel.
    pub server: SocketAddr,
    /// The required user and password, as `user:password`.
    pub password: Option<String>,
    /// The status of all its answers, instead of connecting.
    pub status: Option<u16>,
}

/// A proxy on loopback. Stops when it is dropped.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    shared: Arc<ProxyShared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct ProxyShared {
    rules: ProxyRules,
    asked: Mutex<Vec<String>>,
    /// Cancelled to cut the present tunnels.
    tunnels: Mutex<CancellationToken>,
}

impl ConnectProxy {
    /// Starts one on 127.0.0.1, any port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(rules: ProxyRules) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stop = CancellationToken::new();
        let shared = Arc::new(ProxyShared { rules, asked: Mutex::default(), tunnels: Mutex::default() });
        let address = listener.local_addr()?;
        let serving = Arc::clone(&shared);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut tasks = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tasks.spawn(async move { shared.serve(tcp).await });
            }
        }));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hosts that it was asked to connect to, as `host:port`, refused ones included.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts all present tunnels, as middleboxes do with idle ones.
    pub fn cut(&self) {
        let mut tunnels = self.shared.tunnels.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *tunnels).cancel();
    }
}

impl ProxyShared {
    async fn serve(&self, mut tcp: TcpStream) -> io::Result<()> {
        let head = read_head(&mut tcp).await?;
        let mut first = head.lines().next().unwrap_or_default().split(' ');
        let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
        let status = match self.rules.status {
            Some(status) => status,
            None if method != "CONNECT" => 405,
            None if !self.lets_in(&head) => 407,
            None => 200,
        };
        let answer = format!("HTTP/1.1 {status} As said\r\nProxy-Authenticate: Basic\r\n\r\n");
        if status != 200 {
            return tcp.write_all(answer.as_bytes()).await;
        }
        let mut server = TcpStream::connect(self.rules.server).await?;
        tcp.write_all(answer.as_bytes()).await?;
        let cut = self.tunnels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        cut.run_until_cancelled(copy_bidirectional(&mut tcp, &mut server)).await;
        Ok(())
    }

    fn lets_in(&self, head: &str) -> bool {
        let Some(password) = &self.rules.password else { return true };
        let wanted = format!("Proxy-Authorization: Basic {}", BASE64.encode(password.as_bytes()));
        head.lines().any(|line| line.eq_ignore_ascii_case(&wanted))
    }
}

async fn read_head(tcp: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(tcp.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}
