//! The text of the function's secret.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_lambda::fuzzing::secret(data));
