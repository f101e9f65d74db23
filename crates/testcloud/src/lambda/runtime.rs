//! The runtime for functions in tests.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use super::super::credentials::SESSION_TOKEN;
use super::super::{Cloud, CloudError};
use super::api::Lambda;
use super::environment::{Environment, Run};
use super::invocation::{Invocation, InvokeOptions};
use super::memory::MemoryLimit;
use super::process::Order;

/// The default timeout of a function.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of a program's start (Lambda, init phase).
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The default memory of a function in MiB: Lambda's minimum.
const MEMORY_MB: u32 = 128;

/// Receives the log lines of a function as they are written.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(&str) + Send + Sync>);

impl LogSink {
    /// A sink that passes each line, without its end, to `take`.
    pub fn new(take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(super) fn line(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// The configuration of a function.
#[derive(Clone)]
pub struct LambdaOptions {
    /// The program, which speaks the Lambda Runtime API: `bootstrap` in a zip for `provided.al2023`.
    pub program: PathBuf,
    /// Arguments, which Lambda never passes; for functions inside other programs.
    pub args: Vec<OsString>,
    /// The function's name.
    pub function: String,
    /// Its memory size in MiB.
    pub memory_mb: u32,
    /// Enforcement of the memory size.
    pub memory_limit: MemoryLimit,
    /// The timeout of an invocation.
    pub timeout: Duration,
    /// Time limit until the program requests its first event; Lambda's is 10 s.
    pub init_timeout: Duration,
    /// Its own variables; those of Lambda and of the cloud are added, and nothing else.
    pub env: Vec<(String, String)>,
    /// The process is stopped (`SIGSTOP`) between invocations, as by Lambda.
    pub freeze_between: bool,
    /// Receives each log line as it is written.
    pub log_sink: Option<LogSink>,
}

impl LambdaOptions {
    /// A function of 128 MiB and a minute without own variables.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            function: "obsync".to_owned(),
            memory_mb: MEMORY_MB,
            memory_limit: MemoryLimit::default(),
            timeout: TIMEOUT,
            init_timeout: INIT_TIMEOUT,
            env: Vec::new(),
            freeze_between: true,
            log_sink: None,
        }
    }
}

impl fmt::Debug for LambdaOptions {
    /// Variables by name only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("LambdaOptions")
            .field("program", &self.program)
            .field("function", &self.function)
            .field("memory_mb", &self.memory_mb)
            .field("memory_limit", &self.memory_limit)
            .field("timeout", &self.timeout)
            .field("init_timeout", &self.init_timeout)
            .field("env", &names)
            .finish_non_exhaustive()
    }
}

type Orders = Arc<StdMutex<Option<mpsc::UnboundedSender<Order>>>>;

/// One execution environment of a function: a process that is started by an event and kept for the next one.
/// For two concurrent invocations of one function, create two of these.
///
/// Dropping it kills the process.
pub struct LambdaRuntime {
    options: LambdaOptions,
    cloud: Vec<(String, String)>,
    environment: Mutex<Option<Environment>>,
    /// Sends orders to the invocation in flight.
    in_flight: Orders,
}

impl fmt::Debug for LambdaRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LambdaRuntime").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Removes the sender of orders when an invocation ends, in any way.
struct InFlight(Orders);

impl InFlight {
    fn begin(orders: &Orders) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        *orders.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        (Self(Arc::clone(orders)), receiver)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl LambdaRuntime {
    /// A function of this cloud, which it finds by its variables; nothing is started yet.
    pub fn new(cloud: &Cloud, options: LambdaOptions) -> Self {
        cloud.lambda().add_function(&options.function);
        let mut variables = cloud.env();
        // The credentials of a function are always temporary ones of a role.
        variables.push(("AWS_SESSION_TOKEN".to_owned(), SESSION_TOKEN.to_owned()));
        Self::with(variables, options)
    }

    /// A function that finds everything by its own variables: a cloud in another process, or AWS itself.
    pub fn elsewhere(options: LambdaOptions) -> Self {
        Self::with(Vec::new(), options)
    }

    fn with(cloud: Vec<(String, String)>, options: LambdaOptions) -> Self {
        Self { options, cloud, environment: Mutex::new(None), in_flight: Orders::default() }
    }

    /// The configuration.
    pub fn options(&self) -> &LambdaOptions {
        &self.options
    }

    /// Runs the function with this event: in the process of the last invocation if that is waiting for one,
    /// else in a new process. Concurrent invocations wait for each other.
    ///
    /// # Errors
    /// When the program cannot be started at all; everything else is an [`Outcome`](super::Outcome).
    pub async fn invoke(&self, event: &Value, options: InvokeOptions) -> Result<Invocation, CloudError> {
        let mut slot = self.environment.lock().await;
        let memory_mb = options.memory_mb.unwrap_or(self.options.memory_mb);
        let mut environment = match slot.take() {
            Some(mut kept) => {
                if kept.memory_mb == memory_mb && kept.is_usable() {
                    kept
                } else {
                    kept.end().await;
                    Environment::start(&self.options, &self.cloud, memory_mb).await?
                }
            }
            None => Environment::start(&self.options, &self.cloud, memory_mb).await?,
        };
        let (in_flight, mut orders) = InFlight::begin(&self.in_flight);
        let run = Run {
            request_id: options.request_id.unwrap_or_else(request_id),
            payload: Bytes::from(event.to_string()),
            timeout: options.timeout.unwrap_or(self.options.timeout),
        };
        let invocation = environment.run(run, &mut orders).await;
        drop(in_flight);
        if environment.is_usable() {
            *slot = Some(environment);
        } else {
            environment.end().await;
        }
        Ok(invocation)
    }

    /// Runs the function with this event and then with each event that it sent to itself, at most `most`.
    ///
    /// # Errors
    /// When the program cannot be started at all.
    pub async fn invoke_chain(
        &self,
        lambda: &Lambda,
        event: &Value,
        options: InvokeOptions,
        most: usize,
    ) -> Result<Vec<Invocation>, CloudError> {
        let mut invocations = vec![self.invoke(event, options.clone()).await?];
        while invocations.len() < most {
            let Some(queued) = lambda.take_event() else {
                break;
            };
            // A request id is for one invocation.
            let options = InvokeOptions { request_id: None, ..options.clone() };
            invocations.push(self.invoke(&queued.event, options).await?);
        }
        Ok(invocations)
    }

    /// Kills the process, in the middle of an invocation or between two; the next one starts cold.
    pub async fn kill(&self) {
        if self.order(Order::Kill) {
            return;
        }
        if let Some(environment) = self.environment.lock().await.take() {
            environment.end().await;
        }
    }

    /// Stops the process, in the middle of an invocation or between two; deadlines continue.
    pub async fn freeze(&self) {
        if !self.order(Order::Freeze) {
            self.environment.lock().await.as_ref().inspect(|environment| environment.freeze());
        }
    }

    /// Resumes a stopped process.
    pub async fn thaw(&self) {
        if !self.order(Order::Thaw) {
            self.environment.lock().await.as_ref().inspect(|environment| environment.thaw());
        }
    }

    /// Sends an order to the invocation in flight. Returns true if there is one.
    fn order(&self, order: Order) -> bool {
        let orders = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        orders.as_ref().is_some_and(|orders| orders.send(order).is_ok())
    }
}

/// A request id in Lambda's format (a random UUID, RFC 9562 section 5.4).
fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    // An id without randomness is still an id.
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_random_uuids() {
        let id = request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, request_id());
    }
}
