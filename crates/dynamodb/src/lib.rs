//! The states of destinations, in one DynamoDB table whose only key is the hash key `vault_id`.
//!
//! A table holds the states of any number of vaults. Its items, where `<key>` is the vault's id, or `<vault id>@<hash of
//! the destination>` for each further destination of a vault (see [`StateKey`]):
//!
//! | `vault_id` | holds |
//! | --- | --- |
//! | `<key>` | the *head*: version, counts, last sync, lease (owner, expiry, fencing number) |
//! | `file#<key>#<hash of path>` | one file or folder: path, content hash, uid, size, times |
//! | `failed#<key>`, `filtered#<key>` | changes that were not applied, paged when there are many |
//! | `announced#<key>` | the files that are published next |
//! | `confirmed#<key>` | deletions that were confirmed while a run was at work: uids, with a `ttl` |
//! | `progress#<key>` | how far a run has come, as JSON, with a `ttl` |
//! | `places#<hash of a place>` | the names below that place which vaults were given, by their ids |
//! | `pin#<hash>` | how a vault was encrypted when it was last opened, under the vault, its name and the destination |
//!
//! # What a commit guarantees
//!
//! A commit is a DynamoDB transaction that also updates the head, on the condition that the head still has
//! the fencing number of this run's lease and the revision that this run last saw. So a run that lost its
//! lease cannot write, nor can a request that was given up and arrives late.
//!
//! A commit of more than 99 items (or of several megabytes) is several such transactions, one after the
//! other: records first, then deferred changes, and in the last one, with the head, the announcements, the
//! progress and the version. Whenever the run dies, the version is not ahead of its records, the
//! announcements are the old or the new ones, each deferred change is in one list or in both, and the counts
//! are exact.
//!
//! # Why nothing is written in batches
//!
//! `BatchWriteItem` takes 25 items, costs half as much, and cannot be conditional. A single `PutItem` can,
//! but only on the item that it writes, not on the lease. Either way a run that was frozen and wakes up
//! without its lease could overwrite its successor's records with old ones, or remove them. A check of the
//! lease before each batch does not help: the freeze may happen in between. So all writes are transactions of
//! 100 items each. They cannot run concurrently, since all of them update the head.
//!
//! # What it costs
//!
//! An incremental run costs one request to take the lease (which also reads the head), one to look up every
//! 100 changed paths, one for each announcement, one for each 99 items committed, and one to release the
//! lease: five for ten changes, and one more that records the destination's marker. A first pull of 10,000
//! files in batches of 100 costs 204: each batch is recorded, in two requests, with the announcement of the
//! next. Batches of at most 97 files take one.
//!
//! Reading *all* records ([`StateStore::all_records`](obsync_core::StateStore::all_records), in full runs,
//! and in syncs of a bucket that is not [in step](obsync_core::StateStore::in_step)) scans the table, with
//! the items of all vaults in it. There is no index by content: a copy of a file that the same listing does
//! not move is downloaded.
//!
//! # Rights
//!
//! `dynamodb:` `GetItem`, `BatchGetItem`, `PutItem`, `UpdateItem`, `DeleteItem`, `ConditionCheckItem`, `Scan`; for
//! installing a table (`obsync aws init`) `CreateTable`, `DescribeTable`, `DescribeTimeToLive`, `UpdateTimeToLive`,
//! `DescribeContinuousBackups`, `UpdateContinuousBackups`.
//!
//! # Rooms
//!
//! - `table`: requests to the table; `options`: timeouts and retries; `error`: classification of errors.
//! - `keys`: keys of items; `attributes`: attributes and values; `batch`: many items at once.
//! - `head`, `records`, `rows`, `pages`, `index`, `deferred`: contents of the items.
//! - `lease`: one run at a time; `chain`: chains of invocations; `holding`: renewal of a held lease; `state`:
//!   the state itself; `commit`, `transaction`: the only way to write.
//! - `progress`: progress records; `tracker`: counts for them; `durations`: times for them; `slow_file`:
//!   files that take longer than an invocation. `confirmations`: messages to the lease holder. `places`:
//!   locations of vaults. `pins`: encryption of vaults. `summary`: a state at a glance; `freshness`: ages of
//!   many states. `reset`: removal of a state.

mod attributes;
mod batch;
mod chain;
mod commit;
mod committing;
mod confirmations;
mod deferred;
mod durations;
mod error;
mod freshness;
/// Entry point of the fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod holding;
mod index;
mod keys;
mod lease;
mod options;
mod pages;
mod pins;
mod places;
mod progress;
mod records;
mod reset;
mod rows;
mod slow_file;
mod state;
mod summary;
mod table;
mod tracker;
mod transaction;

pub use self::chain::{ChainEnd, ChainEntry, ChainStep, Opened};
pub use self::durations::RunDurations;
pub use self::freshness::Freshness;
pub use self::keys::StateKey;
pub use self::lease::{LEASE_AFTER_DEADLINE, LeaseOptions};
pub use self::options::DynamoOptions;
pub use self::pins::TablePins;
pub use self::places::Places;
pub use self::progress::{ProgressRecord, ProgressStatus, Resumption, StoredProgress};
pub use self::slow_file::SlowFile;
pub use self::state::DynamoState;
pub use self::summary::{DynamoSummary, FoundState, LeaseHolder};
pub use self::table::{DynamoTable, TableName, TableNameError};
pub use self::tracker::{TrackedState, Tracker};
