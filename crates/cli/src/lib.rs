//! The program `obsync`: Obsidian Sync vaults in a folder or a bucket, from a terminal or a script.
//!
//! Everything is behind [`main_with`], so that another program can offer obsync as one of its commands.
//! `args` has the command line, `commands` one file per command, `exit` the exit status; `account`, `target`,
//! `install` and `ui` are the building blocks of commands.

mod account;
mod answer;
mod args;
mod commands;
mod context;
mod environment;
mod exit;
/// Entry point of the fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod home;
mod install;
mod memory;
mod private_file;
mod signals;
mod suggestions;
mod target;
mod ui;
mod usage;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::error::ErrorKind;
use obsync_protocol::escaped;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use answer::Answer;
use args::{Arguments, Aws, AwsCommand, Command};
use context::Context;
pub use exit::Exit;
use exit::Failed;
use ui::console::Console;
pub use ui::human;

/// Runs the program with a command line, the program's name first, and returns its exit status ([`Exit`]).
pub fn main_with(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    match usage::parse(&args) {
        Ok(arguments) => run(&arguments).into(),
        Err(error) => {
            let has = |option| args.iter().any(|arg| arg == OsStr::new(option));
            let console = Console::new(false).answering_in_lines(has("--follow"));
            refuse(&error, &args, has("--json").then_some(&console)).into()
        }
    }
}

/// Help and the version come as errors, but are none. The answer for scripts goes to a `console` where one is
/// wanted.
fn refuse(error: &clap::Error, args: &[OsString], console: Option<&Console>) -> Exit {
    if let ErrorKind::DisplayHelp | ErrorKind::DisplayVersion = error.kind() {
        return shown(print_help(error));
    }
    let _ = match usage::help_of_incomplete(error, args) {
        Some(help) => io::stderr().write_all(help.as_bytes()),
        None => error.print(),
    };
    if let Some(console) = console {
        report(console, &usage::refusal(error));
    }
    Exit::Usage
}

/// Prints the help, wrapped for a terminal that is narrower than the program's help.
fn print_help(help: &clap::Error) -> io::Result<()> {
    match ui::width::narrow() {
        Some(width) => io::stdout().write_all(ui::wrap::help_to_width(&help.to_string(), width).as_bytes()),
        None => help.print(),
    }
}

/// The exit status after printing help. A closed reader is no error.
fn shown(printed: io::Result<()>) -> Exit {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let failed = Failed::cannot("write to standard output", &error);
            Console::default().error(&format!("obsync: {failed}"));
            failed.exit
        }
        _ => Exit::Done,
    }
}

fn run(arguments: &Arguments) -> Exit {
    obsync_private::refuse_core_dumps();
    if is_follower(&arguments.command) {
        memory::keep_little();
    }
    let console = Console::new(arguments.global.quiet).naming_files(arguments.global.verbose > 0);
    let console = console.answering_in_lines(is_follower(&arguments.command));
    let console = Arc::new(console);
    ui::logging::start(arguments.global.verbose, &console);
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(async {
            let stop = CancellationToken::new();
            let owes_answer = wants_json(&arguments.command);
            signals::listen(stop.clone(), Arc::clone(&console), owes_answer);
            let context = Context::new(&arguments.global, Arc::clone(&console), stop)?;
            let result = commands::run(&arguments.command, &context, arguments.global.verbose > 1).await;
            context.end().await;
            result
        });
        // Otherwise a thread that waits for an answer at the terminal would block the end.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|failed| {
        if wants_json(&arguments.command) {
            report(&console, &failed);
        }
        // A failure is one sentence: a line break in it is part of a name.
        console.error(&format!("obsync: {}", escaped(&failed.for_people())));
        failed.exit
    })
}

/// A runtime with at most one thread per processor, but at least two: a computing thread must not keep the
/// others' messages waiting.
fn runtime() -> Result<Runtime, Failed> {
    let workers = thread::available_parallelism().map_or(2, |count| count.get().max(2));
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(|error| Failed::cannot("start", &error))
}

/// The failure as the one document on standard output.
fn report(console: &Console, failed: &Failed) {
    // If standard output is not writable, that is already the failure.
    if let Err(unwritten) = console.answer(&Answer::of(failed))
        && unwritten.message != failed.message
    {
        console.error(&format!("obsync: {unwritten}"));
    }
}

fn wants_json(command: &Command) -> bool {
    match command {
        Command::Vaults(options) => options.json,
        Command::Create(options) => options.json,
        Command::Pull(options) => options.pull.json,
        Command::Sync(options) => options.pull.json,
        Command::Push(options) => options.sync.pull.json,
        Command::Status(options) => options.json,
        Command::Reset(options) => options.json,
        Command::Unlink(options) => options.json,
        Command::Confirm(options) => options.json,
        Command::Log(options) => options.json,
        Command::CheckService(options) => options.json,
        Command::Verify(options) => options.json,
        Command::Aws(Aws { command: AwsCommand::Init(options) }) => options.json,
        _ => false,
    }
}

/// True if it runs until it is stopped, with a report of each run on its own line.
fn is_follower(command: &Command) -> bool {
    match command {
        Command::Pull(options) => options.pull.follow,
        Command::Sync(options) => options.pull.follow,
        Command::Push(options) => options.sync.pull.follow,
        _ => false,
    }
}
