//! The content cipher's framing.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(data, 64 * KB, 16, obsync_protocol::fuzzing::content));
