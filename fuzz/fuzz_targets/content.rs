//! The content cipher's framing.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_protocol::fuzzing::content(data));
