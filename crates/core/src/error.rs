//! Errors that end a pull as a whole. Errors of a single file are in the report instead.

use obsync_client::ClientError;
use obsync_protocol::with_reasons;

use crate::destination::DestinationError;
use crate::problem::{Problem, ProblemCode};
use crate::state::StateError;

/// The reason why a pull could not continue. Finished work is recorded.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The service.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The destination.
    #[error(transparent)]
    Store(#[from] DestinationError),
    /// The state database.
    #[error(transparent)]
    State(#[from] StateError),
    /// The service lists entries without end.
    #[error(
        "the service listed more than {limit} changes of the vault, the most that obsync accepts; nothing was \
         changed. A new vault \
         with the same notes begins without the old one's changes"
    )]
    TooManyEntries {
        /// Limit of received entries.
        limit: u64,
    },
    /// The vault has more paths than a listing may have.
    #[error(
        "the vault lists more than {limit} files and folders, the most that obsync accepts; nothing was changed. Move \
         a part of \
         them to another vault"
    )]
    TooManyPaths {
        /// Limit of stored paths.
        limit: u64,
    },
    /// The service lists entries without end that cannot be read.
    #[error(
        "more than {limit} entries of the vault cannot be read, or take more memory than they may; nothing was changed. \
         They are not what devices with the vault's key write: move the notes to a new vault"
    )]
    TooManyUnreadable {
        /// Limit of stored entries.
        limit: usize,
    },
    /// The list of the vault takes more memory than it may.
    #[error(
        "the list of the vault has {entries} entries and takes about {} MiB of memory, of which it may use {} MiB; nothing \
         was changed. Give the function {} MB of memory (MemorySize), or move a part of the notes to another vault",
        needed.div_ceil(1 << 20), allowed >> 20, needed.div_ceil(1 << 20).saturating_mul(6)
    )]
    ListingTooLarge {
        /// Number of received entries.
        entries: u64,
        /// Bytes of memory that they take, at most.
        needed: u64,
        /// Bytes of memory that they may take.
        allowed: u64,
    },
}

impl From<&PullError> for ProblemCode {
    fn from(error: &PullError) -> Self {
        match error {
            PullError::Client(error) => error.into(),
            PullError::Store(error) => error.into(),
            PullError::State(error) => error.into(),
            PullError::TooManyEntries { .. }
            | PullError::TooManyPaths { .. }
            | PullError::TooManyUnreadable { .. }
            | PullError::ListingTooLarge { .. } => ProblemCode::VaultTooLarge,
        }
    }
}

impl From<&PullError> for Problem {
    fn from(error: &PullError) -> Self {
        Problem::new(error.into(), with_reasons(error))
    }
}
