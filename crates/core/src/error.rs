//! Why a pull as a whole could not go on. What concerns one file alone is in the report instead.

use obsync_client::ClientError;

use crate::state::StateError;
use crate::store::StoreError;

/// Why a pull could not go on. What was done until then is recorded.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The service.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The destination.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The server's vault is older than the destination.
    #[error(
        "the vault on the server is at version {server}, but the destination was pulled from version {destination}: the vault \
         was replaced or rolled back, so nothing was touched. If that is intended, run `obsync reset` on the \
         destination and pull again"
    )]
    RolledBack {
        /// The version of the server's vault.
        server: u64,
        /// The version that the destination is at.
        destination: u64,
    },
}
