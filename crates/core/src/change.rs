//! What a destination is asked to change, and its answers.

use async_trait::async_trait;
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use crate::destination::{
    Destination, DestinationError, Publication, PublishFailure, Published, Removable, Removal, Wanted,
};

/// One change for [`Destination::apply`]. Each says what it expects to find, and nothing else is replaced or removed.
#[derive(Debug)]
pub enum Change {
    /// Makes staged content visible, or sets the times of content that is in place.
    Put(Publication),
    /// Removes a file that still is what obsync wrote.
    Remove(Removable),
    /// Makes a folder with its parents. Expects a folder or nothing.
    MakeFolder(VaultPath),
    /// Removes a folder. Expects an empty one, or none.
    RemoveFolder(VaultPath),
}

/// How a change went that was not rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The file is visible, durably.
    Put(Published),
    /// What became of the file.
    Remove(Removal),
    /// Whether the folder was made; else it was there already.
    MakeFolder(bool),
    /// Whether the folder is gone; else it is not empty.
    RemoveFolder(bool),
}

/// A change that was not made.
#[derive(Debug)]
pub enum Rejected {
    /// A put, handed back with its content for another attempt.
    Put(PublishFailure),
    /// Any other change.
    Other(DestinationError),
}

impl Rejected {
    /// Why the change was not made.
    pub fn error(&self) -> &DestinationError {
        match self {
            Rejected::Put(failure) => &failure.error,
            Rejected::Other(error) => error,
        }
    }

    /// The same, without what was handed back.
    pub fn into_error(self) -> DestinationError {
        match self {
            Rejected::Put(failure) => failure.error,
            Rejected::Other(error) => error,
        }
    }
}

/// The answer to one change.
pub type ChangeOutcome = Result<Applied, Rejected>;

/// Changes of one kind, in their order: a destination does them together, so that a batch costs one flush, and a bucket's
/// requests are under way at the same time.
#[derive(Debug)]
pub enum ChangeBatch {
    /// See [`Change::Put`].
    Put(Vec<Publication>),
    /// See [`Change::Remove`].
    Remove(Vec<Removable>),
    /// See [`Change::MakeFolder`].
    MakeFolders(Vec<VaultPath>),
    /// See [`Change::RemoveFolder`].
    RemoveFolders(Vec<VaultPath>),
}

impl ChangeBatch {
    /// The changes in batches, each as long as the kind stays the same.
    pub fn split(changes: Vec<Change>) -> Vec<ChangeBatch> {
        let mut batches: Vec<ChangeBatch> = Vec::new();
        let most = changes.len();
        let first = |change| {
            fn with<T>(capacity: usize, item: T) -> Vec<T> {
                let mut items = Vec::with_capacity(capacity);
                items.push(item);
                items
            }
            match change {
                Change::Put(publication) => ChangeBatch::Put(with(most, publication)),
                Change::Remove(file) => ChangeBatch::Remove(vec![file]),
                Change::MakeFolder(folder) => ChangeBatch::MakeFolders(vec![folder]),
                Change::RemoveFolder(folder) => ChangeBatch::RemoveFolders(vec![folder]),
            }
        };
        for change in changes {
            match (batches.last_mut(), change) {
                (Some(ChangeBatch::Put(batch)), Change::Put(publication)) => batch.push(publication),
                (Some(ChangeBatch::Remove(batch)), Change::Remove(file)) => batch.push(file),
                (Some(ChangeBatch::MakeFolders(batch)), Change::MakeFolder(folder))
                | (Some(ChangeBatch::RemoveFolders(batch)), Change::RemoveFolder(folder)) => {
                    batch.push(folder);
                }
                (_, change) => batches.push(first(change)),
            }
        }
        batches
    }
}

/// Shorter ways to ask a destination, for changes of one kind.
#[async_trait]
pub trait DestinationExt: Destination {
    /// Puts a batch in place. Answers in order.
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

    /// Removes files that still are what obsync wrote. Answers in order.
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

    /// Makes folders with their parents. Answers in order: whether each was made, else it was there.
    async fn create_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        let outcomes = self
            .apply(folders.into_iter().map(Change::MakeFolder).collect(), &CancellationToken::new())
            .await;
        outcomes.into_iter().map(folder_answer).collect()
    }

    /// Removes folders that are empty, in the order given (so deepest first). Whether each is gone.
    async fn remove_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        let outcomes = self
            .apply(folders.into_iter().map(Change::RemoveFolder).collect(), &CancellationToken::new())
            .await;
        outcomes.into_iter().map(folder_answer).collect()
    }

    /// Whether the destination has exactly these contents at these paths. Answers in order; what cannot be read is not there.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_keep_their_order_in_batches_of_one_kind() {
        let at = |path: &str| VaultPath::parse(path).unwrap();
        let changes = vec![
            Change::MakeFolder(at("a")),
            Change::MakeFolder(at("b")),
            Change::RemoveFolder(at("c")),
            Change::MakeFolder(at("d")),
        ];
        let batches = ChangeBatch::split(changes);
        let kinds: Vec<(bool, Vec<&str>)> = batches
            .iter()
            .map(|batch| match batch {
                ChangeBatch::MakeFolders(folders) => (true, folders.iter().map(VaultPath::as_str).collect()),
                ChangeBatch::RemoveFolders(folders) => {
                    (false, folders.iter().map(VaultPath::as_str).collect())
                }
                ChangeBatch::Put(_) | ChangeBatch::Remove(_) => panic!("nobody asked for it"),
            })
            .collect();
        assert_eq!(kinds, [(true, vec!["a", "b"]), (false, vec!["c"]), (true, vec!["d"])]);
    }
}
