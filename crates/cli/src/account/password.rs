//! Passwords printed by a program, and messages about line breaks at their end.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use obsync_client::{Password, without_line_end};
use obsync_protocol::limits::GIVEN_SECRET;
use obsync_protocol::short_name;
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failed};

/// Time limit of a program that prints a password; some ask for one of their own first.
const COMMAND_LIMIT: Duration = Duration::from_secs(300);

/// Longest wait for the rest of a program's standard error after its end: a child process may keep it open.
const ERRORS_LIMIT: Duration = Duration::from_millis(500);

/// Bytes at the end of a program's standard error that are examined.
const ERRORS_TAIL: usize = 4 << 10;

/// Adds to a refusal that the line break at the end is not the reason.
pub(crate) fn refused(password: &Password, failed: Failed) -> Failed {
    match password.line_end_note() {
        Some(note) if failed.exit == Exit::SignIn => {
            Failed { message: format!("{failed} ({note})"), ..failed }
        }
        _ => failed,
    }
}

/// The password that a program prints. The command line is split as a shell would, and run without a shell.
/// `what` names the password, as in "vault password".
///
/// # Errors
/// When the program cannot be run, fails, prints nothing, or takes too long. Errors repeat nothing of its
/// output except the last line of its standard error, which goes to the terminal if there is one.
pub(crate) async fn from_command(line: &str, what: &str) -> Result<Password, Failed> {
    from_command_within(COMMAND_LIMIT, line, what).await
}

async fn from_command_within(limit: Duration, line: &str, what: &str) -> Result<Password, Failed> {
    let usage = |reason: &str| Failed::new(Exit::Usage, format!("--password-command {reason}"));
    let words = shlex::split(line).ok_or_else(|| usage("has a quote that is not closed"))?;
    let Some((program, arguments)) = words.split_first() else { return Err(usage("names no program")) };
    let cannot = |reason: &dyn fmt::Display| {
        Failed::new(Exit::SignIn, format!("cannot get the {what} from the program {program:?}: {reason}"))
    };
    // A program that asks for something itself uses the terminal.
    let errors = if io::stderr().is_terminal() { Stdio::inherit() } else { Stdio::piped() };
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
    let printed = match timeout(limit, run(&mut command)).await {
        Ok(printed) => printed.map_err(|error| cannot(&error))?,
        Err(_) => return Err(cannot(&format_args!("it did not end within {} s", limit.as_secs()))),
    };
    printed.password().map_err(|reason| cannot(&reason))
}

/// The output of a program, and how it ended.
struct Printed {
    output: Zeroizing<Vec<u8>>,
    errors: Zeroizing<Vec<u8>>,
    status: ExitStatus,
}

async fn run(command: &mut Command) -> io::Result<Printed> {
    let mut child = command.spawn()?;
    let mut output = Zeroizing::new(Vec::new());
    let stdout = child.stdout.take();
    let errors = child.stderr.take().map(|errors| tokio::spawn(tail(errors)));
    if let Some(stdout) = stdout {
        stdout.take(GIVEN_SECRET + 1).read_to_end(&mut output).await?;
    }
    let status = child.wait().await?;
    let errors = match errors {
        Some(tail) => timeout(ERRORS_LIMIT, tail).await.ok().and_then(Result::ok).unwrap_or_default(),
        None => Zeroizing::default(),
    };
    Ok(Printed { output, errors, status })
}

/// The end of a stream.
async fn tail(mut stream: impl AsyncRead + Unpin) -> Zeroizing<Vec<u8>> {
    let mut end = Zeroizing::new(Vec::new());
    let mut buffer = Zeroizing::new([0; 1 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut buffer[..]).await {
        end.extend_from_slice(&buffer[..count]);
        let excess = end.len().saturating_sub(ERRORS_TAIL);
        end.drain(..excess);
    }
    end
}

impl Printed {
    fn password(&self) -> Result<Password, String> {
        // Checked first: closing its output may end the program.
        if self.output.len() as u64 > GIVEN_SECRET {
            return Err(format!("it printed more than {GIVEN_SECRET} bytes"));
        }
        if !self.status.success() {
            return Err(format!("it ended with {}{}", self.status, self.last_error()));
        }
        let text = std::str::from_utf8(&self.output).map_err(|_| "it did not print UTF-8 text")?;
        match without_line_end(text) {
            "" => Err(format!("it printed nothing{}", self.last_error())),
            text => Ok(Password::exactly(SecretString::from(text))),
        }
    }

    /// The last line of the standard error, as the end of a sentence; none if it repeats the output.
    fn last_error(&self) -> String {
        let errors = String::from_utf8_lossy(&self.errors);
        let line = errors.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        let output = String::from_utf8_lossy(&self.output);
        let repeats = output.lines().map(str::trim).any(|part| !part.is_empty() && line.contains(part));
        if line.is_empty() || repeats { String::new() } else { format!(" ({})", short_name(line)) }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[tokio::test]
    async fn a_program_is_run_without_a_shell_and_its_last_line_break_dropped() {
        let password = from_command("printf '%s\\n' '$HOME; x y'", "password").await.unwrap();
        assert_eq!(password.as_given().expose_secret(), "$HOME; x y");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_named_and_what_it_printed_is_not() {
        for (line, reason) in [
            ("sh -c 'echo geheim; exit 3'", "exit status: 3"),
            ("sh -c 'echo geheim; echo geheim >&2; exit 3'", "exit status: 3"),
            ("true", "printed nothing"),
            ("/nowhere/program", "No such file"),
            ("", "names no program"),
            ("'x", "not closed"),
            ("sh -c 'head -c 70000 /dev/zero'", "more than"),
            ("printf '\\377'", "UTF-8"),
        ] {
            let failed = from_command(line, "password").await.unwrap_err().message;
            assert!(failed.contains(reason) && !failed.contains("geheim"), "{line}: {failed}");
        }
    }

    #[test]
    fn only_the_last_line_of_the_standard_error_is_repeated() {
        use std::os::unix::process::ExitStatusExt;
        let reason = |output: &str, errors: &str, code: i32| {
            let [output, errors] = [output, errors].map(|text| Zeroizing::new(text.as_bytes().to_vec()));
            Printed { output, errors, status: ExitStatus::from_raw(code << 8) }.password().unwrap_err()
        };
        assert_eq!(reason("", "one\nno such entry\n\n", 2), "it ended with exit status: 2 (no such entry)");
        assert_eq!(reason("geheim\n", "wrong: geheim", 2), "it ended with exit status: 2");
        assert_eq!(reason("", "empty store", 0), "it printed nothing (empty store)");
        assert!(reason("", &"x".repeat(4000), 1).len() < 1000);
    }

    #[tokio::test]
    async fn a_long_standard_error_is_read_to_its_end() {
        let mut child = Command::new("sh");
        child.args(["-c", "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 1"]);
        child.stdout(Stdio::piped()).stderr(Stdio::piped());
        let printed = run(&mut child).await.unwrap();
        assert_eq!(printed.password().unwrap_err(), "it ended with exit status: 1 (last)");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_not_waited_for() {
        let limit = Duration::from_millis(50);
        let failed = from_command_within(limit, "sleep 100", "password").await.unwrap_err();
        assert_eq!(failed.exit, Exit::SignIn);
        assert!(failed.message.contains("did not end within"), "{failed}");
    }
}
