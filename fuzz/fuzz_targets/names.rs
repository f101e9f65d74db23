//! Encoded paths and content hashes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_protocol::fuzzing::names(data));
