//! Passwords from where line breaks creep in: variables of containers, files, JSON that somebody wrote by hand.
//!
//! A file ends with a line break that is no part of the password, as everywhere. A variable is another matter: it is set
//! without one by hand, and with one by what copies a file into it (`--from-file` of Kubernetes). There the password is
//! tried as it is and, when that is refused, without.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use obsync_protocol::limits::GIVEN_SECRET;
use obsync_protocol::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

/// A password as it was given, and without the line break at its end.
#[derive(Clone, Debug)]
pub struct Password {
    as_given: SecretString,
    without_line_end: Option<SecretString>,
    /// As in "the password in `OBSIDIAN_PASSWORD`".
    origin: &'static str,
}

impl Password {
    /// Exactly this, as a person typed it.
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

    /// As it was given.
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

    /// Why a refusal is not due to the line break at the end; `None` if there is none.
    #[must_use]
    pub fn line_end_note(&self) -> Option<String> {
        let note = || format!("{} ends with a line break; it was tried with and without", self.origin);
        self.without_line_end.as_ref().map(|_| note())
    }
}

/// The text without the line break at its end, of any system.
#[must_use]
pub fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The text of a secret's file, without the line break at its end.
///
/// # Errors
/// When it cannot be read, is no file, has nothing in it, or has more than [`GIVEN_SECRET`] bytes. Nothing of it is
/// repeated.
pub fn secret_from_file(path: &Path) -> io::Result<SecretString> {
    // Asked before it is opened: a pipe that nobody writes to would keep us waiting.
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
