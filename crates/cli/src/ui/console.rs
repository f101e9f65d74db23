//! All output of the program.
//!
//! Standard output is for results, standard error for everything else. A closed reader (`obsync vaults |
//! head`) is no error. Control characters and those that reorder text are printed as escapes, whatever their
//! source: names come from the network, and a terminal obeys them. Known secrets are printed only by the
//! commands whose result they are.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use obsync_core::ProblemCode;
use obsync_protocol::{Redactor, escaped_json, escaped_lines};

use crate::answer::Answer;
use crate::exit::Failed;
use crate::ui::{width, wrap};

/// Moves the cursor to the beginning of its line, and clears that (ECMA-48, EL).
const CLEAR_LINE: &str = "\r\u{1b}[2K";

/// The program's output, shared by everything that prints.
#[derive(Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    names_files: bool,
    in_lines: bool,
    redactor: Redactor,
    /// The line below all others, redrawn whenever one is written above it.
    bar: Mutex<Option<String>>,
    /// The answer for scripts was printed; locked while it is printed.
    answered: Mutex<bool>,
}

impl Console {
    /// With `quiet`, only errors and requested results are printed.
    pub(crate) fn new(quiet: bool) -> Self {
        Console { quiet, ..Console::default() }
    }

    /// The same with the name of each processed file.
    pub(crate) fn naming_files(self, names_files: bool) -> Self {
        Console { names_files, ..self }
    }

    /// The same with a line for each answer, for commands with several answers.
    pub(crate) fn answering_in_lines(self, in_lines: bool) -> Self {
        Console { in_lines, ..self }
    }

    /// True if `-v` was given.
    pub(crate) fn names_files(&self) -> bool {
        self.names_files
    }

    /// Secrets that are not printed.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// A text of this program, with names and texts from elsewhere, made safe to print.
    pub(crate) fn printable<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redactor.take_out_of_own(text) {
            Cow::Borrowed(text) => escaped_lines(text),
            Cow::Owned(text) => Cow::Owned(escaped_lines(&text).into_owned()),
        }
    }

    /// True if `-q` was given.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if a progress bar can be shown.
    pub(crate) fn has_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// Prints a result: one or more lines without the last line break, wrapped for a narrow terminal.
    ///
    /// # Errors
    /// When standard output is not writable, other than for a closed reader.
    pub(crate) fn result(&self, text: &str) -> Result<(), Failed> {
        let text = self.printable(text);
        let text = match width::narrow() {
            Some(width) => wrap::to_width(&text, width),
            None => text.into_owned(),
        };
        self.write_out(&format!("{text}\n"))
    }

    /// Prints text unchanged to standard output: for scripts and documents made by this program.
    ///
    /// # Errors
    /// As for [`result`](Self::result).
    pub(crate) fn write_out(&self, text: &str) -> Result<(), Failed> {
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(text.as_bytes())?;
            stdout.flush()
        };
        match self.around_bar(write) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failed::cannot("write to standard output", &error).coded(ProblemCode::Output))
            }
            _ => Ok(()),
        }
    }

    /// Prints the answer for scripts, as JSON. Only the first one is printed, even if printing it failed.
    ///
    /// # Errors
    /// As for [`result`](Self::result).
    pub(crate) fn answer<T: serde::Serialize>(&self, answer: &Answer<T>) -> Result<(), Failed> {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *answered, true) {
            return Ok(());
        }
        self.json(answer)
    }

    /// Prints one of several documents.
    ///
    /// # Errors
    /// As for [`result`](Self::result).
    pub(crate) fn json(&self, document: &impl serde::Serialize) -> Result<(), Failed> {
        let text = match self.in_lines {
            true => serde_json::to_string(document),
            false => serde_json::to_string_pretty(document),
        };
        let text = text.map_err(|error| Failed::cannot("write the JSON report", &error))?;
        let text = self.redactor.take_out_of_own(&text);
        self.write_out(&format!("{}\n", escaped_json(&text)))
    }

    /// Prints a notice; not with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.write_err(&format!("{}\n", self.printable(text)));
        }
    }

    /// Prints a warning; not with `-q`.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("obsync: warning: {text}"));
    }

    /// Prints a warning also with `-q`, if nothing else reports it.
    pub(crate) fn warn_always(&self, text: &str) {
        self.error(&format!("obsync: warning: {text}"));
    }

    /// Prints an error.
    pub(crate) fn error(&self, text: &str) {
        self.write_err(&format!("{}\n", self.printable(text)));
    }

    /// Writes text to standard error. Failures are ignored: there is nowhere left to report them.
    pub(crate) fn write_err(&self, text: &str) {
        self.around_bar(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }

    /// Draws a line that stays below all others. It has to fit the terminal, with space for the `^C` that a
    /// terminal shows.
    pub(crate) fn draw_bar(&self, line: String) {
        let mut bar = self.bar();
        draw(&format!("{CLEAR_LINE}{line}"));
        *bar = Some(line);
    }

    /// Removes that line from the terminal, if there is one.
    pub(crate) fn remove_bar(&self) {
        if self.bar().take().is_some() {
            draw(CLEAR_LINE);
        }
    }

    fn around_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        let bar = self.bar();
        let Some(line) = bar.as_ref() else { return write() };
        draw(CLEAR_LINE);
        let written = write();
        draw(line);
        written
    }

    fn bar(&self) -> MutexGuard<'_, Option<String>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes to the terminal of standard error. Failures to draw are ignored.
fn draw(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal() {
        let console = Console::new(false);
        assert_eq!(console.printable("a\u{1b}[2Jb\nc\rd\u{202e}e"), "a\\u{1b}[2Jb\nc\\u{d}d\\u{202e}e");
        assert_eq!(console.printable("Ünïcode עברית 日本 👩‍👩‍👧"), "Ünïcode עברית 日本 👩‍👩‍👧");
    }

    #[test]
    fn a_secret_that_the_service_repeats_is_not_printed() {
        let console = Console::new(false);
        console.redactor().know("0123abcd0123abcd0123abcd");
        console.redactor().know("obsidian");
        assert_eq!(
            console.printable("\"0123abcd0123abcd0123abcd\" at .obsidian/app.json"),
            "\"[secret]\" at .obsidian/app.json"
        );
    }
}
