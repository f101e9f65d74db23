//! The engine of obsync: syncs a vault and a destination exactly, and recovers from any interruption.
//!
//! A file goes through listing → decision → schedule → fetch → verify → publish → commit (ARCHITECTURE.md has
//! the steps). This crate has no code for file systems or databases: destinations implement [`Destination`]
//! and state databases [`StateStore`]. It has none for terminals either: a program that shows progress
//! implements [`Progress`].

mod accepted;
mod admission;
/// Entry points of the benchmarks.
#[cfg(feature = "benching")]
#[doc(hidden)]
pub mod benching;
pub mod blocking;
mod brake;
mod catch_up;
mod clock;
mod confirmation;
pub mod conflicted_copy;
mod cursor;
mod destination;
mod earlier;
mod entry;
mod error;
mod folders;
mod follow;
mod foreseen;
mod foreseen_copies;
mod governor;
mod history;
mod hurdle;
mod identify;
mod identity;
mod journal;
mod last_run;
mod ledger;
mod line;
mod listing;
pub mod merge;
mod mirror;
mod model;
mod outstanding;
pub mod pin;
mod problem;
mod progress;
mod publish;
mod pull;
pub mod quiet;
mod receive;
mod reconcile;
mod records;
mod recover;
mod rehearsal;
mod report;
mod repositories;
mod rescue;
mod run;
mod scan;
mod schedule;
/// JSON schemas of the printed output, for tests.
#[cfg(feature = "schema")]
#[doc(hidden)]
pub mod schema;
mod service_check;
mod shrinking;
mod space;
mod state;
mod survey;
mod transfer;
mod two_way;
mod unmatched;
mod vanished;
mod verify;
mod watermark;

pub use brake::{MaxDelete, MaxDeleteError};
pub use clock::unseen_time;
pub use error::PullError;
pub use follow::{FollowOptions, FollowWay, Following, Observer, Watch, follow};
pub use governor::{Governor, Reservation};
pub use hurdle::{Handling, Hurdle};
pub use journal::{JournalChange, JournalEntry, Side};
pub use last_run::{Bringing, LastRun, RunError, RunOutcome, RunProgress};
pub use obsync_client::{Clock, Sleep, SystemClock};
pub use obsync_protocol::Filter;
pub use outstanding::Outstanding;
pub use problem::{Ending, Problem, ProblemCode, SCHEMA_VERSION};
pub use progress::{FileAction, NoProgress, Phase, Progress};
pub use pull::pull;
pub use reconcile::Mode;
pub use recover::return_taken;
pub use report::{Conflict, Failure, MovedFile, Outcome, Report, Step, StepAction, Tally};
pub use repositories::repository_parts_among;
pub use run::{PullOptions, PullSource};
pub use two_way::{SyncDirection, SyncOptions, sync};
pub use verify::{ChangedFile, Unfinished, Verification, VerifiedFile, VerifyError, verify};

pub use confirmation::{confirm, held_back, leave_confirmation};
pub use destination::{
    Applied, BatchLimit, Change, ChangeBatch, ChangeOutcome, Checked, CheckedBy, Describe, Destination,
    DestinationError, DestinationExt, Expect, FileWriter, FoldingProbe, Found, Inspect, Inventory,
    KeptBeside, Naming, PlaceTraits, Publication, PublicationContent, PublishFailure, Published, Receive,
    Rejected, Removable, Removal, Scan, Staged, StoredFile, Supposed, Wanted,
};
pub use identity::{
    DestinationIdentity, Doubt, MARKER_FORMAT, Marked, Marker, MarkerError, MarkerFound, RandomId,
    RandomIdError,
};
pub use model::{
    CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, Direction, FileMeta, Intent,
    KnownContent, LocalFacts, Record, RecordKind,
};
pub use scan::{LocalFile, LocalTree, OpenFile, Respelled, ScanInput, Spelling, Unknown, UnknownCause};
pub use service_check::{Finding, ServiceFact, check_service};
pub use state::{Commit, DeferredPart, StateError, StateStore, VaultState};
