//! Errors of starting a loopback cloud, or of doing what a test asks of it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A cloud that cannot start or do what a test asks of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// The port is taken, most likely.
    #[error("the cloud cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
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
        /// Why.
        #[source]
        source: io::Error,
    },
}
