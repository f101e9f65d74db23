//! Names in a destination: which are equal, which it cannot have, and which make a git repository.

use std::collections::BTreeSet;

use async_trait::async_trait;
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};

use super::error::DestinationError;
use super::inspect::Inspect;
use crate::conflicted_copy::LONGEST_NAME;
use crate::repositories::repository_parts_among;

/// Effort allowed to find out which names are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldingProbe {
    /// Nothing is written, so the answer may be a guess: for a run that must not change anything.
    LookOnly,
    /// A file may be written to test the case of letters.
    Case,
    /// Also to test Unicode normalisation: there are names to place that have several normal forms.
    Normalization,
}

/// Rules for names in a place.
#[async_trait]
pub trait Naming: Inspect {
    /// The folding rules of this place: which names are equal here.
    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, DestinationError>;

    /// Checks whether the destination could have a file or folder of this path, as far as known without
    /// trying.
    fn admits(&self, path: &VaultPath) -> Result<(), DestinationError> {
        let _ = path;
        Ok(())
    }

    /// The longest name, in bytes, that something beside this path can have.
    fn longest_name_beside(&self, path: &VaultPath) -> usize {
        let _ = path;
        LONGEST_NAME
    }

    /// For each folder (`None`: the root of the place), its direct entries that are parts of a bare git
    /// repository. In order; a missing folder has none.
    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
        let files = self.list().await?.files;
        Ok(repository_parts_among(files.iter().map(|file| file.path.as_str()), &folders))
    }
}
