//! Faults of the cloud, set and changed while it runs.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Service;
use super::s3::{Asked, Refusal, S3Manners};
use obsync_testkit::Chance;

/// Faults of one service; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServiceFaults {
    /// The operations that faults strike, by API name such as `PutObject`; all when empty.
    pub operations: Vec<String>,
    /// Delay of each of these requests before it is handled.
    pub latency: Duration,
    /// The least interval between two of these requests: faster ones wait for their turn, in order.
    pub pace: Duration,
    /// With a `pace`: a request whose turn is later than this is throttled at once instead.
    pub patience: Option<Duration>,
    /// The request is never answered.
    pub hang: Chance,
    /// The connection is closed without an answer, and nothing is done.
    pub dropped: Chance,
    /// 503 `SlowDown` (S3), `ProvisionedThroughputExceededException` (DynamoDB), `ThrottlingException`
    /// (Secrets Manager, SQS), `TooManyRequestsException` (Lambda).
    pub throttled: Chance,
    /// 403 `AccessDenied` (S3), `AccessDeniedException` (the others).
    pub forbidden: Chance,
    /// 500 `InternalError`.
    pub internal_error: Chance,
    /// The request is carried out, but the connection is closed before the answer.
    pub lost_answer: Chance,
    /// The request is carried out and never answered.
    pub unanswered: Chance,
}

/// Faults of the cloud; none by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CloudFaults {
    /// Seed of the random draws.
    pub seed: u64,
    /// Faults of S3.
    pub s3: ServiceFaults,
    /// Differences of S3 from Amazon's.
    pub s3_manners: S3Manners,
    /// Faults of DynamoDB.
    pub dynamodb: ServiceFaults,
    /// Faults of Secrets Manager.
    pub secrets_manager: ServiceFaults,
    /// Faults of the Lambda API (not of functions).
    pub lambda: ServiceFaults,
    /// Faults of SQS.
    pub sqs: ServiceFaults,
    /// A bucket vanishes with everything in it once this many objects were written since the faults were set;
    /// [`S3::restore_bucket`](super::S3::restore_bucket) brings it back.
    pub bucket_vanishes_after: Option<u64>,
    /// `BatchWriteItem` and `BatchGetItem` leave the second half of a request unprocessed and report that.
    pub unprocessed: Chance,
}

impl CloudFaults {
    fn of(&self, service: Service) -> &ServiceFaults {
        match service {
            Service::S3 => &self.s3,
            Service::DynamoDb => &self.dynamodb,
            Service::SecretsManager => &self.secrets_manager,
            Service::Lambda => &self.lambda,
            Service::Sqs => &self.sqs,
        }
    }
}

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Verdict {
    Pass,
    Hang,
    Dropped,
    Throttled,
    Forbidden,
    InternalError,
    LostAnswer,
    Unanswered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Service(Service, Verdict),
    Unprocessed,
    /// The refusal at this index of the list.
    Refused(usize),
}

#[derive(Debug)]
struct FaultState {
    faults: CloudFaults,
    draws: ChaCha8Rng,
    events: HashMap<Kind, u64>,
    strikes: HashMap<Kind, u64>,
    objects_written: u64,
    /// The time of the next request of each paced service.
    next_at: HashMap<Service, Instant>,
}

impl FaultState {
    fn new(faults: CloudFaults) -> Self {
        let draws = ChaCha8Rng::seed_from_u64(faults.seed);
        Self {
            faults,
            draws,
            events: HashMap::new(),
            strikes: HashMap::new(),
            objects_written: 0,
            next_at: HashMap::new(),
        }
    }

    /// The wait of a request for its turn; `None` if that is longer than requests may wait.
    fn turn(&mut self, service: Service, faults: &ServiceFaults) -> Option<Duration> {
        if faults.pace.is_zero() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let turn = self.next_at.get(&service).copied().unwrap_or(now).max(now);
        let wait = turn - now;
        if faults.patience.is_some_and(|most| wait > most) {
            return None;
        }
        self.next_at.insert(service, turn + faults.pace);
        Some(wait)
    }

    fn strikes(&mut self, kind: Kind, chance: &Chance) -> bool {
        if chance.is_never() {
            return false;
        }
        let events = self.events.get(&kind).copied().unwrap_or_default();
        let strikes = self.strikes.get(&kind).copied().unwrap_or_default();
        let strikes_now = chance.strikes(events, strikes, self.draws.random::<f64>());
        *self.events.entry(kind).or_default() += 1;
        if strikes_now {
            *self.strikes.entry(kind).or_default() += 1;
            tracing::debug!(?kind, "fault strikes");
        }
        strikes_now
    }
}

