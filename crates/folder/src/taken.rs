//! Files taken out of their places to be compared: their names in the staging folder, or beside their places
//! where that is in another file system, and their facts.

use cap_std::fs::Dir;
use obsync_protocol::{ContentHash, VaultPath};
use rustix::io::Errno;

use super::entry::Facts;
use super::rename::rename_new;

/// Prefix of the names of taken files in the staging folder.
const TAKEN: &str = "taken-";
/// The same for files that go to the trash once they are judged. The name says so, because the next run
/// judges the files of a killed one and may not use a trash itself. All prefixes have the same length,
/// because the length of names is limited.
const FOR_TRASH: &str = "trash-";
/// The same for a user's files that are not needed because a conflicted copy has their content.
const COPIED: &str = "equal-";
/// Precedes these names beside the files' places. Such a name has as many bytes as the shortest known limit.
const BESIDE: &str = ".obsync-";
/// Files of one path and one expected content that can wait in the staging folder to be judged.
const MOST: usize = 100;
/// Digits of the two hexadecimal hashes in such a name, with a dash between them, and a number if there are
/// several for one path.
const DIGITS: usize = 64;

/// A file that was taken out of its place and is as expected.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) path: VaultPath,
    /// Its present name.
    pub(super) name: String,
    /// That is in the folder of its path, not in the staging folder.
    pub(super) is_beside: bool,
    /// Its facts after it was taken.
    pub(super) facts: Facts,
    pub(super) content: ContentHash,
}

/// Folder of a taken file.
#[derive(Clone, Copy)]
pub(super) enum Aside<'a> {
    /// The staging folder.
    Staging(&'a Dir),
    /// The folder that it was taken from: staging is in another file system, or cannot be used.
    Beside(&'a Dir),
}

impl<'a> Aside<'a> {
    pub(super) fn dir(self) -> &'a Dir {
        match self {
            Aside::Staging(dir) | Aside::Beside(dir) => dir,
        }
    }

    pub(super) fn is_beside(self) -> bool {
        matches!(self, Aside::Beside(_))
    }
}

/// Why a file is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// It is removed or replaced.
    ToRemove,
    /// The same, and it goes to the trash.
    ForTrash,
    /// A conflicted copy has its content.
    HasCopy,
}

/// Possible names of a file taken from `path`, where `expected` should be. Further ones are used if an
/// earlier file is not judged yet.
fn taken_names(path: &VaultPath, expected: ContentHash, taking: Taking) -> impl Iterator<Item = String> {
    let prefix = match taking {
        Taking::ToRemove => TAKEN,
        Taking::ForTrash => FOR_TRASH,
        Taking::HasCopy => COPIED,
    };
    let first = format!("{prefix}{}-{expected}", ContentHash::of(path.as_str().as_bytes()));
    let others = (1..MOST).map({
        let first = first.clone();
        move |number| format!("{first}-{number}")
    });
    std::iter::once(first).chain(others)
}

/// Renames a file to the first of these names that is free, and returns that.
pub(super) fn rename_to_taken(
    from: (&Dir, &str),
    aside: Aside<'_>,
    path: &VaultPath,
    expected: ContentHash,
    taking: Taking,
) -> rustix::io::Result<String> {
    for taken in taken_names(path, expected, taking) {
        let taken = if aside.is_beside() { format!("{BESIDE}{taken}") } else { taken };
        match rename_new(from.0, from.1, aside.dir(), &taken) {
            Ok(()) => return Ok(taken),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::BUSY)
}

/// The hash of the path and the expected content, if a name is that of a taken file.
pub(super) fn parse(name: &str) -> Option<(ContentHash, ContentHash)> {
    let name = without_place(name);
    let rest = [TAKEN, FOR_TRASH, COPIED].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let (path, expected) = (rest.get(..DIGITS)?, rest.get(DIGITS + 1..2 * DIGITS + 1)?);
    let number = rest.get(2 * DIGITS + 1..)?;
    let is_number = |text: &str| text.parse::<usize>().is_ok_and(|number| number < MOST);
    let is_name = number.is_empty() || number.strip_prefix('-').is_some_and(is_number);
    is_name.then_some((path.parse().ok()?, expected.parse().ok()?))
}

fn without_place(name: &str) -> &str {
    name.strip_prefix(BESIDE).unwrap_or(name)
}

/// True if a name is that of a taken file.
pub(super) fn is_taken(name: &str) -> bool {
    parse(name).is_some()
}

/// True if a name is that of a taken file beside its place.
pub(super) fn is_taken_beside(name: &str) -> bool {
    name.starts_with(BESIDE) && is_taken(name)
}

/// True if a taken file goes to the trash.
pub(super) fn is_for_trash(name: &str) -> bool {
    without_place(name).starts_with(FOR_TRASH)
}

/// True if a taken file is a user's of which there was a copy.
pub(super) fn has_copy(name: &str) -> bool {
    without_place(name).starts_with(COPIED)
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
        for taking in [Taking::ToRemove, Taking::ForTrash, Taking::HasCopy] {
            let names: Vec<String> = taken_names(&path, expected, taking).collect();
            assert_eq!(names.len(), MOST);
            assert!(BESIDE.len() + names[0].len() <= 143, "the shortest limit of names that is known");
            for name in &names {
                assert!(name.len() <= 143);
                for name in [name.clone(), format!("{BESIDE}{name}")] {
                    assert_eq!(parse(&name), Some((ContentHash::of(b"a/note.md"), expected)));
                    assert_eq!(
                        (is_for_trash(&name), has_copy(&name)),
                        (taking == Taking::ForTrash, taking == Taking::HasCopy)
                    );
                    assert_eq!(is_taken_beside(&name), name.starts_with(BESIDE));
                    assert!(!is_taken(&format!("{name}-x")));
                }
            }
        }
        assert!(!is_taken(&expected.to_string()) && !is_taken(&format!("{expected}-1")));
    }
}
