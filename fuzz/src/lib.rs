//! The bounds that every target applies to its entry point, besides the checks of the entry point itself.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `entry` over an input and fails when it allocated more than `least` bytes and `per_byte` for each
/// byte of the input: untrusted input must not take an arbitrary multiple of its size.
///
/// # Panics
/// When it allocated more.
pub fn bounded(input: &[u8], least: usize, per_byte: usize, entry: impl FnOnce(&[u8])) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    entry(input);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let most = least + per_byte * input.len();
    assert!(
        taken <= most,
        "{taken} bytes of memory for an input of {} bytes; {most} are allowed",
        input.len()
    );
}

/// A thousand bytes.
pub const KB: usize = 1000;
