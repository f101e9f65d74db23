//! The function for AWS Lambda as a local process: its program, its variables, its result.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use obsync_testcloud::{Invocation, LambdaOptions, MemoryLimit, Outcome};
use serde_json::Value;

use crate::child::BOOTSTRAP;
use crate::human;

/// The command that builds the program.
const BUILD: &str = "cargo build --release --package obsync-lambda";

/// Prefixes of variables for the function, its AWS clients, or its TLS.
const PASSED_ON: [&str; 7] = ["AWS_", "OBSYNC_", "OBSIDIAN_", "S3_", "STATE_", "LAMBDA_", "SSL_CERT_"];

/// Variables that Lambda itself sets, so that they are never inherited.
const RESERVED: [&str; 3] = ["AWS_LAMBDA_", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"];

/// The reserved variable that people set all the same: the log level.
const LOG_LEVEL: &str = "AWS_LAMBDA_LOG_LEVEL";

/// The program that is the function.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    /// This program, under its command that is the function.
    is_this: bool,
}

impl Program {
    /// This program itself.
    pub(crate) fn this() -> Result<Self> {
        let path = env::current_exe().context("cannot find this program's own file")?;
        Ok(Self { path, is_this: true })
    }

    /// The requested program, else the `bootstrap` that was built beside this program, else this program
    /// itself.
    pub(crate) fn find(asked: Option<&Path>) -> Result<Self> {
        if let Some(path) = asked {
            if !path.is_file() {
                bail!(
                    "there is no program {}; `{BUILD}` builds it as target/release/bootstrap, and without \
                     --function this program takes its place",
                    path.display()
                );
            }
            return Ok(Self { path: path.to_path_buf(), is_this: false });
        }
        let this = Self::this()?;
        let beside = this.path.with_file_name(BOOTSTRAP);
        Ok(if beside.is_file() { Self { path: beside, is_this: false } } else { this })
    }

    /// The function's configuration for Lambda.
    pub(crate) fn options(&self, memory_mb: u32, timeout: Duration) -> LambdaOptions {
        let args = if self.is_this { vec![BOOTSTRAP.into()] } else { Vec::new() };
        LambdaOptions {
            args,
            memory_mb,
            memory_limit: MemoryLimit::strongest(),
            timeout,
            ..LambdaOptions::new(&self.path)
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_this {
            true => write!(formatter, "{} {BOOTSTRAP}", self.path.display()),
            false => write!(formatter, "{}", self.path.display()),
        }
    }
}

/// Describes the enforcement of a function's memory limit.
pub(crate) fn limit(limit: &MemoryLimit) -> &'static str {
    match limit {
        MemoryLimit::Cgroup(_) => "limited by the kernel, in a control group",
        MemoryLimit::Watch => "watched, and killed above it",
        MemoryLimit::Measure => "measured only",
    }
}

/// The variables of this process for the function, without those meant only for this program.
///
/// # Errors
/// When one of them is not UTF-8.
pub(crate) fn variables() -> Result<Vec<(String, String)>> {
    let mut passed = Vec::new();
    for (name, value) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| is_passed_on(name)) else {
            continue;
        };
        let Ok(value) = value.into_string() else {
            bail!("the variable {name} is not UTF-8 text, which the function's variables must be");
        };
        passed.push((name.to_owned(), value));
    }
    Ok(passed)
}

fn is_passed_on(name: &str) -> bool {
    // `HOME` leads the AWS clients to the profiles of this user.
    let concerns = name == "HOME" || PASSED_ON.iter().any(|prefix| name.starts_with(prefix));
    let reserved = RESERVED.iter().any(|prefix| name.starts_with(prefix));
    name == LOG_LEVEL || (concerns && !reserved)
}

/// The sync's status in an answer, of a direct event or by HTTP.
pub(crate) fn status(answer: &Value) -> Option<String> {
    if let Some(status) = answer["status"].as_str() {
        return Some(status.to_owned());
    }
    let body: Value = serde_json::from_str(answer["body"].as_str()?).ok()?;
    Some(body["status"].as_str()?.to_owned())
}

/// The result and resource use of an invocation: one line.
pub(crate) fn summary(invocation: &Invocation, memory_mb: u32) -> String {
    let start = match invocation.init {
        Some(init) => format!("cold start {}", human::seconds(init)),
        None => "warm start".to_owned(),
    };
    let memory = match invocation.max_rss {
        Some(bytes) => format!("peak memory {} of {memory_mb} MB", bytes.div_ceil(1 << 20)),
        None => "memory not measured".to_owned(),
    };
    format!("{} in {}, {start}, {memory}", outcome(&invocation.outcome), human::seconds(invocation.duration))
}

/// The result of an invocation, in a word or a sentence.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answer(answer) => status(answer).unwrap_or_else(|| "answered".to_owned()),
        Outcome::Failed { kind, message } => format!("failed: {kind}: {message}"),
        Outcome::TimedOut { after } => {
            format!("failed: it took longer than {} and was killed", human::seconds(*after))
        }
        Outcome::OutOfMemory { limit_mb } => {
            format!("failed: it used more than {limit_mb} MB of memory and was killed")
        }
        Outcome::Exited { status } => format!("failed: the program ended without an answer ({status})"),
        Outcome::Killed => "failed: it was killed".to_owned(),
        Outcome::InitFailed { kind, message } => format!("failed at its start: {kind}: {message}"),
        _ => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_function_gets_what_concerns_it_but_nothing_that_lambda_sets() {
        for name in ["AWS_PROFILE", "S3_BUCKET", "STATE_TABLE_NAME", "LAMBDA_BATCH_SIZE", "HOME", LOG_LEVEL] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in ["PATH", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "LAMBDA_TASK_ROOT"]
        {
            assert!(!is_passed_on(name), "{name}");
        }
    }

    #[test]
    fn the_status_is_found_in_plain_answers_and_in_those_for_http() {
        assert_eq!(status(&json!({ "status": "complete" })).as_deref(), Some("complete"));
        let by_http = json!({ "statusCode": 200, "body": "{\"status\":\"incomplete\"}" });
        assert_eq!(status(&by_http).as_deref(), Some("incomplete"));
        assert_eq!(status(&json!({ "batchItemFailures": [] })), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_how_to_build_it() {
        let error = Program::find(Some(Path::new("no/such/bootstrap"))).unwrap_err().to_string();
        assert!(error.contains("no/such/bootstrap") && error.contains(BUILD), "{error}");
    }
}
