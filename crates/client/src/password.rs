//! Passwords from sources that add line breaks: container variables, files, hand-written JSON.
//!
//! In a file, the line break at the end is not part of the password. A variable is ambiguous: set by hand it
//! has none; tools that copy a file into it keep one (`--from-file` of Kubernetes). A variable's password is
//! tried unchanged and, when that is refused, without the line break.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use obsync_protocol::limits::GIVEN_SECRET;
use obsync_protocol::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// A password as given, and without the line break at its end.
#[derive(Clone, Debug)]
pub struct Password {
    as_given: SecretString,
    without_line_end: Option<SecretString>,
    /// Names the source, as in "the password in `OBSIDIAN_PASSWORD`".
    origin: &'static str,
}

impl Password {
    /// Exactly this text, as a person typed it.
    #[must_use]
    pub fn exactly(password: SecretString) -> Self {
        Self { as_given: password, without_line_end: None, origin: "" }
    }

    /// The value of the variable or field `origin`.
    #[must_use]
    pub fn with_origin(value: SecretString, origin: &'static str) -> Self {
        let text = value.expose_secret();
        let trimmed = without_line_end(text);
        let other = (trimmed.len() < text.len() && !trimmed.is_empty()).then(|| SecretString::from(trimmed));
        Self { as_given: value, without_line_end: other, origin }
    }

    /// Unchanged.
    #[must_use]
    pub fn as_given(&self) -> &SecretString {
        &self.as_given
    }

    /// Without the line break at its end, if it has one.
    #[must_use]
    pub fn without_line_end(&self) -> Option<&SecretString> {
        self.without_line_end.as_ref()
    }

    /// Warns that the password is right but for the line break at its end.
    pub fn warn_of_line_end(&self) {
        tracing::warn!("{} ends with a line break that is not part of the password; remove it", self.origin);
    }

    /// Why a refusal is not due to the line break at the end; `None` if there is no line break.
    #[must_use]
    pub fn line_end_note(&self) -> Option<String> {
        let note = || format!("{} ends with a line break; it was tried with and without", self.origin);
        self.without_line_end.as_ref().map(|_| note())
    }
}

/// The text without one line break at its end, in any system's convention.
#[must_use]
pub fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The text of a secret's file, without the line break at its end.
///
/// # Errors
/// When the file cannot be read, is no regular file, is empty, or has more than [`GIVEN_SECRET`] bytes.
/// Errors never repeat its content.
pub fn secret_from_file(path: &Path) -> io::Result<SecretString> {
    // Checked before opening: opening a pipe without a writer would block.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(GIVEN_SECRET + 1).read_to_string(&mut text)?;
    if text.len() as u64 > GIVEN_SECRET {
        return Err(io::Error::other(format!("it has more than {GIVEN_SECRET} bytes")));
    }
    match without_line_end(&text) {
        "" => Err(io::Error::other("it is empty")),
        text => Ok(SecretString::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_taken_as_it_is_and_without_its_line_end() {
        for (value, other) in [("pw\n", "pw"), ("pw\r\n", "pw"), (" pw \n", " pw "), ("pw\n\n", "pw\n")] {
            let password = Password::with_origin(value.into(), "OBSIDIAN_PASSWORD");
            assert_eq!(password.as_given().expose_secret(), value);
            assert_eq!(password.without_line_end().unwrap().expose_secret(), other);
            let note = password.line_end_note().unwrap();
            assert!(note.starts_with("OBSIDIAN_PASSWORD ends") && !note.contains("pw"), "{note}");
        }
        for value in ["pw", "\n", "p\nw "] {
            let password = Password::with_origin(value.into(), "X");
            assert!(password.without_line_end().is_none() && password.line_end_note().is_none(), "{value:?}");
        }
    }

    #[test]
    fn a_file_loses_its_last_line_break_and_what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " pw \r\n").unwrap();
        assert_eq!(secret_from_file(&path).unwrap().expose_secret(), " pw ");
        let refused = |path: &Path| secret_from_file(path).unwrap_err().to_string();
        std::fs::write(&path, "\n").unwrap();
        assert!(refused(&path).contains("empty"));
        std::fs::write(&path, "geheim".repeat(20_000)).unwrap();
        assert!(refused(&path).contains("more than") && !refused(&path).contains("geheim"));
        std::fs::write(&path, b"geheim\xff").unwrap();
        assert!(refused(&path).contains("UTF-8") && !refused(&path).contains("geheim"));
        assert!(refused(Path::new("/dev/zero")).contains("not a file"));
        assert!(refused(&folder.path().join("none")).contains("No such file"));
    }
}
