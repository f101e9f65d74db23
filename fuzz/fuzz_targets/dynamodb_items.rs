//! Items of a state table.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| obsync_stores::fuzzing::dynamodb_items(data));
