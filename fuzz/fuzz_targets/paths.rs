//! Paths, names and filters.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_protocol::fuzzing::paths(data));
