//! obsync on AWS Lambda: a function that keeps a bucket in step with vaults, in as many invocations as that
//! takes.
//!
//! The path of an event: `envelope` finds the `event` in any form, `handler` finds the requested vaults
//! (`choice`) and their places (`placement`), `spread` puts many as messages into the function's queue,
//! `fan_out` works on several at a time, `sync` on each: lease, a look at the other places (`nesting`), pull,
//! progress, report. Other modules:
//!
//! - `config` (with `variables`), `secrets`: settings and credentials. `trust`: checks of the service's
//!   statements. `warm`: state kept between invocations.
//! - `memory` (with `gauge`), `deadline`, `pacing`: limits. `chain`: self-continuation.
//! - `answer`, `queue`, `status`: answers. `dead_letters`: the queue of invalid messages. `logging`,
//!   `closing`, `metrics`, `freshness`: logs and metrics for CloudWatch.

mod answer;
mod chain;
mod choice;
mod closing;
mod config;
mod dead_letters;
mod deadline;
mod direction;
mod envelope;
mod event;
mod failure;
mod fan_out;
mod freshness;
/// Entry points of the fuzz targets.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gauge;
mod handler;
mod logging;
mod memory;
mod metrics;
mod nesting;
mod pacing;
mod placement;
mod queue;
#[cfg(test)]
mod schemas;
mod secrets;
mod spread;
mod status;
mod sync;
mod trust;
mod variables;
mod vault_report;
mod warm;

use std::env;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

use lambda_runtime::{Context, LambdaEvent, service_fn};
use serde_json::value::RawValue;

pub use answer::InvocationError;
pub use config::{Config, ConfigError};
use handler::Handler;

/// Variables that the Lambda runtime sets in every function (Lambda developer guide, "Defined runtime
/// environment variables").
const RUNTIME: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// Serves invocations until the platform ends the process.
///
/// Boxed here, and not inlined, so that no caller has to lay out the whole of it: the compiler gives up on a
/// type as deep.
#[inline(never)]
pub fn serve() -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(serve_all())
}

async fn serve_all() -> ExitCode {
    let begun = Instant::now();
    logging::start();
    if let Some(missing) = RUNTIME.iter().find(|name| env::var_os(name).is_none()) {
        eprintln!(
            "bootstrap: {missing} is not set: this program is run by AWS Lambda; on a computer use `obsync \
             pull VAULT s3://BUCKET/PREFIX`, or `obsync-dev invoke` to try the function out"
        );
        return ExitCode::FAILURE;
    }
    let handler = Handler::new(begun.elapsed());
    let service = service_fn(|event: LambdaEvent<Box<RawValue>>| {
        let handler = &handler;
        // Boxed: the compiler gives up on a type as deep as the whole future.
        Box::pin(async move {
            let context: &Context = &event.context;
            let answer = handler.handle(event.payload.get(), context).await;
            answer.map(|answer| answer::harmless(&answer))
        }) as Pin<Box<dyn Future<Output = _>>>
    });
    match lambda_runtime::run(service).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the Lambda runtime cannot be spoken with");
            ExitCode::FAILURE
        }
    }
}
