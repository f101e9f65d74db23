//! The process with the tables: `dev/dynamodb`, started for one cloud and ended with it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::CloudError;

/// Built by this crate's `build.rs`.
const PROGRAM: &str = env!("OBSYNC_DYNAMODB_ENGINE");

/// A running engine.
pub(super) struct Engine {
    /// The address of its DynamoDB API.
    pub(super) address: SocketAddr,
    process: Mutex<EngineProcess>,
}

struct EngineProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Engine {
    pub(super) fn start() -> Result<Self, CloudError> {
        let failed = |error: io::Error| CloudError::Database(format!("{PROGRAM}: {error}"));
        let mut process = EngineProcess::start().map_err(failed)?;
        let port = process.line().map_err(failed)?;
        let port: u16 =
            port.trim().parse().map_err(|_| CloudError::Database(format!("{port:?} is no port")))?;
        Ok(Self { address: (Ipv4Addr::LOCALHOST, port).into(), process: Mutex::new(process) })
    }

    /// Calls the engine directly: not a client's request, and not counted.
    pub(super) fn call(&self, operation: &str, request: Value) -> Result<Value, CloudError> {
        let asked = json!({ "operation": operation, "request": request });
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = process.ask(&asked).map_err(|error| CloudError::Database(error.to_string()))?;
        match answer {
            Value::Object(mut answer) if answer.contains_key("answer") => {
                Ok(answer.remove("answer").unwrap_or_default())
            }
            answer => Err(CloudError::Database(answer["error"].as_str().unwrap_or("no answer").to_owned())),
        }
    }
}

impl EngineProcess {
    fn start() -> io::Result<Self> {
        let mut child = Command::new(PROGRAM).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { child, input, output: BufReader::new(output) }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    fn ask(&mut self, asked: &Value) -> io::Result<Value> {
        writeln!(self.input, "{asked}")?;
        self.input.flush()?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.output.read_line(&mut line)? {
            0 => Err(io::Error::other("the engine has ended")),
            _ => Ok(line),
        }
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
