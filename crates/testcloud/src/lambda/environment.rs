//! An execution environment: one process, its Runtime API, and its invocations.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::CloudError;
use super::super::http::{self, Tasks};
use super::api::arn;
use super::invocation::{Invocation, Outcome};
use super::process::{Ended, Order, Process};
use super::runtime::LambdaOptions;
use super::runtime_api::{self, Event, Exchange, ExchangeSender, Reply};

/// The parameters of an invocation.
pub(super) struct Run {
    pub(super) request_id: String,
    pub(super) payload: Bytes,
    pub(super) timeout: Duration,
}

pub(super) struct Environment {
    process: Process,
    exchange: ExchangeSender,
    tasks: Tasks,
    pub(super) memory_mb: u32,
    function: String,
    freezes: bool,
    init_limit: Duration,
    started: Instant,
    /// It waits for an event.
    idle: bool,
    fresh: bool,
}

impl Environment {
    /// Starts the program; the first invocation detects whether it gets ready.
    pub(super) async fn start(
        options: &LambdaOptions,
        cloud: &[(String, String)],
        memory_mb: u32,
    ) -> Result<Self, CloudError> {
        let (listener, address) = http::listen(0).await?;
        let tasks = Tasks::default();
        let exchange: ExchangeSender = Arc::new(watch::Sender::new(Exchange::default()));
        runtime_api::serve(listener, &tasks, Arc::clone(&exchange));
        let variables = variables(options, cloud, memory_mb, &address.to_string());
        let started = Instant::now();
        let process = Process::start(options, memory_mb, &variables, &tasks)?;
        Ok(Self {
            process,
            exchange,
            tasks,
            memory_mb,
            function: options.function.clone(),
            freezes: options.freeze_between,
            init_limit: options.init_timeout,
            started,
            idle: true,
            fresh: true,
        })
    }

    /// True if the next invocation can use it.
    pub(super) fn is_usable(&mut self) -> bool {
        self.idle && !self.process.has_exited()
    }

    /// Ends the process and the Runtime API.
    pub(super) async fn end(mut self) {
        self.process.kill().await;
        self.tasks.stop().await;
    }

    pub(super) fn freeze(&self) {
        self.process.freeze();
    }

    pub(super) fn thaw(&self) {
        self.process.thaw();
    }

    /// Runs one event. Whatever the result, [`Self::is_usable`] says whether another can follow.
    pub(super) async fn run(&mut self, run: Run, orders: &mut mpsc::UnboundedReceiver<Order>) -> Invocation {
        self.idle = false;
        self.process.thaw();
        let mut init = None;
        let before = if self.fresh { Some(Duration::ZERO) } else { self.process.processor() };
        if self.fresh {
            self.fresh = false;
            let outcome = self.init(orders).await;
            init = Some(self.started.elapsed());
            if let Err(outcome) = outcome {
                return self.finish(run.request_id, outcome, init, Duration::ZERO, before);
            }
        } else {
            self.process.reset_peak();
        }
        let began = Instant::now();
        let deadline = began + run.timeout;
        let id = run.request_id.clone();
        self.hand_over(run.request_id, run.payload, run.timeout);
        let mut changes = self.exchange.subscribe();
        let replied = async { changes.wait_for(|state| state.reply.is_some()).await.is_ok() };
        let replied = self.process.supervise(replied, deadline, orders).await;
        let duration = began.elapsed();
        self.process.look();
        let outcome = match replied {
            // The limit was exceeded before the answer: Lambda would have killed it.
            Ok(_) if self.process.is_above_limit() => self.outcome_of(Ended::OutOfMemory, run.timeout),
            Ok(_) => self.take_reply(),
            Err(ended) => self.outcome_of(ended, run.timeout),
        };
        if matches!(outcome, Outcome::Answer(_) | Outcome::Failed { .. }) {
            self.settle(deadline, orders).await;
        }
        self.finish(id, outcome, init, duration, before)
    }

