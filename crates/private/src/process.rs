//! Limits of this process as a whole.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps this process, and those that it starts, from leaving core dumps, which would have keys and tokens in them.
///
/// The limit is one byte: Linux hands a dump to a handler (`systemd-coredump`) under a limit of none, but not of one. It
/// costs whoever debugs a crash the dump; a debugger that is attached still sees everything. `PR_SET_DUMPABLE` would keep
/// debuggers of the same user out as well, but gives `/proc/self` to root, from where the function reads its memory.
pub fn refuse_core_dumps() {
    // It cannot fail downwards. If it did, nothing that the user asked for depends on it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) });
}
