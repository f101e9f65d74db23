//! Text frames of a session and answers of the service.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_protocol::fuzzing::messages(data));
