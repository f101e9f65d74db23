//! Parses the command line, and describes faults in a sentence for scripts.

use std::env;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{ColorChoice, Command, CommandFactory, FromArgMatches};

use crate::args::Arguments;
use crate::exit::{Exit, Failed};
use crate::suggestions;

/// Parses a command line, the program's name first. An empty `TERM` counts as none.
///
/// # Errors
/// When it is invalid, and when it asks for help or the version.
pub(crate) fn parse(args: &[OsString]) -> Result<Arguments, Error> {
    let mut program = Arguments::command();
    if env::var_os("TERM").is_some_and(|name| name.is_empty()) {
        program = program.color(ColorChoice::Never);
    }
    let read = |program: &mut Command| {
        let matches = program.try_get_matches_from_mut(args)?;
        Arguments::from_arg_matches(&matches).map_err(|error| error.format(program))
    };
    read(&mut program).map_err(|mut error| {
        suggestions::correct(&mut error);
        if error.kind() == ErrorKind::MissingRequiredArgument
            && let Err(plain) = without_variables(Arguments::command()).try_get_matches_from(args)
            && let Some(usage) = plain.get(ContextKind::Usage)
        {
            error.insert(ContextKind::Usage, usage.clone());
        }
        if let Some(name) = variable(&error, &program, args) {
            let tip = format!("the value is that of the variable {name}");
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        error
    })
}

/// The program without its variables. The parser counts a variable as an argument that somebody typed: its usage would
/// name the option.
fn without_variables(program: Command) -> Command {
    program.mut_args(|arg| arg.env(Resettable::Reset)).mut_subcommands(without_variables)
}

/// The help of a command that needs another command after it. The parser prints it itself, except if a variable is set.
pub(crate) fn help_of_incomplete(error: &Error, args: &[OsString]) -> Option<String> {
    let is_incomplete = error.kind() == ErrorKind::MissingSubcommand;
    let asking = args.iter().cloned().chain(["-h".into()]);
    let help = is_incomplete.then(|| Arguments::command().try_get_matches_from(asking))?.err()?;
    (help.kind() == ErrorKind::DisplayHelp).then(|| help.to_string())
}

/// The variable with a wrong value: nobody typed the option that the error names.
fn variable(error: &Error, program: &Command, args: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else { return None };
    // Commands that were not parsed are not built yet: their arguments have no display names.
    let mut program = program.clone();
    program.build();
    let commands = program.get_subcommands().chain([&program]);
    let mut options = commands.flat_map(|command| command.get_arguments());
    let option = options.find(|option| option.to_string() == *invalid && option.get_env().is_some())?;
    let typed = format!("--{}", option.get_long()?);
    let is_typed = |arg: &OsString| arg.to_string_lossy().split('=').next() == Some(typed.as_str());
    let name = option.get_env()?.to_str()?;
    (!args.iter().any(is_typed) && env::var_os(name).is_some()).then(|| name.to_owned())
}

/// The refusal of an invalid command line for scripts: one sentence, and a tip or the usage as the hint.
pub(crate) fn refusal(error: &Error) -> Failed {
    let text = error.to_string();
    match error.kind() {
        // Its text is the help, or a list of all commands.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Failed::new(Exit::Usage, "no command was given")
                .hinted(Some("`obsync help` lists them".to_owned()))
        }
        _ => Failed::new(Exit::Usage, sentence(&text)).hinted(hint(&text)),
    }
}

/// The first paragraph on one line, as in "the following required arguments were not provided: <VAULT>, <DEST>".
fn sentence(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let mut lines = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.collect::<Vec<_>>().join(", ") {
        rest if rest.is_empty() => first,
        rest => format!("{first} {rest}"),
    }
}

/// The tips, else the usage.
fn hint(text: &str) -> Option<String> {
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: ")).collect();
    match tips.is_empty() {
        false => Some(tips.join("; ")),
        true => text.lines().find(|line| line.starts_with("Usage: ")).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> (String, Option<String>) {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let failed = refusal(&parse(&args).unwrap_err());
        assert_eq!(failed.exit, Exit::Usage);
        (failed.message, failed.hint)
    }

    #[test]
    fn a_command_line_that_cannot_be_understood_is_one_sentence_and_a_hint() {
        let some = |text: &str| Some(text.to_owned());
        for (line, sentence, hint) in [
            (
                "obsync pull",
                "the following required arguments were not provided: <VAULT>, <DEST>",
                some("Usage: obsync pull <VAULT> <DEST>"),
            ),
            (
                "obsync pull Notes notes --fulll",
                "unexpected argument '--fulll' found",
                some("a similar argument exists: '--full'"),
            ),
            (
                "obsync completions tcsh",
                "invalid value 'tcsh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]",
                None,
            ),
            (
                "obsync completions zhs",
                "invalid value 'zhs' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]",
                some("a similar value exists: 'zsh'"),
            ),
            (
                "obsync status --max-age -1h",
                "invalid value '-1h' for '--max-age <DURATION>': expected a number above 0 followed by s, m, h or d, such as \
                 90s, 30m, 2h or 7d",
                None,
            ),
            (
                "obsync pull Notes notes --connections 0",
                "invalid value '0' for '--connections <N>': expected a number from 1 to 10",
                None,
            ),
            (
                "obsync pull Notes notes --max-delete 200%",
                "invalid value '200%' for '--max-delete <LIMIT>': expected a number (100), a share of the files (20%), or \"none\" for no limit",
                None,
            ),
            (
                "obsync status --max-age 3",
                "invalid value '3' for '--max-age <DURATION>': expected a number above 0 followed by s, m, h or d, such as 90s, \
                 30m, 2h or 7d",
                None,
            ),
            ("obsync", "no command was given", some("`obsync help` lists them")),
        ] {
            assert_eq!(refused(line), (sentence.to_owned(), hint), "{line}");
        }
    }
}
