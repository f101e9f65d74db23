//! The report on one vault: the result of the work on it, for answers, logs and metrics.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use obsync_core::{
    Conflict, Direction, Doubt, Ending, Failure, MovedFile, Outcome, Problem, ProblemCode, Report, Step,
    Tally,
};
use obsync_dynamodb::TableName;
use obsync_protocol::VaultPath;
use serde::Serialize;

use crate::closing::Stages;

/// Most paths of a kind listed for a vault; Lambda allows answers of 6 MB.
pub(crate) const MOST_LISTED: usize = 100;
/// Maximum size of the lists of changed files in an answer, in bytes: the part of 6 MB that the rest of the
/// answer leaves. Each vault of an event gets an equal share.
pub(crate) const MOST_CHANGES: u64 = 4 << 20;

/// The outcome for a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum VaultStatus {
    /// The bucket equals the vault as listed.
    Complete,
    /// The same, except for some files, which the next run retries.
    Partial,
    /// The time ran out; the next invocation continues.
    Incomplete,
    /// Another run is working on the vault.
    Skipped,
    /// The requested step of the chain is done, or another invocation is doing it.
    Superseded,
    /// The vault as a whole could not be synced.
    Failed,
}

impl VaultStatus {
    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            VaultStatus::Complete => "complete",
            VaultStatus::Partial => "partial",
            VaultStatus::Incomplete => "incomplete",
            VaultStatus::Skipped => "skipped",
            VaultStatus::Superseded => "superseded",
            VaultStatus::Failed => "failed",
        }
    }

    /// Its name in the command line.
    pub(crate) fn outcome(self) -> Ending {
        match self {
            VaultStatus::Complete => Ending::Complete,
            VaultStatus::Partial => Ending::Failures,
            VaultStatus::Incomplete => Ending::Interrupted,
            VaultStatus::Skipped => Ending::Skipped,
            VaultStatus::Superseded => Ending::Superseded,
            VaultStatus::Failed => Ending::Failed,
        }
    }

    /// The default code.
    fn code(self) -> Option<ProblemCode> {
        match self {
            VaultStatus::Complete | VaultStatus::Superseded => None,
            VaultStatus::Partial => Some(ProblemCode::Failures),
            VaultStatus::Incomplete => Some(ProblemCode::Interrupted),
            VaultStatus::Skipped => Some(ProblemCode::AlreadyRunning),
            VaultStatus::Failed => Some(ProblemCode::Error),
        }
    }
}

