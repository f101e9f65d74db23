//! Where vaults and their state are kept: the implementations of the engine's two storage traits.
//!
//! - [`FolderStore`] (feature `folder`, Unix): a vault as files of a local folder, a
//!   [`VaultStore`](obsync_core::VaultStore).
//! - [`SqliteState`] (feature `sqlite`): what is known of one destination in one database file, a
//!   [`StateStore`](obsync_core::StateStore); [`StateCatalog`] finds the databases of a machine.
//! - `conformance` (feature of that name, for tests): what every implementation of the two traits must pass.

#[cfg(any(feature = "folder", feature = "sqlite"))]
mod blocking;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(all(feature = "folder", unix))]
mod folder;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(all(feature = "folder", unix))]
pub use folder::{Durability, FolderOptions, FolderStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteState, StateCatalog, StateIdentity, StateSummary, canonical_destination};
