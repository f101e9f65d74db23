//! `obsync completions`: prints a shell's completion script.

use clap::Command;

use crate::args::Completions;
use crate::context::Context;
use crate::exit::{Exit, Failed};

pub(super) fn run(options: &Completions, program: &mut Command, context: &Context) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, program, "obsync", &mut script);
    context.console.write_out(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
