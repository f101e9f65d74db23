//! Files taken out of their places to be compared: their names in the staging folder, and their facts.

use cap_std::fs::Dir;
use obsync_protocol::{ContentHash, VaultPath};
use rustix::io::Errno;

use super::entry::Facts;
use super::rename::rename_new;

/// Prefix of the names of taken files in the staging folder.
const TAKEN: &str = "taken-";
/// The same for files that go to the trash once they are judged. The name says so, because the next run
/// judges the files of a killed one and may not use a trash itself. Both prefixes have the same length,
/// because the length of names is limited.
const FOR_TRASH: &str = "trash-";
/// Files of one path and one expected content that can wait in the staging folder to be judged.
const MOST: usize = 100;
/// Digits of the two hexadecimal hashes in such a name, with a dash between them, and a number if there are
/// several for one path.
const DIGITS: usize = 64;

/// A file that was taken out of its place and is as expected.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: VaultPath,
    /// Its name in the staging folder.
    pub(super) name: String,
    /// Its facts after it was taken.
    pub(super) facts: Facts,
    pub(super) content: ContentHash,
}

/// Possible names of a file taken from `path`, where `expected` should be. Further ones are used if an
/// earlier file is not judged yet.
fn taken_names(path: &VaultPath, expected: ContentHash, uses_trash: bool) -> impl Iterator<Item = String> {
    let prefix = if uses_trash { FOR_TRASH } else { TAKEN };
    let first = format!("{prefix}{}-{expected}", ContentHash::of(path.as_str().as_bytes()));
    let others = (1..MOST).map({
        let first = first.clone();
        move |number| format!("{first}-{number}")
    });
    std::iter::once(first).chain(others)
}

/// Renames a file to the first of these names that is free in the staging folder, and returns that.
pub(super) fn rename_to_taken(
    from: (&Dir, &str),
    staging: &Dir,
    path: &VaultPath,
    expected: ContentHash,
    uses_trash: bool,
) -> rustix::io::Result<String> {
    for taken in taken_names(path, expected, uses_trash) {
        match rename_new(from.0, from.1, staging, &taken) {
            Ok(()) => return Ok(taken),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY)
}

/// The hash of the path and the expected content, if a name in the staging folder is that of a taken file.
pub(super) fn parse(name: &str) -> Option<(ContentHash, ContentHash)> {
    let rest = name.strip_prefix(TAKEN).or_else(|| name.strip_prefix(FOR_TRASH))?;
    let (path, expected) = (rest.get(..DIGITS)?, rest.get(DIGITS + 1..2 * DIGITS + 1)?);
    let number = rest.get(2 * DIGITS + 1..)?;
    let is_number = |text: &str| text.parse::<usize>().is_ok_and(|number| number < MOST);
    let is_name = number.is_empty() || number.strip_prefix('-').is_some_and(is_number);
    is_name.then_some((path.parse().ok()?, expected.parse().ok()?))
}

/// True if a name in the staging folder is that of a taken file.
pub(super) fn is_taken(name: &str) -> bool {
    parse(name).is_some()
}

/// True if a taken file goes to the trash.
pub(super) fn is_for_trash(name: &str) -> bool {
    name.starts_with(FOR_TRASH)
}

/// The file to replace, with its facts and content.
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
        for uses_trash in [false, true] {
            let names: Vec<String> = taken_names(&path, expected, uses_trash).collect();
            assert_eq!(names.len(), MOST);
            for name in &names {
                assert!(name.len() <= 143, "the shortest limit of names that is known");
                assert_eq!(parse(name), Some((ContentHash::of(b"a/note.md"), expected)));
                assert_eq!(is_for_trash(name), uses_trash);
                assert!(!is_taken(&format!("{name}-x")));
            }
        }
        assert!(!is_taken(&expected.to_string()) && !is_taken(&format!("{expected}-1")));
    }
}
