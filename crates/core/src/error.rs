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
}
