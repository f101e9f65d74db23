//! One run at a time: a lease in the head, which expires unless its holder renews it.
//!
//! Each lease has a number, one higher than the last (the fencing number). All writes of the holder are
//! conditional on that number, so the lease protects the state independently of clocks: they only decide when
//! another run may take over.
//!
//! # Clocks
//!
//! The holder's clock sets the expiry, and the clock of another run reads it. Between two machines whose
//! clocks differ by less than two thirds of a lease (it is renewed at a third), none takes over from a live
//! one. If they differ by more, the one that is ahead can: its predecessor detects that at its next renewal
//! or commit, stops, and has written nothing since. The one that is behind waits for the difference in vain.
//! An expiry more than a day ahead was not written by any obsync: it is reported as damage, not waited for.
//!
//! # The destination
//!
//! A lease does not fence the destination itself. A run that was frozen while it published can wake up and
//! finish the announced files (that portion of a batch and the next), but nothing else: everything is
//! announced first, under the lease. The store limits the harm; a bucket refuses to replace objects that
//! changed meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use obsync_core::StateError;

use super::attributes::{Changes, Damage, Item, Reader, key, number, text};
use super::chain::{Chain, ChainEnd, ChainEntry};
use super::error::{CallError, fault};
use super::head::{FORMAT, Head, Holder, InStep, names};
use super::keys::{ItemKeys, StateKey};
use super::rows::shorten;
use super::table::DynamoTable;

/// The shortest lease, so that renewals do not dominate a run.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest lease: the longest time that a destination is blocked after its run died.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// The farthest plausible expiry, with a wrong clock, in milliseconds ahead.
const FARTHEST: i64 = 24 * 60 * 60 * 1000;
/// A lease may outlast its holder's deadline by this much.
pub const LEASE_AFTER_DEADLINE: Duration = Duration::from_secs(2);
/// Attempts at a free lease when the chain in its head moves meanwhile.
const ATTEMPTS: usize = 4;
/// Timeout of releasing an unused lease.
const GIVING_BACK: Duration = Duration::from_secs(3);
/// The longest name of a vault or an owner that is stored whole, in bytes.
const LONGEST_NAME: usize = 1 << 10;

/// The owner and duration of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// The owner's name, shown to other runs: a host and process, a request id.
    pub owner: String,
    /// Time after the last renewal when another run may take over. Renewed at a third of it. Clamped to 100
    /// ms through one hour.
    pub duration: Duration,
    /// When the holder is killed, if known: the lease ends two seconds later, however often it is renewed.
    pub deadline: Option<SystemTime>,
    /// Longest wait for another's lease that expires soon.
    pub patience: Duration,
}

impl LeaseOptions {
    /// A lease of a minute.
    pub fn new(owner: impl Into<String>) -> Self {
        LeaseOptions {
            owner: owner.into(),
            duration: Duration::from_secs(60),
            deadline: None,
            patience: Duration::ZERO,
        }
    }

    fn lease(&self, id: String) -> Lease {
        let latest = self.deadline.map(|deadline| since_epoch(deadline + LEASE_AFTER_DEADLINE));
        Lease { fencing: 0, id, duration: self.duration.clamp(SHORTEST, LONGEST), latest }
    }
}

/// A lease granted to this run.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// Its number.
    pub(super) fencing: u64,
    /// Unique id, different even from those of a state that was removed and begun anew.
    pub(super) id: String,
    /// Its duration without renewal.
    pub(super) duration: Duration,
    /// Its latest end, milliseconds since the epoch.
    pub(super) latest: Option<i64>,
}

impl Lease {
    /// Its expiry if it is taken or renewed now, milliseconds since the epoch.
    pub(super) fn expiry(&self, now: i64) -> i64 {
        let expiry = now.saturating_add(milliseconds(self.duration));
        self.latest.map_or(expiry, |latest| expiry.min(latest))
    }

