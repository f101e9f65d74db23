//! Questions about what is in a place, and their answers.

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};
use serde::Serialize;

use super::describe::Describe;
use super::error::DestinationError;
use crate::model::{KnownContent, LocalFacts, Record};

/// A question of [`Inspect::check`]: is this content at this path?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The path to look at.
    pub path: VaultPath,
    /// The content to look for.
    pub hash: ContentHash,
    /// The content's size in bytes, to answer without reading where that is possible.
    pub size: u64,
}

/// An answer of [`Inspect::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the content is the one that is wanted.
    pub holds: bool,
    /// How that was found out.
    pub by: CheckedBy,
}

/// How a file was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CheckedBy {
    /// Its content was read and hashed, or its size is another.
    Read,
    /// By what it says of itself.
    Metadata,
}

impl CheckedBy {
    /// The word for it in reports.
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
    /// The content that is wanted.
    Wanted,
    /// A file with this content.
    Other(KnownContent),
    /// No file.
    Nothing,
    /// Not the content that is wanted, and nobody looked what else, or nobody can tell.
    Unknown,
}

/// A recorded file that is to be replaced ([`Inspect::suppose`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supposed {
    /// Where it is.
    pub path: VaultPath,
    /// The content that is recorded.
    pub content: KnownContent,
    /// What the destination said of it then.
    pub facts: LocalFacts,
    /// The size of the content that is to come, in bytes.
    pub to_come: u64,
}

/// A file found by [`Inspect::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is, relative to the destination's root. Not a [`VaultPath`]: a destination can hold names that no vault can.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The result of [`Inspect::list`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The files, in no order.
    pub files: Vec<StoredFile>,
    /// Folders that could not be read, relative to the destination's root. What is in them is not among the files.
    pub unreadable: Vec<String>,
}

/// Questions about what is in a place. None of them changes anything.
#[async_trait]
pub trait Inspect: Describe {
    /// Whether the place holds anything at all, a folder's own bookkeeping aside.
    async fn is_empty(&self) -> Result<bool, DestinationError>;

    /// Which of these folders are there. Answers in order.
    async fn have_folders(&self, folders: Vec<VaultPath>) -> Result<Vec<bool>, DestinationError> {
        // A place without folders has them all.
        Ok(vec![!self.traits().has_folders; folders.len()])
    }

    /// The facts of these files, without reading them, in order; `None` where there is no file.
    /// Nothing at all where that is no small thing to ask.
    async fn facts(
        &self,
        paths: Vec<VaultPath>,
    ) -> Result<Option<Vec<Option<LocalFacts>>>, DestinationError> {
        let _ = paths;
        Ok(None)
    }

    /// Which of these recorded files are gone, or have an older content than the recorded one; a file that was edited has not.
    /// Answers in order, without reading contents. Nothing at all where that is no small thing to ask.
    async fn are_lost(&self, records: Vec<Record>) -> Result<Option<Vec<bool>>, DestinationError> {
        let paths = records.iter().map(|record| record.path.clone()).collect();
        let Some(found) = self.facts(paths).await? else { return Ok(None) };
        Ok(Some(records.iter().zip(&found).map(|(record, found)| is_lost(record, found.as_ref())).collect()))
    }

    /// Looks at these paths. Answers in order: for a file with another content than the wanted one, which one it has.
    ///
    /// A destination where that costs too much tells only what [`check`](Self::check) does.
    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        let checked = self.check(wanted).await?;
        Ok(checked
            .into_iter()
            .map(|checked| if checked.holds { Found::Wanted } else { Found::Unknown })
            .collect())
    }

    /// Takes note of what is recorded of files that are to be replaced, and tells, in order, for which of them nobody has to look
    /// whether they are so still, or have their new content already: they are replaced on the condition that they are. A place
    /// without such conditions has none.
    fn suppose(&self, recorded: Vec<Supposed>) -> Vec<bool> {
        vec![false; recorded.len()]
    }

    /// Whether exactly these contents are at these paths, in order, and how that was found out. What cannot be read is not
    /// there. Apart from [`look`](Self::look), because the size alone often answers it without reading.
    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError>;

    /// All files of the place, obsync's own bookkeeping left out. A folder that cannot be read is passed over.
    async fn list(&self) -> Result<Inventory, DestinationError>;

    /// Which of these files, none of which is the vault's any more, say of themselves that they were: they were kept when
    /// the vault deleted them. Answers in order; a destination whose files say nothing of themselves knows of none.
    async fn retained(&self, files: Vec<StoredFile>) -> Result<Vec<bool>, DestinationError> {
        Ok(vec![false; files.len()])
    }
}

/// Whether a file is gone, or older than it was when it was recorded.
fn is_lost(record: &Record, found: Option<&LocalFacts>) -> bool {
    match (&record.facts, found) {
        (_, None) => true,
        (Some(LocalFacts::File { modified: known, .. }), Some(LocalFacts::File { modified, .. })) => {
            modified < known
        }
        _ => false,
    }
}
