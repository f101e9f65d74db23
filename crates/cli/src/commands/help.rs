//! `obsync help`: explains a command or a topic.

use clap::{Command, CommandFactory};

use crate::args::{Arguments, Help, OPTIONS, TOPICS};
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::suggestions;
use crate::ui::{width, wrap};

pub(super) fn run(options: &Help, context: &Context) -> Result<Exit, Failed> {
    let mut program = Arguments::command();
    // Global options reach the commands, and every usage has the program's name.
    program.build();
    let text = match options.subject.as_slice() {
        [] => program.render_help().to_string(),
        [topic] if topic == OPTIONS => global_options(program),
        words => match topic(words) {
            Some(text) => text.to_owned(),
            None => command(&mut program, words)?.render_long_help().to_string(),
        },
    };
    let text = match width::narrow() {
        Some(width) => wrap::help_to_width(text.trim_end(), width),
        None => text.trim_end().to_owned(),
    };
    context.console.write_out(&format!("{text}\n"))?;
    Ok(Exit::Done)
}

fn topic(words: &[String]) -> Option<&'static str> {
    let [wanted] = words else { return None };
    TOPICS.iter().find(|(name, _)| name == wanted).map(|(_, text)| *text)
}

fn command<'a>(program: &'a mut Command, words: &[String]) -> Result<&'a mut Command, Failed> {
    let mut command = program;
    for (depth, word) in words.iter().enumerate() {
        if command.find_subcommand(word).is_none() {
            return Err(unknown(words, meant(command, words, depth)));
        }
        command = command.find_subcommand_mut(word).ok_or_else(|| unknown(words, None))?;
    }
    Ok(command)
}

/// The closest command or topic to an unknown word at this depth.
fn meant(command: &Command, words: &[String], depth: usize) -> Option<String> {
    let (known, word) = (&words[..depth], &words[depth]);
    let subcommands = command.get_subcommands().map(Command::get_name);
    let found = match known {
        [] => {
            let topics = TOPICS.iter().map(|(name, _)| *name).chain([OPTIONS]);
            suggestions::meant(word).or_else(|| suggestions::nearest(word, topics).map(str::to_owned))
        }
        _ => suggestions::nearest(word, subcommands).map(str::to_owned),
    };
    let found = found?;
    Some(known.iter().map(String::as_str).chain([found.as_str()]).collect::<Vec<_>>().join(" "))
}

fn unknown(words: &[String], meant: Option<String>) -> Failed {
    let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).chain([OPTIONS]).collect();
    let meant = match meant {
        Some(meant) => format!("did you mean `obsync help {meant}`? "),
        None => String::new(),
    };
    let message = format!(
        "there is no command or topic {:?}; {meant}`obsync help` lists the commands, and the topics are {}",
        words.join(" "),
        topics.join(", ")
    );
    Failed::new(Exit::Usage, message)
}

/// The help of the options of every command.
fn global_options(program: Command) -> String {
    program.help_template("{options}").render_long_help().to_string()
}