    /// True if a head has this lease.
    pub(super) fn holds(&self, head: &Head) -> bool {
        head.fencing == self.fencing && head.holder.as_ref().is_some_and(|holder| holder.id == self.id)
    }

    /// The condition that a head still has this lease.
    pub(super) fn condition(&self, changes: &mut Changes) -> String {
        let fencing = changes.attribute(names::FENCING);
        let id = changes.attribute(names::LEASE_ID);
        let number = changes.operand(names::FENCING, number(self.fencing));
        let text = changes.operand(names::LEASE_ID, text(&self.id));
        format!("{fencing} = {number} AND {id} = {text}")
    }
}

/// A granted lease, with the head at that moment.
pub(super) struct Taken {
    pub(super) keys: ItemKeys,
    pub(super) lease: Lease,
    pub(super) head: Head,
}

/// Why a lease was refused.
#[derive(Debug)]
pub(super) enum Denied {
    /// The head is damaged.
    Damaged {
        /// The keys of the damaged head.
        keys: ItemKeys,
        /// The damage.
        error: StateError,
    },
    /// Anything else.
    Error(StateError),
}

impl Denied {
    fn damaged(table: &DynamoTable, keys: ItemKeys, damage: Damage) -> Self {
        Denied::Damaged { error: table.corrupt(keys.head(), damage), keys }
    }
}

impl From<Denied> for StateError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Damaged { error, .. } | Denied::Error(error) => error,
        }
    }
}

/// The result of requesting a lease in one head.
enum Attempt {
    /// Granted; the head at that moment.
    Given(Item),
    /// The head is that of another destination.
    Others,
    /// The requested step of a chain has passed.
    Superseded,
    /// It is free, but because of the chain it has to be requested with this entry.
    Again(Option<ChainEntry>, StateError),
    /// Another run has it.
    Held {
        /// Until then, milliseconds since the epoch, unless renewed.
        expires: i64,
        /// That run is the requested step.
        is_this_step: bool,
        /// The error to report.
        error: StateError,
    },
}

/// Takes the lease of a state. One request; two for a vault's further destinations.
pub(super) async fn take(
    table: &DynamoTable,
    state: &StateKey,
    options: &LeaseOptions,
) -> Result<Taken, Denied> {
    let locked = || Denied::Error(StateError::Locked { destination: state.destination.clone() });
    take_for(table, state, options, None).await?.ok_or_else(locked)
}

/// Takes the lease of a state for a step of a chain, or for none. `None`: the step has passed, or is running.
pub(super) async fn take_for(
    table: &DynamoTable,
    state: &StateKey,
    options: &LeaseOptions,
    entry: Option<ChainEntry>,
) -> Result<Option<Taken>, Denied> {
    let lease = options.lease(random_id(table).map_err(Denied::Error)?);
    for keys in [ItemKeys::of_vault(&state.vault_id), ItemKeys::of_destination(state)] {
        let asking = Asking { table, state, options, keys: &keys, lease: &lease };
        match asking.take(entry).await? {
            Attempt::Given(item) => return ready(table, keys, lease, &item).await.map(Some),
            Attempt::Others => {}
            Attempt::Superseded | Attempt::Held { is_this_step: true, .. } => return Ok(None),
            Attempt::Again(_, error) | Attempt::Held { error, .. } => return Err(Denied::Error(error)),
        }
    }
    let damage = "it is the state of another destination".to_owned();
    Err(Denied::damaged(table, ItemKeys::of_destination(state), damage))
}

/// Reads the head whose lease was granted.
async fn ready(table: &DynamoTable, keys: ItemKeys, lease: Lease, item: &Item) -> Result<Taken, Denied> {
    match Head::read(item) {
        Ok(head) => Ok(Taken { lease: Lease { fencing: head.fencing, ..lease }, keys, head }),
        Err(damage) => {
            // It is of no use to us, and would block a reset.
            give_back(table, &keys, &lease.id).await;
            Err(Denied::damaged(table, keys, damage))
        }
    }
}

