//! Passwords from where line breaks creep in: variables of containers, files, the output of programs.
//!
//! A file or a program's output ends with a line break that is no part of the password, as everywhere. A variable is
//! another matter: it is set without one by hand, and with one by what copies a file into it (`--from-file` of
//! Kubernetes). There the password is tried as it is and, when that is refused, without.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use obsync_protocol::limits::GIVEN_SECRET;
use secrecy::SecretString;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failed};

/// How long a program may take to print a password; some ask for one of their own first.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// A password, and what it may really be.
#[derive(Clone, Debug)]
pub(crate) struct Password {
    as_given: SecretString,
    without_line_end: Option<SecretString>,
    /// As in "the password in OBSIDIAN_PASSWORD".
    origin: &'static str,
}

impl Password {
    /// Exactly this, as a person typed it.
    pub(crate) fn exactly(password: SecretString) -> Self {
        Password { as_given: password, without_line_end: None, origin: "" }
    }

    /// The value of the variable `origin`.
    pub(crate) fn of_variable(value: String, origin: &'static str) -> Self {
        let trimmed = without_line_end(&value);
        let other = (trimmed.len() < value.len() && !trimmed.is_empty()).then(|| SecretString::from(trimmed));
        Password { as_given: SecretString::from(value), without_line_end: other, origin }
    }

    /// As it was given.
    pub(crate) fn as_given(&self) -> &SecretString {
        &self.as_given
    }

    /// Without the line break at its end, if it has one.
    pub(crate) fn without_line_end(&self) -> Option<&SecretString> {
        self.without_line_end.as_ref()
    }

    /// Says that the password is right but for the line break at its end.
    pub(crate) fn tell_of_line_end(&self) {
        tracing::warn!("{} ends with a line break that is not part of the password; remove it", self.origin);
    }

    /// Adds to a refusal that the line break at the end is not to blame.
    pub(crate) fn refused(&self, failed: Failed) -> Failed {
        if self.without_line_end.is_none() || failed.exit != Exit::SignIn {
            return failed;
        }
        let note = format!("{} ends with a line break; it was tried with and without", self.origin);
        Failed { message: format!("{failed} ({note})"), ..failed }
    }
}

/// The text without the line break at its end, of any system.
pub(crate) fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The password that a program prints. The line is split as a shell would, and run without one. `what` says what it is,
/// as in "vault password".
///
/// # Errors
/// When the program cannot be run, fails, prints nothing, or takes too long. Nothing that it printed is repeated.
pub(crate) async fn from_command(line: &str, what: &str) -> Result<Password, Failed> {
    let usage = |reason: &str| Failed::new(Exit::Usage, format!("--password-command {reason}"));
    let words = shlex::split(line).ok_or_else(|| usage("has a quote that is not closed"))?;
    let Some((program, arguments)) = words.split_first() else { return Err(usage("names no program")) };
    let cannot = |error: &dyn std::fmt::Display| {
        Failed::new(Exit::SignIn, format!("cannot get the {what} from the program {program:?}: {error}"))
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(&error))?;
    let mut printed = Zeroizing::new(Vec::new());
    let running = async {
        if let Some(output) = child.stdout.take() {
            output.take(GIVEN_SECRET + 1).read_to_end(&mut printed).await?;
        }
        child.wait().await
    };
    let status = match timeout(COMMAND_LIMIT, running).await {
        Ok(ended) => ended.map_err(|error| cannot(&error))?,
        Err(_) => return Err(cannot(&format_args!("it did not end within {} s", COMMAND_LIMIT.as_secs()))),
    };
    // Asked first: a program whose output nobody reads further may be ended by that.
    if printed.len() as u64 > GIVEN_SECRET {
        return Err(cannot(&format_args!("it printed more than {GIVEN_SECRET} bytes")));
    }
    if !status.success() {
        return Err(cannot(&format_args!("it ended with {status}")));
    }
    let text = std::str::from_utf8(&printed).map_err(|_| cannot(&"it did not print UTF-8 text"))?;
    match without_line_end(text) {
        "" => Err(cannot(&"it printed nothing")),
        text => Ok(Password::exactly(SecretString::from(text))),
    }
}

/// The text of a secret's file, without the line break at its end.
///
/// # Errors
/// When it cannot be read, is no file, or has nothing in it.
pub(crate) fn from_file(path: &std::path::Path) -> io::Result<SecretString> {
    use std::io::Read;
    // Asked before it is opened: a pipe that nobody writes to would keep us waiting.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(path)?.take(GIVEN_SECRET + 1).read_to_string(&mut text)?;
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
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_variable_is_taken_as_it_is_and_without_its_line_end() {
        for (value, other) in [("pw\n", "pw"), ("pw\r\n", "pw"), (" pw \n", " pw "), ("pw\n\n", "pw\n")] {
            let password = Password::of_variable(value.to_owned(), "OBSIDIAN_PASSWORD");
            assert_eq!(password.as_given().expose_secret(), value);
            assert_eq!(password.without_line_end().unwrap().expose_secret(), other);
        }
        for value in ["pw", "\n", "p\nw "] {
            assert!(Password::of_variable(value.to_owned(), "X").without_line_end().is_none(), "{value:?}");
        }
    }

    #[tokio::test]
    async fn a_program_is_run_without_a_shell_and_its_last_line_break_dropped() {
        let password = from_command("printf '%s\\n' '$HOME; x y'", "password").await.unwrap();
        assert_eq!(password.as_given().expose_secret(), "$HOME; x y");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named_and_what_it_printed_is_not() {
        for (line, reason) in [
            ("sh -c 'echo geheim; exit 3'", "exit status: 3"),
            ("true", "printed nothing"),
            ("/nowhere/program", "No such file"),
            ("", "names no program"),
            ("'x", "not closed"),
            ("sh -c 'head -c 70000 /dev/zero'", "more than"),
        ] {
            let failed = from_command(line, "password").await.unwrap_err().message;
            assert!(failed.contains(reason) && !failed.contains("geheim"), "{line}: {failed}");
        }
    }

    #[test]
    fn a_file_loses_its_last_line_break_and_what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, " pw \r\n").unwrap();
        assert_eq!(from_file(&path).unwrap().expose_secret(), " pw ");
        std::fs::write(&path, "\n").unwrap();
        assert!(from_file(&path).unwrap_err().to_string().contains("empty"));
        assert!(from_file(std::path::Path::new("/dev/zero")).unwrap_err().to_string().contains("not a file"));
    }
}
