//! The state database, used as the engine uses it, on real files.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

mod catalog;
mod conformance;
mod damage;
mod database;
mod migration;
mod model;
mod state;