/// Requests the lease in one head.
struct Asking<'a> {
    table: &'a DynamoTable,
    state: &'a StateKey,
    options: &'a LeaseOptions,
    keys: &'a ItemKeys,
    lease: &'a Lease,
}

impl Asking<'_> {
    /// Requests it until the answer is final: repeats while the chain moves, and while another's lease
    /// expires soon.
    async fn take(&self, entry: Option<ChainEntry>) -> Result<Attempt, Denied> {
        let patient_until = self.table.now().saturating_add(milliseconds(self.options.patience));
        let (mut asked, mut attempts) = (entry, 0);
        loop {
            match self.ask(asked).await? {
                Attempt::Again(next, _) if attempts < ATTEMPTS => {
                    attempts += 1;
                    asked = next;
                }
                Attempt::Held { expires, .. } if expires < patient_until => {
                    let left = u64::try_from(expires.saturating_sub(self.table.now())).unwrap_or_default();
                    self.table.clock().sleep(Duration::from_millis(left + 1)).await;
                    asked = entry;
                }
                attempt => return Ok(attempt),
            }
        }
    }

    /// Requests it once.
    async fn ask(&self, entry: Option<ChainEntry>) -> Result<Attempt, Denied> {
        let Asking { table, state, options, keys, lease } = *self;
        let (changes, condition) = taking(state, options, lease, entry, table.now());
        // The latest attempt certainly failed.
        let refused = AtomicBool::new(false);
        let request = |client: &Client| {
            refused.store(false, Ordering::Relaxed);
            updating(client, table, keys, &changes, &condition)
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
        };
        let judge = |error: &SdkError<UpdateItemError>| {
            refused.store(
                error.raw_response().is_some_and(|answer| answer.status().is_client_error()),
                Ordering::Relaxed,
            );
            fault(error)
        };
        match table.call_judged(request, judge).await {
            Ok(answer) => Ok(Attempt::Given(answer.attributes.unwrap_or_default())),
            Err(CallError::Failed(error @ StateError::Corrupt { .. })) => {
                Err(Denied::Damaged { keys: keys.clone(), error })
            }
            Err(CallError::Failed(error)) => {
                if !refused.load(Ordering::Relaxed) {
                    give_back(table, keys, &lease.id).await;
                }
                Err(Denied::Error(error))
            }
            Err(CallError::Refused(refusal)) => {
                let found = found_item(refusal).unwrap_or_default();
                let damaged = |damage| Denied::damaged(table, keys.clone(), damage);
                match is_others(state, &found).map_err(damaged)? {
                    true => Ok(Attempt::Others),
                    false => self.judge_refusal(found, entry),
                }
            }
        }
    }

    /// Interprets a refusal over this head.
    fn judge_refusal(&self, found: Item, entry: Option<ChainEntry>) -> Result<Attempt, Denied> {
        let damaged = |damage| Denied::damaged(self.table, self.keys.clone(), damage);
        let error = match obstacle(self.table, self.state, &found, &self.lease.id).map_err(damaged)? {
            None => return Ok(Attempt::Given(found)),
            Some(error @ StateError::Locked { .. }) => error,
            Some(error) => return Err(Denied::Error(error)),
        };
        let mut next = None;
        if let Some(entry) = entry {
            next = entry.after_refusal(&found, self.table.now()).map_err(damaged)?;
            if next.is_none() {
                return Ok(Attempt::Superseded);
            }
        }
        let holder = Holder::read(Reader(&found)).map_err(damaged)?;
        Ok(match holder.filter(|holder| holder.expires >= self.table.now()) {
            None => Attempt::Again(next, error),
            Some(Holder { expires, .. }) => {
                let is_this_step = entry.is_some_and(|entry| entry.is_under_way(&found));
                Attempt::Held { expires, is_this_step, error }
            }
        })
    }
}

