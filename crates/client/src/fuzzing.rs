//! Runs the fuzz target of this crate on an input, and over a few seeds as a test (docs/FUZZING.md).
//!
//! A panic is a finding; so is a violated property.

use std::time::{Duration, Instant};

use obsync_protocol::limits::CONTROL_FRAMES;

use crate::frames::{Flood, Frames};

/// The frames of a connection, below the WebSocket library. The first byte of the input determines where the
/// stream is cut, the second how many seconds pass at each cut; the rest is the stream, with its handshake if
/// it begins with a letter.
///
/// However the stream is cut: the same bytes count as content, no more of them than arrived; a stream too
/// short for a flood is not rejected as one, and slower arrival never turns an accepted stream into a flood.
pub fn frames(data: &[u8]) {
    let Some((&[cut, seconds], stream)) = data.split_first_chunk::<2>() else { return };
    let whole = follow(stream, stream.len().max(1), 0);
    let cut_up = follow(stream, usize::from(cut).max(1), 0);
    assert_eq!(whole, cut_up, "cut every {cut} bytes");
    let (bytes, is_flood) = whole;
    assert!(bytes <= stream.len() as u64);
    // Every frame has two bytes at least: a shorter stream cannot hold a flood.
    assert!(!is_flood || stream.len() as u64 >= 2 * CONTROL_FRAMES);
    let slower = follow(stream, usize::from(cut).max(1), seconds.into());
    assert!(is_flood || !slower.1);
}

/// The bytes of binary messages, and true if there was a flood.
fn follow(stream: &[u8], cut: usize, seconds: u64) -> (u64, bool) {
    let mut now = Instant::now();
    let has_handshake = stream.first().is_some_and(u8::is_ascii_alphabetic);
    let mut frames = if has_handshake { Frames::after_handshake(now) } else { Frames::new(now) };
    for part in stream.chunks(cut) {
        if let Err(Flood) = frames.take(part, now) {
            return (0, true);
        }
        now += Duration::from_secs(seconds);
    }
    (frames.binary_bytes(), false)
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    #[test]
    fn frames() {
        super::seeds::run("frames", 1500, super::frames);
    }
}
