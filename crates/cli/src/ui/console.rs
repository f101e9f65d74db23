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

use indicatif::ProgressBar;
use obsync_core::ProblemCode;
use obsync_protocol::{Redactor, escaped_json, escaped_lines};

use crate::answer::Answer;
use crate::exit::Failed;

/// How often and how long a program that ends at once waits for its answer to be printed.
const LAST_WORDS: u32 = 20;
const LAST_WORD: Duration = Duration::from_millis(50);

/// The program's output, shared by everything that has something to say.
#[derive(Debug, Default)]
pub(crate) struct Console {
    quiet: bool,
    redactor: Redactor,
    bar: Mutex<Option<ProgressBar>>,
    /// Whether the answer for scripts was printed; locked while it is.
    answered: Mutex<bool>,
}

impl Console {
    /// With `quiet`, only errors and results that were asked for are printed.
    pub(crate) fn new(quiet: bool) -> Self {
        Console { quiet, ..Console::default() }
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

    /// Prints a result: one or more lines without the last line break.
    ///
    /// # Errors
    /// When standard output cannot be written, other than for want of a reader.
    pub(crate) fn result(&self, text: &str) -> Result<(), Failed> {
        self.write_out(&format!("{}\n", self.printable(text)))
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

    fn json(&self, document: &impl serde::Serialize) -> Result<(), Failed> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| Failed::cannot("write the JSON report", &error))?;
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

    /// From now on lines are printed above this bar; `None` ends that.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        *self.bar() = bar;
    }

    fn around_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match self.bar().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
