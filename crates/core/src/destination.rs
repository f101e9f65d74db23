//! Where a vault's files go: the trait that every destination implements.
//!
//! A file gets there in two steps. It is *staged* first: written completely, checked by the engine, and not
//! visible under its name. A batch of staged files is then *published*: each becomes visible atomically, and when
//! [`Destination::apply`] returns the whole batch is durable, so that the state may claim it. In a folder staging is a
//! file in a hidden directory of the same file system and publishing a rename; in an object store it is an
//! upload that is not completed yet.
//!
//! Nothing here trusts the paths that it is given beyond what [`VaultPath`] guarantees: a store must stay inside its
//! own root whatever symbolic links lie there.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use obsync_protocol::{ContentHash, NameFolding, RepositoryPart, VaultPath};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::change::{Change, ChangeOutcome};
use crate::identity::{Marker, MarkerFound};
use crate::model::{FileMeta, KnownContent, LocalFacts, Record, RecordKind};
use crate::problem::ProblemCode;
use crate::repositories::repository_parts_among;
use crate::scan::{LocalTree, OpenFile, ScanInput};

/// A file that is complete and checked but not visible yet.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Where it is to appear.
    pub path: VaultPath,
    /// What it is to carry.
    pub meta: FileMeta,
    /// The store's own name for it.
    pub handle: String,
}

/// One file to be made visible by [`Destination::apply`].
#[derive(Debug)]
pub struct Publication {
    /// What is made visible.
    pub content: PublicationContent,
    /// What may be replaced. Anything else that is found there is left alone ([`StoreError::Changed`]): the engine decides
    /// what becomes of it. The very content that is published counts as published.
    pub expect: Expect,
}

/// What is expected at the path of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// A file with this content: obsync put it there last, or the vault had it there before.
    Content(KnownContent),
    /// This version, which the store [kept beside](Destination::keep_beside) already, by the store's own name for it.
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
    /// What the publication that takes its place expects.
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
    /// The store holds this very content at this path already; only its times are to be set.
    InPlace {
        /// The path in question.
        path: VaultPath,
        /// What it carries.
        meta: FileMeta,
    },
}

impl Publication {
    /// The path that is published.
    pub fn path(&self) -> &VaultPath {
        self.content.path()
    }
}

impl PublicationContent {
    /// What is staged, if it is not in place.
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

    /// What it carries.
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
    /// What the store says of the file now, unless it was changed at once again, or nobody can tell cheaply.
    pub facts: Option<LocalFacts>,
}

/// A publication that did not succeed; the staged content is handed back for another attempt.
#[derive(Debug)]
pub struct PublishFailure {
    /// What was to be published.
    pub publication: Box<Publication>,
    /// Why it was not.
    pub error: StoreError,
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
    /// The store is told to keep what the vault deletes.
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

/// A question of [`Destination::check`]: is this content at this path?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The path to look at.
    pub path: VaultPath,
    /// The content to look for.
    pub hash: ContentHash,
    /// The content's size in bytes, to answer without reading where that is possible.
    pub size: u64,
}

/// An answer of [`Destination::check`].
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

/// An answer of [`Destination::look`].
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

/// A marker that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// The store's name for its bytes, if it has such a thing.
    pub tag: Option<String>,
}

/// A file found by [`Destination::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Where it is, relative to the store's root. Not a [`VaultPath`]: a store can hold names that no vault can.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What [`Destination::list`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The files, in no order.
    pub files: Vec<StoredFile>,
    /// Folders that could not be read, relative to the store's root. What is in them is not among the files.
    pub unreadable: Vec<String>,
}

/// How much is published in one go at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    /// How many files.
    pub files: usize,
    /// How many bytes of content. A batch is closed by the file that reaches it.
    pub bytes: u64,
    /// How many of its files go to one [`Destination::apply`], while those that follow are announced to the state. Fewer
    /// than `files` where that takes round trips.
    pub portion: usize,
}

impl Default for BatchLimit {
    /// As suits a file system, where each call costs two flushes however large it is.
    fn default() -> Self {
        BatchLimit { files: 4096, bytes: 256 << 20, portion: 4096 }
    }
}

