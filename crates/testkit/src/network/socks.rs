//! A SOCKS 5 proxy (RFC 1928, RFC 1929) that connects to one server, whatever the requested name.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const DOMAIN: u8 = 3;

/// A SOCKS proxy on loopback. Stops when it is dropped.
#[derive(Debug)]
pub struct SocksProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl SocksProxy {
    /// Starts one on 127.0.0.1, any port, that connects to `server` and requires this user and password, if
    /// any.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(server: SocketAddr, login: Option<(&str, &str)>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let stop = CancellationToken::new();
        let login = login.map(|(user, password)| (user.as_bytes().to_vec(), password.as_bytes().to_vec()));
        let record = Arc::clone(&asked);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut tasks = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tasks.spawn(serve(tcp, server, login.clone(), Arc::clone(&record)));
            }
        }));
        Ok(Self { address, asked, _stop: stop.drop_guard() })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hosts that it was asked to connect to by name, as `host:port`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Login = Option<(Vec<u8>, Vec<u8>)>;

async fn serve(
    mut tcp: TcpStream,
    server: SocketAddr,
    login: Login,
    asked: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    if !lets_in(&mut tcp, login).await? {
        return Ok(());
    }
    let [version, command, _, kind] = read(&mut tcp).await?;
    if (version, command, kind) != (VERSION, CONNECT, DOMAIN) {
        return Err(io::Error::other("only CONNECT to a name is known here"));
    }
    let host = String::from_utf8_lossy(&text(&mut tcp).await?).into_owned();
    let port = u16::from_be_bytes(read(&mut tcp).await?);
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{host}:{port}"));
    let mut server = TcpStream::connect(server).await?;
    // Succeeded, bound to 0.0.0.0:0.
    tcp.write_all(&[VERSION, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut tcp, &mut server).await.map(|_| ())
}

/// Negotiates the authentication method, and checks the client's credentials.
async fn lets_in(tcp: &mut TcpStream, login: Login) -> io::Result<bool> {
    let [_version] = read(tcp).await?;
    let methods = text(tcp).await?;
    let method = if login.is_some() { USER_AND_PASSWORD } else { NO_AUTHENTICATION };
    if !methods.contains(&method) {
        tcp.write_all(&[VERSION, NO_METHOD]).await?;
        return Ok(false);
    }
    tcp.write_all(&[VERSION, method]).await?;
    let Some(wanted) = login else {
        return Ok(true);
    };
    let [_version] = read(tcp).await?;
    let given = (text(tcp).await?, text(tcp).await?);
    let is_right = given == wanted;
    tcp.write_all(&[1, u8::from(!is_right)]).await?;
    Ok(is_right)
}

async fn read<const N: usize>(tcp: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Bytes after their number.
async fn text(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; tcp.read_u8().await?.into()];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}
