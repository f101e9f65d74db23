//! Lines on the console, with a little emphasis where that is a terminal.

use std::io::{self, IsTerminal, Write};

/// Prints a line. A closed reader is no reason to stop, or to panic as `println!` does.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Prints a progress line on standard error, where standard output is for results.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The style of emphasised text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// Bold.
    Title,
    /// Cyan: a command that a user would type.
    Command,
    /// Green: something that was checked.
    Good,
}

/// The text in that style, if standard output is a terminal and the user allows colours.
pub(crate) fn styled(style: Style, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stdout().is_terminal() {
        return text.to_owned();
    }
    let code = match style {
        Style::Title => 1,
        Style::Command => 36,
        Style::Good => 32,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
