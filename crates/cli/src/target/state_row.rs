//! What a state says, for `obsync status`: as JSON and in lines for people.

use std::time::Duration;

use jiff::Timestamp;
use obsync_core::pin::VaultKind;
use obsync_core::{Deferred, DeferredCause, DeferredKind, Direction, StateError, StateStore};
use obsync_dynamodb::{
    DynamoState, DynamoSummary, LeaseHolder, ProgressRecord, ProgressStatus, StateKey, StoredProgress,
};
use obsync_protocol::{Redactor, printable, shown_name};
use obsync_sqlite::{SqliteState, StateSummary};
use serde::Serialize;

use crate::ui::{human, shell};

/// One state.
#[derive(Debug, Serialize)]
pub(crate) struct StateRow {
    /// The destination's canonical text.
    pub(crate) destination: String,
    vault_id: String,
    vault: String,
    /// How the vault was encrypted when it was last opened; unknown where no pin says so.
    pub(crate) encryption: Option<VaultKind>,
    /// Which way the destination is synced: `pull`, `push` or `both`.
    direction: &'static str,
    version: u64,
    /// Whether a first pull has listed the whole vault.
    listed: bool,
    files: u64,
    bytes: u64,
    folders: u64,
    /// Changes that the choice of what to pull leaves out.
    filtered: u64,
    failures: Vec<FailureRow>,
    /// Changes that can never be applied here, which the user accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<FailureRow>,
    /// Deletions that are not made before somebody confirms them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held_back: Vec<String>,
    /// Deletions in the vault that are not made before somebody confirms them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held_back_in_vault: Vec<String>,
    /// When a pull last found the destination up to date, or made it so: milliseconds since the epoch.
    last_check: Option<i64>,
    /// Milliseconds since the epoch.
    last_change: Option<i64>,
    /// Who works on the destination now, as a table knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseRow>,
    /// How far the last run came, as a table knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressRecord>,
}

/// A change that could not be applied.
#[derive(Debug, Serialize)]
struct FailureRow {
    path: String,
    uid: u64,
    reason: String,
}

/// Who works on a destination.
#[derive(Debug, Serialize)]
struct LeaseRow {
    owner: String,
    /// Milliseconds since the epoch.
    expires: i64,
}

impl StateRow {
    /// What a database says; `None` if it says nothing yet.
    pub(crate) async fn of_database(
        state: &SqliteState,
        redactor: &Redactor,
    ) -> Result<Option<Self>, StateError> {
        let Some(summary) = state.summary()? else { return Ok(None) };
        let deferred = state.deferred(DeferredKind::Failed).await?;
        let last_check = state.last_check().await?;
        let direction = direction(state.load().await?.direction);
        Ok(Some(StateRow { last_check, direction, ..summary.into() }.with(&deferred, redactor)))
    }

    /// What an entry of a table says, of which this was found.
    pub(crate) async fn of_entry(
        state: &DynamoState,
        summary: &DynamoSummary,
        redactor: &Redactor,
    ) -> Result<Self, StateError> {
        let deferred = state.deferred(DeferredKind::Failed).await?;
        let progress = match state.progress().await? {
            StoredProgress::Found(record) => {
                let error = record.error.as_deref().map(|error| redactor.printable(error));
                Some(ProgressRecord { error, ..record })
            }
            // Nothing depends on it.
            StoredProgress::Missing | StoredProgress::Unreadable { .. } => None,
        };
        let last_check = state.last_check().await?;
        let direction = direction(state.load().await?.direction);
        let row = StateRow { progress, last_check, direction, ..StateRow::of_summary(state.key(), summary) };
        Ok(row.with(&deferred, redactor))
    }

    /// The same with the changes that were not applied.
    fn with(mut self, deferred: &[Deferred], redactor: &Redactor) -> Self {
        for deferred in deferred {
            match &deferred.cause {
                DeferredCause::Failed { reason } => {
                    self.failures.push(FailureRow::new(deferred, reason, redactor));
                }
                DeferredCause::Acknowledged { reason } => {
                    self.accepted.push(FailureRow::new(deferred, reason, redactor));
                }
                DeferredCause::HeldBack { confirmed: None } if deferred.key.is_outgoing() => {
                    self.held_back_in_vault.push(deferred.key.shown().to_owned());
                }
                DeferredCause::HeldBack { confirmed: None } => {
                    self.held_back.push(deferred.key.shown().to_owned());
                }
                // The next pull makes it.
                DeferredCause::HeldBack { confirmed: Some(_) } | DeferredCause::Filtered => {}
            }
        }
        self
    }

    /// Whether no pull found the destination up to date, or made it so, within this time before `now`.
    pub(crate) fn is_older_than(&self, age: Duration, now: Timestamp) -> bool {
        let oldest = now.as_millisecond().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        self.last_check.is_none_or(|checked| checked < oldest)
    }

    fn of_summary(key: &StateKey, summary: &DynamoSummary) -> Self {
        StateRow {
            destination: key.destination.clone(),
            vault_id: key.vault_id.to_string(),
            vault: summary.vault_name.clone(),
            encryption: None,
            direction: direction(Direction::Pull),
            version: summary.version,
            listed: summary.listed,
            files: summary.files,
            bytes: summary.bytes,
            folders: summary.folders,
            filtered: summary.filtered,
            failures: Vec::new(),
            accepted: Vec::new(),
            held_back: Vec::new(),
            held_back_in_vault: Vec::new(),
            last_check: None,
            last_change: summary.committed,
            lease: summary.holder.as_ref().map(LeaseRow::new),
            progress: None,
        }
    }

