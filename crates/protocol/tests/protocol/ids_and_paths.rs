//! Valid and invalid ids, hashes and paths.

use obsync_protocol::{
    ContentHash, ContentHasher, EncryptionVersion, IdError, PathError, Uid, UnsupportedEncryption, VaultId,
    VaultPath, normalize_local_name,
};
use proptest::prelude::*;

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

proptest! {
    #[test]
    fn every_id_of_the_allowed_alphabet_comes_back(text in "[A-Za-z0-9_-]{1,64}") {
        let id = VaultId::try_new(text.as_str()).expect("allowed");
        prop_assert_eq!(id.to_string().parse::<VaultId>(), Ok(id.clone()));
        let json = serde_json::to_string(&id).expect("text");
        prop_assert_eq!(serde_json::from_str::<VaultId>(&json).expect("an id"), id);
    }

    #[test]
    fn every_hash_comes_back_from_its_text(bytes: [u8; 32]) {
        let hash = ContentHash::from_bytes(bytes);
        prop_assert_eq!(hash.to_string().parse(), Ok(hash));
        prop_assert_eq!(hash.as_bytes(), &bytes);
    }

    #[test]
    fn a_hash_of_parts_is_the_hash_of_the_whole(content: Vec<u8>, cut: usize) {
        let cut = cut % (content.len() + 1);
        let mut hasher = ContentHasher::new();
        hasher.update(&content[..cut]);
        hasher.update(&content[cut..]);
        prop_assert_eq!(hasher.finish(), ContentHash::of(&content));
    }

    #[test]
    fn every_path_that_is_accepted_is_kept_as_it_came_and_is_safe_to_join(text in any_text()) {
        if let Ok(path) = VaultPath::parse(&text) {
            prop_assert_eq!(path.as_str(), &text);
            let json = serde_json::to_string(&path).expect("text");
            prop_assert_eq!(&serde_json::from_str::<VaultPath>(&json).expect("a path"), &path);
            let depth = std::path::Path::new(&text).components().try_fold(0, |depth, part| match part {
                std::path::Component::Normal(_) => Some(depth + 1),
                _ => None,
            });
            prop_assert_eq!(depth, Some(path.segments().count()));
            let forbidden = ['\0', '\\', '\n', '\u{7f}', '\u{85}'];
            prop_assert!(!text.contains(forbidden));
        }
    }

    #[test]
    fn a_path_is_its_parent_joined_with_its_name(text in "[a-c. ]{1,3}(/[a-c. ]{1,3}){0,4}") {
        if let Ok(path) = VaultPath::parse(&text) {
            match path.parent() {
                Some(parent) => {
                    prop_assert!(path.is_below(&parent));
                    prop_assert_eq!(parent.join(path.file_name()), Ok(path.clone()));
                }
                None => prop_assert_eq!(path.file_name(), path.as_str()),
            }
            prop_assert_eq!(path.ancestors().count() + 1, path.segments().count());
            prop_assert!(path.ancestors().all(|ancestor| path.is_below(&ancestor)));
            prop_assert!(!path.is_below(&path));
        }
    }

    #[test]
    fn folding_again_changes_nothing(text in any_text()) {
        if let Ok(path) = VaultPath::parse(&text) {
            let folded = VaultPath::parse(&path.fold_key());
            prop_assert_eq!(folded.map(|folded| folded.fold_key()), Ok(path.fold_key()));
        }
    }

    #[test]
    fn normalising_again_changes_nothing(text in any_text()) {
        let normal = normalize_local_name(&text);
        prop_assert_eq!(normalize_local_name(&normal), normal);
    }
}

/// Texts with many of the characters that make paths invalid.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", "[a./\\\\\u{0}\u{85} ]{0,12}", "(\\.\\.|\\.|a|é|/|ǅ|Σ|ß|İ|\u{301}){0,12}"]
}

#[test]
fn ids_of_any_other_shape_are_refused() {
    for bad in ["", "a b", "../x", "ä", "a/b", &"a".repeat(65)] {
        assert_eq!(VaultId::try_new(bad), Err(IdError), "{bad:?}");
    }
}

