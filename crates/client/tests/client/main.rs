//! The client against real servers over real sockets: the development server with its faults, and tiny
//! servers for faults below the level of a development server.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod bed;
mod collector;
mod fetching;
mod fetching_connections;
mod fetching_faults;
mod live;
mod networks;
mod pushing;
mod rest;
mod rest_raw;
mod rogue;
mod rogue_sessions;
mod secrets;
mod sessions;
mod sign_in;
mod uploading;
