//! An address that drops packets: a listener that accepts nobody, with its queue full.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// A connection on loopback that takes longer will never be established.
const PATIENCE: Duration = Duration::from_millis(200);

/// A system with a longer queue interprets a backlog of one differently.
const MOST: usize = 64;

/// An address where connections are never established. Held for its sockets, which keep the queue full.
#[derive(Debug)]
pub struct Blackhole {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Blackhole {
    /// One on a loopback address.
    ///
    /// # Errors
    /// When the address is unavailable, or the system accepts everybody.
    pub async fn on(address: IpAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind((address, 0).into())?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut waiting = Vec::new();
        while waiting.len() < MOST {
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(connected) => waiting.push(connected?),
                Err(_) => return Ok(Self { address, _listener: listener, _waiting: waiting }),
            }
        }
        Err(io::Error::other("this system's queues do not fill"))
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