/// The report on one vault. Its fields have the same names as in `obsync pull --json` (docs/JSON.md).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultReport {
    /// The vault's id, or the name from the event.
    pub(crate) vault_id: String,
    /// Its name.
    #[serde(rename = "vault")]
    pub(crate) name: String,
    /// The destination.
    pub(crate) destination: String,
    /// The encryption that the service lists: `standard` or `end-to-end`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) encryption: &'static str,
    /// How it ended.
    pub(crate) status: VaultStatus,
    /// The same, with the values of the command line.
    pub(crate) outcome: Ending,
    /// The problem; null if the vault is complete.
    pub(crate) error: Option<Problem>,
    /// The result, in a sentence.
    pub(crate) message: String,
    /// The vault version up to which the destination is complete.
    pub(crate) version: u64,
    /// The same before this run.
    pub(crate) previous_version: u64,
    /// The version of the vault on the server, if it is lower than that of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) older_vault: Option<u64>,
    /// Why the state of the bucket was not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) doubt: Option<Doubt>,
    /// True if the vault no longer has its formerly newest entry: it was restored from a backup, or replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) vault_restored: bool,
    /// Downloaded.
    pub(crate) pulled: Tally,
    /// Copied within the bucket.
    pub(crate) copied: Tally,
    /// Found in place, so neither downloaded nor copied.
    pub(crate) adopted: Tally,
    /// Removed.
    pub(crate) deleted: Tally,
    /// Objects whose path changed in the vault. They also count in `copied` and `deleted`.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) moved: Tally,
    /// Old and new paths of moved objects; the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) moved_files: Vec<MovedFile>,
    /// Sent to the vault.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) pushed: Tally,
    /// Deleted in the vault.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) deleted_in_vault: Tally,
    /// Paths deleted in the vault; the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) deleted_in_vault_files: Vec<VaultPath>,
    /// Changed on both sides, and merged; the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) merged: Vec<VaultPath>,
    /// Changed in the vault and not applied by a push; the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) diverged: Vec<VaultPath>,
    /// Kept although the vault deleted them, because of the function's settings.
    pub(crate) retained: Tally,
    /// Left out by the filter.
    pub(crate) skipped: Tally,
    /// Skipped files by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Tally>"))]
    pub(crate) skipped_reasons: BTreeMap<&'static str, Tally>,
    /// Folders that look like additional configuration folders, and were left out.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) other_config_dirs: BTreeSet<String>,
    /// Files with new content that Obsidian runs or applies by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) code: Vec<VaultPath>,
    /// Files left for the next invocation.
    pub(crate) remaining: Tally,
    /// How many changes could not be applied.
    #[serde(skip)]
    pub(crate) failed_files: usize,
    /// The first 100 failures.
    pub(crate) failures: Vec<Failure>,
    /// Number of failures that are not in `failures`.
    pub(crate) failures_unlisted: u64,
    /// Objects that obsync had not written, with the names under which they are kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conflicts: Vec<Conflict>,
    /// Warnings: nothing failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Objects that were not removed because obsync had not written their content.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) kept: Vec<VaultPath>,
    /// Deletions here that are held back until they are confirmed; the first 100.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) held_back: Vec<VaultPath>,
    /// Number of deletions that are not in `held_back`.
    pub(crate) held_back_unlisted: u64,
    /// Deletions in the vault that are held back until they are confirmed; the first 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) held_back_in_vault: Vec<VaultPath>,
    /// Number of deletions that are not in `held_back_in_vault`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) held_back_in_vault_unlisted: u64,
    /// Paths of removed files, without moved ones; the first 100.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) deleted_files: Vec<VaultPath>,
    /// Changed files, in order, if the event asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<Vec<Step>>,
    /// Number of changed files omitted from `changes`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) changes_unlisted: u64,
    /// Number of requests to S3.
    pub(crate) s3_requests: u64,
    /// Duration in milliseconds.
    pub(crate) duration_ms: u64,
    /// How long its stages took.
    #[serde(skip)]
    pub(crate) stages: Stages,
    /// Number of invocations of this run so far.
    pub(crate) invocations: u32,
    /// Id of the chain of invocations.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) chain: String,
    /// Number of the step in its chain, from 0.
    pub(crate) step: u32,
    /// What follows of it.
    #[serde(skip)]
    pub(crate) follow_up: FollowUp,
    /// A file took all the time, and is not tried again by the next invocation.
    #[serde(skip)]
    pub(crate) is_held_up: bool,
    /// A complete sync recorded checks: a later invocation does not repeat them.
    #[serde(skip)]
    pub(crate) has_checked: bool,
    /// It failed, and will fail again until somebody does something: another attempt is of no use.
    #[serde(skip)]
    pub(crate) is_final: bool,
    /// The bucket or the table is to blame, for which a command has another exit status than for the service.
    #[serde(skip)]
    pub(crate) is_of_place: bool,
}

/// The next step for a vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// Nothing.
    #[default]
    Nothing,
    /// The vault's turn did not come.
    SameStep,
    /// It was handed on to this step.
    Step(u32),
    /// A further invocation was requested.
    Sent,
    /// The chain ended with work left.
    Ended(&'static str),
}

impl VaultReport {
    /// A report without any results.
    pub(crate) fn nothing(vault_id: &str, name: &str, status: VaultStatus, message: String) -> Self {
        VaultReport {
            vault_id: vault_id.to_owned(),
            name: name.to_owned(),
            destination: String::new(),
            encryption: "",
            status,
            outcome: status.outcome(),
            error: status.code().map(|code| Problem::new(code, message.clone())),
            message,
            version: 0,
            previous_version: 0,
            older_vault: None,
            doubt: None,
            vault_restored: false,
            pulled: Tally::default(),
            copied: Tally::default(),
            adopted: Tally::default(),
            deleted: Tally::default(),
            moved: Tally::default(),
            moved_files: Vec::new(),
            pushed: Tally::default(),
            deleted_in_vault: Tally::default(),
            deleted_in_vault_files: Vec::new(),
            merged: Vec::new(),
            diverged: Vec::new(),
            retained: Tally::default(),
            skipped: Tally::default(),
            skipped_reasons: BTreeMap::new(),
            other_config_dirs: BTreeSet::new(),
            code: Vec::new(),
            remaining: Tally::default(),
            failed_files: 0,
            failures: Vec::new(),
            failures_unlisted: 0,
            conflicts: Vec::new(),
            warnings: Vec::new(),
            kept: Vec::new(),
            held_back: Vec::new(),
            held_back_unlisted: 0,
            held_back_in_vault: Vec::new(),
            held_back_in_vault_unlisted: 0,
            deleted_files: Vec::new(),
            changes: None,
            changes_unlisted: 0,
            s3_requests: 0,
            duration_ms: 0,
            stages: Stages::default(),
            invocations: 1,
            chain: String::new(),
            step: 0,
            follow_up: FollowUp::default(),
            is_held_up: false,
            has_checked: false,
            is_final: false,
            is_of_place: false,
        }
    }

