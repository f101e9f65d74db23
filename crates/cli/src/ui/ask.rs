//! Questions to the person at the terminal, and the one line that a script may pipe in instead.
//!
//! Everything here blocks its thread, so callers use a blocking thread; if the program is interrupted
//! meanwhile that thread is abandoned.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failed};
use obsync_protocol::escaped_lines;

/// The longest password that is read, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// True if there is a person to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for something visible. Names in the prompt are escaped, as in all output.
pub(crate) async fn line(prompt: String) -> Result<String, Failed> {
    off_the_runtime(move || {
        // Not locked while waiting: an interruption must be able to print its message.
        io::stderr().write_all(escaped_lines(&prompt).as_bytes())?;
        let mut line = String::new();
        io::stdin().lock().take(MAX_LINE).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    })
    .await
}

/// Asks for something secret, without echo.
pub(crate) async fn secret(prompt: String) -> Result<SecretString, Failed> {
    off_the_runtime(move || rpassword::prompt_password(escaped_lines(&prompt)).map(SecretString::from)).await
}

/// Asks a question; only `y` and `yes` are a yes.
pub(crate) async fn yes(question: &str) -> Result<bool, Failed> {
    let answer = line(format!("{question} [y/N] ")).await?;
    Ok(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
}

/// The first line of standard input, without its line break. `what` names it, as in "vault password".
pub(crate) async fn first_line_of_stdin(what: &'static str) -> Result<SecretString, Failed> {
    let line = off_the_runtime(move || {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().take(MAX_LINE).read_line(&mut line)?;
        let text = line.strip_suffix('\n').unwrap_or(&line);
        Ok(SecretString::from(text.strip_suffix('\r').unwrap_or(text)))
    })
    .await?;
    if secrecy::ExposeSecret::expose_secret(&line).is_empty() {
        return Err(Failed::new(
            Exit::Usage,
            format!("standard input has no {what}; pipe it in as one line"),
        ));
    }
    Ok(line)
}

async fn off_the_runtime<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failed> {
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Err(Failed::interrupted()),
        Ok(Err(error)) => Err(Failed::cannot("read your answer", &error)),
        Err(error) => Err(Failed::cannot("read your answer", &error)),
    }
}

/// Prints a notice between two questions.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped_lines(text));
}
