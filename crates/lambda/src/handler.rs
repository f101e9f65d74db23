//! From an event to its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lambda_runtime::Context;
use obsync_bucket::BucketLocation;
use obsync_core::pin::VaultKind;
use obsync_core::{Governor, Mode, StateError};
use obsync_dynamodb::{ChainEntry, Places, StateKey};
use obsync_protocol::VaultId;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout_at;

use crate::answer::{Answer, InvocationError, http_answer};
use crate::chain;
use crate::choice::{self, Choice, Listed};
use crate::closing::{self, Beginning};
use crate::config::{Config, ConfigError, location};
use crate::deadline::Deadline;
use crate::direction::Direction;
use crate::event::{Action, Event, EventError, Message, SyncRequest};
use crate::failure::Failure;
use crate::gauge::{self, Gauge};
use crate::memory::{Allowance, Watch};
use crate::nesting::Neighbours;
use crate::pacing::Pacing;
use crate::queue::{self, Refused, Synced};
use crate::spread::{Letter, Spread, Spreading, deduplication_id};
use crate::sync::{Invocation, Job};
use crate::vault_report::{MOST_CHANGES, VaultReport, VaultStatus};
use crate::warm::{Account, AccountError, Warm};
use crate::{dead_letters, fan_out, freshness, logging, metrics, placement, status};

/// The state of a process, or the reason why it cannot work: created for the first event, since nobody waits
/// for it before.
pub(crate) struct Handler {
    kept: OnceCell<Result<Kept, ConfigError>>,
    /// Duration of the start.
    init: Duration,
    /// An event was answered already.
    is_warm: AtomicBool,
}

/// The state of a working process.
struct Kept {
    warm: Arc<Warm>,
    gauge: Gauge,
}

/// One invocation's context.
struct Call<'a> {
    warm: &'a Arc<Warm>,
    gauge: &'a Gauge,
    context: &'a Context,
    deadline: Arc<Deadline>,
    begun: Instant,
    /// Duration of the process's start, for its first invocation.
    init: Duration,
}

/// A vault that gets a message, by its id or the event's name for it.
struct Named {
    id: String,
    name: String,
}

impl Named {
    fn of_job(job: &Job) -> Self {
        Named { id: job.vault.info.id.to_string(), name: job.vault.info.name.clone() }
    }
}

impl Handler {
    /// A handler, without state that depends on events. `init` is the duration of the start so far.
    pub(crate) fn new(init: Duration) -> Self {
        Handler { kept: OnceCell::new(), init, is_warm: AtomicBool::new(false) }
    }

    /// The state independent of events. A configuration error is reported in every invocation, where people
    /// see it, rather than by a process that does not start.
    async fn kept(&self) -> Result<&Kept, InvocationError> {
        let kept = self.kept.get_or_init(|| Box::pin(Kept::new())).await;
        kept.as_ref().map_err(|error| InvocationError::new("InvalidConfiguration", error))
    }

    /// Answers an event.
    pub(crate) async fn handle(&self, payload: &str, context: &Context) -> Result<Value, InvocationError> {
        let is_cold = !self.is_warm.swap(true, Ordering::Relaxed);
        logging::begin(context, is_cold);
        let init = if is_cold { self.init } else { Duration::ZERO };
        // Boxed: the compiler gives up on a type as deep as the whole future.
        let result = Box::pin(self.answer(payload, context, init)).await;
        if let Err(error) = &result {
            failed(error, "the invocation failed");
        }
        result
    }

    async fn answer(
        &self,
        payload: &str,
        context: &Context,
        init: Duration,
    ) -> Result<Value, InvocationError> {
        let begun = Instant::now();
        let Kept { warm, gauge } = self.kept().await?;
        // The first event also waits for the start.
        let init = if init.is_zero() { init } else { init + begun.elapsed() };
        let deadline = Arc::new(Deadline::at(context.deadline, warm.config.timeout_buffer));
        let call = Call { warm, gauge, context, deadline, begun, init };
        let event = Event::parse(payload).map_err(|error| InvocationError::new("InvalidEvent", error))?;
        match event {
            Event::Direct(action) => Ok(call.act(&action).await?.json()),
            Event::Http(action) => Ok(call.act_for_http(action).await),
            Event::Batch(messages) => queue::answer(&messages, &call).await,
        }
    }
}

