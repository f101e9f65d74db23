//! State in DynamoDB, over real sockets with the real client, against a table of the loopback cloud.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

mod chain;
mod commits;
mod confirmations;
mod conformance;
mod cost;
mod damage;
mod faults;
mod in_step;
mod kill;
mod lease;
mod migration;
mod model;
mod networks;
mod pins;
mod places;
mod progress;
mod reset;
mod scene;
mod schema;
mod wire;
