//! Scans a destination for differences from the records, and reads files to send.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};

use super::describe::Describe;
use super::error::DestinationError;
use crate::problem::ProblemCode;
use crate::scan::{LocalTree, OpenFile, ScanInput};

/// Scans a place, and opens files to send.
#[async_trait]
pub trait Scan: Describe {
    /// Compares the content of the place with the records. `None` if it cannot be scanned.
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, DestinationError> {
        let _ = input;
        Ok(None)
    }

    /// The same for a few paths: the result covers only these and the folders on the way to them. The input
    /// has the records of these paths and of their parent folders. `None` if everything has to be scanned.
    async fn scan_few(
        &self,
        input: ScanInput,
        paths: Arc<HashSet<VaultPath>>,
    ) -> Result<Option<LocalTree>, DestinationError> {
        let _ = (input, paths);
        Ok(None)
    }

    /// Digest of everything that a scan compares with records, if it is available without reading files. A
    /// scan with the same digest, records and filter has the same result. `None` if there is no digest.
    async fn digest(&self) -> Result<Option<ContentHash>, DestinationError> {
        Ok(None)
    }

    /// Opens a file to send. The caller compares the content that it reads with the expected one.
    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, DestinationError> {
        Err(DestinationError::Unavailable {
            location: self.location(),
            reason: format!("{path} cannot be read from there to be sent"),
            code: ProblemCode::Destination,
        })
    }
}
