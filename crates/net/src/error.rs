//! Errors of making a connection.

use std::error::Error;

use thiserror::Error;

use crate::CertificateProblem;

/// A setting that cannot be used: a proxy, a file with certificates.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NetworkError(pub(crate) String);

impl NetworkError {
    /// A setting that cannot be used for a reason that only its user knows.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// A connection that did not come about. Hosts and reasons are fit for a terminal; no secret is in them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host's name has no address.
    #[error("cannot find the address of {host}: {reason}")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
        /// Whether the resolver may know better in a moment, as after a boot, when the network is not up yet.
        temporary: bool,
    },
    /// None of the host's addresses answered.
    #[error("cannot reach {host}: {reason}")]
    Unreachable {
        /// The host, with its port.
        host: String,
        /// What the system or the other side said.
        reason: String,
        /// Whether nobody listens there.
        refused: bool,
    },
    /// The proxy did not let the connection through.
    #[error("the proxy {proxy} does not connect to {host}: {reason}")]
    Proxy {
        /// The proxy's address, without user and password.
        proxy: String,
        /// The host, with its port.
        host: String,
        /// The proxy's answer, and what to do.
        reason: String,
        /// Whether the same may succeed a little later without anybody doing anything.
        temporary: bool,
    },
    /// The certificate is not accepted. It will not be in a moment either.
    #[error(transparent)]
    Certificate(CertificateProblem),
    /// The two sides cannot agree on TLS.
    #[error("no encrypted connection to {host} is possible: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What the TLS library said.
        reason: String,
    },
    /// No certificates can be trusted: those that are named, or the system's, cannot be used.
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
    /// Finds the error that an HTTP library wrapped.
    #[must_use]
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        match error.downcast_ref() {
            Some(found) => Some(found),
            None => error.source().and_then(Self::within),
        }
    }

    /// Whether the same may succeed a little later without anybody doing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::NoAddress { temporary, .. } | Self::Proxy { temporary, .. } => *temporary,
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Certificate(_) | Self::Tls { .. } | Self::Trust(_) => false,
        }
    }
}
