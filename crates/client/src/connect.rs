//! Maps connection errors to this crate's errors.

use obsync_net::{ConnectError, NetworkError};

use crate::error::ClientError;

/// Error of a wait that exceeded its limit. `what` completes the sentence, as in "a connection to the
/// service".
pub(crate) fn from_connect(error: &ConnectError, what: &'static str) -> ClientError {
    match error.clone() {
        ConnectError::NoAddress { host, reason, temporary } => {
            ClientError::NoAddress { host, reason, temporary }
        }
        ConnectError::Unreachable { host, reason, .. } => ClientError::Unreachable { host, reason },
        ConnectError::Certificate(problem) => ClientError::Certificate { problem, clock: None },
        ConnectError::Trust(error) => from_network(&error),
        ConnectError::TimedOut { after, .. } => ClientError::TimedOut { what, after },
        ConnectError::Tls { host, reason } => ClientError::Tls { reason: format!("{host}: {reason}") },
        error => ClientError::Proxy { reason: error.to_string(), temporary: error.is_temporary() },
    }
}

/// Certificates that cannot be used.
pub(crate) fn from_network(error: &NetworkError) -> ClientError {
    ClientError::Tls { reason: error.to_string() }
}
