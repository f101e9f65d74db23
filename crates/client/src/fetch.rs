//! The pull pool: fetches many files over several connections, with several requests under way on each.
//!
//! The caller feeds jobs and provides a [`Receiver`] that takes each file's content as it arrives. The pool
//! owns connections, order, retries and mix-ups. A fault of one file affects only that file: it is requested
//! again, alone, and reported as a failure after its last attempt while the others continue.

mod answer;
mod growth;
mod limit;
mod pace;
mod pool;
mod queue;
mod worker;

use std::fmt;
use std::future::Future;

use obsync_protocol::{ContentHash, Uid};
use thiserror::Error;

pub use pool::FetchPool;

use crate::error::ClientError;
use crate::session::Content;

/// The request for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The entry's uid, from the listing.
    pub uid: Uid,
    /// The expected hash of the content.
    pub hash: ContentHash,
    /// The size of the encrypted content in bytes, from the listing. If the server announces another size,
    /// this job fails before the first piece.
    pub size: u64,
}

/// Takes the contents of files as they arrive.
pub trait Receiver: Send + Sync + 'static {
    /// One file to fetch, with any data of the caller.
    type Job: Send + 'static;
    /// The result of a fetched file.
    type Output: Send + 'static;
    /// Why a content was not accepted.
    type Error: Send + 'static;

    /// The request for a job.
    fn request(&self, job: &Self::Job) -> PullRequest;

    /// Takes one content. May be called again for the same job after an error. May be dropped at any await
    /// when the run is cancelled: leave nothing half-done visible. The connection is not read while this
    /// awaits anything but [`Content::next_piece`]; wrap longer work in [`Content::keep_alive_while`].
    fn receive(
        &self,
        job: &mut Self::Job,
        content: &mut Content<'_>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// True if another attempt may succeed. A bad tag may; a full disk will not.
    fn is_worth_another_try(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }
}

/// Concurrency and attempts.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Most connections. A run starts with up to four, opened only as there is work for them, and adds more
    /// while each addition raises the rate. Trouble halves them and takes away the added ones; they come back
    /// one by one when it has passed. 10.
    pub connections: usize,
    /// Most requests under way on one connection. It begins with 16, takes more on lines with a long round
    /// trip and fewer while the server has trouble. 32.
    pub in_flight: usize,
    /// Attempts per file when connections break (two at most when its answer times out), and consecutive
    /// broken connections without a finished file, per connection; the run fails when the last connection
    /// reaches that number. 5.
    pub attempts: u32,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { connections: 10, in_flight: 32, attempts: 5 }
    }
}

/// The result of a job.
pub struct FetchResult<R: Receiver> {
    /// The job, back from the pool.
    pub job: R::Job,
    /// The receiver's output, or the failure.
    pub outcome: Result<R::Output, FetchFailure<R::Error>>,
}

impl<R: Receiver> fmt::Debug for FetchResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchResult").field("fetched", &self.outcome.is_ok()).finish_non_exhaustive()
    }
}

/// Why a file was not fetched.
#[derive(Clone, Debug, Error)]
pub enum FetchFailure<E> {
    /// The server does not have it (any more).
    #[error(
        "the server does not have this content (any more); a newer state of the file may come with the next pull"
    )]
    Gone,
    /// The server refused it.
    #[error("the server refuses to give this content: {0}")]
    Refused(String),
    /// The receiver refused it.
    #[error("{0}")]
    Receiver(E),
    /// The transfer failed in all attempts that the options allow.
    #[error(transparent)]
    Transport(ClientError),
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchSummary {
    /// Connections used, the given session included.
    pub connections: u64,
    /// Connections that replaced a lost one.
    pub reconnects: u64,
    /// Mixed-up answers, after which a connection continued with one request at a time.
    pub serial_fallbacks: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Bytes of encrypted content received, discarded ones included.
    pub bytes: u64,
}
