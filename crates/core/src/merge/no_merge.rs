//! Reasons why two versions are not merged.

use thiserror::Error;

/// The reason why two versions are not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoMerge {
    /// The common base of both sides is unknown.
    #[error("the version that both sides started from is not available")]
    NoBase,
    /// A version is not UTF-8 text.
    #[error("one of the versions is not text")]
    NotText,
    /// A version of a configuration file is not JSON of the expected form.
    #[error("one of the versions is not JSON that can be merged")]
    NotJson,
    /// A version is larger than [`MERGED_TEXT`](obsync_protocol::limits::MERGED_TEXT), has more lines than
    /// [`MERGED_LINES`](obsync_protocol::limits::MERGED_LINES), or differs in too many of them
    /// ([`COMPARED_LINES`](obsync_protocol::limits::COMPARED_LINES)).
    #[error("one of the versions is too large to be merged")]
    TooLarge,
    /// Both sides changed the same place.
    #[error("both sides changed the same lines")]
    Overlap,
}