/// The update that takes a lease, and the condition that it is free.
fn taking(
    state: &StateKey,
    options: &LeaseOptions,
    lease: &Lease,
    entry: Option<ChainEntry>,
    now: i64,
) -> (Changes, String) {
    let mut changes = Changes::default();
    changes.set(names::FORMAT, number(FORMAT));
    changes.set(names::VAULT_NAME, text(shorten(&state.vault_name, LONGEST_NAME)));
    changes.set(names::PLACE, text(&state.destination));
    changes.remove(names::DESTINATION);
    changes.set(names::LEASE_OWNER, text(shorten(&options.owner, LONGEST_NAME)));
    changes.set(names::LEASE_ID, text(&lease.id));
    changes.set(names::LEASE_EXPIRES, number(seconds(lease.expiry(now))));
    changes.set(names::REVISION, number(0));
    for (name, value) in
        [("zero", number(0)), ("one", number(1)), ("now", number(seconds(now))), ("now_ms", number(now))]
    {
        changes.operand(name, value);
    }
    changes.set_expression(names::FENCING, "if_not_exists(#fencing, :zero) + :one");
    changes.set_expression(names::CREATED, "if_not_exists(#created, :now_ms)");
    let free = "(attribute_not_exists(#place) OR #place = :place) \
                AND (attribute_not_exists(#destination) OR #destination = :place) \
                AND (attribute_not_exists(#format) OR #format <= :format) \
                AND (attribute_not_exists(#lease_expires) OR #lease_expires < :now)";
    let condition = match entry.map(|entry| entry.begin(&mut changes, &lease.id, now)) {
        Some(begins) => format!("{free} AND {begins}"),
        None => free.to_owned(),
    };
    (changes, condition)
}

/// True if a head is that of another destination.
fn is_others(state: &StateKey, found: &Item) -> Result<bool, Damage> {
    let destination = Head::destination(Reader(found))?;
    Ok(destination.is_some_and(|destination| destination != state.destination))
}

/// Why the lease in a head was refused. `None`: an earlier attempt of ours, whose answer was lost, got it.
pub(super) fn obstacle(
    table: &DynamoTable,
    state: &StateKey,
    found: &Item,
    id: &str,
) -> Result<Option<StateError>, Damage> {
    let reader = Reader(found);
    let format = reader.find_number::<i64>(names::FORMAT)?.unwrap_or(FORMAT);
    if let Some(error) = too_new(table, format) {
        return Ok(Some(error));
    }
    match Holder::read(reader)? {
        Some(holder) if holder.id == id => Ok(None),
        Some(holder) if holder.expires > table.now().saturating_add(FARTHEST) => {
            Err(format!("`{}` is further ahead than any lease lasts", names::LEASE_EXPIRES))
        }
        holder => {
            let destination = held_by(&state.destination, holder, table.now());
            Ok(Some(StateError::Locked { destination }))
        }
    }
}

/// A destination and its lease holder, as error text.
fn held_by(destination: &str, holder: Option<Holder>, now: i64) -> String {
    match holder {
        Some(Holder { owner, expires, .. }) => {
            let left = expires.saturating_sub(now).max(0).saturating_add(999) / 1000;
            format!("{destination} ({owner}; its lease runs out in {left} s unless it is renewed)")
        }
        None => destination.to_owned(),
    }
}

/// The error for a state of an unknown format.
pub(super) fn too_new(table: &DynamoTable, format: i64) -> Option<StateError> {
    (format > FORMAT).then(|| StateError::Newer {
        database: table.name().to_string(),
        found: format,
        known: FORMAT,
    })
}

/// Renews a lease. `false`: it is not ours any more.
pub(super) async fn renew(table: &DynamoTable, keys: &ItemKeys, lease: &Lease) -> Result<bool, StateError> {
    let mut changes = Changes::default();
    changes.set(names::LEASE_EXPIRES, number(seconds(lease.expiry(table.now()))));
    update_under_lease(table, keys, lease, changes).await
}

