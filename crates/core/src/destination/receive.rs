//! Contents that are stored in a place but not visible yet.

use async_trait::async_trait;
use obsync_protocol::VaultPath;

use super::describe::Describe;
use super::error::DestinationError;
use crate::model::FileMeta;

/// A file that is complete and checked but not visible yet.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The path to publish it at.
    pub path: VaultPath,
    /// Its hash, size, times and version.
    pub meta: FileMeta,
    /// The destination's own name for it.
    pub handle: String,
}

/// Takes one file's content, in order, and stages it.
///
/// Dropping a writer without [`finish`](FileWriter::finish) discards what it took.
#[async_trait]
pub trait FileWriter: Send {
    /// Takes the next part of the content.
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), DestinationError>;

    /// Marks the content as complete and checked.
    async fn finish(self: Box<Self>) -> Result<Staged, DestinationError>;
}

/// Receives contents into a place, where they stay invisible.
#[async_trait]
pub trait Receive: Describe {
    /// Starts a file. Its writer accepts no more bytes than `meta` says.
    async fn begin(&self, path: &VaultPath, meta: &FileMeta)
    -> Result<Box<dyn FileWriter>, DestinationError>;

    /// Content that an interrupted run left staged, checked against its hash; `None` if there is none.
    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, DestinationError>;

    /// Stages a copy of the file at `from` and checks it; `None` if `from` does not have `meta.hash`. Changes
    /// that the destination itself makes at `from` until the copy is published do not affect the copy.
    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, DestinationError>;

    /// Prepares [`apply`](super::Destination::apply) for the content with these [handles](Staged::handle), as
    /// far as possible: does work ahead that it would have to do. Optional; errors are reported by `apply`.
    async fn prepare(&self, _handles: Vec<String>) {}

    /// Discards all staged content, of this run or an earlier one, and the staging area.
    async fn discard_staged(&self) -> Result<(), DestinationError>;
}
