//! Convenience methods of a destination, for changes of one kind.

use async_trait::async_trait;
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use super::change::{Applied, Change, ChangeOutcome, Rejected};
use super::changing::Destination;
use super::error::DestinationError;
use super::inspect::Wanted;
use super::publication::{Publication, PublishFailure, Published, Removable, Removal};

/// Convenience methods of a destination, for changes of one kind.
#[async_trait]
pub trait DestinationExt: Destination {
    /// Publishes a batch. Answers in order.
    async fn publish(&self, batch: Vec<Publication>) -> Vec<Result<Published, PublishFailure>> {
        self.publish_until(batch, &CancellationToken::new()).await
    }

    /// The same for a run that may be stopped meanwhile.
    async fn publish_until(
        &self,
        batch: Vec<Publication>,
        stop: &CancellationToken,
    ) -> Vec<Result<Published, PublishFailure>> {
        let outcomes = self.apply(batch.into_iter().map(Change::Put).collect(), stop).await;
        let answers = outcomes.into_iter().map(|outcome| match outcome {
            Ok(Applied::Put(published)) => Ok(published),
            Err(Rejected::Put(failure)) => Err(failure),
            outcome => unreachable!("a put is answered as a put, not with {outcome:?}"),
        });
        answers.collect()
    }

    /// Removes files that still have the content that obsync wrote. Answers in order.
    async fn remove_files(&self, files: Vec<Removable>) -> Vec<Result<Removal, DestinationError>> {
        let outcomes =
            self.apply(files.into_iter().map(Change::Remove).collect(), &CancellationToken::new()).await;
        let answers = outcomes.into_iter().map(|outcome| match outcome {
            Ok(Applied::Remove(removal)) => Ok(removal),
            Err(rejected) => Err(rejected.into_error()),
            outcome => unreachable!("a removal is answered as one, not with {outcome:?}"),
        });
        answers.collect()
    }

    /// Creates folders with their parents. Answers in order: true if the folder was created, `false` if it
    /// existed.
    async fn create_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        let outcomes = self
            .apply(folders.into_iter().map(Change::MakeFolder).collect(), &CancellationToken::new())
            .await;
        outcomes.into_iter().map(folder_answer).collect()
    }

    /// Removes empty folders, in the given order (so deepest first). Answers in order: true if the folder is
    /// gone.
    async fn remove_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        let outcomes = self
            .apply(folders.into_iter().map(Change::RemoveFolder).collect(), &CancellationToken::new())
            .await;
        outcomes.into_iter().map(folder_answer).collect()
    }

    /// For each path, true if the destination has exactly this content there. Answers in order; unreadable
    /// files count as absent.
    async fn holds(&self, wanted: Vec<Wanted>) -> Result<Vec<bool>, DestinationError> {
        Ok(self.check(wanted).await?.into_iter().map(|checked| checked.holds).collect())
    }
}

impl<D: Destination + ?Sized> DestinationExt for D {}

fn folder_answer(outcome: ChangeOutcome) -> Result<bool, DestinationError> {
    match outcome {
        Ok(Applied::MakeFolder(made)) => Ok(made),
        Ok(Applied::RemoveFolder(gone)) => Ok(gone),
        Err(rejected) => Err(rejected.into_error()),
        outcome => unreachable!("a folder's change is answered as one, not with {outcome:?}"),
    }
}
