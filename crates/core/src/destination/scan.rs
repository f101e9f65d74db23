//! Scans a destination for differences from the records, and reads files to be sent.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};

use super::describe::Describe;
use super::error::DestinationError;
use crate::problem::ProblemCode;
use crate::scan::{LocalTree, OpenFile, ScanInput};

/// How a place is scanned, and read to be sent.
#[async_trait]
pub trait Scan: Describe {
    /// Compares the content of the place with the records. `None`: it cannot be scanned.
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, DestinationError> {
        let _ = input;
        Ok(None)
    }

    /// The same for a few paths: nothing is said of others but of folders on the way to them. The input has the records of
    /// these paths and of the folders that they lie in. `None`: everything is to be scanned.
    async fn scan_few(
        &self,
        input: ScanInput,
        paths: Arc<HashSet<VaultPath>>,
    ) -> Result<Option<LocalTree>, DestinationError> {
        let _ = (input, paths);
        Ok(None)
    }

    /// A digest of everything that a scan compares with records, where that is had without reading a file: as long as it is the
    /// same, a scan with the same records and the same filter finds the same. `None`: there is none.
    async fn digest(&self) -> Result<Option<ContentHash>, DestinationError> {
        Ok(None)
    }

    /// Opens a file to be sent. The caller compares what it reads with what it expects.
    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, DestinationError> {
        Err(DestinationError::Unavailable {
            location: self.location(),
            reason: format!("{path} cannot be read from there to be sent"),
            code: ProblemCode::Destination,
        })
    }
}
