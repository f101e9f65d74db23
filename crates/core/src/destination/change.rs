//! Changes of a destination, and its answers to them.

use obsync_protocol::VaultPath;

use super::error::DestinationError;
use super::publication::{Publication, PublishFailure, Published, Removable, Removal};

/// One change for [`Destination::apply`](super::Destination::apply). Each has an expectation; nothing else is
/// replaced or removed.
#[derive(Debug)]
pub enum Change {
    /// Makes staged content visible, or sets the times of content that is in place.
    Put(Publication),
    /// Removes a file that still has the content that obsync wrote.
    Remove(Removable),
    /// Creates a folder with its parents. Expects a folder or nothing.
    MakeFolder(VaultPath),
    /// Removes a folder. Expects an empty one, or none.
    RemoveFolder(VaultPath),
}

/// Result of a change that was not rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The file is visible, durably.
    Put(Published),
    /// Result of the removal.
    Remove(Removal),
    /// True if the folder was created, `false` if it existed.
    MakeFolder(bool),
    /// True if the folder is gone, `false` if it is not empty.
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
    /// The reason why the change was not made.
    pub fn error(&self) -> &DestinationError {
        match self {
            Rejected::Put(failure) => &failure.error,
            Rejected::Other(error) => error,
        }
    }

    /// The same, without the handed-back content.
    pub fn into_error(self) -> DestinationError {
        match self {
            Rejected::Put(failure) => failure.error,
            Rejected::Other(error) => error,
        }
    }
}

/// The answer to one change.
pub type ChangeOutcome = Result<Applied, Rejected>;

/// Changes of one kind, in order. A destination makes them together, so that a batch costs one flush and a
/// bucket's requests run concurrently.
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
    /// Splits changes into batches, each of one kind.
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
