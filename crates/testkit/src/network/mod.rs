//! Networks of users, on loopback: private authorities and flawed certificates, proxies, dead addresses.

mod authority;
mod blackhole;
mod proxy;
mod socks;
mod tls_front;

pub use authority::{Authority, Flaw};
pub use blackhole::Blackhole;
pub use proxy::{ConnectProxy, ProxyRules};
pub use socks::SocksProxy;
pub use tls_front::TlsFront;
