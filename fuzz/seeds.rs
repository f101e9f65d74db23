//! Fuzzing in ordinary tests: a target's entry point, run over its committed seeds and over reproducible
//! mutations of them. The crates that own entry points include this file by its path.

use std::fs;
use std::path::Path;

/// Runs `entry` over the seeds in `fuzz/seeds/<target>`, and over this many mutations of them.
pub(crate) fn run(target: &str, mutations: usize, entry: impl Fn(&[u8])) {
    let seeds = of(target);
    let checked = |input: &[u8]| {
        let _shown = Shown(input);
        entry(input);
    };
    seeds.iter().for_each(|seed| checked(seed));
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for turn in 0..mutations {
        let mut input = seeds[turn % seeds.len()].clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut input, &seeds, &mut chance);
        }
        checked(&input);
    }
}

/// The seeds, in the order of their names.
fn of(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let files = fs::read_dir(&directory).expect("a target has a directory of seeds");
    let mut files: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.iter().map(|file| fs::read(file).expect("a seed can be read")).collect()
}

/// Prints an input if handling it panics.
struct Shown<'i>(&'i [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was: \"{}\"", self.0.escape_ascii());
        }
    }
}

/// Pseudo-random numbers, the same in every run: xorshift64 (Marsaglia, 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or_default() % bound.max(1)
    }
}

/// Texts with a special meaning in their surroundings.
const PIECES: [&[u8]; 14] = [
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b",",
    b"/../",
    b"-1",
    b"null",
    b"1e308",
    b"18446744073709551615",
    b"\xff\xff",
    b"\xcc\x87",
    b"\\ud800",
];

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let (from, to) = (chance.below(input.len()), chance.below(input.len() + 1));
    let (from, to) = (from.min(to), to);
    match chance.below(7) {
        0 if !input.is_empty() => input[from] ^= 1 << chance.below(8),
        1 if !input.is_empty() => input[from] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'f'][chance.below(8)],
        2 => drop(input.drain(from..to)),
        3 => input.extend_from_within(from..to),
        4 => drop(input.splice(from..from, PIECES[chance.below(PIECES.len())].iter().copied())),
        5 => input.truncate(to),
        _ => {
            let other = &seeds[chance.below(seeds.len())];
            let tail = &other[chance.below(other.len())..];
            drop(input.splice(from.., tail.iter().copied()));
        }
    }
}
