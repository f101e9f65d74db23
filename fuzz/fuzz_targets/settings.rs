//! The function's environment variables.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(data, 8000 * KB, 64, obsync_lambda::fuzzing::settings));
