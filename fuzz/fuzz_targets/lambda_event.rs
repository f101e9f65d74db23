//! Events of the function.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(data, 64 * KB, 64, obsync_lambda::fuzzing::lambda_event));
