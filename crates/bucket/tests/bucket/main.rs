//! The bucket store, used as the engine uses it: in memory, and over sockets with the loopback cloud's S3.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

mod azure;
mod bench;
mod buckets;
mod conflicts;
mod conformance;
mod copies;
mod engine;
mod identity;
mod kills;
mod late_pushes;
mod looking;
mod memory;
mod model;
mod names;
mod networks;
mod objects;
mod pace;
mod portions;
mod refusals;
mod removing;
mod request_errors;
mod scan;
mod stopping;
mod unconditional;
mod uploads;
mod ways;
