//! The folder store, used as the engine uses it, on real folders and files.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

mod conformance;
mod destination;
mod interleaved;
mod limits;
mod links;
mod model;
mod others;
mod rights;
mod scan;
mod scan_model;
mod staging;
mod store;
mod trash;
mod watch;
mod write_buffer;
