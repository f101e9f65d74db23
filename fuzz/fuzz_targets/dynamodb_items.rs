//! Items of a state table.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(
    data,
    256 * KB,
    256,
    obsync_dynamodb::fuzzing::dynamodb_items
));
