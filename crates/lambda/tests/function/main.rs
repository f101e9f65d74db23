//! The real program `bootstrap`, run as Lambda runs it, against a cloud and a sync server on loopback.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

#[path = "../../../obsync/tests/program/alterations.rs"]
mod alterations;
mod both_ways;
mod choice;
mod cost;
mod destinations;
mod encryption;
mod events;
mod exact;
mod failures;
mod handing_on;
mod held_back;
mod interrupted;
mod memory;
mod operators;
mod recheck;
mod slow_destination;
mod spreading;
mod start;
mod sync_cost;
mod throughput;
mod together;
mod versions;
mod warm;
mod world;
