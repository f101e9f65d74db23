//! Rows of a state database.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(data, 2000 * KB, 256, obsync_sqlite::fuzzing::sqlite_rows));
