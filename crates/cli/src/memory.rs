//! Limits the memory that a process keeps which runs for weeks.

/// Has glibc keep its free memory in two arenas in place of eight for each processor. A follower scans every ten minutes on
/// threads that come and go, and each arena that they use once keeps some megabytes for good. To be called before there are
/// threads. Elsewhere the allocator does as it likes.
pub(crate) fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(
        unsafe_code,
        reason = "the C library has this setting for code alone, or for whoever starts the program"
    )]
    // SAFETY: mallopt takes two numbers and nothing else; it may be called at any time.
    unsafe {
        // What cannot be set costs memory and nothing else.
        let _ = libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
