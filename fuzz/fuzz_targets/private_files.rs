//! The files with tokens, derived keys and pins.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use obsync_fuzz::{KB, bounded};

/// Where the files are written; one directory for each fuzzer that runs.
static HOME: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("obsync-fuzz-{}", std::process::id())));

fuzz_target!(|data: &[u8]| bounded(data, 64 * KB, 64, |data| obsync_cli::fuzzing::private_files(
    &HOME, data
)));
