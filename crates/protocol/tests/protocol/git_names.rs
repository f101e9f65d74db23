//! No path at which git would find a repository is written, whatever its spelling.

use obsync_protocol::{PathError, RepositoryPart, VaultPath};
use proptest::prelude::*;

/// Code points that HFS+ ignores (git's utf8.c), and some that only folding directories of ext4 do.
const IGNORED: &[char] = &[
    '\u{200c}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
    '\u{202e}', '\u{206a}', '\u{206f}', '\u{feff}', '\u{ad}', '\u{34f}', '\u{200b}', '\u{fe0f}',
];

fn check(path: &str) -> Result<(), PathError> {
    VaultPath::parse(path).expect("a path").check_to_write()
}

#[test]
fn every_spelling_that_git_refuses_is_refused() {
    for name in [
        ".git",
        ".GIT",
        ".Git",
        ".gIt",
        ".git ",
        ".git.",
        ".git. . .",
        ".git...",
        "git~1",
        "GIT~1",
        "Git~1",
        "git~1 ",
        "git~1.",
        "GIT~2",
        "git~10",
        ".git:",
        ".git::$INDEX_ALLOCATION",
        ".GIT:x",
        "git~1:x",
        ".git . :x",
        ".g\u{200c}it",
        "\u{200c}.git",
        ".git\u{200c}",
        ".Gi\u{feff}T",
        ".g\u{ad}it",
        ".ｇｉｔ",
        "．git",
    ] {
        for path in [
            name.to_owned(),
            format!("Projects/{name}/config"),
            format!("{name}/hooks/x"),
            format!("a/{name}"),
        ] {
            assert_eq!(check(&path), Err(PathError::GitFolder), "{path:?}");
        }
    }
}

#[test]
fn names_that_only_resemble_it_pass() {
    for name in [
        "git",
        "digit",
        ".gitignore",
        ".github",
        "git~",
        "git~x",
        "git~1x",
        "my.git",
        "widget.git",
        "git-notes.md",
        "GIT",
        "..git",
        "gít",
        ".gi",
        "a.git.md",
        "Gitarre",
        "日本 git",
    ] {
        assert_eq!(check(name), Ok(()), "{name:?}");
        assert_eq!(check(&format!("a/{name}/b.md")), Ok(()), "{name:?}");
    }
}

#[test]
fn the_parts_of_a_bare_repository_are_known_in_every_spelling() {
    for name in ["HEAD", "head", "Head", "HEAD.", "HEAD ", "HEAD:x", "H\u{200d}EAD", "ＨＥＡＤ"] {
        assert_eq!(RepositoryPart::of(name), Some(RepositoryPart::Head), "{name:?}");
    }
    for name in ["objects", "OBJECTS", "refs", "Refs. ", "commondir", "CommonDir", "re\u{ad}fs", "objectſ"] {
        assert_eq!(RepositoryPart::of(name), Some(RepositoryPart::Body), "{name:?}");
    }
    for name in ["HEAD.md", "headings", "object", "refs.bib", "references", "config", "hooks", "", "Ünïcode"]
    {
        assert_eq!(RepositoryPart::of(name), None, "{name:?}");
    }
}

#[test]
fn a_path_has_at_most_a_hundred_segments() {
    assert_eq!(check(&vec!["a"; 100].join("/")), Ok(()));
    assert_eq!(check(&vec!["a"; 101].join("/")), Err(PathError::TooDeep { segments: 101 }));
}

/// A spelling of `name` that some file system treats as equal.
fn spelled(name: &'static str) -> impl Strategy<Value = String> {
    let characters: Vec<char> = name.chars().collect();
    let count = characters.len();
    let ignored = || prop::collection::vec(prop::sample::select(IGNORED), 0..3);
    let each = prop::collection::vec((any::<bool>(), ignored()), count);
    let tail = "[. ]{0,4}(:[a-zA-Z$:_]{0,20})?";
    (each, ignored(), tail).prop_map(move |(each, first, tail)| {
        let mut text: String = first.into_iter().collect();
        for (character, (upper, ignored)) in characters.iter().zip(each) {
            text.push(if upper { character.to_ascii_uppercase() } else { *character });
            text.extend(ignored);
        }
        text + &tail
    })
}

proptest! {
    #[test]
    fn every_equivalent_of_the_git_folder_is_refused_anywhere_in_a_path(
        name in prop_oneof![spelled(".git"), spelled("git~1"), spelled("git~7")],
        before in "([a-zé]{1,5}/){0,3}", after in "(/[a-z.]{1,5}x){0,3}",
    ) {
        let path = format!("{before}{name}{after}");
        prop_assert_eq!(check(&path), Err(PathError::GitFolder), "{:?}", path);
    }

    #[test]
    fn every_equivalent_of_a_part_of_a_bare_repository_is_known(
        head in spelled("head"),
        body in prop_oneof![spelled("objects"), spelled("refs"), spelled("commondir")],
    ) {
        prop_assert_eq!(RepositoryPart::of(&head), Some(RepositoryPart::Head));
        prop_assert_eq!(RepositoryPart::of(&body), Some(RepositoryPart::Body));
    }

    #[test]
    fn ordinary_names_pass(name in "[\\p{L}\\p{N}][\\p{L}\\p{N} _()&'-]{0,20}(\\.[a-z]{2,4})?") {
        prop_assert_eq!(check(&name), Ok(()));
        prop_assert_eq!(check(&format!("{name}/{name}")), Ok(()));
    }
}
