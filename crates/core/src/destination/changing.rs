//! The trait that changes a destination.

use async_trait::async_trait;
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use super::change::{Change, ChangeOutcome};
use super::describe::Describe;
use super::error::DestinationError;
use super::inspect::Inspect;
use super::naming::Naming;
use super::publication::{Expect, KeptBeside};
use super::receive::Receive;
use super::scan::Scan;
use crate::model::KnownContent;

/// A place for a vault's files.
///
/// A file gets there in two steps. It is *staged* first: written completely, checked by the engine, and not
/// visible under its name. A batch of staged files is then *published*: each becomes visible atomically, and when
/// [`apply`](Destination::apply) returns the whole batch is durable, so that the state may claim it. In a folder staging is a
/// file in a hidden directory of the same file system and publishing a rename; in an object store it is an
/// upload that is not completed yet.
#[async_trait]
pub trait Destination: Describe + Naming + Inspect + Scan + Receive {
    /// Makes changes. Answers in order, so that each change has one, of its own kind. A rejected change does not stop the
    /// others, unless its error [is fatal](DestinationError::is_fatal): then the rest of its kind fails with it.
    ///
    /// - A put makes its file visible atomically, parents made as needed. The puts that stand together in `changes` are
    ///   durable when this returns.
    /// - Removals and folders are durable after [`flush`](Self::flush): one flush is enough for several calls.
    /// - Once `stop` is cancelled, a destination that needs long for a batch of puts begins no more of them, and gives up on those
    ///   that do not end soon: both fail with [`DestinationError::Stopped`].
    async fn apply(&self, changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome>;

    /// Makes removals and folders done so far durable.
    async fn flush(&self) -> Result<(), DestinationError>;

    /// Moves whatever is at `path` to a free name beside it that says "Conflicted copy", and tells that name.
    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, DestinationError>;

    /// Keeps the file at `path` under a free name beside it that says "Conflicted copy", so that its place can be taken. A
    /// destination that can do so leaves it in its place until then. A content that is under such a name already is not kept
    /// once more.
    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, DestinationError> {
        let kept_as = self.set_aside(path).await?;
        Ok(KeptBeside { kept_as, expect: Expect::Absent })
    }

    /// Gives a file that was [kept beside](Self::keep_beside) its name back, because nothing came in its place. `false`: it
    /// stays under its new name.
    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        let _ = (path, kept);
        false
    }

    /// True if a run that was killed left files that it had taken out of their places, to compare them. `everywhere`: also
    /// where runs take them that cannot use the usual place, which takes as long as the root has entries.
    async fn has_taken(&self, everywhere: bool) -> Result<bool, DestinationError> {
        let _ = everywhere;
        Ok(false)
    }

    /// Gives those files their names back that are not what that run expected: somebody had saved them in that moment. `known`
    /// are the paths that may be theirs, with the content that was to come there. Tells the paths of those that have another
    /// name now, where they are known, and these names.
    async fn return_taken(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        let _ = known;
        Ok(Vec::new())
    }

    /// Says that the run is over, however it ended: a destination lets go of what no later run could
    /// [recover](Receive::recover), and waits (not long) for what it does in the background.
    async fn end_run(&self) {}
}
