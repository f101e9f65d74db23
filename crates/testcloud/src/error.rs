//! Errors of starting a loopback cloud, or of a test's calls to it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure to start a cloud, or of a test's call to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// The port is taken, most likely.
    #[error("the cloud cannot listen on {address}: {source}")]
    Listen {
        /// The requested address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The database engine refused.
    #[error("the database of the cloud: {0}")]
    Database(String),
    /// A function's program cannot be started.
    #[error("the function {} cannot be started: {source}", program.display())]
    Function {
        /// The program.
        program: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}
