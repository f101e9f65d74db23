//! Connection errors.

use std::error::Error;

use thiserror::Error;

use crate::CertificateProblem;

/// An unusable setting: a proxy, a file with certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NetworkError(pub(crate) String);

impl NetworkError {
    /// An unusable setting, with a reason of its user.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A connection failure. Hosts and reasons are safe to print; they contain no secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("cannot find the address of {host}: {reason}")]
    NoAddress {
        /// The name.
        host: String,
        /// The resolver's message.
        reason: String,
        /// A retry may succeed in a moment, as after a boot, when the network is not up yet.
        temporary: bool,
    },
    /// None of the host's addresses answered.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host, with its port.
        host: String,
        /// The message of the system or the other side.
        reason: String,
        /// Nobody listens there.
        refused: bool,
    },
    /// The proxy refused the connection.
    #[error("the proxy {proxy} does not connect to {host}: {reason}")]
    Proxy {
        /// The proxy's address, without user and password.
        proxy: String,
        /// The host, with its port.
        host: String,
        /// The proxy's answer, and the remedy.
        reason: String,
        /// A retry may succeed a little later without anybody's intervention.
        temporary: bool,
    },
    /// The certificate is rejected, permanently.
    #[error(transparent)]
    Certificate(CertificateProblem),
    /// The two sides cannot agree on TLS.
    #[error("no encrypted connection to {host} is possible: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// The TLS library's message.
        reason: String,
    },
    /// No certificates can be trusted: the configured ones, or the system's, are unusable.
    #[error(transparent)]
    Trust(NetworkError),
    /// It took too long.
    #[error("no connection to {host} within {} s", after.as_secs_f32())]
    TimedOut {
        /// The host, with its port.
        host: String,
        /// The limit.
        after: std::time::Duration,
    },
}

impl ConnectError {
    /// Finds the error wrapped by an HTTP library.
    #[must_use]
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        match error.downcast_ref() {
            Some(found) => Some(found),
            None => error.source().and_then(Self::within),
        }
    }

    /// True if a retry may succeed a little later without anybody's intervention.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoAddress { temporary, .. } | Self::Proxy { temporary, .. } => *temporary,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Certificate(_) | Self::Tls { .. } | Self::Trust(_) => false,
        }
    }
}
