//! Connections to the service, buckets and clouds alike.
//!
//! - [`Network`]: what the user and the environment say: proxies, certificates to trust.
//! - [`Connector`]: opens connections by it: the addresses of a name raced (RFC 8305), through a proxy where one is set,
//!   with TLS where it is wanted.
//! - [`Tls`]: a TLS configuration, made at once or by the first connection that needs it.
//! - [`CertificateProblem`]: why a certificate was refused, and what to do about it.
//!
//! One rule holds for all traffic. Connections with TLS go through the proxy of `HTTPS_PROXY`, else `ALL_PROXY`, unless
//! `NO_PROXY` has the host. Plain HTTP, which is spoken only with loopback and with hosts that the user named, goes
//! direct, and so does everything to loopback.

mod certificate;
mod connect;
mod error;
mod names;
mod network;
mod proxy;
mod race;
mod stream;
mod tls;
mod trust;
mod tunnel;
mod waits;

pub use certificate::CertificateProblem;
pub use connect::Connector;
pub use error::{ConnectError, NetworkError};
pub use names::{NameWait, Resolve, Resolving};
pub use network::Network;
pub use proxy::{Proxies, Proxy};
pub use stream::Stream;
pub use tls::Tls;
pub use waits::{Throttle, WAITS, is_refused, watched};
