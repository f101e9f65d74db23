//! Files that came out of their places, to be compared: what they are called in the staging folder, and what is known of them.

use obsync_protocol::{ContentHash, VaultPath};

use super::entry::Facts;

/// How the names of files in the staging folder begin that came out of their places.
const TAKEN: &str = "taken-";
/// What such a name is made of besides: two hashes in hexadecimal digits, and a dash.
const DIGITS: usize = 64;

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

/// The name of a file that comes out of `path`, where `expected` is to be.
pub(super) fn taken_name(path: &VaultPath, expected: ContentHash) -> String {
    format!("{TAKEN}{}-{expected}", ContentHash::of(path.as_str().as_bytes()))
}

/// The hash of the path and the content that was expected, if a name in the staging folder is that of a file that came out.
pub(super) fn parse(name: &str) -> Option<(ContentHash, ContentHash)> {
    let rest = name.strip_prefix(TAKEN)?;
    let (path, expected) = (rest.get(..DIGITS)?, rest.get(DIGITS + 1..)?);
    Some((path.parse().ok()?, expected.parse().ok()?))
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
    use super::*;

    #[test]
    fn the_name_of_a_file_that_came_out_says_where_it_was_and_what_was_expected() {
        let path = VaultPath::parse("a/note.md").unwrap();
        let expected = ContentHash::of(b"text");
        let name = taken_name(&path, expected);
        assert!(name.len() <= 143, "the shortest limit of names that is known");
        assert_eq!(parse(&name), Some((ContentHash::of(b"a/note.md"), expected)));
        assert!(!is_taken(&expected.to_string()) && !is_taken(&format!("{expected}-1")));
    }
}
