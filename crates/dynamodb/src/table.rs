//! One DynamoDB table and the requests to it: each is counted, limited in time, and retried where that can
//! help.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};
use obsync_core::{Clock, ProblemCode, StateError, SystemClock};
use obsync_net::{ConnectError, NameWait, Throttle, WAITS, is_refused};
use obsync_protocol::with_reasons;
use tokio::sync::watch;
use tokio::time::Instant;

use super::attributes::VAULT_ID;
use super::error::{CallError, CallFault, fault};
use super::lease::since_epoch;
use super::options::DynamoOptions;
use super::progress::TTL;

/// The URL scheme of a table.
const SCHEME: &str = "dynamodb://";

/// The name of a table, 3 to 255 characters of `a-z`, `A-Z`, `0-9`, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName(String);

/// A text that is not the name of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not the name of a DynamoDB table: it needs 3 to 255 characters, letters, digits, `_`, `-` and `.` only"
)]
pub struct TableNameError {
    /// The text in question.
    pub name: String,
}

impl TableName {
    /// The default table.
    pub const DEFAULT: &str = "obsync-state";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TableName {
    fn default() -> Self {
        TableName(Self::DEFAULT.to_owned())
    }
}

/// Parses a plain name or `dynamodb://NAME`; `dynamodb://` alone is the default table.
impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        let name = match text.strip_prefix(SCHEME) {
            Some("") => Self::DEFAULT,
            Some(name) => name,
            None => text,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        match (3..=255).contains(&name.len()) && name.bytes().all(allowed) {
            true => Ok(TableName(name.to_owned())),
            false => Err(TableNameError { name: text.to_owned() }),
        }
    }
}

/// `dynamodb://NAME`.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0)
    }
}

/// A table for the states of vaults. Cheap to clone; clones share connections and the count of requests.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    inner: Arc<Inner>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    name: TableName,
    options: DynamoOptions,
    requests: Arc<AtomicU64>,
    /// When the program was asked to end.
    hurried: watch::Sender<Option<Instant>>,
    /// Requests fail and wait together.
    waits: Throttle,
    /// DynamoDB has answered at least once.
    answered: AtomicBool,
}

/// The interval between log lines about retries.
const WAIT_EVERY: Duration = Duration::from_secs(10);
/// Time limit for retrying a failing resolver.
const NAMES_LIMIT: Duration = Duration::from_secs(90);
/// Time limit of calls under way when the program is asked to end.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// Minimum time limit of later calls, such as the one that releases a lease.
const AFTERWARDS: Duration = Duration::from_secs(1);

impl DynamoTable {
    /// The table's only key attribute: a hash key of type `S`.
    pub const KEY_ATTRIBUTE: &str = VAULT_ID;
    /// The table's expiry attribute, in seconds since 1970: DynamoDB may remove an item after it.
    pub const EXPIRY_ATTRIBUTE: &str = TTL;

    /// The table of this name, by `client`. Sends no request yet. The retries of `options` replace the
    /// client's own, and the client's timeout for one attempt is set to that of `options` unless it has one.
    pub fn new(client: &Client, name: TableName, options: DynamoOptions) -> Self {
        let requests = Arc::new(AtomicU64::new(0));
        let limits = TimeoutConfig::builder().operation_attempt_timeout(options.answer).build();
        let mut timeouts = client.config().timeout_config().cloned().unwrap_or(limits.clone());
        timeouts.take_defaults_from(&limits);
        let config = client
            .config()
            .to_builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .interceptor(Counter(requests.clone()))
            .build();
        let client = Client::from_conf(config);
        let hurried = watch::Sender::new(None);
        DynamoTable {
            inner: Arc::new(Inner {
                client,
                name,
                options,
                requests,
                hurried,
                waits: Throttle::new(WAIT_EVERY),
                answered: AtomicBool::new(false),
            }),
            clock: Arc::new(SystemClock),
        }
    }

