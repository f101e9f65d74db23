//! From an event to its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use lambda_runtime::Context;
use obsync_core::{Governor, StateError};
use obsync_protocol::{VaultId, VaultInfo};
use obsync_stores::BucketLocation;
use serde_json::{Value, json};

use crate::answer::{Answer, InvocationError, VaultReport, VaultStatus, http_answer};
use crate::chain::{self, Continuation};
use crate::config::{Config, ConfigError, location};
use crate::deadline::Deadline;
use crate::event::{Action, Event, SyncRequest};
use crate::gauge::{self, Gauge};
use crate::memory::{Allowance, Watch};
use crate::queue::{self, Synced};
use crate::sync::{Invocation, Job};
use crate::warm::{Account, AccountError, Warm};
use crate::{fan_out, logging, metrics, placement, status};

/// Everything that a process keeps, or why it cannot work.
pub(crate) struct Handler {
    warm: Result<Arc<Warm>, ConfigError>,
    gauge: Gauge,
}

/// One invocation's circumstances.
struct Call<'a> {
    warm: &'a Arc<Warm>,
    gauge: &'a Gauge,
    context: &'a Context,
    begun: Instant,
}

impl Handler {
    /// Prepares what does not depend on events. A configuration that is wrong is told in every invocation,
    /// where people see it, rather than by a process that does not start.
    pub(crate) async fn new(config: Result<Config, ConfigError>) -> Self {
        let set = config.as_ref().ok().and_then(|config| config.memory);
        let function_mb = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok();
        let gauge = Gauge::new(set, function_mb.as_deref());
        let warm = match config {
            Ok(config) => Ok(Arc::new(Warm::new(config).await)),
            Err(error) => {
                tracing::error!(%error, "the function cannot work");
                Err(error)
            }
        };
        Handler { warm, gauge }
    }

    /// Answers an event.
    pub(crate) async fn handle(&self, payload: &Value, context: &Context) -> Result<Value, InvocationError> {
        // Boxed, for the compiler gives up on a type as deep as the whole of it.
        let result = Box::pin(self.answer(payload, context)).await;
        if let Err(error) = &result {
            tracing::error!(kind = error.kind, error = %error, "the invocation failed");
        }
        result
    }

    async fn answer(&self, payload: &Value, context: &Context) -> Result<Value, InvocationError> {
        let warm = self.warm.as_ref().map_err(|error| InvocationError::new("InvalidConfiguration", error))?;
        let call = Call { warm, gauge: &self.gauge, context, begun: Instant::now() };
        let event = Event::parse(payload).map_err(|error| InvocationError::new("InvalidEvent", error))?;
        match event {
            Event::Direct(action) => Ok(call.act(&action).await?.json()),
            Event::Http(action) => Ok(call.act_for_http(action).await),
            Event::Queue(messages) => {
                queue::answer(messages, async |request: &SyncRequest| call.sync(request).await).await
            }
        }
    }
}

