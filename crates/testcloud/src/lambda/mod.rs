//! Lambda: the API for invoking functions, and an execution environment that runs a real program.
//!
//! [`Lambda`] accepts events that functions send to each other (or to themselves) and keeps them until a test
//! runs them. [`LambdaRuntime`] is one execution environment: it starts the program, serves the Lambda
//! Runtime API to it, and enforces its deadline and memory.

mod api;
#[cfg(unix)]
mod environment;
#[cfg(unix)]
mod invocation;
#[cfg(unix)]
mod logs;
#[cfg(unix)]
mod memory;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod runtime;
#[cfg(unix)]
mod runtime_api;

pub(super) use api::start;
pub use api::{Lambda, QueuedEvent};
#[cfg(unix)]
pub use invocation::{Invocation, InvokeOptions, Outcome};
#[cfg(unix)]
pub use memory::MemoryLimit;
#[cfg(unix)]
pub use runtime::{LambdaOptions, LambdaRuntime, LogSink};