    /// The same table with another clock for leases and times.
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        DynamoTable { clock, ..self }
    }

    /// The clock of leases and times.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Now, in milliseconds since the epoch.
    pub(super) fn now(&self) -> i64 {
        since_epoch(self.clock.wall())
    }

    /// The table's name.
    pub fn name(&self) -> &TableName {
        &self.inner.name
    }

    /// Requests sent so far, by all clones; each attempt counts.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// Timeouts and retries.
    pub(super) fn options(&self) -> &DynamoOptions {
        &self.inner.options
    }

    /// Hurries all calls, including those under way, because the program was asked to end: if the table does
    /// not answer or throttles, they end within three seconds, later ones within one.
    pub fn hurry(&self) {
        self.inner.hurried.send_if_modified(|hurried| match hurried {
            None => {
                *hurried = Some(Instant::now());
                true
            }
            Some(_) => false,
        });
    }

    /// True if the program was asked to end: long sequences of calls should stop.
    pub(super) fn is_hurried(&self) -> bool {
        self.inner.hurried.borrow().is_some()
    }

    /// Returns when a call that begins now has no time left; never, unless the program is asked to end.
    async fn out_of_time(&self) {
        let (begun, mut hurried) = (Instant::now(), self.inner.hurried.subscribe());
        let since = hurried.wait_for(Option::is_some).await.ok().and_then(|since| *since);
        match since {
            Some(since) => tokio::time::sleep_until((since + UNDER_WAY).max(begun + AFTERWARDS)).await,
            None => std::future::pending().await,
        }
    }

    /// Sends a request about the table itself, with the retries, limits and errors of all requests. `None`:
    /// the service refused it with the error code `refusal`.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if DynamoDB does not answer, or refuses for another reason.
    pub async fn send_unless<T, E, F>(
        &self,
        refusal: &str,
        request: impl Fn(&Client) -> F,
    ) -> Result<Option<T>, StateError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let judge = |error: &SdkError<E>| match error.as_service_error().and_then(E::code) {
            Some(code) if code == refusal => CallFault::Condition,
            _ => fault(error),
        };
        match self.call_judged(request, judge).await {
            Ok(answer) => Ok(Some(answer)),
            Err(CallError::Refused(_)) => Ok(None),
            Err(CallError::Failed(error)) => Err(error),
        }
    }

    /// Sends a request about the table itself. Every refusal is an error.
    ///
    /// # Errors
    ///
    /// As [`send_unless`](Self::send_unless).
    pub async fn send<T, E, F>(&self, request: impl Fn(&Client) -> F) -> Result<T, StateError>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.call(request).await.map_err(|error| self.without_condition(error))
    }

    /// Makes a request, and retries transient errors. Returns unmet conditions to the caller.
    pub(super) async fn call<T, E, F>(&self, request: impl Fn(&Client) -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.call_judged(request, fault).await
    }

    /// As [`call`](Self::call), with another classification of errors.
    pub(super) async fn call_judged<T, E, F>(
        &self,
        request: impl Fn(&Client) -> F,
        judge: impl Fn(&SdkError<E>) -> CallFault,
    ) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        tokio::select! {
            biased;
            answer = self.call_patiently(request, judge) => answer,
            () = self.out_of_time() => {
                Err(CallError::Failed(self.unavailable("it did not answer in the time that was left for it to end")))
            }
        }
    }

    /// As [`call_judged`](Self::call_judged), without a limit on the total time.
    async fn call_patiently<T, E, F>(
        &self,
        request: impl Fn(&Client) -> F,
        judge: impl Fn(&SdkError<E>) -> CallFault,
    ) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        let mut pauses = self.inner.options.pauses();
        let mut names = NameWait::new(NAMES_LIMIT.min(self.inner.options.within));
        loop {
            let error = match request(&self.inner.client).await {
                Ok(answer) => {
                    self.inner.answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            if names.pause_after(connect_error(&error)).await {
                continue;
            }
            let fault = self.final_fault(judge(&error), &error);
            if fault.passes()
                && let Some(pause) = pauses.next()
            {
                tracing::debug!(table = self.name().as_str(), ?fault, ?pause, "asking DynamoDB again");
                if let Some(reason) = fault.reason_to_wait()
                    && self.inner.waits.passes()
                {
                    tracing::info!(target: WAITS, "the table {} {reason}; asking again", self.name().as_str());
                }
                tokio::time::sleep(pause).await;
                continue;
            }
            return Err(match (fault, error) {
                (CallFault::Condition, SdkError::ServiceError(refused)) => {
                    CallError::Refused(refused.into_err())
                }
                (fault, _) => CallError::Failed(self.error(fault, pauses.attempts())),
            });
        }
    }

    /// The same fault, but marked as permanent, if a service that has never answered refuses the connection,
    /// or a proxy demands another password.
    fn final_fault<E>(&self, fault: CallFault, error: &SdkError<E>) -> CallFault {
        if let Some(refused @ ConnectError::Proxy { temporary: false, .. }) = connect_error(error) {
            return CallFault::NoWay(ProblemCode::Proxy, format!("there is no way to it: {refused}"));
        }
        match error {
            SdkError::DispatchFailure(failure)
                if !self.inner.answered.load(Ordering::Relaxed)
                    && failure.as_connector_error().is_some_and(|error| is_refused(error)) =>
            {
                let reason =
                    failure.as_connector_error().map_or_else(String::new, |error| with_reasons(error));
                CallFault::NoWay(
                    ProblemCode::Unreachable,
                    format!("it does not answer ({reason}); check the address"),
                )
            }
            SdkError::ServiceError(_) => {
                self.inner.answered.store(true, Ordering::Relaxed);
                fault
            }
            _ => fault,
        }
    }

    /// The error for a fault after this many attempts.
    pub(super) fn error(&self, fault: CallFault, attempts: usize) -> StateError {
        if let CallFault::Damaged(reason) = fault {
            return StateError::Corrupt { database: self.inner.name.to_string(), reason };
        }
        let (database, reason) = (self.inner.name.to_string(), fault.sentence(&self.inner.name, attempts));
        StateError::Unavailable { database, reason, code: fault.code() }
    }

    /// The error for an unusable table.
    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StateError {
        StateError::Unavailable {
            database: self.inner.name.to_string(),
            reason: reason.into(),
            code: ProblemCode::State,
        }
    }

    /// The error for a damaged item.
    pub(super) fn corrupt(&self, item: &str, reason: impl fmt::Display) -> StateError {
        StateError::Corrupt {
            database: self.inner.name.to_string(),
            reason: format!("item {item}: {reason}"),
        }
    }
}

/// Why connecting failed, if that is the error.
fn connect_error<E>(error: &SdkError<E>) -> Option<ConnectError> {
    let SdkError::DispatchFailure(failure) = error else { return None };
    ConnectError::within(failure.as_connector_error()?).cloned()
}

/// Counts what is sent.
#[derive(Debug)]
struct Counter(Arc<AtomicU64>);

impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "RequestCounter"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_can_be_named_plainly_or_as_a_location() {
        for text in ["obsync-state", "dynamodb://obsync-state", "dynamodb://"] {
            assert_eq!(text.parse::<TableName>(), Ok(TableName::default()));
        }
        assert_eq!(
            "my.table_2".parse::<TableName>().map(|name| name.to_string()),
            Ok("dynamodb://my.table_2".to_owned())
        );
        for text in ["", "ab", "dynamodb://a/b", "s3://bucket", "na me", &"x".repeat(256)] {
            assert!(text.parse::<TableName>().is_err(), "{text}");
        }
    }
}
