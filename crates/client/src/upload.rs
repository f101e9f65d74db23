//! The upload pool: many changes over several connections, one at a time on each, and one at a time for each
//! path.
//!
//! The caller feeds jobs in order and provides an [`UploadSource`] that opens contents. Jobs that share a
//! path run in order. Any other order (folders before their contents, for example) is the caller's job: it
//! feeds and waits accordingly.
//!
//! A change that certainly was not recorded is sent again. One that may have been is not: its result is
//! [`PushFailure::Unknown`], and the history of its path has to tell.

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

/// The change that a job sends.
#[derive(Clone, Debug)]
pub enum Upload<'a> {
    /// A folder.
    Folder(&'a VaultPath),
    /// The deletion of a file or folder.
    Deletion {
        /// Its path.
        path: &'a VaultPath,
        /// It is a folder.
        folder: bool,
    },
    /// A file of this many bytes. With [`PushFile::related`] it is a rename: the deletion of the old path
    /// follows it.
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

/// Provides the changes and their contents.
pub trait UploadSource: Send + Sync + 'static {
    /// One change, with any data of the caller.
    type Job: Send + Sync + 'static;
    /// A file's content.
    type Content: AsyncRead + Unpin + Send;
    /// Why a content cannot be read.
    type Error: Send + 'static;

    /// The change of a job.
    fn upload<'a>(&self, job: &'a Self::Job) -> Upload<'a>;

    /// Called for each attempt, right before the change is sent; an error withdraws it.
    fn check(&self, job: &Self::Job) -> Result<(), Self::Error> {
        let _ = job;
        Ok(())
    }

    /// Called while a file is sent, with the number of bytes of its content that this attempt has sent so
    /// far.
    fn sent(&self, job: &Self::Job, bytes: u64) {
        let _ = (job, bytes);
    }

    /// Opens the content of a file. Called for each attempt, before the server says whether it has the
    /// content already.
    fn open(&self, job: &Self::Job) -> impl Future<Output = Result<Self::Content, Self::Error>> + Send;
}

/// Concurrency and attempts.
#[derive(Clone, Debug)]
pub struct UploadOptions {
    /// Most connections; they are opened only as there is work for them. Each sends one change after the
    /// other. 8.
    pub connections: usize,
    /// Attempts for a change that certainly was not recorded, and consecutive broken connections without a
    /// single change in between. 5.
    pub attempts: u32,
}

impl Default for UploadOptions {
    fn default() -> Self {
        Self { connections: 8, attempts: 5 }
    }
}

/// The result of a job.
pub struct UploadResult<S: UploadSource> {
    /// The job, back from the pool.
    pub job: S::Job,
    /// The server's result, or the failure.
    pub outcome: Result<Uploaded, UploadFailure<S::Error>>,
}

/// A change that the server accepted.
#[derive(Clone, Debug)]
pub enum Uploaded {
    /// A folder, a deletion or a file.
    Change(Pushed),
    /// A file with a new path.
    Rename(Renamed),
}

impl<S: UploadSource> fmt::Debug for UploadResult<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadResult").field("taken", &self.outcome.is_ok()).finish_non_exhaustive()
    }
}

/// Why a change was not accepted.
#[derive(Clone, Debug, Error)]
pub enum UploadFailure<E> {
    /// The source could not open its content.
    #[error("{0}")]
    Source(E),
    /// It was not answered with `ok`.
    #[error(transparent)]
    Push(PushFailure),
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadSummary {
    /// Connections used, the given session included.
    pub connections: u64,
    /// Connections that replaced a lost one.
    pub reconnects: u64,
    /// Changes that the server accepted.
    pub taken: u64,
    /// Bytes of plaintext of the files among them, whether their contents were sent or already known.
    pub bytes: u64,
}
