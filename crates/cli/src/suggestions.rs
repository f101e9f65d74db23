//! Suggests a command for an unknown one: only a likely one, or none.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use strsim::osa_distance;

use crate::args::Arguments;

/// Names that other programs use for our commands.
const SYNONYMS: [(&str, &str); 15] = [
    ("backup", "pull"),
    ("check", "verify"),
    ("clone", "pull"),
    ("copy", "pull"),
    ("download", "pull"),
    ("export", "credentials export"),
    ("fetch", "pull"),
    ("forget", "reset"),
    ("get", "pull"),
    ("info", "status"),
    ("list", "vaults"),
    ("ls", "vaults"),
    ("signin", "login"),
    ("signout", "logout"),
    ("test", "verify"),
];

/// Replaces the library's suggestions, which match any command or value that shares letters with the word.
pub(crate) fn correct(error: &mut Error) {
    match error.kind() {
        ErrorKind::InvalidSubcommand => correct_command(error),
        ErrorKind::InvalidValue => correct_value(error),
        _ => {}
    }
}

fn correct_command(error: &mut Error) {
    error.remove(ContextKind::SuggestedSubcommand);
    // An empty list of tips would be printed as an empty line.
    if matches!(error.get(ContextKind::Suggested), Some(ContextValue::StyledStrs(tips)) if tips.is_empty()) {
        error.remove(ContextKind::Suggested);
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else { return };
    if let Some(meant) = meant(given) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant]));
    }
}

fn correct_value(error: &mut Error) {
    error.remove(ContextKind::SuggestedValue);
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidValue) else { return };
    let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) else { return };
    if let Some(meant) = nearest(given, values.iter().map(String::as_str)).map(str::to_owned) {
        error.insert(ContextKind::SuggestedValue, ContextValue::String(meant));
    }
}

/// The command that an unknown word probably means.
pub(crate) fn meant(given: &str) -> Option<String> {
    if let Some((_, command)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == given.to_lowercase()) {
        return Some((*command).to_owned());
    }
    let program = Arguments::command();
    nearest(given, program.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
}

/// The name that a word probably means: one letter of three may be wrong, missing or swapped, and case is
/// ignored.
pub(crate) fn nearest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let given = given.to_lowercase();
    let distances = names.map(|name| (osa_distance(&given, &name.to_lowercase()), name));
    let near = distances.filter(|(typos, name)| typos * 3 <= name.chars().count()).min();
    near.map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_and_a_word_of_another_program_find_the_command() {
        for (given, command) in [
            ("pul", "pull"),
            ("PULL", "pull"),
            ("stauts", "status"),
            ("valuts", "vaults"),
            ("ls", "vaults"),
            ("clone", "pull"),
        ] {
            assert_eq!(meant(given).as_deref(), Some(command), "{given}");
        }
    }

    #[test]
    fn nothing_is_suggested_for_a_word_that_means_nothing() {
        for given in ["resume", "remove", "delete", "pwd", "", "x", "notes", "verbose", "rename"] {
            assert_eq!(meant(given), None, "{given}");
        }
    }
}
