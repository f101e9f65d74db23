//! Contents that are in a place and not visible yet.

use async_trait::async_trait;
use obsync_protocol::VaultPath;

use super::describe::Describe;
use super::error::DestinationError;
use crate::model::FileMeta;

/// A file that is complete and checked but not visible yet.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Where it is to appear.
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
    /// Takes the next stretch of the content.
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), DestinationError>;

    /// Says that the content is complete and was checked.
    async fn finish(self: Box<Self>) -> Result<Staged, DestinationError>;
}

/// How contents come to a place, and stay invisible there.
#[async_trait]
pub trait Receive: Describe {
    /// Begins a file. Its writer takes no more bytes than `meta` says.
    async fn begin(&self, path: &VaultPath, meta: &FileMeta)
    -> Result<Box<dyn FileWriter>, DestinationError>;

    /// Content that an interrupted run left staged, checked against its hash; `None` when there is none.
    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, DestinationError>;

    /// Stages a copy of what is at `from`, checking it; `None` when `from` does not hold `meta.hash`. What the destination itself
    /// removes or replaces at `from` until the copy is published makes no difference to the copy.
    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, DestinationError>;

    /// Does ahead what [`apply`](super::Destination::apply) would have to do before it can make what has these [handles](Staged::handle)
    /// visible, as far as that is possible. A help, not a duty: what goes wrong is an error of `apply`.
    async fn prepare(&self, _handles: Vec<String>) {}

    /// Discards what is still staged, from this run or an earlier one, and the place where it was staged.
    async fn discard_staged(&self) -> Result<(), DestinationError>;
}
