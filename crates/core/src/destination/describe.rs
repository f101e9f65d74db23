//! Identity, traits and limits of a destination.

use async_trait::async_trait;
use obsync_protocol::VaultPath;

use super::error::DestinationError;
use crate::identity::{Marked, Marker, MarkerFound, RandomId};

/// Abilities and limits of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceTraits {
    /// Folders are objects of their own, which can be empty and have to be removed.
    pub has_folders: bool,
    /// The place keeps files that the vault deletes, as its owner configured.
    pub keeps_deleted: bool,
    /// Files to check and to copy at a time, before they are staged. Many if each costs a round trip.
    pub at_a_time: usize,
    /// Limit of a published batch.
    pub batch_limit: BatchLimit,
    /// Recorded files that each run checks for changes. One if that costs a request.
    pub sample: usize,
}

impl Default for PlaceTraits {
    /// Values for a file system.
    fn default() -> Self {
        PlaceTraits {
            has_folders: true,
            keeps_deleted: false,
            at_a_time: 1,
            batch_limit: BatchLimit::default(),
            sample: 8,
        }
    }
}

/// Limit of a published batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    /// Number of files.
    pub files: usize,
    /// Bytes of content. A batch is closed by the file that reaches the limit.
    pub bytes: u64,
    /// Files per call of [`Destination::apply`](super::Destination::apply), while the following ones are
    /// announced to the state. Less than `files` if a call takes round trips.
    pub portion: usize,
}

impl Default for BatchLimit {
    /// Values for a file system, where each call costs two flushes however large it is.
    fn default() -> Self {
        BatchLimit { files: 4096, bytes: 256 << 20, portion: 4096 }
    }
}

/// Identity and abilities of a place.
#[async_trait]
pub trait Describe: Send + Sync + 'static {
    /// The place's name for a person, for messages.
    fn location(&self) -> String;

    /// Abilities and limits of the place.
    fn traits(&self) -> PlaceTraits {
        PlaceTraits::default()
    }

    /// Upper limit of the memory in bytes that a content of `size` bytes uses from its first piece until it
    /// is published. Not among the [`traits`](Self::traits): the parts of a large upload grow with its size.
    fn memory_for(&self, size: u64) -> u64 {
        /// A piece as received, and decrypted.
        const TWO_PIECES: u64 = 4 << 20;
        size.min(TWO_PIECES)
    }

    /// Bytes that can be written before the place is full, including those that earlier runs left staged
    /// there. `None` if unknown.
    async fn free_space(&self) -> Result<Option<u64>, DestinationError> {
        Ok(None)
    }

    /// Folders at which other file systems are mounted, each with space of its own. Files for them are complete
    /// in the place first.
    async fn mounted_folders(&self) -> Result<Vec<VaultPath>, DestinationError> {
        Ok(Vec::new())
    }

    /// Bytes that can be written below such a folder before it is full. `None` if unknown.
    async fn free_space_below(&self, folder: &VaultPath) -> Result<Option<u64>, DestinationError> {
        let _ = folder;
        Ok(None)
    }

    /// Findings about the place for the user, as sentences for the report.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads the marker. `known` is its recorded tag; a destination with tags need not read a marker that
    /// still has it. Call it after [`is_empty`](super::Inspect::is_empty), which may have seen the marker.
    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, DestinationError> {
        let _ = known;
        Ok(MarkerFound::Impossible)
    }

    /// Called before each run of a process that makes several: if the place was replaced since the last one,
    /// uses the present one from now on, which the run judges by its marker. `known` is the recorded id.
    ///
    /// # Errors
    ///
    /// If nothing is there, or a place that a later look may find replaced by the right one: an empty one
    /// without a marker (a disk is not mounted), or one that belongs to another state.
    async fn look_at_place(&self, known: Option<RandomId>) -> Result<(), DestinationError> {
        let _ = known;
        Ok(())
    }

    /// Durably replaces the marker and returns its new tag, if the destination has tags. `None` if the place
    /// cannot store one.
    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
        let _ = marker;
        Ok(None)
    }

    /// Removes the marker, so that the destination belongs to no state any more. `false` if there was none.
    async fn unmark(&self) -> Result<bool, DestinationError> {
        Ok(false)
    }
}
