//! Sizes, file types and contents of generated files.

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

/// Lengths of notes: the share of notes up to a number of bytes; sizes in between are spread evenly.
const NOTES: &[(f64, u64)] = &[
    (0.0, 0),
    (0.005, 0),
    (0.03, 60),
    (0.12, 300),
    (0.30, 900),
    (0.50, 2048),
    (0.75, 5200),
    (0.90, 12_500),
    (0.98, 26_000),
    (0.998, 90_000),
    (1.0, 300_000),
];

/// Lengths of attachments, likewise.
const ATTACHMENTS: &[(f64, u64)] = &[
    (0.0, 400),
    (0.20, 24_000),
    (0.50, 140_000),
    (0.80, 900_000),
    (0.95, 3_500_000),
    (0.995, 12_000_000),
    (1.0, 40_000_000),
];

const NOTE_TYPES: &[&str] = &["md", "md", "md", "md", "md", "md", "md", "md", "canvas", "base"];
const ATTACHMENT_TYPES: &[&str] =
    &["png", "jpg", "png", "webp", "pdf", "mp3", "m4a", "mp4", "svg", "csv", "zip"];

const WORDS: &[&str] = &[
    "the",
    "note",
    "of",
    "a",
    "project",
    "and",
    "in",
    "what",
    "we",
    "decided",
    "later",
    "about",
    "links",
    "to",
    "read",
    "again",
    "with",
    "questions",
    "for",
    "tomorrow",
    "is",
    "that",
    "more",
    "time",
    "than",
    "planned",
    "see",
    "[[Inbox]]",
    "[[Plan]]",
    "#todo",
    "#idea",
    "**important**",
    "`code`",
    "naïve",
    "日本語",
];

/// A suitable extension.
pub(super) fn extension(attachment: bool, rng: &mut ChaCha8Rng) -> &'static str {
    let types = if attachment { ATTACHMENT_TYPES } else { NOTE_TYPES };
    types[rng.random_range(0..types.len())]
}

/// A size in bytes.
pub(super) fn size(note: bool, rng: &mut ChaCha8Rng) -> u64 {
    let curve = if note { NOTES } else { ATTACHMENTS };
    at(curve, rng.random())
}

/// The value of a curve at a share; only basic arithmetic, which is the same on every machine.
fn at(curve: &[(f64, u64)], share: f64) -> u64 {
    for step in curve.windows(2) {
        let ((from, low), (to, high)) = (step[0], step[1]);
        if share < to && to > from {
            return low + ((high - low) as f64 * ((share - from) / (to - from))) as u64;
        }
    }
    curve.last().map_or(0, |(_, high)| *high)
}

/// Markdown of exactly `size` bytes. The path is its heading, so that no two long notes are the same.
pub(super) fn text(path: &str, size: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut text = String::with_capacity(size + 64);
    text.push_str("# ");
    text.push_str(path);
    text.push_str("\n\n");
    while text.len() < size {
        for _ in 0..rng.random_range(4..14) {
            text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
            text.push(' ');
        }
        text.push_str(if rng.random_range(0..4) == 0 { "\n\n- [ ] " } else { "\n" });
    }
    let end = text.floor_char_boundary(size);
    text.truncate(end);
    let mut text = text.into_bytes();
    text.resize(size, b'.');
    text
}

/// Noise of exactly `size` bytes, as compressed pictures and sounds are.
pub(super) fn noise(size: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut noise = vec![0; size];
    rng.fill_bytes(&mut noise);
    noise
}
