//! Queries about the contents of a place, and their answers.

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};
use serde::Serialize;

use super::describe::Describe;
use super::error::DestinationError;
use crate::model::{KnownContent, LocalFacts, Record};

/// A question of [`Inspect::check`]: is this content at this path?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The path to check.
    pub path: VaultPath,
    /// The expected content.
    pub hash: ContentHash,
    /// The content's size in bytes, to answer without reading if possible.
    pub size: u64,
}

/// An answer of [`Inspect::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// True if the content is the wanted one.
    pub holds: bool,
    /// True if the file cannot be read, so that the content may be the wanted one.
    pub is_unreadable: bool,
    /// Method of the check.
    pub by: CheckedBy,
}

/// The method of comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CheckedBy {
    /// The content was read and hashed, or the size differed.
    Read,
    /// The metadata of the object was compared.
    Metadata,
}

impl CheckedBy {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckedBy::Read => "read",
            CheckedBy::Metadata => "metadata",
        }
    }
}

/// An answer of [`Inspect::look`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The wanted content.
    Wanted,
    /// A file with this content.
    Other(KnownContent),
    /// No file.
    Nothing,
    /// Not the wanted content; the actual one was not read or cannot be read.
    Unknown,
}

/// A recorded file that is to be replaced ([`Inspect::suppose`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed {
    /// Its path.
    pub path: VaultPath,
    /// Its recorded content.
    pub content: KnownContent,
    /// Its recorded facts.
    pub facts: LocalFacts,
    /// Size of the new content, in bytes.
    pub to_come: u64,
}

/// A file found by [`Inspect::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its path relative to the destination's root. Not a [`VaultPath`]: a destination can have names that no
    /// vault can.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The result of [`Inspect::list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The files, in no order.
    pub files: Vec<StoredFile>,
    /// Folders that could not be read, relative to the destination's root. Their contents are not among the
    /// files.
    pub unreadable: Vec<String>,
}

/// Queries about the contents of a place. None of them changes anything.
#[async_trait]
pub trait Inspect: Describe {
    /// True if the place is empty, apart from a folder's own bookkeeping.
    async fn is_empty(&self) -> Result<bool, DestinationError>;

    /// For each folder, true if it exists. Answers in order.
    async fn have_folders(&self, folders: Vec<VaultPath>) -> Result<Vec<bool>, DestinationError> {
        // A place without folders has them all.
        Ok(vec![!self.traits().has_folders; folders.len()])
    }

    /// Facts of these files without reading them, in order; `None` for a path without a file. The outer
    /// `None` if this would be expensive.
    async fn facts(
        &self,
        paths: Vec<VaultPath>,
    ) -> Result<Option<Vec<Option<LocalFacts>>>, DestinationError> {
        let _ = paths;
        Ok(None)
    }

    /// For each recorded file, true if it is gone or has an older content than the recorded one; an edited
    /// file is not lost. Answers in order, without reading contents. `None` if this would be expensive.
    async fn are_lost(&self, records: Vec<Record>) -> Result<Option<Vec<bool>>, DestinationError> {
        let paths = records.iter().map(|record| record.path.clone()).collect();
        let Some(found) = self.facts(paths).await? else { return Ok(None) };
        Ok(Some(records.iter().zip(&found).map(|(record, found)| is_lost(record, found.as_ref())).collect()))
    }

    /// Checks these paths. Answers in order: for a file with another content than the wanted one, that
    /// content.
    ///
    /// A destination where that costs too much answers like [`check`](Self::check).
    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        let checked = self.check(wanted).await?;
        Ok(checked
            .into_iter()
            .map(|checked| if checked.holds { Found::Wanted } else { Found::Unknown })
            .collect())
    }

    /// Remembers the records of files that are to be replaced. Returns, in order, true for each file that
    /// need not be checked before, because its write is conditional on the recorded facts. Such a file is
    /// checked neither for changes nor for its new content. All are false for a destination without
    /// conditional writes.
    fn suppose(&self, recorded: Vec<Supposed>) -> Vec<bool> {
        vec![false; recorded.len()]
    }

    /// True if a new file of this size (in bytes) need not be looked for before it is fetched: its write is
    /// conditional on a free path. False for a destination without conditional writes.
    fn creates_conditionally(&self, size: u64) -> bool {
        let _ = size;
        false
    }

    /// For each path, whether it has exactly this content, and how that was checked; in order. Unreadable
    /// files count as absent. Separate from [`look`](Self::look), because the size alone often answers it
    /// without reading.
    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError>;

    /// All files of the place, without obsync's own bookkeeping. Unreadable folders are skipped.
    async fn list(&self) -> Result<Inventory, DestinationError>;

    /// For each file, none of which the vault has any more: true if its metadata says that it was kept when
    /// the vault deleted it. Answers in order; all `false` for a destination without such metadata.
    async fn retained(&self, files: Vec<StoredFile>) -> Result<Vec<bool>, DestinationError> {
        Ok(vec![false; files.len()])
    }
}

/// True if a file is gone, or older than its recorded time.
fn is_lost(record: &Record, found: Option<&LocalFacts>) -> bool {
    match (&record.facts, found) {
        (_, None) => true,
        (Some(LocalFacts::File { modified: known, .. }), Some(LocalFacts::File { modified, .. })) => {
            modified < known
        }
        _ => false,
    }
}
