//! Tests the loopback cloud with the real clients of AWS, over its sockets.

mod client;
mod counting;
mod dynamodb;
mod faults;
#[cfg(unix)]
mod functions;
mod listings;
mod object_store;
mod objects;
mod secrets;
mod settings;
mod uploads;
