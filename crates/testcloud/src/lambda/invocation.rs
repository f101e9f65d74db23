//! One invocation: how it is to be run, and what came of it.

use std::time::Duration;

use serde_json::Value;

/// How one invocation is to be run; what is not said is as the runtime's options say.
#[derive(Debug, Clone, Default)]
pub struct InvokeOptions {
    /// How long the function may take, from when it gets the event.
    pub timeout: Option<Duration>,
    /// The function's memory size in MiB. Another size than before means a new process, as on AWS.
    pub memory_mb: Option<u32>,
    /// The request id; a new one when none is given.
    pub request_id: Option<String>,
}

/// What came of an invocation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The function answered.
    Answer(Value),
    /// The function reported an error: an invocation that failed, for alarms and retries.
    Failed {
        /// The error's type.
        kind: String,
        /// The error's message.
        message: String,
    },
    /// The time was over; the process was killed.
    TimedOut {
        /// How long it had.
        after: Duration,
    },
    /// The memory was used up; the process was killed.
    OutOfMemory {
        /// The function's memory size in MiB.
        limit_mb: u32,
    },
    /// The process ended by itself without an answer.
    Exited {
        /// How it ended, such as `exit status: 1`.
        status: String,
    },
    /// [`LambdaRuntime::kill`](super::LambdaRuntime::kill) ended it.
    Killed,
    /// The process did not get as far as asking for an event.
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
    /// What came of it.
    pub outcome: Outcome,
    /// From the start of the process to its readiness for the first event; none in a warm start.
    pub init: Option<Duration>,
    /// From the event to the answer, or to the end of the process.
    pub duration: Duration,
    /// The highest resident memory during the invocation, in bytes; known on Linux only.
    ///
    /// When the process ended by itself or was killed, that of the last look, 10 ms or less before.
    pub max_rss: Option<u64>,
    /// Processor time of all threads during the invocation, and before it while starting, in steps of 10 ms; known on Linux
    /// only, and while the process lives.
    pub processor: Option<Duration>,
    /// What the function wrote during the invocation (and, before it, while starting), line by line.
    pub logs: Vec<String>,
}

impl Invocation {
    /// Whether a process was started for it.
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