impl Kept {
    async fn new() -> Result<Self, ConfigError> {
        let config =
            Config::from_env().inspect_err(|error| tracing::error!(%error, "the function cannot work"))?;
        let function_mb = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok();
        let gauge = Gauge::new(config.memory, function_mb.as_deref());
        Ok(Kept { warm: Arc::new(Warm::new(config).await), gauge })
    }
}

impl queue::Service for Call<'_> {
    async fn sync(&self, request: &SyncRequest, spreads: bool) -> Result<Synced, InvocationError> {
        self.sync_all(request, if spreads { Spreading::Names } else { Spreading::No }).await
    }

    async fn bury(&self, refused: &[Refused<'_>]) -> Vec<bool> {
        let Some(queue) = &self.warm.config.dead_letters else { return vec![true; refused.len()] };
        let until = self.deadline.last_call();
        dead_letters::send(&self.warm.aws, queue, refused, &self.context.request_id, until).await
    }

    async fn hand_on(&self, event: &Value, origin: &Message) -> bool {
        self.send(event, Some(origin)).await
    }

    fn is_over(&self) -> bool {
        self.deadline.stop().is_cancelled()
    }
}

impl Call<'_> {
    async fn act(&self, action: &Action) -> Result<Answer, InvocationError> {
        match action {
            Action::Sync(request) => {
                let Synced { mut reports, rest, queued, last_round_waits, notice } =
                    self.sync_all(request, Spreading::Vaults).await?;
                self.go_on(request, rest, &mut reports).await;
                let goes_on = reports.iter().any(VaultReport::goes_on);
                let mut answer = Answer::of_sync(&reports).with_queued(queued, last_round_waits);
                if let Some(notice) = notice {
                    answer.message = format!("{}; {notice}", answer.message);
                }
                answer.metadata = self.metadata("sync");
                answer.metadata["goes_on_by_itself"] = json!(goes_on || queued > 0);
                answer.metadata["queued"] = json!(queued);
                answer.metadata["sync_type"] = json!(request.sync_type());
                answer.metadata["continuation"] = json!(request.continuation);
                InvocationError::unless_any_success(answer)
            }
            Action::Status { vaults } => {
                let mut answer = Answer::of_status(self.status(vaults).await?);
                answer.metadata = self.metadata("status");
                Ok(answer)
            }
            Action::Ignore { reason } => {
                tracing::info!(reason, "the event is ignored");
                let mut answer = Answer::of_nothing(reason);
                answer.metadata = self.metadata("none");
                Ok(answer)
            }
        }
    }

    /// A failed invocation could not give a browser the reason, so it becomes an answer here; alarms use its
    /// status.
    async fn act_for_http(&self, action: Result<Action, EventError>) -> Value {
        let action = action.map_err(|error| InvocationError::new("InvalidEvent", error));
        let result = match action {
            Ok(action) => self.act(&action).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => http_answer(if answer.success { 200 } else { 207 }, &answer.json()),
            Err(error) => {
                failed(&error, "the request failed");
                error.http()
            }
        }
    }

    fn metadata(&self, action: &str) -> Value {
        json!({
            "action": action,
            "request_id": self.context.request_id,
            "function": self.context.env_config.function_name,
            "obsync_version": env!("CARGO_PKG_VERSION"),
            "duration_ms": u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "memory_limit_mb": self.gauge.limit >> 20,
            "memory_used_mb": gauge::peak().unwrap_or(0).div_ceil(1 << 20),
        })
    }

    /// Syncs the requested vaults, and returns those to continue. Instead, several vaults may be put into the
    /// function's queue, if there is one.
    async fn sync_all(&self, request: &SyncRequest, spreading: Spreading) -> Result<Synced, InvocationError> {
        let (deadline, asked) = (&self.deadline, Instant::now());
        let (root, direction) = (self.root(request)?, self.direction(request)?);
        let began = jiff::Timestamp::now();
        let (account, vaults) = match self.vaults(deadline).await {
            Ok(listed) => listed,
            Err(error) => {
                let failure = Failure { problem: error.problem(), began };
                failure.note_unlisted(self.warm, &root, &request.vaults, deadline).await;
                return Err(error);
            }
        };
        let beginning = Beginning { init: self.init, sign_in: asked.elapsed() };
        let known = within(deadline, self.places(&root)).await?;
        let choice = self.choose(&account, &vaults, &request.vaults, &known);
        let notice = choice.notice();
        let (jobs, placeless) = within(deadline, self.place(&root, &vaults, &choice, known)).await?;
        tracing::info!(vaults = jobs.len(), sync_type = request.sync_type(), "syncing");
        if let Some(notice) = &notice {
            tracing::warn!("{notice}");
        }
        let mut reports = placeless;
        for report in choice.mistaken.iter().chain(&reports) {
            closing::note(report, beginning);
            // No metric of a vault: otherwise any name in an event would become a metric.
            logging::line(&metrics::line(report, self.warm.config.metrics.without_vaults()));
        }
        let states: Vec<StateKey> = jobs.iter().map(freshness::key_of).collect();
        let queue = self.warm.config.queue.as_deref();
        let queue = queue.filter(|_| spreading != Spreading::No && request.continuation == 0);
        let mut mistaken = choice.mistaken;
        let mut synced = Synced { notice, ..Synced::default() };
        match queue.filter(|_| jobs.len() > 1) {
            Some(queue) => {
                let mut vaults: Vec<Named> = jobs.iter().map(Named::of_job).collect();
                if spreading == Spreading::Names {
                    vaults.extend(
                        mistaken.drain(..).map(|report| Named { id: report.vault_id, name: report.name }),
                    );
                }
                match self.spread(queue, request, &vaults).await {
                    Some(unsent) => {
                        synced.queued = vaults.len().saturating_sub(unsent.len());
                        reports.extend(unsent);
                    }
                    None => synced.last_round_waits = true,
                }
            }
            None => {
                reports.extend(self.sync_jobs(request, direction, account, deadline, jobs, beginning).await)
            }
        }
        reports.extend(mistaken);
        // A part of the vaults, or another place, would hide the age of the others.
        if request.is_of_all() && request.continuation == 0 {
            self.tell_oldest(&states).await;
        }
        synced.rest = chain::rest(request, &reports, self.warm.config.chains);
        synced.reports = reports;
        Ok(synced)
    }

    /// Puts vaults into the function's queue, a message each. Returns a report on each whose message could
    /// not be sent. `None`: the messages of the last round still wait there, and none is added.
    async fn spread(&self, queue: &str, request: &SyncRequest, vaults: &[Named]) -> Option<Vec<VaultReport>> {
        let spread = Spread::new(&self.warm.aws, queue, &self.context.request_id, self.deadline.last_call());
        // A schedule faster than the queue is served must not make it longer and longer.
        if request.is_of_all()
            && request.mode == Mode::Incremental
            && spread.waiting().await.is_ok_and(|waiting| waiting >= vaults.len())
        {
            tracing::warn!(
                vaults = vaults.len(),
                "the messages of the last round still wait in the queue; none is added: have more invocations serve it at a \
                 time, or schedule more rarely"
            );
            return None;
        }
        let letter = |vault: &Named| Letter {
            vault: vault.id.clone(),
            event: request.continued([vault.id.clone()], 0),
        };
        let letters: Vec<Letter> = vaults.iter().map(letter).collect();
        let unsent: BTreeMap<String, String> = spread.send(&letters).await.into_iter().collect();
        let sent = letters.len().saturating_sub(unsent.len());
        match unsent.values().next() {
            None => tracing::info!(sent, "each vault has a message in the queue"),
            Some(reason) => tracing::error!(
                sent,
                unsent = unsent.len(),
                reason,
                "not every vault has a message in the queue"
            ),
        }
        let report = |vault: &Named| {
            let reason = unsent.get(&vault.id)?;
            Some(VaultReport::nothing(&vault.id, &vault.name, VaultStatus::Incomplete, reason.clone()))
        };
        Some(vaults.iter().filter_map(report).collect())
    }

    /// Measures how long ago the vaults of the function were last found up to date.
    async fn tell_oldest(&self, states: &[StateKey]) {
        let reading = freshness::oldest(&self.warm.table, states);
        match timeout_at(self.deadline.farewell(), reading).await {
            Ok(Ok(oldest)) => {
                if let Some(line) = metrics::oldest_line(&oldest, self.warm.config.metrics) {
                    logging::line(&line);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the age of the oldest success is unknown"),
            Err(_) => tracing::warn!("there was no time to find out the age of the oldest success"),
        }
    }

    /// The destination of an event: that of the settings, unless the event names another one that the
    /// settings allow. A place inside the usual one, or around it, is refused: it belongs to vaults of that
    /// name, including future ones.
    fn root(&self, request: &SyncRequest) -> Result<BucketLocation, InvocationError> {
        let config = &self.warm.config;
        let invalid = |reason: String| InvocationError::new("InvalidEvent", reason);
        let bucket = request.bucket.as_deref().unwrap_or(config.root.bucket());
        let prefix = request.prefix.as_deref().unwrap_or(config.root.prefix());
        let asked = location(bucket, prefix).map_err(|error| invalid(error.to_string()))?;
        match (asked.holds(&config.root), config.root.holds(&asked)) {
            (true, true) => Ok(asked),
            _ if !config.destinations.iter().any(|allowed| allowed.holds(&asked)) => Err(invalid(format!(
                "the event names the destination {asked}, and OBSYNC_ALLOW_DESTINATIONS does not: leave \"dest_bucket\" \
                 and \"dest_prefix\" out, or have whoever sets the function up allow the destination"
            ))),
            (false, false) => Ok(asked),
            _ => Err(invalid(format!(
                "the event names the destination {asked}, which overlaps {}, where the function keeps its vaults: \
                 name another one",
                config.root
            ))),
        }
    }

    /// The direction of the settings, narrowed by the event.
    fn direction(&self, request: &SyncRequest) -> Result<Direction, InvocationError> {
        let set = self.warm.config.sending.direction;
        set.narrowed(request.direction).ok_or_else(|| {
            let asked = request.direction.unwrap_or_default().as_str();
            let reason = format!(
                "the event asks for the direction {asked:?}, and OBSYNC_DIRECTION is {:?}: an event can only narrow it",
                set.as_str()
            );
            InvocationError::new("InvalidEvent", reason)
        })
    }

    async fn vaults(&self, deadline: &Deadline) -> Result<(Arc<Account>, Vec<Listed>), InvocationError> {
        let listed = async {
            let listed = self.warm.vaults().await;
            listed.map_err(|error| InvocationError::new(kind_of(&error), &error).coded(error.code()))
        };
        within(deadline, listed).await
    }

    /// The places in the table below a root.
    async fn places(&self, root: &BucketLocation) -> Result<Places, InvocationError> {
        let places = self.warm.table.places(&root.to_string(), |_| BTreeMap::new()).await;
        places.map_err(|error| state_unavailable(&error))
    }

    /// The requested vaults.
    fn choose<'v>(
        &self,
        account: &Account,
        vaults: &'v [Listed],
        names: &BTreeSet<String>,
        known: &Places,
    ) -> Choice<'v> {
        if !names.is_empty() {
            return Choice::of_names(vaults, names);
        }
        Choice::unasked(
            vaults,
            &self.warm.config.vaults,
            |vault| self.warm.means(account, vault),
            |vault| has_place(known, vault),
            choice::UNNAMED_PLACES.saturating_sub(known.names.len()),
        )
    }

    /// Gives each vault its place. A vault whose place is damaged in the table fails alone, and is reported
    /// in the second list.
    async fn place(
        &self,
        root: &BucketLocation,
        all: &[Listed],
        choice: &Choice<'_>,
        mut known: Places,
    ) -> Result<(Vec<Job>, Vec<VaultReport>), InvocationError> {
        let wanted: Vec<&Listed> = choice.vaults.iter().map(|chosen| chosen.vault).collect();
        let mut not_given = None;
        if !wanted.iter().all(|vault| has_place(&known, &vault.info.id)) {
            let give = |taken: &BTreeMap<VaultId, String>| placement::places(all, &wanted, taken);
            match self.warm.table.places(&root.to_string(), give).await {
                Ok(given) => known = given,
                // Vaults with a place need no new one.
                Err(error) => not_given = Some(format!("no place could be given to this vault: {error}")),
            }
        }
        let (mut jobs, mut placeless) = (Vec::new(), Vec::new());
        for chosen in &choice.vaults {
            let (vault, warning) = (chosen.vault.clone(), chosen.warning());
            let name = known.names.get(&vault.info.id);
            let name = name.filter(|_| placement::is_sound(&vault.info.id, &known.names));
            match name.and_then(|name| root.join(name).ok()) {
                Some(place) => jobs.push(Job { vault, place, warning }),
                None => {
                    let damaged = || {
                        format!(
                            "the table {} has a place for this vault below {root} that obsync did not write: correct or \
                             remove the vault's entry in `places`",
                            self.warm.config.table
                        )
                    };
                    placeless.push(refusal(&vault, not_given.clone().unwrap_or_else(damaged)));
                }
            }
        }
        Ok((jobs, placeless))
    }

    async fn sync_jobs(
        &self,
        request: &SyncRequest,
        direction: Direction,
        account: Arc<Account>,
        deadline: &Arc<Deadline>,
        jobs: Vec<Job>,
        beginning: Beginning,
    ) -> Vec<VaultReport> {
        let config = &self.warm.config;
        let used = self.gauge.used().unwrap_or(0);
        let allowance = Allowance::of(self.gauge.limit, used, config.concurrency);
        tracing::debug!(limit = self.gauge.limit, used, ?allowance, "memory");
        let changes = MOST_CHANGES / jobs.len().max(1) as u64;
        let width = fan_out::width(jobs.len(), allowance.budget, allowance.connections);
        let governor = Governor::with_budget(allowance.budget);
        let watch = Watch { gauge: self.gauge.clone(), scratch: config.scratch, every: config.memory_check };
        let _watcher = watch.start(governor.clone());
        let pacing = Pacing::start(governor.clone(), deadline.published());
        let invocation = Invocation {
            warm: Arc::clone(self.warm),
            account,
            deadline: Arc::clone(deadline),
            governor,
            allowance,
            connections: (allowance.connections / width).max(1),
            mode: request.mode,
            sync_type: request.sync_type(),
            direction,
            list_changes: request.list_changes.then_some(changes),
            owner: format!("{} {}", self.context.env_config.function_name, self.context.request_id),
            pacing,
            neighbours: Neighbours::default(),
            entry: match request.continuation {
                0 => ChainEntry::First,
                step => ChainEntry::Step(step),
            },
            limits: config.chains,
        };
        let measure = |report: &VaultReport| {
            closing::note(report, beginning);
            logging::line(&metrics::line(report, config.metrics));
        };
        fan_out::sync_all(invocation, jobs, width, measure).await
    }

    /// Has other invocations continue with these vaults, and notes that in the reports.
    async fn go_on(
        &self,
        request: &SyncRequest,
        rest: BTreeMap<u32, Vec<String>>,
        reports: &mut [VaultReport],
    ) {
        let mut stranded = 0;
        for (step, vaults) in rest {
            for (vaults, event) in chain::events(request, step, &vaults) {
                match self.send(&event, None).await {
                    true => queue::note_sent(reports, &vaults),
                    false => stranded += vaults.len(),
                }
            }
        }
        // Nothing else would raise an alarm before the vaults are old.
        if stranded > 0 {
            logging::line(&metrics::stranded_line(stranded, self.warm.config.metrics));
        }
    }

    /// Sends a continuation the way that the event came: to its queue, or by invoking the function. Returns
    /// true if that succeeded; if not, the next event continues.
    async fn send(&self, event: &Value, origin: Option<&Message>) -> bool {
        let (aws, until) = (&self.warm.aws, self.deadline.last_call());
        let queue = origin.and_then(|message| {
            let arn = message.queue.as_deref()?;
            Some(chain::Queue { arn, group: message.group.as_deref() })
        });
        let sent = match queue {
            None => chain::invoke(aws, &self.context.invoked_function_arn, event, until).await,
            Some(queue) => {
                // Several events of one step differ in their vaults.
                let id = deduplication_id(&self.context.request_id, &event.to_string());
                chain::enqueue(aws, queue, event, &id, until).await
            }
        };
        match &sent {
            Ok(()) => tracing::info!("another invocation goes on with what is left"),
            // The next scheduled event continues in any case.
            Err(reason) => tracing::error!(reason, "the run does not go on by itself"),
        }
        sent.is_ok()
    }

    async fn status(&self, wanted: &BTreeSet<String>) -> Result<Vec<Value>, InvocationError> {
        let deadline = &self.deadline;
        let (account, vaults) = self.vaults(deadline).await?;
        let known = within(deadline, self.places(&self.warm.config.root)).await?;
        let choice = self.choose(&account, &vaults, wanted, &known);
        if let Some(report) = choice.mistaken.first().filter(|_| !wanted.is_empty()) {
            return Err(InvocationError::new(
                "VaultNotFound",
                format!("{:?}: {}", report.vault_id, report.message),
            ));
        }
        within(deadline, self.documents(&choice, &known)).await
    }

    /// The table's documents of these vaults.
    async fn documents(&self, choice: &Choice<'_>, known: &Places) -> Result<Vec<Value>, InvocationError> {
        let failed = |error: StateError| state_unavailable(&error);
        let root = &self.warm.config.root;
        let mut documents = Vec::new();
        for vault in choice.vaults.iter().map(|chosen| &chosen.vault.info) {
            let name =
                known.names.get(&vault.id).cloned().unwrap_or_else(|| placement::safe_name(&vault.name));
            // An invalid place is reported when the vault is synced.
            let Ok(place) = root.join(&name) else { continue };
            documents.push(status::of_vault(self.warm, vault, place.to_string()).await.map_err(failed)?);
        }
        Ok(documents)
    }
}

