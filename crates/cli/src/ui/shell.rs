//! Commands in messages, quoted for a shell: a copied command must do what the message says.

use std::borrow::Cow;

/// A command line of obsync, each word quoted if a POSIX shell would interpret it. obsync itself would take
/// operands that begin with a hyphen for options: then they come last, after a `--`.
pub(crate) fn command(subcommand: &str, operands: &[&str], options: &[&str]) -> String {
    let mut words = vec!["obsync", subcommand];
    if operands.iter().any(|operand| operand.starts_with('-')) {
        words.extend(options);
        words.push("--");
        words.extend(operands);
    } else {
        words.extend(operands);
        words.extend(options);
    }
    words.into_iter().map(word).collect::<Vec<_>>().join(" ")
}

/// A word of a command line. One with a zero byte is printed unquoted: no argument of a program can contain
/// one.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_need_it() {
        assert_eq!(command("reset", &["./notes"], &[]), "obsync reset ./notes");
        for (text, quoted) in
            [("my notes", "'my notes'"), ("$HOME", "'$HOME'"), ("a;b", "'a;b'"), ("~", "'~'"), ("", "''")]
        {
            assert_eq!(word(text), quoted);
        }
    }

    #[test]
    fn a_shell_reads_what_was_quoted() {
        for text in ["my notes", "it's", "\"both\" 'kinds'", "$(reboot) `x` \\ !", "*", "日記 🗒", "a\nb"]
        {
            assert_eq!(shlex::split(&command("reset", &[text], &[])).unwrap(), ["obsync", "reset", text]);
        }
    }

    #[test]
    fn what_begins_with_a_hyphen_is_not_taken_for_an_option() {
        assert_eq!(command("pull", &["Notes", "./n"], &["--full"]), "obsync pull Notes ./n --full");
        assert_eq!(
            command("pull", &["-My notes", "./n"], &["--full"]),
            "obsync pull --full -- '-My notes' ./n"
        );
        assert_eq!(command("reset", &["--all"], &[]), "obsync reset -- --all");
    }

    #[test]
    fn the_program_reads_operands_and_options_as_they_were_meant() {
        use clap::Parser;

        use crate::args::{Arguments, Command};

        let line = command("pull", &["-v", "--help"], &["--full", "--state", "dynamodb://table"]);
        let arguments = Arguments::try_parse_from(shlex::split(&line).unwrap()).unwrap();
        let Command::Pull(pull) = arguments.command else { panic!("{line} is another command") };
        let pull = pull.pull;
        assert_eq!((pull.vault.as_str(), pull.full), ("-v", true));
    }
}
