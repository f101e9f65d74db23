//! The program that AWS Lambda starts: see the library.

use std::process::ExitCode;

use tokio::runtime::Builder;

fn main() -> ExitCode {
    obsync_private::refuse_core_dumps();
    // Two threads suffice for two processors, and each takes memory, which a small function has little of.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(obsync_lambda::serve()),
        Err(error) => {
            eprintln!("bootstrap: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