    /// The report of a finished pull, with the remaining work.
    pub(crate) fn of_pull(report: Report, remaining: Tally, table: &TableName) -> Self {
        let status = match report.outcome {
            Outcome::Interrupted => VaultStatus::Incomplete,
            Outcome::Failures | Outcome::VaultOlder | Outcome::HeldBack => VaultStatus::Partial,
            Outcome::Complete | Outcome::DryRun => VaultStatus::Complete,
        };
        let message = match status {
            _ if report.outcome == Outcome::VaultOlder => {
                "the vault on the server is older than the bucket: nothing was removed".to_owned()
            }
            _ if report.outcome == Outcome::HeldBack => format!(
                "{} deletions are held back, because there are too many; `obsync confirm {} --state {table}` allows them",
                report.held_back(),
                shlex::try_quote(&report.destination).unwrap_or(Cow::Borrowed(&report.destination))
            ),
            VaultStatus::Incomplete => format!(
                "the time ran out with {} files ({} bytes) left; the next invocation continues there",
                remaining.files, remaining.bytes
            ),
            VaultStatus::Partial => {
                format!("all but {} changes are applied; the next run retries those", report.failed())
            }
            _ if report.is_unchanged() => "nothing had changed".to_owned(),
            _ if report.direction != Direction::Pull => "the vault has what is new in the bucket".to_owned(),
            _ => "the bucket is what the vault is".to_owned(),
        };
        let failed = report.failed();
        let in_vault = report.held_back_in_vault.len() as u64 + report.held_back_in_vault_unlisted;
        let held_back = report.held_back().saturating_sub(in_vault);
        let outcome: Ending = report.outcome.into();
        let code = match report.outcome {
            Outcome::VaultOlder => Some(ProblemCode::VaultOlder),
            Outcome::HeldBack => Some(ProblemCode::HeldBack),
            _ => status.code(),
        };
        let error = code.map(|code| Problem::new(code, message.clone())).map(|error| {
            match error.code == ProblemCode::Failures && report.has_lasting_failures {
                true => error.lasting(),
                false => error,
            }
        });
        let unlisted = |all: u64, listed: usize| all.saturating_sub(listed.min(MOST_LISTED) as u64);
        let failures_unlisted = unlisted(failed, report.failures.len());
        let held_back_unlisted = unlisted(held_back, report.held_back.len());
        let held_back_in_vault_unlisted = unlisted(in_vault, report.held_back_in_vault.len());
        let remaining = if status == VaultStatus::Incomplete { remaining } else { Tally::default() };
        VaultReport {
            destination: report.destination,
            outcome,
            error,
            version: report.version,
            previous_version: report.previous_version,
            older_vault: report.older_vault,
            doubt: report.doubt,
            vault_restored: report.vault_restored,
            pulled: report.pulled,
            copied: report.copied,
            adopted: report.adopted,
            deleted: report.deleted,
            moved: report.moved,
            moved_files: first(report.moved_files),
            pushed: report.pushed,
            deleted_in_vault: report.deleted_in_vault,
            deleted_in_vault_files: first(report.deleted_in_vault_files),
            merged: first(report.merged),
            diverged: first(report.diverged),
            retained: report.retained,
            skipped: report.skipped,
            skipped_reasons: report.skipped_reasons,
            other_config_dirs: report.other_config_dirs,
            code: first(report.code),
            remaining,
            failed_files: usize::try_from(failed).unwrap_or(usize::MAX),
            failures: first(report.failures),
            failures_unlisted,
            conflicts: first(report.conflicts),
            warnings: first(report.warnings),
            kept: first(report.kept),
            held_back: first(report.held_back),
            held_back_unlisted,
            held_back_in_vault: first(report.held_back_in_vault),
            held_back_in_vault_unlisted,
            deleted_files: first(report.deleted_files),
            changes: report.changes,
            changes_unlisted: report.changes_unlisted,
            duration_ms: report.duration_ms,
            ..VaultReport::nothing(report.vault_id.as_str(), &report.vault, status, message)
        }
    }

    /// The same with a more precise error code.
    pub(crate) fn coded(self, code: ProblemCode) -> Self {
        let error = self.error.map(|error| Problem::new(code, error.message));
        VaultReport { error, ..self }
    }

    /// Files that this run put in place.
    pub(crate) fn files(&self) -> u64 {
        self.pulled.files + self.copied.files + self.adopted.files
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.pulled.bytes + self.copied.bytes + self.adopted.bytes
    }

    /// True if another invocation was started to continue it.
    pub(crate) fn goes_on(&self) -> bool {
        self.follow_up == FollowUp::Sent
    }

    /// True if there was any result.
    pub(crate) fn is_progress(&self) -> bool {
        let there = self.pushed.files + self.deleted_in_vault.files;
        self.files() + self.deleted.files + there > 0
            || self.version > self.previous_version
            || self.has_checked
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
pub(crate) fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// True for an empty tally.
fn is_none(tally: &Tally) -> bool {
    *tally == Tally::default()
}

fn first<T>(mut list: Vec<T>) -> Vec<T> {
    list.truncate(MOST_LISTED);
    list
}
