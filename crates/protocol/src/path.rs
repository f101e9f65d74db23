//! Paths inside a vault: the plain form, checked, and the encoded forms on the wire.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

use crate::git_names::is_git_folder;
use crate::limits::PATH_SEGMENTS;

/// Limit of a plain path, in bytes: that of a Linux system call.
const MAX_PATH: usize = 4096;

/// The plain path of an entry: relative, separated by `/`, safe to join to a root.
///
/// A value of this type has no empty, `.` or `..` segment, no backslash and no control character, so the text
/// of a path from a server cannot lead out of the folder that it is joined to (docs/PROTOCOL.md section 4).
/// It is otherwise unchanged: two paths that differ in Unicode normalisation are two paths. The order is that
/// of the bytes. Cloning is cheap, the text is shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VaultPath(Arc<str>);

impl VaultPath {
    /// Checks a plain path.
    ///
    /// # Errors
    /// [`PathError`] with the violated rule.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        Self::check(path)?;
        Ok(Self(path.into()))
    }

    /// Checks a text against the rules of a plain path.
    ///
    /// # Errors
    /// As for [`VaultPath::parse`].
    pub fn check(path: &str) -> Result<(), PathError> {
        check(path)
    }

    /// Checks the additional rules for a path that is written: no segment that a file system may treat as
    /// `.git`, and at most [`PATH_SEGMENTS`] segments. An existing file at such a path can still be removed.
    ///
    /// # Errors
    /// [`PathError::GitFolder`] or [`PathError::TooDeep`].
    pub fn check_to_write(&self) -> Result<(), PathError> {
        let mut segments = 0;
        for segment in self.segments() {
            segments += 1;
            if is_git_folder(segment) {
                return Err(PathError::GitFolder);
            }
        }
        if segments > PATH_SEGMENTS { Err(PathError::TooDeep { segments }) } else { Ok(()) }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, outermost first; at least one.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }

    /// The folder of the entry; `None` for an entry at the root of the vault.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The parent folders of the entry, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// The extension in the protocol's sense: the lower-case part of the name after its last dot; empty if
    /// there is no dot or it is the name's first or last character (docs/PROTOCOL.md section 3).
    #[must_use]
    pub fn extension(&self) -> String {
        self.lower_case_extension().into_owned()
    }

    /// The [`extension`](Self::extension), borrowed if it is already lower-case.
    pub(crate) fn lower_case_extension(&self) -> Cow<'_, str> {
        match self.file_name().rsplit_once('.') {
            Some(("", _)) | None => Cow::Borrowed(""),
            Some((_, extension)) if extension.bytes().all(is_lower_case) => Cow::Borrowed(extension),
            Some((_, extension)) => Cow::Owned(extension.to_lowercase()),
        }
    }

    /// The path of an entry below this folder.
    ///
    /// # Errors
    /// [`PathError`] if `below` is not a path by itself or the whole becomes too long.
    pub fn join(&self, below: &str) -> Result<Self, PathError> {
        check(below)?;
        Self::parse(&format!("{}/{below}", self.0))
    }

    /// True if this entry is inside that folder, at any depth. No path is below itself.
    #[must_use]
    pub fn is_below(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&*folder.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// A text that is equal for two paths that a case-insensitive file system may treat as one: normalised to
    /// NFC and lower-case.
    #[must_use]
    pub fn fold_key(&self) -> String {
        if self.0.is_ascii() {
            return self.0.to_ascii_lowercase();
        }
        // Each character by itself, and the final sigma as the other one: the lower case of a whole word
        // depends on the position of its sigma, which no file system considers.
        let lower = self.0.nfc().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
        lower.nfc().collect()
    }
}

/// True if a byte is a character of its own that is its own lower case.
fn is_lower_case(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_uppercase()
}

/// Checks a path against the rules for [`VaultPath`].
fn check(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.len() > MAX_PATH {
        return Err(PathError::TooLong { bytes: path.len() });
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.contains('\\') {
        return Err(PathError::Backslash);
    }
    if has_control_character(path) {
        return Err(PathError::ControlCharacter);
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

/// Bytes first: a scan checks every name.
fn has_control_character(path: &str) -> bool {
    path.bytes().any(|byte| byte.is_ascii_control())
        || (!path.is_ascii() && path.chars().any(char::is_control))
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for VaultPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for VaultPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

impl TryFrom<String> for VaultPath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        Self::parse(&path)
    }
}

impl From<VaultPath> for String {
    fn from(path: VaultPath) -> Self {
        path.as_str().to_owned()
    }
}

/// The reason why a text is refused as a path. The messages do not show the path: it comes from the server,
/// and the code that reports the error names the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// The path is empty.
    #[error("the path is empty")]
    Empty,
    /// It is longer than 4096 bytes.
    #[error("the path has {bytes} bytes, more than the 4096 that are accepted")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It begins with a slash.
    #[error("the path is absolute")]
    Absolute,
    /// Two slashes follow each other, or it ends with one.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// It has a backslash, a separator on Windows.
    #[error("the path has a backslash")]
    Backslash,
    /// It has NUL or another control character.
    #[error("the path has a control character")]
    ControlCharacter,
    /// A segment is `.git`, or some file system treats it as that.
    #[error(
        "a file system may take a part of the path for `.git`, from which git runs programs; rename it in Obsidian"
    )]
    GitFolder,
    /// It has more than [`PATH_SEGMENTS`] segments.
    #[error(
        "the path has {segments} parts, more than the {PATH_SEGMENTS} that are accepted; move it up in the vault"
    )]
    TooDeep {
        /// Number of its segments.
        segments: usize,
    },
}

/// Converts a name of a local file system to the form of paths in a vault: NFC, no-break spaces (U+00A0,
/// U+202F) as spaces, no empty segments (docs/PROTOCOL.md section 4).
///
/// The caller has to replace separators other than `/`, since only it knows the platform: on Linux a
/// backslash is part of a name, and turning it into a separator would name another file.
#[must_use]
pub fn normalize_local_name(name: &str) -> String {
    let spaced = name.chars().map(|c| if matches!(c, '\u{a0}' | '\u{202f}') { ' ' } else { c });
    let normal: String = spaced.nfc().collect();
    let segments: Vec<&str> = normal.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.join("/")
}

/// True if two local names or paths have one form in a vault.
#[must_use]
pub fn is_same_name(one: &str, other: &str) -> bool {
    one == other
        || (!one.is_ascii() || !other.is_ascii()) && normalize_local_name(one) == normalize_local_name(other)
}

/// The decomposed form (NFD) of a path, in which some clients write names into vaults.
#[must_use]
pub fn decomposed(path: &VaultPath) -> Option<VaultPath> {
    let decomposed: String = path.as_str().nfd().collect();
    VaultPath::parse(&decomposed).ok()
}

/// A path on the wire: the deterministic text from [`VaultKeys::encode_path`](crate::VaultKeys).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedPath(String);

/// A content hash on the wire: the deterministic text from [`VaultKeys::encode_hash`](crate::VaultKeys);
/// empty for folders and deletions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EncodedHash(String);

impl EncodedPath {
    /// The encoded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EncodedHash {
    /// The encoded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if there is no hash, as for a folder or a deletion.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for EncodedPath {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for EncodedPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for EncodedHash {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for EncodedHash {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl AsRef<str> for EncodedPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EncodedHash {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EncodedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EncodedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
