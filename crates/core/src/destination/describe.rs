//! Identity, traits and limits of a destination.

use async_trait::async_trait;

use super::error::DestinationError;
use crate::identity::{Marked, Marker, MarkerFound};

/// Abilities and limits of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceTraits {
    /// Folders are something of their own, which can be empty and have to be removed.
    pub has_folders: bool,
    /// The place keeps what the vault deletes, because its owner says so.
    pub keeps_deleted: bool,
    /// How many files to look for and to copy at a time, before they are staged. Many where each costs a round trip.
    pub at_a_time: usize,
    /// How much to publish in one go.
    pub batch_limit: BatchLimit,
    /// How many recorded files each run looks at, to see whether they are as they were. One where that costs a request.
    pub sample: usize,
}

impl Default for PlaceTraits {
    /// As suits a file system.
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

/// How much is published in one go at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimit {
    /// How many files.
    pub files: usize,
    /// How many bytes of content. A batch is closed by the file that reaches it.
    pub bytes: u64,
    /// How many of its files go to one [`Destination::apply`](super::Destination::apply), while those that follow are announced to the state. Fewer
    /// than `files` where that takes round trips.
    pub portion: usize,
}

impl Default for BatchLimit {
    /// As suits a file system, where each call costs two flushes however large it is.
    fn default() -> Self {
        BatchLimit { files: 4096, bytes: 256 << 20, portion: 4096 }
    }
}

/// Identity and abilities of a place.
#[async_trait]
pub trait Describe: Send + Sync + 'static {
    /// The place as a person would name it, for messages.
    fn location(&self) -> String;

    /// Abilities and limits of the place.
    fn traits(&self) -> PlaceTraits {
        PlaceTraits::default()
    }

    /// Bytes of memory that a content of `size` bytes takes at most from its first piece until it is published. Not among
    /// the [`traits`](Self::traits): the parts of a large upload grow with its size.
    fn memory_for(&self, size: u64) -> u64 {
        /// A piece as it came, and decrypted.
        const TWO_PIECES: u64 = 4 << 20;
        size.min(TWO_PIECES)
    }

    /// Bytes that can be written before the place is full, those counted that earlier runs left staged there. `None` where
    /// nobody can tell.
    async fn free_space(&self) -> Result<Option<u64>, DestinationError> {
        Ok(None)
    }

    /// Findings about the place that people should know, as sentences for the report.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads the marker. `known` is the tag that was noted of it; a destination that knows tags need not
    /// read a marker that still has it. To be asked after [`is_empty`](super::Inspect::is_empty), which may have seen it on the way.
    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, DestinationError> {
        let _ = known;
        Ok(MarkerFound::Impossible)
    }

    /// Writes the marker, durably, in place of the one before it, and tells the tag that it has now, if the destination has such a
    /// thing. `None`: the place cannot keep one.
    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
        let _ = marker;
        Ok(None)
    }

    /// Removes the marker, so that the destination belongs to no state any more. `false`: there is none.
    async fn unmark(&self) -> Result<bool, DestinationError> {
        Ok(false)
    }
}
