//! The action `status`: reports the table's state of vaults, read-only.

use jiff::Timestamp;
use obsync_core::pin::VaultKind;
use obsync_core::{Direction, LastRun, Outstanding, StateError, StateStore as _, Unfinished};
use obsync_dynamodb::{DynamoState, DynamoSummary, ProgressRecord, ProgressStatus, StateKey, StoredProgress};
use obsync_protocol::VaultInfo;
use serde::Serialize;
use serde_json::{Value, json};

use crate::vault_report::{MOST_LISTED, is_zero};
use crate::warm::Warm;

/// The state of one vault, with the fields of `obsync status --json` (docs/JSON.md).
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultState {
    /// The vault's id.
    vault_id: String,
    /// The vault's name.
    vault: String,
    /// The bucket and prefix.
    destination: String,
    /// The vault's encryption when it was last opened, if a pin records it.
    encryption: Option<VaultKind>,
    /// The present state.
    status: VaultWork,
    /// The direction of the sync.
    direction: Direction,
    /// The vault's version up to which the destination is complete.
    version: u64,
    /// Why the destination is not the whole vault.
    unfinished: Vec<Unfinished>,
    /// Number of files in the destination.
    files: u64,
    /// Their bytes.
    bytes: u64,
    /// Number of folders in the destination.
    folders: u64,
    /// What is left to do, by what it waits for; the first of each kind.
    #[serde(flatten)]
    outstanding: Outstanding,
    /// Number of failures that are not in `failures`.
    failures_unlisted: u64,
    /// Number of deletions that are not in `held_back`.
    held_back_unlisted: u64,
    /// Number of deletions that are not in `held_back_in_vault`.
    #[serde(skip_serializing_if = "is_zero")]
    held_back_in_vault_unlisted: u64,
    /// Number of deletions that are not in `confirmed`.
    #[serde(skip_serializing_if = "is_zero")]
    confirmed_unlisted: u64,
    /// Number of entries that are not in `accepted`.
    #[serde(skip_serializing_if = "is_zero")]
    accepted_unlisted: u64,
    /// Number of changes that are not in `diverged`.
    #[serde(skip_serializing_if = "is_zero")]
    diverged_unlisted: u64,
    /// Number of changes that are not in `waiting`.
    #[serde(skip_serializing_if = "is_zero")]
    waiting_unlisted: u64,
    /// Number of changes that the filter leaves out.
    filtered: u64,
    /// Number of files that were kept when the vault deleted them.
    #[serde(skip_serializing_if = "is_zero")]
    retained: u64,
    /// When a run last found the bucket up to date, or brought it up to date.
    last_check: Option<String>,
    /// When a change was last recorded.
    last_change: Option<String>,
    /// The last run.
    last_run: Option<LastRun>,
    /// The process that is working on it.
    at_work: Option<AtWork>,
    /// Number of invocations of the last run so far.
    invocations: Option<u32>,
}

/// The present state of a vault.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum VaultWork {
    NeverSynced,
    Running,
    Interrupted,
    Complete,
    Failed,
    Idle,
}

/// The process that is working on a destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AtWork {
    /// The holder of the lease.
    owner: Option<String>,
    /// When the lease expires, unless it is renewed.
    until: Option<String>,
}

/// The state of one vault at one place.
pub(crate) async fn of_vault(
    warm: &Warm,
    vault: &VaultInfo,
    destination: String,
) -> Result<Value, StateError> {
    let key = StateKey { vault_id: vault.id.clone(), vault_name: vault.name.clone(), destination };
    let state = DynamoState::read(&warm.table, key.clone()).await?;
    let summary = state.summary().await?;
    let progress = match state.progress().await? {
        StoredProgress::Found(record) => Some(record),
        StoredProgress::Missing | StoredProgress::Unreadable { .. } => None,
    };
    let encryption = warm.pinned_kind(vault, &key.destination).await?;
    let mut outstanding = match &summary {
        Some(summary) if summary.failed > 0 => Outstanding::of(&state, warm.client().redactor()).await?,
        _ => Outstanding::default(),
    };
    let failures_unlisted = truncate(&mut outstanding.failures);
    let held_back_unlisted = truncate(&mut outstanding.held_back);
    let held_back_in_vault_unlisted = truncate(&mut outstanding.held_back_in_vault);
    let confirmed_unlisted = truncate(&mut outstanding.confirmed);
    let accepted_unlisted = truncate(&mut outstanding.accepted);
    let diverged_unlisted = truncate(&mut outstanding.diverged);
    let waiting_unlisted = truncate(&mut outstanding.waiting);
    let unfinished = match &summary {
        Some(summary) => Unfinished::of(&state, summary.holder.is_some()).await?,
        None => Vec::new(),
    };
    let retained = match &summary {
        Some(summary) => state.retained(summary).await?,
        None => 0,
    };
    let last_check = state.last_check().await?.and_then(time);
    let status = work(summary.as_ref(), progress.as_deref());
    let number = |of: fn(&DynamoSummary) -> u64| summary.as_ref().map_or(0, of);
    let state = VaultState {
        vault_id: key.vault_id.to_string(),
        vault: key.vault_name,
        destination: key.destination,
        encryption,
        status,
        direction: state.load().await?.direction,
        version: number(|summary| summary.version),
        unfinished,
        files: number(|summary| summary.files),
        bytes: number(|summary| summary.bytes),
        folders: number(|summary| summary.folders),
        outstanding,
        failures_unlisted,
        held_back_unlisted,
        held_back_in_vault_unlisted,
        confirmed_unlisted,
        accepted_unlisted,
        diverged_unlisted,
        waiting_unlisted,
        filtered: number(|summary| summary.filtered).saturating_sub(retained),
        retained,
        last_check,
        last_change: summary.as_ref().and_then(|summary| summary.committed).and_then(time),
        invocations: progress.as_ref().map(|record| record.invocations),
        last_run: progress.map(|record| record.last_run()),
        at_work: summary
            .and_then(|summary| summary.holder)
            .map(|holder| AtWork { until: time(holder.expires), owner: Some(holder.owner) }),
    };
    Ok(json!(state))
}

/// The present work on a vault, in one word.
fn work(summary: Option<&DynamoSummary>, progress: Option<&ProgressRecord>) -> VaultWork {
    match (summary, progress) {
        (None, _) => VaultWork::NeverSynced,
        (Some(summary), _) if summary.holder.is_some() => VaultWork::Running,
        (_, Some(record)) => match record.status {
            // A run without a lease was killed.
            ProgressStatus::Running | ProgressStatus::Interrupted => VaultWork::Interrupted,
            ProgressStatus::Complete => VaultWork::Complete,
            ProgressStatus::Failed => VaultWork::Failed,
        },
        _ => VaultWork::Idle,
    }
}

/// Shortens a list to the limit of an answer, and returns the number of dropped entries.
fn truncate<T>(list: &mut Vec<T>) -> u64 {
    let unlisted = list.len().saturating_sub(MOST_LISTED);
    list.truncate(MOST_LISTED);
    unlisted as u64
}

/// Milliseconds since the epoch as RFC 3339.
fn time(milliseconds: i64) -> Option<String> {
    Timestamp::from_millisecond(milliseconds).ok().map(|time| time.to_string())
}
