//! The engine of obsync: brings a vault to a destination, exactly, and survives anything on the way.
//!
//! The way of a file is listing → decision → schedule → fetch → verify → publish → commit (ARCHITECTURE.md has the steps).
//! This crate knows neither file systems nor databases: destinations implement [`VaultStore`] and state databases
//! [`StateStore`]. It knows no terminal either: a program that wants to show progress implements [`Progress`].

mod admission;
/// Entry points of the benchmarks.
#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching;
pub mod blocking;
mod brake;
pub mod conflicted_copy;
mod cursor;
mod earlier;
mod entry;
mod error;
mod folders;
mod governor;
mod history;
mod hurdle;
mod identify;
mod identity;
mod ledger;
mod listing;
pub mod merge;
mod model;
pub mod pin;
mod progress;
mod publish;
mod receive;
mod reconcile;
mod recover;
mod report;
mod repositories;
mod rescue;
mod run;
mod scan;
mod schedule;
mod space;
mod state;
mod store;
mod survey;
mod transfer;
mod vanished;
mod verify;
mod watermark;

pub use brake::{MaxDelete, MaxDeleteError, confirm, held_back};
pub use error::PullError;
pub use governor::{Governor, Reservation};
pub use hurdle::Hurdle;
pub use obsync_protocol::Filter;
pub use progress::{NoProgress, Phase, Progress};
pub use reconcile::Mode;
pub use report::{Conflict, Failure, Outcome, Report, Step, StepAction, Tally};
pub use repositories::repository_parts_among;
pub use run::{PullOptions, PullSource, pull};
pub use verify::{Verification, VerifyError, verify};

pub use identity::{
    DestinationIdentity, Doubt, MARKER_FORMAT, Marker, MarkerError, MarkerFound, RandomId, RandomIdError,
};
pub use model::{
    CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, Direction, FileMeta, Intent,
    KnownContent, LocalFacts, Record, RecordKind,
};
pub use scan::{LocalFile, LocalTree, OpenFile, ScanInput, Unknown, UnknownCause};
pub use state::{Commit, StateError, StateStore, VaultState};
pub use store::{
    BatchLimit, Expect, FileWriter, Found, Inventory, KeptBeside, Marked, Publication, PublicationContent,
    PublishFailure, Published, Removable, Removal, Staged, StoreError, StoredFile, VaultStore, Wanted,
};
