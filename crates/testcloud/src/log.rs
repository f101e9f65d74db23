//! The log of requests to the cloud: every request in order, counts by operation, and waiting for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Most requests in the log; counts continue beyond.
const REMEMBERED: usize = 200_000;

/// A service of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Buckets and objects.
    S3,
    /// Tables and items.
    DynamoDb,
    /// Secrets by name or ARN.
    SecretsManager,
    /// Functions that are invoked by name.
    Lambda,
    /// Queues that take messages.
    Sqs,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "S3",
            Self::DynamoDb => "DynamoDB",
            Self::SecretsManager => "Secrets Manager",
            Self::Lambda => "Lambda",
            Self::Sqs => "SQS",
        })
    }
}

/// A received request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// The service.
    pub service: Service,
    /// The operation by API name, such as `PutObject`; `Unknown` when the request was invalid or its
    /// signature wrong.
    pub operation: String,
    /// Its resource: bucket and key, table, secret, function or queue.
    pub resource: String,
    /// The length of the body in bytes.
    pub body: u64,
    /// The status of the answer; `None` while the request is handled, and for a dropped connection.
    pub status: Option<u16>,
    /// It was carried out and a fault withholds the answer from the client.
    pub is_withheld: bool,
}

/// Number of requests by operation, including failed ones and those struck by a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<(Service, String), u64>);

impl RequestCounts {
    /// Number of requests of an operation, by API name such as `PutObject`.
    pub fn of(&self, service: Service, operation: &str) -> u64 {
        self.0.get(&(service, operation.to_owned())).copied().unwrap_or_default()
    }

    /// Number of requests to a service.
    pub fn total(&self, service: Service) -> u64 {
        self.0.iter().filter(|((of, _), _)| *of == service).map(|(_, count)| count).sum()
    }

    /// The requests since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let later = self.0.iter().map(|(operation, count)| {
            let before = earlier.0.get(operation).copied().unwrap_or_default();
            (operation.clone(), count.saturating_sub(before))
        });
        Self(later.filter(|(_, count)| *count > 0).collect())
    }

    /// Service, operation and count, in that order.
    pub fn iter(&self) -> impl Iterator<Item = (Service, &str, u64)> {
        self.0.iter().map(|((service, operation), count)| (*service, operation.as_str(), *count))
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (service, operation, count)) in self.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{service} {operation} {count}")?;
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct LogState {
    counts: RequestCounts,
    records: VecDeque<RequestRecord>,
    /// The number of the first record still in the log.
    first: u64,
}

/// The services' log of requests.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    state: Mutex<LogState>,
    changed: Notify,
}

impl RequestLog {
    /// Logs a request; the returned number is for [`Self::answered`].
    pub(super) fn arrived(&self, record: RequestRecord) -> u64 {
        let number = {
            let mut state = self.lock();
            *state.counts.0.entry((record.service, record.operation.clone())).or_default() += 1;
            if state.records.len() == REMEMBERED {
                state.records.pop_front();
                state.first += 1;
            }
            state.records.push_back(record);
            state.first + state.records.len() as u64 - 1
        };
        self.changed.notify_waiters();
        number
    }

    /// Adds the answer's status to a request.
    pub(super) fn answered(&self, number: u64, status: u16) {
        self.adjust(number, |record| record.status = Some(status));
    }

    /// Marks a request as carried out and not answered.
    pub(super) fn withheld(&self, number: u64) {
        self.adjust(number, |record| record.is_withheld = true);
    }

    fn adjust(&self, number: u64, adjust: impl FnOnce(&mut RequestRecord)) {
        {
            let mut state = self.lock();
            let first = state.first;
            let index = number.checked_sub(first).and_then(|index| usize::try_from(index).ok());
            if let Some(record) = index.and_then(|index| state.records.get_mut(index)) {
                adjust(record);
            }
        }
        self.changed.notify_waiters();
    }

    pub(super) fn records(&self) -> Vec<RequestRecord> {
        self.lock().records.iter().cloned().collect()
    }

    pub(super) fn counts(&self) -> RequestCounts {
        self.lock().counts.clone()
    }

    /// Waits until `condition` holds for the counts; a change between the check and the wait is not missed.
    pub(super) async fn wait_for(&self, condition: impl Fn(&RequestCounts) -> bool) {
        self.wait(|state| condition(&state.counts)).await;
    }

    /// The same for the logged requests.
    pub(super) async fn wait_for_records(&self, condition: impl Fn(&VecDeque<RequestRecord>) -> bool) {
        self.wait(|state| condition(&state.records)).await;
    }

    async fn wait(&self, condition: impl Fn(&LogState) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
