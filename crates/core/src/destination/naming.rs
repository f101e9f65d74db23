//! Names in a destination: which are one name, which it cannot have, and which make a git repository.

use std::collections::BTreeSet;

use async_trait::async_trait;
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};

use super::error::DestinationError;
use super::inspect::Inspect;
use crate::repositories::repository_parts_among;

/// How much may be done to find out which names are one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldingProbe {
    /// Nothing is written, so that the answer may be a guess: for a run that is not to change anything.
    LookOnly,
    /// A file may be written to try the case of letters.
    Case,
    /// The same, and to try Unicode forms: there are names to be placed that can be written in several.
    Normalization,
}

/// Rules for names in a place.
#[async_trait]
pub trait Naming: Inspect {
    /// Which names are one name here.
    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, DestinationError>;

    /// Whether the destination could have a file or folder of this path, as far as that can be told without trying.
    fn admits(&self, path: &VaultPath) -> Result<(), DestinationError> {
        let _ = path;
        Ok(())
    }

    /// For each of these folders (`None`: the top of the place), what there is directly in it that is a part of a bare git
    /// repository. In order; a folder that is not there has none.
    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
        let files = self.list().await?.files;
        Ok(repository_parts_among(files.iter().map(|file| file.path.as_str()), &folders))
    }
}
