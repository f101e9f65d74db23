//! Names that git acts on, in every spelling that some file system treats as equal.
//!
//! Git runs programs that the configuration of a repository names, so anyone who can write `.git/config`, or
//! the files of a bare repository, runs programs on the machine of a user who calls git there. The rules are
//! those that git itself checks before it writes a path (`is_ntfs_dotgit` in its path.c, `is_hfs_dotgit` in
//! its utf8.c), and more: case folding directories of ext4 ignore all code points that Unicode calls default
//! ignorable, and ZFS can compare names by compatibility (NFKD).

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization as _;

/// Role of a name in a bare repository. Git treats a folder as one if it has a head and a body, or a head and
/// a `commondir` that names the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryPart {
    /// `HEAD`.
    Head,
    /// `objects`, `refs` or `commondir`.
    Body,
}

impl RepositoryPart {
    /// The role of a segment of a path, or a name in a folder, in a bare repository; `None` for nearly all
    /// names.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        if name.is_ascii() && !name.bytes().next().is_some_and(|first| b"hHoOrRcC".contains(&first)) {
            return None;
        }
        if is_of_another_script(name) {
            return None;
        }
        match &*fold(name) {
            "head" => Some(Self::Head),
            "objects" | "refs" | "commondir" => Some(Self::Body),
            _ => None,
        }
    }
}

/// A text that is equal for two paths that some file system treats as one, including the least discerning.
#[must_use]
pub fn alias_key(path: &str) -> String {
    let mut key = String::with_capacity(path.len());
    for segment in path.split('/') {
        key.push_str(&fold(segment));
        key.push('/');
    }
    key
}

/// True if some file system treats this segment as `.git`.
pub(crate) fn is_git_folder(segment: &str) -> bool {
    if is_of_another_script(segment) {
        return false;
    }
    if segment.is_ascii() && !segment.bytes().next().is_some_and(|first| b".gG".contains(&first)) {
        return false;
    }
    let folded = fold(segment);
    // The short name of `.git` on NTFS is `git~1`, or a later number if that was taken.
    let short = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    folded == ".git" || folded.strip_prefix("git~").is_some_and(short)
}

/// A name as compared by the least discerning file system: without ignorable code points, in lower case,
/// without an NTFS stream, and without trailing dots and spaces.
pub(crate) fn fold(name: &str) -> Cow<'_, str> {
    let folded = match name {
        plain if plain.is_ascii() && !plain.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Cow::Borrowed(plain)
        }
        ascii if ascii.is_ascii() => Cow::Owned(ascii.to_ascii_lowercase()),
        other => Cow::Owned(
            other
                .chars()
                .filter(|character| !is_ignorable(*character))
                .nfkd()
                .flat_map(char::to_lowercase)
                .map(|character| if character == 'ı' { 'i' } else { character })
                .collect(),
        ),
    };
    match folded {
        Cow::Borrowed(text) => Cow::Borrowed(without_tail(text)),
        Cow::Owned(text) if without_tail(&text).len() == text.len() => Cow::Owned(text),
        Cow::Owned(text) => Cow::Owned(without_tail(&text).to_owned()),
    }
}

/// True if a name has a letter that no folding turns into an ASCII one: true for nearly all names that are
/// not ASCII, which then need no folding.
fn is_of_another_script(name: &str) -> bool {
    let is_other = |character: char| {
        let other = matches!(
            character,
            '\u{c0}'..='\u{12f}'
                | '\u{132}'..='\u{17e}'
                | '\u{180}'..='\u{2af}'
                | '\u{300}'..='\u{36f}'
                | '\u{3b1}'..='\u{1cff}'
                | '\u{3041}'..='\u{30ff}'
                | '\u{3400}'..='\u{9fff}'
                | '\u{ac00}'..='\u{d7a3}'
        );
        other && !is_ignorable(character)
    };
    !name.is_ascii() && name.chars().any(is_other)
}

fn without_tail(name: &str) -> &str {
    let name = name.split_once(':').map_or(name, |(name, _stream)| name);
    name.trim_end_matches(['.', ' '])
}

/// Code points with the property `Default_Ignorable_Code_Point` of Unicode. HFS+ ignores some of them, case
/// folding directories of ext4 all.
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}
