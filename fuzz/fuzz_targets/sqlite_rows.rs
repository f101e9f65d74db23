//! Rows of a state database.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_stores::fuzzing::sqlite_rows(data));
