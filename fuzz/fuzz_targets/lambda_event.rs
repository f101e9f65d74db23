//! Events of the function.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_lambda::fuzzing::lambda_event(data));
