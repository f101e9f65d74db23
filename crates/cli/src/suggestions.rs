//! Suggests a command for one that does not exist: only what was meant, or nothing.

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use strsim::osa_distance;

use crate::args::Arguments;

/// The words of other programs for our commands.
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

/// Puts our suggestion in the place of the library's, which takes any word for a command that shares letters with it.
pub(crate) fn correct(error: &mut Error) {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return;
    }
    error.remove(ContextKind::SuggestedSubcommand);
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidSubcommand) else { return };
    if let Some(meant) = meant(given) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant]));
    }
}

/// The command that was meant by a word that is none.
pub(crate) fn meant(given: &str) -> Option<String> {
    if let Some((_, command)) = SYNONYMS.iter().find(|(synonym, _)| *synonym == given.to_lowercase()) {
        return Some((*command).to_owned());
    }
    let program = Arguments::command();
    nearest(given, program.get_subcommands().map(clap::Command::get_name)).map(str::to_owned)
}

/// The name that was meant by a word: one letter of three may be wrong, missing or swapped, and its case does not count.
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
