//! Connections to the service, buckets and clouds alike.
//!
//! - [`Network`]: settings of the user and the environment: proxies, certificates to trust.
//! - [`Connector`]: opens connections by them: races the addresses of a name (RFC 8305), through a proxy if
//!   one is set, with TLS where it is wanted.
//! - [`Tls`]: a TLS configuration, built at once or by the first connection that needs it.
//! - [`CertificateProblem`]: why a certificate was rejected, and the remedy.
//!
//! One rule applies to all traffic. Connections with TLS go through the proxy of `HTTPS_PROXY`, else
//! `ALL_PROXY`, unless `NO_PROXY` has the host. Plain HTTP, which is used only with loopback and with hosts
//! that the user named, goes direct, and so does everything to loopback.

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