/// The result of preparing the work, if it is ready in time.
async fn within<T>(
    deadline: &Deadline,
    work: impl Future<Output = Result<T, InvocationError>>,
) -> Result<T, InvocationError> {
    tokio::select! {
        biased;
        done = work => done,
        () = deadline.over() => Err(InvocationError::new(
            "TimeOver",
            "the time ran out before the service, Secrets Manager and the table had answered; nothing was begun: check \
             them, or give the function more time",
        )),
    }
}

/// True if the table has an entry for a vault, even a damaged one.
fn has_place(known: &Places, vault: &VaultId) -> bool {
    known.names.contains_key(vault) || known.damaged.contains(vault)
}

/// The report on a vault that was not begun.
fn refusal(vault: &Listed, message: String) -> VaultReport {
    let (id, name) = (vault.info.id.as_str(), &vault.info.name);
    let encryption = VaultKind::of(&vault.info).as_str();
    VaultReport { encryption, ..VaultReport::nothing(id, name, VaultStatus::Failed, message) }
}

/// Logs a failure. If every vault failed, each was logged already, without its name.
fn failed(error: &InvocationError, what: &str) {
    match error.kind {
        "SyncFailed" => tracing::error!(kind = error.kind, "{what}: no vault could be synced"),
        kind => tracing::error!(kind, %error, "{what}"),
    }
}

fn state_unavailable(error: &StateError) -> InvocationError {
    InvocationError::new("StateUnavailable", error).coded(error.into())
}

/// The kind of failure when the account is unavailable.
fn kind_of(error: &AccountError) -> &'static str {
    match error {
        AccountError::Secret(_) => "SecretUnavailable",
        AccountError::Client(error) if error.is_auth() => "SignInFailed",
        AccountError::Client(_) => "ServiceUnavailable",
        AccountError::State(_) => "StateUnavailable",
        AccountError::NoCredentials | AccountError::TokenRefused | AccountError::NoTotp => "SignInFailed",
        AccountError::NoPassword
        | AccountError::Encryption(_)
        | AccountError::Distrust(_)
        | AccountError::Derivation(_) => "VaultLocked",
    }
}
