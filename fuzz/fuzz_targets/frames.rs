//! The frames of a connection, below the WebSocket library.

#![no_main]

use obsync_fuzz::{KB, bounded};

libfuzzer_sys::fuzz_target!(|data: &[u8]| bounded(data, 4 * KB, 0, obsync_client::fuzzing::frames));