/// Values that the holder of a lease leaves in the head.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Time at which it last found the destination up to date.
    pub(super) checked: Option<i64>,
    /// Digest of the destination that is in step with the records.
    pub(super) in_step: Option<InStep>,
}

/// Releases a lease, with its holder's notes and the state of its chain. Returns false if another run has the
/// lease already.
pub(super) async fn release(
    table: &DynamoTable,
    keys: &ItemKeys,
    lease: &Lease,
    noted: Noted,
    chain: Option<(&Chain, ChainEnd)>,
) -> Result<bool, StateError> {
    let mut changes = Changes::default();
    if let Some(checked) = noted.checked {
        changes.set(names::CHECKED, number(checked));
    }
    if let Some(in_step) = noted.in_step {
        changes.set(names::IN_STEP, text(in_step.text()));
    }
    if let Some((chain, end)) = chain {
        chain.ending(end, table.now(), &mut changes);
    }
    if !matches!(chain, Some((_, ChainEnd::HandOn { is_quiet: false, .. }))) {
        names::LEASE.iter().for_each(|name| changes.remove(name));
    }
    update_under_lease(table, keys, lease, changes).await
}

/// Releases an unused lease, if it was granted. If the table does not answer soon, the lease has to run out.
pub(super) async fn give_back(table: &DynamoTable, keys: &ItemKeys, id: &str) {
    let mut changes = Changes::default();
    names::LEASE.iter().for_each(|name| changes.remove(name));
    let (attribute, operand) =
        (changes.attribute(names::LEASE_ID), changes.operand(names::LEASE_ID, text(id)));
    let condition = format!("{attribute} = {operand}");
    match tokio::time::timeout(GIVING_BACK, update_if(table, keys, changes, &condition)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a lease could not be given back"),
        Err(_) => tracing::debug!("a lease could not be given back in time"),
    }
}

/// Updates a head as long as it has this lease.
pub(super) async fn update_under_lease(
    table: &DynamoTable,
    keys: &ItemKeys,
    lease: &Lease,
    mut changes: Changes,
) -> Result<bool, StateError> {
    let condition = lease.condition(&mut changes);
    update_if(table, keys, changes, &condition).await
}

/// Updates a head conditionally. `false`: the condition was not met.
async fn update_if(
    table: &DynamoTable,
    keys: &ItemKeys,
    changes: Changes,
    condition: &str,
) -> Result<bool, StateError> {
    let request = |client: &Client| updating(client, table, keys, &changes, condition).send();
    match table.call(request).await {
        Ok(_) => Ok(true),
        Err(CallError::Refused(_)) => Ok(false),
        Err(CallError::Failed(error)) => Err(error),
    }
}

/// A request to update a head on a condition.
fn updating(
    client: &Client,
    table: &DynamoTable,
    keys: &ItemKeys,
    changes: &Changes,
    condition: &str,
) -> UpdateItemFluentBuilder {
    client
        .update_item()
        .table_name(table.name().as_str())
        .set_key(Some(key(keys.head())))
        .update_expression(changes.expression())
        .condition_expression(condition)
        .set_expression_attribute_names(Some(changes.names.clone()))
        .set_expression_attribute_values(changes.values())
}

fn found_item(refusal: UpdateItemError) -> Option<Item> {
    match refusal {
        UpdateItemError::ConditionalCheckFailedException(failed) => failed.item,
        _ => None,
    }
}

/// A time of day in milliseconds since the epoch.
pub(super) fn since_epoch(wall: SystemTime) -> i64 {
    milliseconds(wall.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds as seconds, DynamoDB's unit of time.
pub(super) fn seconds(milliseconds: i64) -> String {
    format!("{}.{:03}", milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000))
}

fn random_id(table: &DynamoTable) -> Result<String, StateError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| table.unavailable(format!("the system provides no random numbers ({error})")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
