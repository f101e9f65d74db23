//! The engine of obsync: brings a vault to a destination, exactly, and survives anything on the way.
//!
//! The way of a file is listing → plan → fetch → verify → publish → commit (ARCHITECTURE.md tells it at length).
//! This crate knows neither file systems nor databases: destinations implement [`VaultStore`] and state databases
//! [`StateStore`]. It knows no terminal either: a program that wants to show progress implements [`Progress`].

mod state;
mod store;

pub use state::{
    Commit, Deferred, DeferredCause, DeferredKey, DeferredKind, Record, RecordKind, StateError, StateStore, VaultState,
};
pub use store::{
    FileMeta, FileWriter, Publication, PublicationContent, PublishFailure, Published, Removable, Removal, Staged, StoreError,
    StoredFile, VaultStore, Wanted,
};
