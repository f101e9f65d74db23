//! The program `obsync`. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    obsync_cli::main_with(std::env::args_os())
}
