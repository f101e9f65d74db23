//! Names and paths of generated files: unique, in Unicode's composed form (NFC), up to 255 bytes a segment.

use obsync_protocol::normalize_local_name;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::scripts::{SCRIPTS, Script};

/// The longest name that Linux file systems take, in bytes.
const LONGEST_SEGMENT: usize = 255;

/// Deepest nesting of folders.
const DEEPEST: usize = 5;

/// One name in this many has the maximal length, when names are in many scripts.
const ONE_IN_LONGEST: u32 = 40;

const WORDS: &[&str] = &[
    "Meeting",
    "Notes",
    "Project",
    "Plan",
    "Daily",
    "Weekly",
    "Review",
    "Ideas",
    "Draft",
    "Reading",
    "Recipe",
    "Garden",
    "Travel",
    "Budget",
    "Book",
    "Lecture",
    "Summary",
    "Research",
    "Interview",
    "List",
    "Journal",
    "Letter",
    "Sketch",
    "Archive",
    "Inbox",
    "Reference",
    "Question",
    "Goal",
    "Habit",
    "Workout",
];

/// The names of one generated vault.
pub(super) struct Names {
    many_scripts: bool,
    folders: Vec<String>,
}

impl Names {
    /// Creates the folders: about one for 25 files, in a tree.
    pub(super) fn new(files: usize, many_scripts: bool, rng: &mut ChaCha8Rng) -> Self {
        let mut names = Self { many_scripts, folders: Vec::new() };
        for number in 0..files.div_ceil(25) {
            let name = names.segment(&format!(" {number}"), rng);
            let path = match names.parent(rng) {
                Some(parent) => format!("{parent}/{name}"),
                None => name,
            };
            names.folders.push(path);
        }
        names
    }

    /// The path of the file with this number: unique, as the number is part of it.
    pub(super) fn file(&self, number: usize, extension: &str, rng: &mut ChaCha8Rng) -> String {
        let name = self.segment(&format!(" {number}.{extension}"), rng);
        let in_root = self.folders.is_empty() || rng.random_range(0..10) == 0;
        if in_root {
            return name;
        }
        format!("{}/{name}", self.folders[rng.random_range(0..self.folders.len())])
    }

    /// A folder to put another one into, or none for the root.
    fn parent(&self, rng: &mut ChaCha8Rng) -> Option<&String> {
        if self.folders.is_empty() || rng.random_range(0..3) == 0 {
            return None;
        }
        let parent = &self.folders[rng.random_range(0..self.folders.len())];
        (parent.matches('/').count() + 1 < DEEPEST).then_some(parent)
    }

    fn segment(&self, ending: &str, rng: &mut ChaCha8Rng) -> String {
        if !self.many_scripts {
            let (one, other) = (rng.random_range(0..WORDS.len()), rng.random_range(0..WORDS.len()));
            return format!("{} {}{ending}", WORDS[one], WORDS[other]);
        }
        let script = &SCRIPTS[rng.random_range(0..SCRIPTS.len())];
        if rng.random_range(0..ONE_IN_LONGEST) == 0 {
            return longest(script, ending, rng);
        }
        let words = rng.random_range(1..=3);
        let words: Vec<String> = (0..words).map(|_| script.word(rng)).collect();
        normalize_local_name(&format!("{}{ending}", words.join(" ")))
    }
}

/// A name of exactly 255 bytes in a script; the rest too short for another letter is filled with `x`.
fn longest(script: &Script, ending: &str, rng: &mut ChaCha8Rng) -> String {
    let length = LONGEST_SEGMENT - ending.len();
    let mut name = String::new();
    loop {
        let mut longer = name.clone();
        longer.push(script.letter(rng, name.is_empty()));
        let longer = normalize_local_name(&longer);
        if longer.len() > length {
            break;
        }
        name = longer;
    }
    while name.len() < length {
        name.push('x');
    }
    // Every ending begins with a space, which composes with nothing: the name is still NFC.
    name + ending
}
