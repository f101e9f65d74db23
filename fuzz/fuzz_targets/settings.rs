//! The function's environment variables.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_lambda::fuzzing::settings(data));