    /// Waits until the program requests its first event.
    async fn init(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Result<(), Outcome> {
        let mut changes = self.exchange.subscribe();
        let ready = async {
            let state = changes.wait_for(|state| state.at_next || state.init_failure.is_some()).await;
            state.ok().and_then(|state| state.init_failure.clone())
        };
        let limit = self.init_limit;
        let deadline = self.started + limit;
        match self.process.supervise(ready, deadline, orders).await {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => match outcome_of_reply(failure) {
                Outcome::Failed { kind, message } => Err(Outcome::InitFailed { kind, message }),
                other => Err(other),
            },
            Err(Ended::TimedOut) => Err(Outcome::InitFailed {
                kind: "Sandbox.Timedout".to_owned(),
                message: format!("the program did not ask for an event within {limit:?}"),
            }),
            Err(ended) => Err(self.outcome_of(ended, limit)),
        }
    }

    fn hand_over(&self, request_id: String, payload: Bytes, timeout: Duration) {
        let function_arn = arn(&self.function);
        let event = Event { request_id, function_arn, deadline: SystemTime::now() + timeout, payload };
        self.exchange.send_modify(|state| {
            state.reply = None;
            state.pending = Some(event);
        });
    }

    fn take_reply(&self) -> Outcome {
        let mut reply = None;
        self.exchange.send_modify(|state| reply = state.reply.take());
        match reply {
            Some(reply) => outcome_of_reply(reply),
            None => Outcome::Killed,
        }
    }

    /// An invocation is over once the program requests the next event; then it is frozen, as on AWS.
    async fn settle(&mut self, deadline: Instant, orders: &mut mpsc::UnboundedReceiver<Order>) {
        let mut changes = self.exchange.subscribe();
        let at_next = async { changes.wait_for(|state| state.at_next).await.is_ok() };
        if self.process.supervise(at_next, deadline, orders).await.is_ok() {
            self.idle = true;
            if self.freezes {
                self.process.freeze();
            }
        }
    }

    fn outcome_of(&self, ended: Ended, limit: Duration) -> Outcome {
        match ended {
            Ended::TimedOut => Outcome::TimedOut { after: limit },
            Ended::OutOfMemory => Outcome::OutOfMemory { limit_mb: self.memory_mb },
            Ended::Killed => Outcome::Killed,
            Ended::Exited(status) => Outcome::Exited { status: status.to_string() },
        }
    }

    fn finish(
        &mut self,
        request_id: String,
        outcome: Outcome,
        init: Option<Duration>,
        duration: Duration,
        processor_before: Option<Duration>,
    ) -> Invocation {
        let max_rss = self.process.look();
        let used = self.process.processor().zip(processor_before);
        let processor = used.map(|(now, before)| now.saturating_sub(before));
        let logs = self.process.logs.take();
        Invocation { request_id, outcome, init, duration, max_rss, processor, logs }
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.tasks.shutdown.cancel();
    }
}

/// The body of a function's error.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ErrorBody {
    error_type: String,
    error_message: String,
}

fn outcome_of_reply(reply: Reply) -> Outcome {
    match reply {
        Reply::Answer(body) => {
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            Outcome::Answer(serde_json::from_slice(&body).unwrap_or_else(|_| text()))
        }
        Reply::Failed { kind, body } => {
            let body: ErrorBody = serde_json::from_slice(&body).unwrap_or_default();
            let kind = if body.error_type.is_empty() { kind } else { body.error_type };
            Outcome::Failed { kind, message: body.error_message }
        }
    }
}

/// The whole environment of the program: that of the Lambda developer guide ("Defined runtime environment
/// variables"), then the cloud's, then the function's own.
fn variables(
    options: &LambdaOptions,
    cloud: &[(String, String)],
    memory_mb: u32,
    runtime_api: &str,
) -> Vec<(String, String)> {
    let root = options.program.parent().unwrap_or(Path::new("/")).display().to_string();
    let own = [
        ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", options.function.clone()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory_mb.to_string()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", options.function)),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "loopback/[$LATEST]0".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
        ("LAMBDA_TASK_ROOT", root),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let all = own.chain(cloud.iter().cloned()).chain(options.env.iter().cloned());
    // The last one of a name counts.
    all.collect::<BTreeMap<_, _>>().into_iter().collect()
}
