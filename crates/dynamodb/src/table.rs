//! One DynamoDB table and the way to talk to it: every request is counted, limited in time, and made again where that can
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

/// What a location that names a table begins with.
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
    /// The table that is meant when none is named.
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

/// Takes a plain name or `dynamodb://NAME`; `dynamodb://` alone is the default table.
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
    /// Whether DynamoDB has ever answered.
    answered: AtomicBool,
}

/// The time between two events that say why requests are repeated.
const WAIT_EVERY: Duration = Duration::from_secs(10);
/// For how long a resolver that does not work yet is asked again.
const NAMES_LIMIT: Duration = Duration::from_secs(90);
/// How long a call may last that is under way when the program is asked to end.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// How long a call may last at least that is made after that, such as one that lets a lease go.
const AFTERWARDS: Duration = Duration::from_secs(1);

impl DynamoTable {
    /// The attribute that is the table's only key: a hash key of type `S`.
    pub const KEY_ATTRIBUTE: &str = VAULT_ID;
    /// The attribute with the time, in seconds since 1970, after which DynamoDB may remove an item.
    pub const EXPIRY_ATTRIBUTE: &str = TTL;

    /// The table of this name as `client` reaches it. Nothing is asked yet. The client's own retries are replaced by those of
    /// `options`, and its limit for one attempt set to that of `options` unless it has one.
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

    /// The same table with leases and times by another clock.
    #[doc(hidden)]
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        DynamoTable { clock, ..self }
    }

    /// Where leases and times come from.
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

    /// How many requests were sent so far, by all clones, attempts counted one by one.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed)
    }

    /// How patient it is.
    pub(super) fn options(&self) -> &DynamoOptions {
        &self.inner.options
    }

    /// Makes every call end soon, those under way too, because the program was asked to end: within three seconds, later
    /// ones within one, as far as the table does not answer or throttles.
    pub fn hurry(&self) {
        self.inner.hurried.send_if_modified(|hurried| match hurried {
            None => {
                *hurried = Some(Instant::now());
                true
            }
            Some(_) => false,
        });
    }

    /// Whether the program was asked to end: what takes many calls is not gone on with.
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

    /// Sends a request about the table itself, with the retries, the limits and the errors of all other requests. `None`: the
    /// service refused it with the error code `refusal`.
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

    /// Sends a request about the table itself that no answer refuses.
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

    /// Makes a request, again and again while the answer is one that passes. A condition that was not met is handed back.
    pub(super) async fn call<T, E, F>(&self, request: impl Fn(&Client) -> F) -> Result<T, CallError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.call_judged(request, fault).await
    }

    /// As [`call`](Self::call), with another judgement of errors.
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

    /// As [`call_judged`](Self::call_judged), in whatever time it takes.
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

    /// The same trouble, but as one that does not pass, where a service that has never answered refuses the connection.
    /// So is one of a proxy that wants another password.
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

    /// The error for what is wrong after this many attempts.
    pub(super) fn error(&self, fault: CallFault, attempts: usize) -> StateError {
        if let CallFault::Damaged(reason) = fault {
            return StateError::Corrupt { database: self.inner.name.to_string(), reason };
        }
        let (database, reason) = (self.inner.name.to_string(), fault.sentence(&self.inner.name, attempts));
        StateError::Unavailable { database, reason, code: fault.code() }
    }

    /// The error for a table that cannot be used.
    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StateError {
        StateError::Unavailable {
            database: self.inner.name.to_string(),
            reason: reason.into(),
            code: ProblemCode::State,
        }
    }

    /// The error for an item that is not what obsync wrote.
    pub(super) fn corrupt(&self, item: &str, reason: impl fmt::Display) -> StateError {
        StateError::Corrupt {
            database: self.inner.name.to_string(),
            reason: format!("item {item}: {reason}"),
        }
    }
}

/// Why no connection came about, if that is the error.
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