/// What a place can do, and how it is asked best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceTraits {
    /// Folders are something of their own, which can be empty and have to be removed.
    pub has_folders: bool,
    /// The place keeps what the vault deletes, because its owner says so.
    pub keeps_deleted: bool,
    /// How many files to look for and to copy at a time, before they are staged. Many where each costs a round trip.
    pub at_a_time: usize,
    /// How much to publish in one go.
    pub batch_limit: BatchLimit,
    /// How many recorded files each run looks at, to see whether they are as they were. One where that costs a request.
    pub sample: usize,
}

impl Default for PlaceTraits {
    /// As suits a file system.
    fn default() -> Self {
        PlaceTraits {
            has_folders: true,
            keeps_deleted: false,
            at_a_time: 1,
            batch_limit: BatchLimit::default(),
            sample: 8,
        }
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

/// Takes one file's content, in order, and stages it.
///
/// Dropping a writer without [`finish`](FileWriter::finish) discards what it took.
#[async_trait]
pub trait FileWriter: Send {
    /// Takes the next stretch of the content.
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError>;

    /// Says that the content is complete and was checked.
    async fn finish(self: Box<Self>) -> Result<Staged, StoreError>;
}

/// A place for a vault's files. See the module's text for the two steps of staging and publishing.
#[async_trait]
pub trait Destination: Send + Sync + 'static {
    /// The place as a person would name it, for messages.
    fn location(&self) -> String;

    /// What the place can do, and how it is asked best.
    fn traits(&self) -> PlaceTraits {
        PlaceTraits::default()
    }

    /// Which names are one name here.
    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, StoreError>;

    /// Which of these folders are there. Answers in order.
    async fn have_folders(&self, folders: Vec<VaultPath>) -> Result<Vec<bool>, StoreError> {
        // A place without folders has them all.
        Ok(vec![!self.traits().has_folders; folders.len()])
    }

    /// Whether the store could have a file or folder of this path, as far as that can be told without trying.
    fn admits(&self, path: &VaultPath) -> Result<(), StoreError> {
        let _ = path;
        Ok(())
    }

    /// For each of these folders (`None`: the top of the place), what there is directly in it that is a part of a bare git
    /// repository. In order; a folder that is not there has none.
    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, StoreError> {
        let files = self.list().await?.files;
        Ok(repository_parts_among(files.iter().map(|file| file.path.as_str()), &folders))
    }

    /// Whether the place holds anything at all, a folder's own bookkeeping aside.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// What is found where the place has its marker. `known` is the tag that was noted of it; a store that knows tags need not
    /// read a marker that still has it. To be asked after [`is_empty`](Self::is_empty), which may have seen it on the way.
    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, StoreError> {
        let _ = known;
        Ok(MarkerFound::Impossible)
    }

    /// Writes the marker, durably, in place of the one before it, and tells the tag that it has now, if the store has such a
    /// thing. `None`: the place cannot keep one.
    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, StoreError> {
        let _ = marker;
        Ok(None)
    }

    /// Removes the marker, so that the destination belongs to no state any more. `false`: there is none.
    async fn unmark(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// What the store says of these files without reading them, in order; `None` for what is no file, or is not there.
    /// Nothing at all where that is no small thing to ask.
    async fn facts(&self, paths: Vec<VaultPath>) -> Result<Option<Vec<Option<LocalFacts>>>, StoreError> {
        let _ = paths;
        Ok(None)
    }

    /// Which of these recorded files are gone, or have an older content than the recorded one; a file that was edited has not.
    /// Answers in order, without reading contents. Nothing at all where that is no small thing to ask.
    async fn are_lost(&self, records: Vec<Record>) -> Result<Option<Vec<bool>>, StoreError> {
        let paths = records.iter().map(|record| record.path.clone()).collect();
        let Some(found) = self.facts(paths).await? else { return Ok(None) };
        Ok(Some(records.iter().zip(&found).map(|(record, found)| is_lost(record, found.as_ref())).collect()))
    }

    /// What the place holds, compared with what is recorded. `None`: it cannot be scanned.
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, StoreError> {
        let _ = input;
        Ok(None)
    }

    /// The same for a few paths: nothing is said of others but of folders on the way to them. The input has the records of
    /// these paths and of the folders that they lie in. `None`: everything is to be scanned.
    async fn scan_few(
        &self,
        input: ScanInput,
        paths: Arc<HashSet<VaultPath>>,
    ) -> Result<Option<LocalTree>, StoreError> {
        let _ = (input, paths);
        Ok(None)
    }

    /// Opens a file to be sent. The caller compares what it reads with what it expects.
    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, StoreError> {
        Err(StoreError::Unavailable {
            location: self.location(),
            reason: format!("{path} cannot be read from there to be sent"),
            code: ProblemCode::Destination,
        })
    }

    /// What is at these paths, in order: for a file that has not the content that is wanted, which one it has.
    ///
    /// A store where that costs too much tells only what [`check`](Self::check) does.
    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, StoreError> {
        let checked = self.check(wanted).await?;
        Ok(checked
            .into_iter()
            .map(|checked| if checked.holds { Found::Wanted } else { Found::Unknown })
            .collect())
    }

    /// Whether exactly these contents are at these paths, in order, and how that was found out. What cannot be read is not
    /// there. Apart from [`look`](Self::look), because the size alone often answers it without reading.
    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, StoreError>;

    /// Bytes of memory that a content of `size` bytes takes at most from its first piece until it is published. Not among
    /// the [`traits`](Self::traits): the parts of a large upload grow with its size.
    fn memory_for(&self, size: u64) -> u64 {
        /// A piece as it came, and decrypted.
        const TWO_PIECES: u64 = 4 << 20;
        size.min(TWO_PIECES)
    }

    /// Bytes that can be written before the place is full, those counted that earlier runs left staged there. `None` where
    /// nobody can tell.
    async fn free_space(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Begins a file. Its writer takes no more bytes than `meta` says.
    async fn begin(&self, path: &VaultPath, meta: &FileMeta) -> Result<Box<dyn FileWriter>, StoreError>;

    /// Content that an interrupted run left staged, checked against its hash; `None` when there is none.
    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, StoreError>;

    /// Stages a copy of what is at `from`, checking it; `None` when `from` does not hold `meta.hash`. What the store itself
    /// removes or replaces at `from` until the copy is published makes no difference to the copy.
    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, StoreError>;

    /// Does ahead what [`apply`](Self::apply) would have to do before it can make what has these [handles](Staged::handle)
    /// visible, as far as that is possible. A help, not a duty: what goes wrong is an error of `apply`.
    async fn prepare(&self, _handles: Vec<String>) {}

    /// Makes changes. Answers in order, so that each change has one, of its own kind. A rejected change does not stop the
    /// others, unless its error [is fatal](StoreError::is_fatal): then the rest of its kind fails with it.
    ///
    /// - A put makes its file visible atomically, parents made as needed. The puts that stand together in `changes` are
    ///   durable when this returns.
    /// - Removals and folders are durable after [`flush`](Self::flush): one flush is enough for several calls.
    /// - Once `stop` is cancelled, a store that needs long for a batch of puts begins no more of them, and gives up on those
    ///   that do not end soon: both fail with [`StoreError::Stopped`].
    async fn apply(&self, changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome>;

    /// Moves whatever is at `path` to a free name beside it that says "Conflicted copy", and tells that name.
    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, StoreError>;

    /// Keeps the file at `path` under a free name beside it that says "Conflicted copy", so that its place can be taken. A
    /// store that can do so leaves it in its place until then.
    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, StoreError> {
        let kept_as = self.set_aside(path).await?;
        Ok(KeptBeside { kept_as, expect: Expect::Absent })
    }

    /// Gives a file that was [kept beside](Self::keep_beside) its name back, because nothing came in its place. `false`: it
    /// stays under its new name.
    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        let _ = (path, kept);
        false
    }

    /// Whether a run that was killed left files that it had taken out of their places, to compare them.
    async fn has_taken(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Gives those files their names back that are not what that run expected: somebody had saved them in that moment. `known`
    /// are the paths that may be theirs, with the content that was to come there. Tells the paths of those that have another
    /// name now, where they are known, and these names.
    async fn return_taken(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, StoreError> {
        let _ = known;
        Ok(Vec::new())
    }

    /// Makes removals and folders done so far durable.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Discards what is still staged, from this run or an earlier one, and the place where it was staged.
    async fn discard_staged(&self) -> Result<(), StoreError>;

    /// Says that the run is over, however it ended: a store lets go of what no later run could
    /// [recover](Self::recover), and waits (not long) for what it does in the background.
    async fn end_run(&self) {}

    /// What the store found out about the place that people should know, as sentences for the report.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// All files of the place, obsync's own bookkeeping left out. A folder that cannot be read is passed over.
    async fn list(&self) -> Result<Inventory, StoreError>;

    /// Which of these files, none of which is the vault's any more, say of themselves that they were: they were kept when
    /// the vault deleted them. Answers in order; a store whose files say nothing of themselves knows of none.
    async fn retained(&self, files: Vec<StoredFile>) -> Result<Vec<bool>, StoreError> {
        Ok(vec![false; files.len()])
    }
}

/// What can go wrong in a store. Each is a sentence; what to do is in it where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A segment or the whole path is longer than the store can name.
    #[error("the name is too long for {location}; shorten it in Obsidian")]
    NameTooLong {
        /// The path in question.
        path: String,
        /// The store.
        location: String,
    },
    /// The store cannot have a name like this (for reasons other than its length).
    #[error("{location} cannot have a file named {path:?} ({reason}); rename it in Obsidian")]
    NameRefused {
        /// The path in question.
        path: String,
        /// The store.
        location: String,
        /// Why.
        reason: String,
    },
    /// A file is where a folder must be, or a folder where a file must be.
    #[error("{:?} is in the way of {path:?}; move it away", occupant.as_str())]
    InTheWay {
        /// The path that could not be made.
        path: String,
        /// What is in its way.
        occupant: VaultPath,
    },
    /// Something else than expected is at the path of a publication. It was left alone.
    #[error("{path:?} in {location} was changed by another program meanwhile")]
    Changed {
        /// The path in question.
        path: String,
        /// The store.
        location: String,
        /// The content of the file that is there, where it was read: only one that could make a difference is.
        found: Option<KnownContent>,
    },
    /// A symbolic link leads out of the destination.
    #[error(
        "{path:?} leads out of {location} through a symbolic link, which obsync does not follow; remove the link"
    )]
    LeadsOut {
        /// The path in question.
        path: String,
        /// The store.
        location: String,
    },
    /// What was staged for this path is of no use any more, and cannot be had from the place itself: the content is to be
    /// downloaded. A store says so at most once for each path in a run.
    #[error("the content of {path:?} must come from the vault, because {location} refuses it ({reason})")]
    ContentNeeded {
        /// The path in question.
        path: String,
        /// The store.
        location: String,
        /// The place's own words.
        reason: String,
    },
    /// No right to write or read.
    #[error("no permission to {action} {path:?} in {location}; check its owner and mode")]
    PermissionDenied {
        /// What was tried.
        action: &'static str,
        /// The path in question.
        path: String,
        /// The store.
        location: String,
    },
    /// No space or quota is left. Fatal.
    #[error(
        "{location} is full; free some space and run the same command again, it goes on where it stopped"
    )]
    Full {
        /// The store.
        location: String,
    },
    /// Another process works on the same destination. Fatal.
    #[error("another obsync is working on {location}; wait for it to end, or stop it")]
    Locked {
        /// The store.
        location: String,
    },
    /// The run was told to stop before this was done, or was known to be done. Fatal, but nothing is wrong.
    #[error("the run was told to stop before everything was in {location}; the next one goes on there")]
    Stopped {
        /// The store.
        location: String,
    },
    /// The store as a whole cannot be used. Fatal.
    #[error("{location} cannot be used: {reason}")]
    Unavailable {
        /// The store.
        location: String,
        /// What is wrong and what to do.
        reason: String,
        /// The same for scripts.
        code: ProblemCode,
    },
    /// Anything else the system says about one path.
    #[error("cannot {action} {path:?} in {location}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path in question.
        path: String,
        /// The store.
        location: String,
        /// The system's word.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether going on with other files is pointless.
    pub fn is_fatal(&self) -> bool {
        matches!(
            self,
            StoreError::Full { .. }
                | StoreError::Locked { .. }
                | StoreError::Stopped { .. }
                | StoreError::Unavailable { .. }
        )
    }
}
