//! The tools of tests, benchmarks and the program `obsync-dev`: a development server that speaks the whole
//! protocol on loopback, with faults on request, and a generator of vaults.
//!
//! - [`Server`]: accounts, vaults, REST and WebSocket on one port; [`Stats`] counts events there.
//! - [`VaultHandle`]: writes into a vault as a device would, without a socket, honestly or not;
//!   [`Expected`]: the expected result of a full pull.
//! - [`Faults`]: faults of the server.
//! - `network` (feature `network`): authorities, proxies and dead addresses on loopback.
//! - [`vault_info`]: a vault in the format of a list of vaults, for tests that need no server.
//! - [`generate`]: vaults of any size, reproducible by a seed; [`fill_vault`], [`fill_directory`].
//!
//! Nothing here is for real data: the server speaks plain HTTP and listens on loopback only.

mod accounts;
mod disk;
mod faults;
mod generator;
#[cfg(feature = "network")]
pub mod network;
mod server;
mod stats;
mod vault;

use std::path::PathBuf;

pub use accounts::AccountError;
pub use faults::{Chance, FaultControl, FaultError, Faults, Flood, FloodKind, PIECE_SIZE, PieceSizes};
pub use generator::{Filled, GeneratedFile, GeneratorOptions, fill_directory, fill_vault, generate};
pub use server::{Server, ServerBuilder, ServerError};
pub use stats::{InitRecord, Stats};
pub use vault::{Expected, ExpectedFile, RawEntry, Times, VaultHandle, VaultSpec, WriteError, vault_info};

/// The folder of a vault that the official client wrote: `official-v0`, `official-v2` or `official-managed`.
///
/// It contains `vault.json`, `entries.jsonl`, `blobs/` and `expected.json`, the expected result of a full
/// pull. Beside them, `session-v2.frames.jsonl` is a recorded session of the official client, frame by frame.
pub fn fixture_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}
