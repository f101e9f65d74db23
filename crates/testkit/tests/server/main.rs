//! Tests the development server against the protocol, over real sockets: REST, sessions, faults, data on
//! disk.

mod client;
mod disk;
mod faults;
mod fixtures;
mod recorded;
mod rest;
mod sessions;
mod writers;
mod writing;
