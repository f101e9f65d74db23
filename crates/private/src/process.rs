//! Limits of this process as a whole.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Prevents core dumps of this process, and of those that it starts, since they would contain keys and
/// tokens.
///
/// The limit is one byte: Linux passes a dump to a handler (`systemd-coredump`) under a limit of zero, but
/// not of one. The dump is then missing when a crash is debugged; an attached debugger still sees everything.
/// `PR_SET_DUMPABLE` would keep debuggers of the same user out as well, but makes root the owner of
/// `/proc/self`, from where the function reads its memory.
pub fn refuse_core_dumps() {
    // Lowering a limit cannot fail. If it did, nothing that the user requested depends on it.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) });
}
