//! The program `obsync-dev`: a development server and a cloud, the function as Lambda runs it, generated vaults, a
//! demonstration, benchmarks and a soak test of obsync.
//!
//! [`args`] has the command line; each command is a module of its name. It needs no other program: to run
//! obsync as a separate process, [`child`] runs this one again.

mod args;
mod bench;
mod check;
mod child;
mod cloud;
mod console;
mod demo;
mod edit;
mod function;
mod generate;
mod human;
mod interop;
mod invoke;
mod measure;
mod pull;
mod server;
mod services;
mod soak;
mod values;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use args::{Arguments, Command};
use console::note;

/// Time limit for interrupted work to end by itself.
const INTERRUPTED: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match child::serve(&args) {
        Some(status) => status,
        None => run(&Arguments::parse_from(args)),
    }
}

/// Runs a command of this program; a failure is one sentence on standard error and the status 1.
fn run(arguments: &Arguments) -> ExitCode {
    log(arguments.verbose);
    let result = Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            match &arguments.command {
                Command::Server(options) => server::run(options).await,
                Command::Edit(options) => or_interrupted(edit::run(options)).await,
                Command::Cloud(options) => cloud::run(options).await,
                Command::Invoke(options) => or_interrupted(invoke::run(options)).await,
                Command::Generate(options) => generate::run(options),
                Command::Demo(options) => or_interrupted(demo::run(options)).await,
                Command::Bench(options) => or_interrupted(bench::run(options)).await,
                Command::Soak(options) => or_interrupted(soak::run(options)).await,
                Command::Interop(options) => or_interrupted(interop::run(options)).await,
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&format!("obsync-dev: {}", with_reasons(&error)));
            ExitCode::FAILURE
        }
    }
}

/// The error and its sources, each once: many errors repeat their source in their own sentence.
fn with_reasons(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, reason| match text.contains(&reason) {
        _ if text.is_empty() => reason,
        true => text,
        false => format!("{text}: {reason}"),
    })
}

/// Ends some work on Ctrl-C in a way that its temporary folders are removed.
async fn or_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => result,
        _ = tokio::signal::ctrl_c() => {
            // A child process is interrupted too, and has files open in those folders.
            let _ = tokio::time::timeout(INTERRUPTED, work).await;
            bail!("interrupted")
        }
    }
}

/// Logs to standard error: actions of the server and the first device, never their contents.
fn log(verbose: u8) {
    let filter = match verbose {
        0 => "warn",
        1 => "info",
        _ => "info,obsync_testkit=debug,obsync_client=debug",
    };
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr).init();
}