    /// The destination, as it is always written.
    pub(crate) fn destination(&self) -> &str {
        &self.destination
    }

    /// The vault's id.
    pub(crate) fn vault_id(&self) -> &str {
        &self.vault_id
    }

    /// The row for people.
    pub(crate) fn describe(&self) -> String {
        let mut lines = vec![
            self.destination.clone(),
            format!("  vault      {:?} ({})", self.vault, self.vault_id),
            format!("  encryption {}", self.encryption.map_or("unknown", VaultKind::as_str)),
            format!("  direction  {}", self.direction_for_people()),
            format!(
                "  contents   {} ({}), {}",
                human::files(self.files),
                human::size(self.bytes),
                human::folders(self.folders)
            ),
            format!(
                "  version    {}{}",
                self.version,
                if self.listed { "" } else { " (the first pull is not complete)" }
            ),
            format!("  checked    {}", self.last_check.map_or_else(|| "never".to_owned(), human::time)),
            format!("  changed    {}", self.last_change.map_or_else(|| "never".to_owned(), human::date)),
        ];
        lines.extend(self.lease.as_ref().map(LeaseRow::describe));
        lines.extend(self.progress.as_ref().map(describe_progress));
        if self.filtered > 0 {
            lines.push(format!("  left out   {}", human::counted(self.filtered, "change", "changes")));
        }
        self.describe_failures(&mut lines);
        lines.join("\n")
    }

    fn direction_for_people(&self) -> &'static str {
        match self.direction {
            "push" => "from here to the vault",
            "both" => "both ways",
            _ => "from the vault to here",
        }
    }

    fn describe_failures(&self, lines: &mut Vec<String>) {
        let mut describe = |failures: &[FailureRow], label: &str, what_now: &str| {
            if failures.is_empty() {
                return;
            }
            let count = human::counted(failures.len() as u64, "change", "changes");
            lines.push(format!("  {label:10} {count}{what_now}:"));
            lines.extend(failures.iter().map(|failure| {
                let (path, reason) = (shown_name(&failure.path), printable(&failure.reason));
                format!("    {path} (version {}): {reason}", failure.uid)
            }));
        };
        describe(&self.failures, "failed", ", tried again by the next pull");
        describe(&self.accepted, "accepted", " that cannot be had here");
        let mut describe_held_back = |paths: &[String], side: &str| {
            if paths.is_empty() {
                return;
            }
            let count = human::counted(paths.len() as u64, "deletion", "deletions");
            let command = shell::command("confirm", &[&self.destination], &[]);
            lines.push(format!("  held back  {count}{side}; `{command}` lets them go:"));
            lines.extend(paths.iter().map(|path| format!("    {}", shown_name(path))));
        };
        describe_held_back(&self.held_back, "");
        describe_held_back(&self.held_back_in_vault, " in the vault");
    }
}

impl From<StateSummary> for StateRow {
    fn from(summary: StateSummary) -> Self {
        StateRow {
            destination: summary.identity.destination,
            vault_id: summary.identity.vault_id.to_string(),
            vault: summary.identity.vault_name,
            encryption: None,
            direction: direction(Direction::Pull),
            version: summary.version,
            listed: summary.listed,
            files: summary.files,
            bytes: summary.bytes,
            folders: summary.folders,
            filtered: summary.filtered,
            failures: Vec::new(),
            accepted: Vec::new(),
            held_back: Vec::new(),
            held_back_in_vault: Vec::new(),
            last_check: None,
            last_change: Some(summary.committed),
            lease: None,
            progress: None,
        }
    }
}

impl FailureRow {
    /// What was stored may be of a release that took no secrets out.
    fn new(deferred: &Deferred, reason: &str, redactor: &Redactor) -> Self {
        FailureRow {
            path: deferred.key.shown().to_owned(),
            uid: deferred.message.uid.0,
            reason: redactor.take_out(reason).into_owned(),
        }
    }
}

impl LeaseRow {
    fn new(holder: &LeaseHolder) -> Self {
        LeaseRow { owner: holder.owner.clone(), expires: holder.expires }
    }

    fn describe(&self) -> String {
        format!(
            "  at work    {}, until {} unless it goes on",
            shown_name(&self.owner),
            human::time(self.expires)
        )
    }
}

/// A direction for scripts.
fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Pull => "pull",
        Direction::Push => "push",
        Direction::Both => "both",
    }
}

fn describe_progress(progress: &ProgressRecord) -> String {
    let status = match progress.status {
        ProgressStatus::Running => "running",
        ProgressStatus::Interrupted => "interrupted",
        ProgressStatus::Complete => "complete",
        ProgressStatus::Failed => "failed",
    };
    let error = progress.error.as_ref().map(|error| format!(": {}", printable(error))).unwrap_or_default();
    format!(
        "  progress   {} of {}, {} of {}, {status} after {} ({}){error}",
        human::number(progress.files_complete),
        human::files(progress.files_total),
        human::size(progress.bytes_complete),
        human::size(progress.bytes_total),
        human::counted(progress.invocations.into(), "invocation", "invocations"),
        human::time(progress.last_update.as_millisecond()),
    )
}
