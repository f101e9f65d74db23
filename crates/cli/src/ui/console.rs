//! Everything that the program prints goes through here.
//!
//! Standard output takes results, standard error everything else. A reader that went away (`obsync vaults |
//! head`) is no error. Control characters and those that reorder text are printed as escapes, whoever sent them: names
//! come from the network, and a terminal obeys them. Known secrets are printed by nothing but the commands whose result
//! they are.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use obsync_core::ProblemCode;
use obsync_protocol::{Redactor, escaped_json, escaped_lines};

use crate::answer::Answer;
use crate::exit::Failed;
use crate::ui::{width, wrap};

/// Moves the cursor to the beginning of its line, and clears that (ECMA-48, EL).
const CLEAR_LINE: &str = "\r\u{1b}[2K";
/// How often and how long a program that ends at once waits for its answer to be printed.
const LAST_WORDS: u32 = 20;
const LAST_WORD: Duration = Duration::from_millis(50);

/// The program's output, shared by everything that has something to say.
#[derive(Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    names_files: bool,
    in_lines: bool,
    redactor: Redactor,
    /// The line below all others, which is drawn anew whenever one is written above it.
    bar: Mutex<Option<String>>,
    /// Whether the answer for scripts was printed; locked while it is.
    answered: Mutex<bool>,
}

impl Console {
    /// With `quiet`, only errors and results that were asked for are printed.
    pub(crate) fn new(quiet: bool) -> Self {
        Console { quiet, ..Console::default() }
    }

    /// The same, which names each file that something is done with.
    pub(crate) fn naming_files(self, names_files: bool) -> Self {
        Console { names_files, ..self }
    }

    /// The same, whose answers for scripts have a line each where there can be several.
    pub(crate) fn answering_in_lines(self, in_lines: bool) -> Self {
        Console { in_lines, ..self }
    }

    /// Whether `-v` was given.
    pub(crate) fn names_files(&self) -> bool {
        self.names_files
    }

    /// The secrets that are not printed.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// A text of this program, with names and texts from elsewhere in it, as it is printed.
    pub(crate) fn printable<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redactor.take_out_of_own(text) {
            Cow::Borrowed(text) => escaped_lines(text),
            Cow::Owned(text) => Cow::Owned(escaped_lines(&text).into_owned()),
        }
    }

    /// Whether `-q` was given.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether someone can be shown a progress bar.
    pub(crate) fn has_terminal() -> bool {
        io::stderr().is_terminal()
    }

    /// Prints a result: one or more lines without the last line break. A narrow terminal has them broken at words.
    ///
    /// # Errors
    /// When standard output cannot be written, other than for want of a reader.
    pub(crate) fn result(&self, text: &str) -> Result<(), Failed> {
        let text = self.printable(text);
        let text = match width::narrow() {
            Some(width) => wrap::to_width(&text, width),
            None => text.into_owned(),
        };
        self.write_out(&format!("{text}\n"))
    }

    /// Prints text exactly as it is to standard output: for scripts and documents made by this program.
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

    /// Prints the answer for scripts, as JSON. One that was printed before, or was tried to be, is the only one.
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

    /// Prints the answer of a program that ends at once, unless there is one already. One that is being printed may end, as
    /// long as its reader reads.
    pub(crate) fn answer_at_once(&self, failed: &Failed) {
        for _ in 0..LAST_WORDS {
            match self.answered.try_lock() {
                Ok(mut answered) => {
                    if !std::mem::replace(&mut *answered, true) {
                        let _ = self.json(&Answer::of(failed));
                    }
                    return;
                }
                Err(_) => std::thread::sleep(LAST_WORD),
            }
        }
    }

    /// Prints one of the documents of a program that prints several.
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

    /// Tells something that is good to know; not with `-q`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.write_err(&format!("{}\n", self.printable(text)));
        }
    }

    /// Tells something that the user should see; not with `-q`.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("obsync: warning: {text}"));
    }

    /// The same also with `-q`: nothing else would tell it.
    pub(crate) fn warn_always(&self, text: &str) {
        self.error(&format!("obsync: warning: {text}"));
    }

    /// Tells what went wrong.
    pub(crate) fn error(&self, text: &str) {
        self.write_err(&format!("{}\n", self.printable(text)));
    }

    /// Text to standard error. What cannot be written is dropped: there is nowhere left to tell it.
    pub(crate) fn write_err(&self, text: &str) {
        self.around_bar(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }

    /// Draws a line that stays below all others. It has to fit the terminal, with space for the `^C` that a terminal shows.
    pub(crate) fn draw_bar(&self, line: String) {
        let mut bar = self.bar();
        draw(&format!("{CLEAR_LINE}{line}"));
        *bar = Some(line);
    }

    /// Takes that line off the terminal, if there is one.
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

/// Writes to the terminal of standard error. What cannot be drawn is not missed.
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
