//! Limits the memory of a process that runs for weeks.

/// Makes glibc keep its free memory in two arenas instead of eight per processor. A follower scans every ten
/// minutes on short-lived threads, and each arena that they use once keeps some megabytes for good. Call it
/// before threads are started. Other allocators are not affected.
pub(crate) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "the C library has this setting for code alone, or for whoever starts the program"
    )]
    // SAFETY: mallopt takes two numbers and nothing else; it may be called at any time.
    unsafe {
        // A failure costs only memory.
        let _ = libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
