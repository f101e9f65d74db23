//! The output of `--json`: one value at every end of a command, in one frame (docs/JSON.md).

use obsync_core::{Ending, Problem, SCHEMA_VERSION};
use serde::Serialize;

use crate::exit::{Exit, Failed};

/// The fields that the output of every command has.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Answer<T> {
    /// The version of this contract.
    schema_version: u32,
    /// The outcome.
    outcome: Ending,
    /// The exit status.
    exit_code: u8,
    /// The problem; null with exit status 0.
    error: Option<Problem>,
    #[serde(flatten)]
    body: T,
}

/// Body of the answer of a command that did not do its work.
#[derive(Debug, Serialize)]
pub(crate) struct Nothing {}

impl<T: Serialize> Answer<T> {
    /// The answer of a command with this exit status.
    pub(crate) fn new(exit: Exit, error: Option<Problem>, body: T) -> Self {
        let (outcome, exit_code) = (exit.ending(), exit.code());
        Answer { schema_version: SCHEMA_VERSION, outcome, exit_code, error, body }
    }

    /// The same with a more precise outcome.
    pub(crate) fn with_outcome(self, outcome: Ending) -> Self {
        Answer { outcome, ..self }
    }
}

impl Answer<Nothing> {
    /// The answer of a command that did not do its work.
    pub(crate) fn of(failed: &Failed) -> Self {
        Answer::new(failed.exit, Some(failed.problem()), Nothing {})
    }
}

/// A point in time for scripts, from milliseconds since the epoch; `None` outside the calendar.
pub(crate) fn time(milliseconds: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}

/// The same for serialising; null outside the calendar.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
pub(crate) fn as_time<S: serde::Serializer>(milliseconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    time(*milliseconds).serialize(serializer)
}
