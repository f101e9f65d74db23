//! `obsync help`: explains a command or a topic.

use clap::{Command, CommandFactory};

use crate::args::{Arguments, Help, OPTIONS, TOPICS};
use crate::context::Context;
use crate::exit::{Exit, Failed};

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
    context.console.write_out(&format!("{}\n", text.trim_end()))?;
    Ok(Exit::Done)
}

fn topic(words: &[String]) -> Option<&'static str> {
    let [wanted] = words else { return None };
    TOPICS.iter().find(|(name, _)| name == wanted).map(|(_, text)| *text)
}

fn command<'a>(program: &'a mut Command, words: &[String]) -> Result<&'a mut Command, Failed> {
    let mut command = program;
    for word in words {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).chain([OPTIONS]).collect();
            let asked = words.join(" ");
            Failed::new(
                Exit::Usage,
                format!(
                    "there is no command or topic {asked:?}; `obsync help` lists the commands, and the topics are {}",
                    topics.join(", ")
                ),
            )
        })?;
    }
    Ok(command)
}

/// The help of the options that every command has.
fn global_options(program: Command) -> String {
    program.help_template("{options}").render_long_help().to_string()
}