/// The faults of a running cloud: read, replaced and adjusted at run time.
///
/// Changing them starts the counts of every [`Chance`] (`next`, `after`, `at-most`) afresh.
#[derive(Debug)]
pub struct CloudFaultControl {
    state: Mutex<FaultState>,
}

impl CloudFaultControl {
    pub(super) fn new(faults: CloudFaults) -> Self {
        Self { state: Mutex::new(FaultState::new(faults)) }
    }

    /// The present faults.
    pub fn get(&self) -> CloudFaults {
        self.lock().faults.clone()
    }

    /// Replaces the faults.
    pub fn set(&self, faults: CloudFaults) {
        *self.lock() = FaultState::new(faults);
    }

    /// Adjusts the faults.
    pub fn update(&self, change: impl FnOnce(&mut CloudFaults)) {
        let mut state = self.lock();
        let mut faults = state.faults.clone();
        change(&mut faults);
        *state = FaultState::new(faults);
    }

    /// Turns every fault off.
    pub fn clear(&self) {
        self.set(CloudFaults::default());
    }

    /// Decides the fate of a request, and its delay.
    pub(super) fn judge(&self, service: Service, operation: &str) -> (Duration, Verdict) {
        let mut state = self.lock();
        let faults = state.faults.of(service);
        if *faults == ServiceFaults::default() {
            return (Duration::ZERO, Verdict::Pass);
        }
        let faults = faults.clone();
        if !faults.operations.is_empty() && !faults.operations.iter().any(|name| name == operation) {
            return (Duration::ZERO, Verdict::Pass);
        }
        let verdicts = [
            (Verdict::Hang, &faults.hang),
            (Verdict::Dropped, &faults.dropped),
            (Verdict::Throttled, &faults.throttled),
            (Verdict::Forbidden, &faults.forbidden),
            (Verdict::InternalError, &faults.internal_error),
            (Verdict::LostAnswer, &faults.lost_answer),
            (Verdict::Unanswered, &faults.unanswered),
        ];
        let struck = verdicts
            .into_iter()
            .find(|(verdict, chance)| state.strikes(Kind::Service(service, *verdict), chance));
        match state.turn(service, &faults) {
            Some(wait) => (faults.latency + wait, struck.map_or(Verdict::Pass, |(verdict, _)| verdict)),
            None => (faults.latency, Verdict::Throttled),
        }
    }

    /// The refusal of a request to S3.
    pub(super) fn refusal(&self, operation: &str, resource: &str, asked: Asked) -> Option<Refusal> {
        let mut state = self.lock();
        let refusals = state.faults.s3_manners.refusals.clone();
        let mut fitting =
            refusals.into_iter().enumerate().filter(|(_, refusal)| refusal.fits(operation, resource, asked));
        let (_, refusal) =
            fitting.find(|(place, refusal)| state.strikes(Kind::Refused(*place), &refusal.chance))?;
        Some(refusal)
    }

    /// True if S3 ignores this header of this operation.
    pub(super) fn ignores_conditions(&self, operation: &str, header: &str) -> bool {
        let ignored = &self.lock().faults.s3_manners.ignored_conditions;
        ignored.iter().any(|ignored| match ignored.split_once(' ') {
            Some((of, only)) => of == operation && only.eq_ignore_ascii_case(header),
            None => ignored == operation,
        })
    }

    /// Encoding of keys in S3 listings.
    pub(super) fn listed_keys(&self) -> super::s3::ListedKeys {
        self.lock().faults.s3_manners.keys
    }

    /// True if S3 accepts buckets only by host.
    pub(super) fn hosts_only(&self) -> bool {
        self.lock().faults.s3_manners.hosts_only
    }

    /// True if S3 demands parts of one size.
    pub(super) fn equal_parts(&self) -> bool {
        self.lock().faults.s3_manners.equal_parts
    }

    /// True if this batch is to be left half unprocessed.
    pub(super) fn leaves_unprocessed(&self) -> bool {
        let mut state = self.lock();
        let chance = state.faults.unprocessed.clone();
        state.strikes(Kind::Unprocessed, &chance)
    }

    /// Counts a written object. Returns true if its bucket vanishes now.
    pub(super) fn bucket_vanishes(&self) -> bool {
        let mut state = self.lock();
        state.objects_written += 1;
        state.faults.bucket_vanishes_after == Some(state.objects_written)
    }

    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
