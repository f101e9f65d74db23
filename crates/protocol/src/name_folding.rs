//! Folds names like a file system that treats several as one.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::VaultPath;

/// The names that a destination treats as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameFolding {
    /// Only equal names.
    #[default]
    Nothing,
    /// Names that differ only in Unicode normalisation: `é` as one character, and as `e` with an accent.
    Normalization,
    /// Names that differ in letter case too.
    Case,
}

impl NameFolding {
    /// True if two different names can be one.
    #[must_use]
    pub fn is_any(self) -> bool {
        self != Self::Nothing
    }

    /// A text that is equal for two paths that the destination may treat as one.
    #[must_use]
    pub fn key(self, path: &VaultPath) -> Cow<'_, str> {
        match self {
            Self::Normalization if !path.as_str().is_ascii() => Cow::Owned(path.as_str().nfc().collect()),
            Self::Nothing | Self::Normalization => Cow::Borrowed(path.as_str()),
            Self::Case => Cow::Owned(path.fold_key()),
        }
    }

    /// The difference between two paths with one key, for people.
    #[must_use]
    pub fn difference(one: &VaultPath, other: &VaultPath) -> &'static str {
        match Self::Normalization.key(one) == Self::Normalization.key(other) {
            true => "in how its accents are written (Unicode normalisation)",
            false => "in letter case",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_one(folding: NameFolding, one: &str, other: &str) -> bool {
        let path = |text| VaultPath::parse(text).unwrap();
        folding.key(&path(one)) == folding.key(&path(other))
    }

    #[test]
    fn names_are_one_as_far_as_the_file_system_folds_them() {
        let composed = ("Caf\u{e9}.md", "Cafe\u{301}.md");
        let case = ("Café.md", "CAFÉ.md");
        for (folding, expected) in [
            (NameFolding::Nothing, [false, false]),
            (NameFolding::Normalization, [true, false]),
            (NameFolding::Case, [true, true]),
        ] {
            assert_eq!(
                [composed, case].map(|(one, other)| is_one(folding, one, other)),
                expected,
                "{folding:?}"
            );
        }
        assert!(!is_one(NameFolding::Case, "a.md", "b.md"));
    }
}