impl Call<'_> {
    async fn act(&self, action: &Action) -> Result<Answer, InvocationError> {
        match action {
            Action::Sync(request) => {
                let Synced { reports, goes_on } = self.sync(request).await?;
                let mut answer = Answer::of_sync(&reports);
                answer.metadata = self.metadata("sync");
                answer.metadata["goes_on_by_itself"] = json!(goes_on);
                answer.metadata["sync_type"] = json!(request.sync_type());
                answer.metadata["continuation"] = json!(request.continuation);
                InvocationError::unless_any_success(answer)
            }
            Action::Status { vaults } => {
                let mut answer = Answer::of_status(self.status(vaults).await?);
                answer.metadata = self.metadata("status");
                Ok(answer)
            }
        }
    }

    /// A failed invocation could not tell a browser why, so it is an answer here; its status is what alarms
    /// look at.
    async fn act_for_http(&self, action: Result<Action, crate::event::EventError>) -> Value {
        let action = action.map_err(|error| InvocationError::new("InvalidEvent", error));
        let result = match action {
            Ok(action) => self.act(&action).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(answer) => http_answer(if answer.success { 200 } else { 207 }, &answer.json()),
            Err(error) => {
                tracing::error!(kind = error.kind, %error, "the request failed");
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

    /// Syncs what is asked for, and goes on by another invocation where the function is set to.
    async fn sync(&self, request: &SyncRequest) -> Result<Synced, InvocationError> {
        let deadline = Arc::new(Deadline::at(self.context.deadline, self.warm.config.timeout_buffer));
        let root = self.root(request)?;
        let (account, vaults) = self.vaults(&deadline).await?;
        let (chosen, mut reports) = self.choose(&account, &vaults, &request.vaults);
        let jobs = within(&deadline, self.place(&root, &vaults, &chosen)).await?;
        tracing::info!(vaults = jobs.len(), sync_type = request.sync_type(), "syncing");
        // No metric of theirs: whatever an event calls a vault would become one of its own.
        reports.iter().for_each(note);
        reports.extend(self.sync_jobs(request, account, &deadline, jobs).await);
        let goes_on = self.go_on(request, &reports, &deadline).await;
        Ok(Synced { reports, goes_on })
    }

    /// Where vaults go, for this event.
    fn root(&self, request: &SyncRequest) -> Result<BucketLocation, InvocationError> {
        let usual = &self.warm.config.root;
        let bucket = request.bucket.as_deref().unwrap_or(usual.bucket());
        let prefix = request.prefix.as_deref().unwrap_or(usual.prefix());
        location(bucket, prefix).map_err(|error| InvocationError::new("InvalidEvent", error))
    }

    async fn vaults(&self, deadline: &Deadline) -> Result<(Arc<Account>, Vec<VaultInfo>), InvocationError> {
        let listed = async {
            let listed = self.warm.vaults().await;
            listed.map_err(|error| InvocationError::new(kind_of(&error), error))
        };
        within(deadline, listed).await
    }

    /// The vaults that are meant, and reports on those that there is no telling.
    fn choose<'v>(
        &self,
        account: &Account,
        vaults: &'v [VaultInfo],
        wanted: &BTreeSet<String>,
    ) -> (Vec<&'v VaultInfo>, Vec<VaultReport>) {
        if wanted.is_empty() {
            let openable = vaults.iter().filter(|vault| self.warm.can_open(account, vault));
            return (openable.collect(), Vec::new());
        }
        let mut chosen: BTreeMap<&VaultId, &VaultInfo> = BTreeMap::new();
        let mut reports = Vec::new();
        for name in wanted {
            match choose(vaults, name) {
                Ok(vault) => {
                    chosen.insert(&vault.id, vault);
                }
                Err(problem) => {
                    reports.push(VaultReport::nothing(name, "", VaultStatus::Failed, problem.to_owned()));
                }
            }
        }
        (chosen.into_values().collect(), reports)
    }

    /// Gives each vault its place.
    async fn place(
        &self,
        root: &BucketLocation,
        all: &[VaultInfo],
        chosen: &[&VaultInfo],
    ) -> Result<Vec<Job>, InvocationError> {
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let give = |taken: &BTreeMap<VaultId, String>| placement::places(all, chosen, taken);
        let places = self.warm.table.places(&root.to_string(), give).await;
        let places = places.map_err(|error| InvocationError::new("StateUnavailable", error))?;
        let jobs = chosen.iter().filter_map(|vault| Some((*vault, places.get(&vault.id)?)));
        jobs.map(|(vault, name)| {
            let place = root.join(name).map_err(|error| InvocationError::new("InvalidEvent", error))?;
            Ok(Job { vault: vault.clone(), place })
        })
        .collect()
    }

    async fn sync_jobs(
        &self,
        request: &SyncRequest,
        account: Arc<Account>,
        deadline: &Arc<Deadline>,
        jobs: Vec<Job>,
    ) -> Vec<VaultReport> {
        let config = &self.warm.config;
        let used = self.gauge.used().unwrap_or(0);
        let allowance = Allowance::of(self.gauge.limit, used, config.concurrency);
        tracing::debug!(limit = self.gauge.limit, used, ?allowance, "memory");
        let width = fan_out::width(jobs.len(), allowance.budget, allowance.connections);
        let governor = Governor::with_budget(allowance.budget);
        let watch = Watch { gauge: self.gauge.clone(), scratch: config.scratch, every: config.memory_check };
        let _watcher = watch.start(governor.clone());
        let invocation = Invocation {
            warm: Arc::clone(self.warm),
            account,
            deadline: Arc::clone(deadline),
            governor,
            allowance,
            connections: (allowance.connections / width).max(1),
            mode: request.mode,
            sync_type: request.sync_type(),
            owner: format!("{} {}", self.context.env_config.function_name, self.context.request_id),
        };
        let measure = |report: &VaultReport| {
            note(report);
            logging::line(&metrics::line(report));
        };
        fan_out::sync_all(invocation, jobs, width, measure).await
    }

    /// Invokes the function again for what is left, where it is set to. Tells whether it does.
    async fn go_on(&self, request: &SyncRequest, reports: &[VaultReport], deadline: &Deadline) -> bool {
        let refused = match chain::continuation(request, reports, self.warm.config.continuations) {
            Continuation::None => return false,
            Continuation::Refused(reason) => Err(reason.to_owned()),
            Continuation::Event(event) => {
                let function = &self.context.invoked_function_arn;
                chain::invoke(&self.warm.aws, function, &event, deadline.last_call()).await
            }
        };
        match &refused {
            Ok(()) => tracing::info!("another invocation goes on with what is left"),
            // The next scheduled one goes on in any case.
            Err(reason) => tracing::error!(reason, "the run does not go on by itself"),
        }
        refused.is_ok()
    }

    async fn status(&self, wanted: &BTreeSet<String>) -> Result<Vec<Value>, InvocationError> {
        let deadline = Deadline::at(self.context.deadline, self.warm.config.timeout_buffer);
        let (account, vaults) = self.vaults(&deadline).await?;
        let (chosen, mistaken) = self.choose(&account, &vaults, wanted);
        if let Some(report) = mistaken.first() {
            return Err(InvocationError::new(
                "VaultNotFound",
                format!("{:?}: {}", report.vault_id, report.message),
            ));
        }
        within(&deadline, self.documents(&chosen)).await
    }

    /// What the table knows of these vaults.
    async fn documents(&self, chosen: &[&VaultInfo]) -> Result<Vec<Value>, InvocationError> {
        let failed = |error: StateError| InvocationError::new("StateUnavailable", error);
        let root = &self.warm.config.root;
        let places = self.warm.table.places(&root.to_string(), |_| BTreeMap::new()).await.map_err(failed)?;
        let mut documents = Vec::new();
        for vault in chosen {
            let name = places.get(&vault.id).cloned().unwrap_or_else(|| placement::safe_name(&vault.name));
            let place = root.join(&name).map_err(|error| InvocationError::new("InvalidEvent", error))?;
            documents.push(status::of_vault(self.warm, vault, place.to_string()).await.map_err(failed)?);
        }
        Ok(documents)
    }
}

/// What comes of preparing the work, if there is an answer in time.
async fn within<T>(
    deadline: &Deadline,
    work: impl Future<Output = Result<T, InvocationError>>,
) -> Result<T, InvocationError> {
    tokio::select! {
        biased;
        done = work => done,
        () = deadline.over() => Err(InvocationError::new(
            "TimeOver",
            "the time was over before the service, Secrets Manager and the table had answered; nothing was begun: check \
             them, or give the function more time",
        )),
    }
}

/// What is logged about a vault: nothing that its owner wrote.
fn note(report: &VaultReport) {
    match report.status {
        VaultStatus::Failed => {
            tracing::error!(
                vault_id = report.vault_id,
                reason = report.message,
                "the vault could not be synced"
            );
        }
        status => tracing::info!(
            vault_id = report.vault_id,
            ?status,
            version = report.version,
            files = report.files(),
            deleted = report.deleted.files,
            failed_files = report.failed_files,
            conflicts = report.conflicts.len(),
            left = report.remaining.files,
            s3_requests = report.s3_requests,
            "the vault is done for now"
        ),
    }
    for warning in &report.warnings {
        tracing::warn!(vault_id = report.vault_id, "{warning}");
    }
}

/// A vault by its id, else by its name.
fn choose<'v>(vaults: &'v [VaultInfo], wanted: &str) -> Result<&'v VaultInfo, &'static str> {
    if let Some(vault) = vaults.iter().find(|vault| vault.id.as_str() == wanted) {
        return Ok(vault);
    }
    let mut named = vaults.iter().filter(|vault| vault.name == wanted);
    match (named.next(), named.next()) {
        (Some(vault), None) => Ok(vault),
        (Some(_), Some(_)) => Err("more than one vault has this name; use the id"),
        (None, _) => Err("the account has no vault of this id or name"),
    }
}

/// What kind of failure it is that there is no account.
fn kind_of(error: &AccountError) -> &'static str {
    match error {
        AccountError::Secret(_) => "SecretUnavailable",
        AccountError::Client(error) if error.is_auth() => "SignInFailed",
        AccountError::Client(_) => "ServiceUnavailable",
        AccountError::NoCredentials | AccountError::TokenRefused | AccountError::NoTotp => "SignInFailed",
        AccountError::NoPassword | AccountError::Encryption(_) | AccountError::Derivation(_) => "VaultLocked",
    }
}
