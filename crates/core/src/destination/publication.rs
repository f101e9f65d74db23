//! One file that is to be made visible, or removed, what is expected at its path, and how that went.

use obsync_protocol::VaultPath;

use super::error::DestinationError;
use super::receive::Staged;
use crate::model::{FileMeta, KnownContent, LocalFacts, Record, RecordKind};

/// One file to be made visible by [`Destination::apply`](super::Destination::apply).
#[derive(Debug)]
pub struct Publication {
    /// The content that is made visible.
    pub content: PublicationContent,
    /// The content that may be replaced. Anything else that is found there is left alone ([`DestinationError::Changed`]): the engine decides
    /// what becomes of it. The very content that is published counts as published.
    pub expect: Expect,
}

impl Publication {
    /// The path that is published.
    pub fn path(&self) -> &VaultPath {
        self.content.path()
    }
}

/// The expected occupant of the path of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// A file with this content: obsync put it there last, or the vault had it there before.
    Content(KnownContent),
    /// This version, which the destination [kept beside](super::Destination::keep_beside) already, by the destination's own name for it.
    Version(String),
}

impl From<Option<KnownContent>> for Expect {
    fn from(replaces: Option<KnownContent>) -> Self {
        replaces.map_or(Expect::Absent, Expect::Content)
    }
}

impl Expect {
    /// The content that may be replaced, if one may.
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
    /// The name that it has now, or that its copy has.
    pub kept_as: VaultPath,
    /// The expectation of the publication that takes its place.
    pub expect: Expect,
}

/// Where the content of a [`Publication`] comes from.
#[derive(Debug)]
pub enum PublicationContent {
    /// A staged file takes the place of whatever is there.
    Staged(Staged),
    /// A copy of a staged file does, and the file stays staged for further paths: all but the last that want its content. The
    /// first is the path that it was staged for. A copy that was not published is handed back as a staged file of its own.
    CopyOfStaged(Staged),
    /// The destination holds this very content at this path already; only its times are to be set.
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

    /// Where it is, or is to be.
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

    /// The record that stands for it once it is published.
    pub(crate) fn record(&self) -> Record {
        Record::new(self.path().clone(), RecordKind::File(self.meta().clone()))
    }
}

/// How a publication went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The file's facts now, unless it was changed at once again, or nobody can tell cheaply.
    pub facts: Option<LocalFacts>,
}

/// A publication that did not succeed; the staged content is handed back for another attempt.
#[derive(Debug)]
pub struct PublishFailure {
    /// The publication that failed.
    pub publication: Box<Publication>,
    /// Why it was not.
    pub error: DestinationError,
}

/// How a removal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The file is gone.
    Removed,
    /// There was nothing at that path.
    Missing,
    /// The file there is not what obsync wrote; it was left alone.
    Kept,
    /// The destination is told to keep what the vault deletes.
    Retained,
}

/// A file to be removed, with the content that obsync wrote there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removable {
    /// The file's path.
    pub path: VaultPath,
    /// Its content as obsync wrote it; a file with any other content is kept.
    pub content: KnownContent,
}
