//! One file to make visible or to remove, the expected content of its path, and the result.

use obsync_protocol::VaultPath;

use super::error::DestinationError;
use super::receive::Staged;
use crate::model::{FileMeta, KnownContent, LocalFacts, Record, RecordKind};

/// One file to make visible with [`Destination::apply`](super::Destination::apply).
#[derive(Debug)]
pub struct Publication {
    /// The content to make visible.
    pub content: PublicationContent,
    /// The content that may be replaced. Any other file at the path is left alone
    /// ([`DestinationError::Changed`]), and the engine decides how to proceed. If the path already has the
    /// published content, the file counts as published.
    pub expect: Expect,
}

impl Publication {
    /// The path to publish.
    pub fn path(&self) -> &VaultPath {
        self.content.path()
    }
}

/// The expected content of a publication's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// A file with this content: obsync put it there last, or the vault had it there before.
    Content(KnownContent),
    /// This version, which the destination [kept beside](super::Destination::keep_beside) already, by the
    /// destination's own name for it.
    Version(String),
}

impl From<Option<KnownContent>> for Expect {
    fn from(replaces: Option<KnownContent>) -> Self {
        replaces.map_or(Expect::Absent, Expect::Content)
    }
}

impl Expect {
    /// The content that may be replaced, if any.
    pub fn content(&self) -> Option<KnownContent> {
        match self {
            Expect::Content(content) => Some(*content),
            Expect::Absent | Expect::Version(_) => None,
        }
    }
}

/// A file that was kept under another name, so that its place can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBeside {
    /// Its new name, or that of its copy.
    pub kept_as: VaultPath,
    /// The expectation for the publication that takes its place.
    pub expect: Expect,
}

/// Source of the content of a [`Publication`].
#[derive(Debug)]
pub enum PublicationContent {
    /// A staged file, moved into place.
    Staged(Staged),
    /// A copy of a staged file, which stays staged for further paths: for all paths but the last with this
    /// content. The first is the path that it was staged for. A copy that was not published is handed back as
    /// a staged file of its own.
    CopyOfStaged(Staged),
    /// The destination already has this content at this path; only its times have to be set.
    InPlace {
        /// The path in question.
        path: VaultPath,
        /// Its hash, size, times and version.
        meta: FileMeta,
    },
}

impl PublicationContent {
    /// The staged file, if it is not in place.
    pub fn staged(&self) -> Option<&Staged> {
        match self {
            PublicationContent::Staged(staged) | PublicationContent::CopyOfStaged(staged) => Some(staged),
            PublicationContent::InPlace { .. } => None,
        }
    }

    /// Its path, present or future.
    pub fn path(&self) -> &VaultPath {
        match self {
            PublicationContent::Staged(staged) | PublicationContent::CopyOfStaged(staged) => &staged.path,
            PublicationContent::InPlace { path, .. } => path,
        }
    }

    /// Its hash, size, times and version.
    pub fn meta(&self) -> &FileMeta {
        match self {
            PublicationContent::Staged(staged) | PublicationContent::CopyOfStaged(staged) => &staged.meta,
            PublicationContent::InPlace { meta, .. } => meta,
        }
    }

    /// Its record once it is published.
    pub(crate) fn record(&self) -> Record {
        Record::new(self.path().clone(), RecordKind::File(self.meta().clone()))
    }
}

/// Result of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The file's facts now, unless it changed again at once, or they are expensive to get.
    pub facts: Option<LocalFacts>,
}

/// A publication that did not succeed; the staged content is handed back for another attempt.
#[derive(Debug)]
pub struct PublishFailure {
    /// The publication that failed.
    pub publication: Box<Publication>,
    /// The reason.
    pub error: DestinationError,
}

/// Result of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The file is gone.
    Removed,
    /// There was nothing at that path.
    Missing,
    /// The file does not have the content that obsync wrote; it was left alone.
    Kept,
    /// The destination is configured to keep files that the vault deletes.
    Retained,
}

/// A file to remove, with the content that obsync wrote there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removable {
    /// The file's path.
    pub path: VaultPath,
    /// Its content as obsync wrote it; a file with any other content is kept.
    pub content: KnownContent,
}
