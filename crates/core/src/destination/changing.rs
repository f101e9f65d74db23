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
    /// Makes changes. Returns one answer per change, in order and of its kind. A rejected change does not
    /// stop the others, unless its error [is fatal](DestinationError::is_fatal): then the rest of its kind
    /// fails with it.
    ///
    /// - A put makes its file visible atomically and creates parents as needed. Adjacent puts in `changes`
    ///   are durable when this returns.
    /// - Removals and folders are durable after [`flush`](Self::flush): one flush is enough for several
    ///   calls.
    /// - Once `stop` is cancelled, a destination that needs long for a batch of puts starts no more of them,
    ///   and gives up those that do not end soon: both fail with [`DestinationError::Stopped`].
    async fn apply(&self, changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome>;

    /// Makes earlier removals and folders durable.
    async fn flush(&self) -> Result<(), DestinationError>;

    /// Moves the file or folder at `path` to a free name beside it that says "Conflicted copy". Returns that
    /// name.
    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, DestinationError>;

    /// Keeps the file at `path` under a free name beside it that says "Conflicted copy", so that its place
    /// can be taken. If the destination can, the file stays in its place until then. A content that already
    /// has such a copy is not copied again.
    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, DestinationError> {
        let kept_as = self.set_aside(path).await?;
        Ok(KeptBeside { kept_as, expect: Expect::Absent })
    }

    /// Returns a file that was [kept beside](Self::keep_beside) to its name, because nothing took its place.
    /// `false` if it stays under its new name.
    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        let _ = (path, kept);
        false
    }

    /// True if a killed run left files that it had moved out of their places to compare them. With
    /// `everywhere` the places of runs that could not use the default one are searched too, in time
    /// proportional to the entries of the root.
    async fn has_taken(&self, everywhere: bool) -> Result<bool, DestinationError> {
        let _ = everywhere;
        Ok(false)
    }

    /// Returns those files to their names if they are not what that run expected: a user had saved them at
    /// that moment. `known` are the possible paths, with the content that was to be put there. Returns the
    /// paths of files that have another name now, if known, with these names.
    async fn return_taken(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        let _ = known;
        Ok(Vec::new())
    }

    /// The same for files that a killed run left beside these paths, in folders where the staging area cannot
    /// be used. Its temporary copies there are removed.
    async fn return_beside(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        let _ = known;
        Ok(Vec::new())
    }

    /// Ends the run, whatever its result: a destination drops staged content that no later run could
    /// [recover](Receive::recover), and waits (not long) for its background work.
    async fn end_run(&self) {}
}
