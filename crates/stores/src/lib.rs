//! Where vaults and their state are kept: the implementations of the engine's two storage traits.
//!
//! - [`FolderStore`] (feature `folder`, Unix): a vault as files of a local folder, a
//!   [`VaultStore`](obsync_core::VaultStore).
//! - [`BucketStore`] (features `bucket`, and `aws`, `gcs`, `azure` for the services): a vault as objects of a bucket, a
//!   [`VaultStore`](obsync_core::VaultStore).
//! - `BucketSetup` (feature `aws-admin`) makes a bucket of Amazon S3 and sets it up.
//! - [`SqliteState`] (feature `sqlite`): what is known of one destination in one database file, a
//!   [`StateStore`](obsync_core::StateStore); [`StateCatalog`] finds the databases of a machine.
//! - [`dynamodb`] (feature of that name): what is known of many destinations in one DynamoDB table.
//! - `conformance` (feature of that name, for tests): what every implementation of the two traits must pass.

#[cfg(any(feature = "folder", feature = "sqlite"))]
mod blocking;
#[cfg(feature = "bucket")]
mod bucket;
#[cfg(any(feature = "bucket", all(feature = "folder", unix)))]
mod conflicted_copy;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(all(feature = "folder", unix))]
mod folder;
/// Entry points of the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(feature = "bucket", feature = "dynamodb", feature = "folder", feature = "sqlite"))]
mod locking;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "s3")]
pub use bucket::{AwsHttp, load_aws_config};
#[cfg(feature = "bucket")]
pub use bucket::{BucketLocation, BucketOptions, BucketStore, LocationError, Retries, Service};
#[cfg(feature = "aws-admin")]
pub use bucket::{BucketSetup, BucketStep};
#[cfg(all(feature = "folder", unix))]
pub use folder::{Durability, FolderOptions, FolderStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteState, StateCatalog, StateIdentity, StateSummary, canonical_destination};