#[test]
fn hashes_of_any_other_shape_are_refused() {
    for bad in [String::new(), "0".repeat(63), "0".repeat(65), "A".repeat(64), "g".repeat(64), "é".repeat(32)]
    {
        assert!(bad.parse::<ContentHash>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_hash_of_nothing_is_that_of_an_empty_content() {
    assert_eq!(ContentHash::of(b""), ContentHash::EMPTY);
    assert_eq!(ContentHasher::new().finish(), ContentHash::EMPTY);
}

#[test]
fn the_encryption_versions_have_their_numbers() {
    for number in 0..=10 {
        match EncryptionVersion::try_from(number) {
            Ok(version) => assert_eq!(u64::from(version.number()), number),
            Err(error) => assert_eq!(error, UnsupportedEncryption(number)),
        }
    }
    assert_eq!(EncryptionVersion::try_from(1), Err(UnsupportedEncryption(1)));
    assert_eq!(EncryptionVersion::try_from(4), Err(UnsupportedEncryption(4)));
    assert_eq!(Uid(7).to_string(), "7");
}

#[test]
fn ordinary_paths_are_accepted() {
    for good in [
        "a",
        "a/b.md",
        "...",
        "..a/b..",
        ".obsidian/app.json",
        "a b/ c ",
        "日本語/ノート.md",
        "e\u{301}",
        "a:b",
        "CON",
        "עברית/👩‍👩‍👧.md",
        "a\u{200b}b",
        "~",
        "$HOME",
        "*?<>|\"",
    ] {
        assert_eq!(VaultPath::parse(good).map(|path| path.to_string()).as_deref(), Ok(good));
    }
}

#[test]
fn hostile_paths_are_refused_with_the_rule_that_they_break() {
    for (bad, error) in [
        ("", PathError::Empty),
        ("/", PathError::Absolute),
        ("/a", PathError::Absolute),
        ("//a", PathError::Absolute),
        ("a//b", PathError::EmptySegment),
        ("a/", PathError::EmptySegment),
        (".", PathError::DotSegment),
        ("..", PathError::DotSegment),
        ("../a", PathError::DotSegment),
        ("a/../../b", PathError::DotSegment),
        ("a/./b", PathError::DotSegment),
        ("a/..", PathError::DotSegment),
        ("a\\b", PathError::Backslash),
        ("..\\a", PathError::Backslash),
        ("a\0", PathError::ControlCharacter),
        ("a\nb", PathError::ControlCharacter),
        ("a\u{1b}[2J", PathError::ControlCharacter),
        ("a\u{7f}", PathError::ControlCharacter),
        ("a\u{9b}", PathError::ControlCharacter),
    ] {
        assert_eq!(VaultPath::parse(bad), Err(error), "{bad:?}");
    }
    assert_eq!(VaultPath::parse(&"a".repeat(4096)).map(|_| ()), Ok(()));
    assert_eq!(VaultPath::parse(&"a".repeat(4097)), Err(PathError::TooLong { bytes: 4097 }));
}

#[test]
fn joining_does_not_let_a_hostile_part_in() {
    assert_eq!(path("a").join("b/c"), Ok(path("a/b/c")));
    assert_eq!(path("a").join("../b"), Err(PathError::DotSegment));
    assert_eq!(path("a").join("/b"), Err(PathError::Absolute));
    assert_eq!(path("a").join(""), Err(PathError::Empty));
    assert_eq!(path("a").join(&"b".repeat(4095)), Err(PathError::TooLong { bytes: 4097 }));
}

#[test]
fn below_means_inside_and_not_only_a_common_beginning() {
    assert!(path("a/b/c").is_below(&path("a")));
    assert!(path("a/b/c").is_below(&path("a/b")));
    assert!(!path("ab/c").is_below(&path("a")));
    assert!(!path("a").is_below(&path("a/b")));
}

#[test]
fn extensions_are_what_the_protocol_says() {
    for (name, extension) in [
        ("note.md", "md"),
        ("Photo.JPG", "jpg"),
        ("a.tar.GZ", "gz"),
        ("none", ""),
        (".hidden", ""),
        ("trailing.", ""),
        ("a.b.", ""),
        (".a.b", "b"),
        ("folder.d/none", ""),
        ("folder.d/a.ÄÖ", "äö"),
        ("...", ""),
    ] {
        assert_eq!(path(name).extension(), extension, "{name}");
    }
}

#[test]
fn paths_that_a_case_insensitive_file_system_confuses_have_one_key() {
    for (a, b) in [
        ("Note.md", "nOTE.MD"),
        ("ÄÖ", "äö"),
        ("é", "e\u{301}"),
        ("É", "e\u{301}"),
        ("ΟΔΟΣ", "οδος"),
        ("ΟΔΟΣ", "οδοσ"),
    ] {
        assert_eq!(path(a).fold_key(), path(b).fold_key(), "{a} and {b}");
    }
    assert_ne!(path("a").fold_key(), path("b").fold_key());
    assert_ne!(path("e").fold_key(), path("é").fold_key());
}

#[test]
fn local_names_take_the_form_of_vault_paths() {
    for (name, normal) in [
        ("a/b", "a/b"),
        ("/a//b/", "a/b"),
        ("e\u{301}.md", "é.md"),
        ("a\u{a0}b\u{202f}c", "a b c"),
        ("a\\b", "a\\b"),
        ("", ""),
    ] {
        assert_eq!(normalize_local_name(name), normal, "{name:?}");
    }
}
