//! The upload pool: many changes over several connections, one at a time on each, and one at a time for each path.
//!
//! The caller feeds jobs in their order and brings an [`UploadSource`] that opens contents. Jobs that name a common path are
//! done in their order; whatever else has to come before something else (folders before what lies in them, say) is the
//! caller's order of feeding and waiting.
//!
//! A change that certainly was not recorded is sent again; one that may have been is not: its result is
//! [`PushFailure::Unknown`], and the history of its path has to say.

mod order;
mod pool;
mod worker;

use std::fmt;
use std::future::Future;

use obsync_protocol::VaultPath;
use thiserror::Error;
use tokio::io::AsyncRead;

pub use pool::UploadPool;

use crate::session::{PushFailure, PushFile, Pushed, Renamed};

/// What is sent for one job.
#[derive(Clone, Debug)]
pub enum Upload<'a> {
    /// A folder.
    Folder(&'a VaultPath),
    /// The deletion of a file or folder.
    Deletion {
        /// Where it was.
        path: &'a VaultPath,
        /// Whether it is a folder.
        folder: bool,
    },
    /// A file of so many bytes. With [`PushFile::related`] it is a rename: the deletion of the old path follows it.
    File(PushFile<'a>, u64),
}

impl<'a> Upload<'a> {
    /// The paths that it changes.
    fn paths(&self) -> [Option<&'a VaultPath>; 2] {
        match self {
            Self::Folder(path) | Self::Deletion { path, .. } => [Some(path), None],
            Self::File(file, _) => [Some(file.path), file.related],
        }
    }
}

/// Knows what is to be sent.
pub trait UploadSource: Send + Sync + 'static {
    /// One change, with whatever the caller wants to know of it later.
    type Job: Send + Sync + 'static;
    /// A file's content.
    type Content: AsyncRead + Unpin + Send;
    /// Why a content cannot be read.
    type Error: Send + 'static;

    /// What to send.
    fn upload<'a>(&self, job: &'a Self::Job) -> Upload<'a>;

    /// Asked for each attempt, right before the change is sent: an error takes it back.
    fn check(&self, job: &Self::Job) -> Result<(), Self::Error> {
        let _ = job;
        Ok(())
    }

    /// While a file is sent: so many bytes of its content were sent in this attempt.
    fn sent(&self, job: &Self::Job, bytes: u64) {
        let _ = (job, bytes);
    }

    /// Opens the content of a file. Called for each attempt, before the server is asked whether it has the content already.
    fn open(&self, job: &Self::Job) -> impl Future<Output = Result<Self::Content, Self::Error>> + Send;
}

/// How much is done at once, and how often.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    /// At most this many connections; they are opened only as there is work for them. Each sends one change after the
    /// other. 8.
    pub connections: usize,
    /// How often a change is sent that certainly was not recorded, and how many connections may break in a row without a
    /// single change in between. 5.
    pub attempts: u32,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { connections: 8, attempts: 5 }
    }
}

/// What became of a job.
pub struct UploadResult<S: UploadSource> {
    /// The job, back from the pool.
    pub job: S::Job,
    /// What the server made of it.
    pub outcome: Result<Uploaded, UploadFailure<S::Error>>,
}

/// A change that the server took.
#[derive(Clone, Debug)]
pub enum Uploaded {
    /// A folder, a deletion or a file.
    Change(Pushed),
    /// A file with another path than before.
    Rename(Renamed),
}

impl<S: UploadSource> fmt::Debug for UploadResult<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadResult").field("taken", &self.outcome.is_ok()).finish_non_exhaustive()
    }
}

/// Why a change was not taken.
#[derive(Clone, Debug, Error)]
pub enum UploadFailure<E> {
    /// The source could not open its content.
    #[error("{0}")]
    Source(E),
    /// It was not answered by `ok`.
    #[error(transparent)]
    Push(PushFailure),
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadSummary {
    /// Connections used, the given session included.
    pub connections: u64,
    /// How many of them took the place of one that was lost.
    pub reconnects: u64,
    /// Changes that the server took.
    pub taken: u64,
    /// Bytes of plaintext of the files among them, whether their contents were sent or known.
    pub bytes: u64,
}
