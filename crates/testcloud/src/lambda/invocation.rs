//! One invocation: its options, and its result.

use std::time::Duration;

use serde_json::Value;

/// Options of one invocation; unset ones default to the runtime's.
#[derive(Debug, Clone, Default)]
pub struct InvokeOptions {
    /// The function's timeout, from when it gets the event.
    pub timeout: Option<Duration>,
    /// The function's memory size in MiB. Another size than before means a new process, as on AWS.
    pub memory_mb: Option<u32>,
    /// The request id; a new one when none is given.
    pub request_id: Option<String>,
}

/// The result of an invocation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The function answered.
    Answer(Value),
    /// The function reported an error: a failed invocation, for alarms and retries.
    Failed {
        /// The error's type.
        kind: String,
        /// The error's message.
        message: String,
    },
    /// Timeout; the process was killed.
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// Out of memory; the process was killed.
    OutOfMemory {
        /// The function's memory size in MiB.
        limit_mb: u32,
    },
    /// The process ended by itself without an answer.
    Exited {
        /// The exit status, such as `exit status: 1`.
        status: String,
    },
    /// [`LambdaRuntime::kill`](super::LambdaRuntime::kill) ended it.
    Killed,
    /// The process ended or failed before requesting an event.
    InitFailed {
        /// The error's type.
        kind: String,
        /// The error's message.
        message: String,
    },
}

/// One run of a function.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Invocation {
    /// The request id.
    pub request_id: String,
    /// The result.
    pub outcome: Outcome,
    /// From the start of the process to its readiness for the first event; `None` for a warm start.
    pub init: Option<Duration>,
    /// From the event to the answer, or to the end of the process.
    pub duration: Duration,
    /// The highest resident memory during the invocation, in bytes; known on Linux only.
    ///
    /// When the process ended by itself or was killed, the last measurement, at most 10 ms before.
    pub max_rss: Option<u64>,
    /// Processor time of all threads during the invocation, and before it while starting, in steps of 10 ms; known on Linux
    /// only, and while the process lives.
    pub processor: Option<Duration>,
    /// The function's output during the invocation (and, before it, while starting), line by line.
    pub logs: Vec<String>,
}

impl Invocation {
    /// True if a process was started for it.
    pub fn is_cold_start(&self) -> bool {
        self.init.is_some()
    }

    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Value> {
        match &self.outcome {
            Outcome::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    /// The log lines that are JSON objects.
    pub fn json_logs(&self) -> Vec<Value> {
        let parsed = self.logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.filter(Value::is_object).collect()
    }
}
