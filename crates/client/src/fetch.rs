//! The pull pool: the contents of many files over several connections, several requests under way on each.
//!
//! The caller feeds jobs and brings a [`Receiver`] that takes each file's content as it arrives; the pool owns
//! connections, order, retries and mix-ups. What one file does wrong costs that file only: it is asked for
//! again, alone, and after its last attempt reported as a failure while the others go on.

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

/// What is asked of the server for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// The entry's uid, as the listing gave it.
    pub uid: Uid,
    /// The hash that the content must have.
    pub hash: ContentHash,
    /// The size of the encrypted content in bytes, as the listing gave it. An answer that announces another one is
    /// refused before its first piece, as this job's failure alone.
    pub size: u64,
}

/// Takes the contents of files as they arrive.
pub trait Receiver: Send + Sync + 'static {
    /// One file to be fetched, with whatever the caller wants to know of it later.
    type Job: Send + 'static;
    /// What a fetched file becomes.
    type Output: Send + 'static;
    /// Why a content was not taken.
    type Error: Send + 'static;

    /// What to ask the server for.
    fn request(&self, job: &Self::Job) -> PullRequest;

    /// Takes one content. May be called again for the same job after an error, and may be dropped at any await when
    /// the run is cancelled: nothing half-done may be left visible. Nobody reads the connection while this does
    /// something else than awaiting [`Content::next_piece`]; what may take longer than a moment goes through
    /// [`Content::keep_alive_while`].
    fn receive(
        &self,
        job: &mut Self::Job,
        content: &mut Content<'_>,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Whether the content may be better the next time. A bad tag may; a full disk will not.
    fn is_worth_another_try(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }
}

/// How much is done at once, and how often.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// At most this many connections. A run starts with up to four, opened only as there is work for them, and adds more
    /// while each one more raises the rate. Trouble halves them and takes away what was added; they come back one by one
    /// when it has passed. 10.
    pub connections: usize,
    /// At most this many requests under way on one connection. It begins with 16, takes more where the line is long and
    /// fewer while the server has trouble. 32.
    pub in_flight: usize,
    /// How often a file is asked for when its connections break (twice at most when its answer does not come in time), and how many
    /// connections may break in a row without a single file in between, in the place of one; the run fails when that
    /// is so of the last one. 5.
    pub attempts: u32,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self { connections: 10, in_flight: 32, attempts: 5 }
    }
}

/// What became of a job.
pub struct FetchResult<R: Receiver> {
    /// The job, back from the pool.
    pub job: R::Job,
    /// What the receiver made of its content, or why there is none.
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
    /// The server no longer has it, or never had.
    #[error(
        "the server does not have this content (any more); a newer state of the file may come with the next pull"
    )]
    Gone,
    /// The server will not give it.
    #[error("the server refuses to give this content: {0}")]
    Refused(String),
    /// The receiver did not take it.
    #[error("{0}")]
    Receiver(E),
    /// It could not be brought over, in as many attempts as the options allow.
    #[error(transparent)]
    Transport(ClientError),
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchSummary {
    /// Connections used, the given session included.
    pub connections: u64,
    /// How many of them took the place of one that was lost.
    pub reconnects: u64,
    /// How often answers were mixed up, so that a connection went on with one request at a time.
    pub serial_fallbacks: u64,
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Bytes of encrypted content received, discarded ones included.
    pub bytes: u64,
}
