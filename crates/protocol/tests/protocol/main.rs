//! Tests of the protocol crate with recorded data, independent ciphers and random input.

#![allow(clippy::expect_used, reason = "in a test, an expectation that fails is the finding")]

mod content;
mod filter;
mod git_names;
mod hostile;
mod ids_and_paths;
mod limits;
mod messages;
mod names;
mod rest;
mod session;
mod support;
mod vectors;
