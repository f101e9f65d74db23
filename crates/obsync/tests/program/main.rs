//! The program as users run it: the real binary, as a separate process against the development server.
//!
//! One test binary, because each one links everything.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod absent;
mod alterations;
mod around;
mod bad_input;
mod bad_server;
mod certificates;
mod cloud;
mod deletions;
mod destinations;
mod disks;
mod ends;
mod fixtures;
mod health;
mod help;
mod idle;
mod json;
mod kept_keys;
mod kill;
#[cfg(target_os = "linux")]
mod locks;
mod monitor;
mod networks;
mod noop;
mod others;
mod pins;
mod pull;
mod rights;
mod schemas;
mod screens;
mod scripts;
mod secrets;
mod sending_troubles;
mod sign_in;
mod surroundings;
mod terminal;
mod truth;
mod two_way;
mod vaults;
mod waits;
mod world;
