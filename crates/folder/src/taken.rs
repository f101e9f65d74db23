//! Files that came out of their places, to be compared: what they are called in the staging folder, and what is known of them.

use obsync_protocol::{ContentHash, VaultPath};

use super::entry::Facts;

/// How the names of files in the staging folder begin that came out of their places.
const TAKEN: &str = "taken-";
/// What such a name is made of besides: two hashes in hexadecimal digits, and a dash.
const DIGITS: usize = 64;
/// How many files of one place, with one expectation, can lie there unjudged.
const MOST: u32 = 99;

/// A file that came out of its place and is as expected.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: VaultPath,
    /// Its name in the staging folder.
    pub(super) name: String,
    /// What it was like when it had come out.
    pub(super) facts: Facts,
    pub(super) content: ContentHash,
}

/// The names for a file that comes out of `path`, where `expected` is to be. All but the first are for when others of that
/// place came out before and are not judged yet.
pub(super) fn taken_names(path: &VaultPath, expected: ContentHash) -> impl Iterator<Item = String> {
    let first = format!("{TAKEN}{}-{expected}", ContentHash::of(path.as_str().as_bytes()));
    let others = first.clone();
    std::iter::once(first).chain((2..=MOST).map(move |number| format!("{others}-{number}")))
}

/// The hash of the path and the content that was expected, if a name in the staging folder is that of a file that came out.
pub(super) fn parse(name: &str) -> Option<(ContentHash, ContentHash)> {
    let rest = name.strip_prefix(TAKEN)?;
    let (path, expected) = (rest.get(..DIGITS)?, rest.get(DIGITS + 1..2 * DIGITS + 1)?);
    let number = rest.get(2 * DIGITS + 1..)?;
    let is_number = number.strip_prefix('-').is_some_and(|digits| digits.parse::<u32>().is_ok());
    let parsed = (path.parse().ok()?, expected.parse().ok()?);
    (number.is_empty() || is_number).then_some(parsed)
}

/// Whether a name in the staging folder is that of a file that came out of its place.
pub(super) fn is_taken(name: &str) -> bool {
    parse(name).is_some()
}

/// What is to be replaced: the file with these facts, which has this content.
#[derive(Clone, Copy)]
pub(super) struct Replaced {
    pub(super) facts: Facts,
    pub(super) content: ContentHash,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_name_of_a_file_that_came_out_says_where_it_was_and_what_was_expected() {
        let path = VaultPath::parse("a/note.md").unwrap();
        let expected = ContentHash::of(b"text");
        let names: HashSet<String> = taken_names(&path, expected).collect();
        assert_eq!(names.len(), MOST as usize);
        for name in &names {
            assert!(name.len() <= 143, "the shortest limit of names that is known");
            assert_eq!(parse(name), Some((ContentHash::of(b"a/note.md"), expected)));
        }
        let first = taken_names(&path, expected).next().unwrap();
        assert!(!is_taken(&format!("{first}-")) && !is_taken(&format!("{first}x")));
        assert!(!is_taken(&expected.to_string()) && !is_taken(&format!("{expected}-1")));
    }
}
