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
/// How many bytes of an answer may name files that changed, where that is asked for: what those 6 MB have room for beside the
/// rest. The vaults of an event have equal parts of it.
pub(crate) const MOST_CHANGES: u64 = 4 << 20;

/// How the work on a vault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum VaultStatus {
    /// The bucket is what the vault was when it was listed.
    Complete,
    /// So it is, but for some files that are tried again next time.
    Partial,
    /// The time was over; the next invocation goes on.
    Incomplete,
    /// Another run works on it.
    Skipped,
    /// The step of a chain that the event asks for is done, or another invocation is at it.
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

/// The report on one vault. Its fields have the names that they have in `obsync pull --json` (docs/JSON.md).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultReport {
    /// The vault's id, or what the event called it.
    pub(crate) vault_id: String,
    /// Its name.
    #[serde(rename = "vault")]
    pub(crate) name: String,
    /// Where it goes.
    pub(crate) destination: String,
    /// How the service says that it is encrypted: `standard` or `end-to-end`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) encryption: &'static str,
    /// How it ended.
    pub(crate) status: VaultStatus,
    /// The same in the words of the command line.
    pub(crate) outcome: Ending,
    /// What is left to do or went wrong; null if it is complete.
    pub(crate) error: Option<Problem>,
    /// The same in a sentence.
    pub(crate) message: String,
    /// The version that the destination is complete up to.
    pub(crate) version: u64,
    /// That version before.
    pub(crate) previous_version: u64,
    /// The version of the vault on the server, where that is below what the destination was complete up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) older_vault: Option<u64>,
    /// Why what was recorded of the bucket was not believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) doubt: Option<Doubt>,
    /// The vault has not the newest entry any more that it had: it was restored from a backup, or replaced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) vault_restored: bool,
    /// Downloaded.
    pub(crate) pulled: Tally,
    /// Copied within the bucket.
    pub(crate) copied: Tally,
    /// Found in place.
    pub(crate) adopted: Tally,
    /// Removed.
    pub(crate) deleted: Tally,
    /// Objects that have another path in the vault. They are among `copied` and `deleted`.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) moved: Tally,
    /// These, by name; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) moved_files: Vec<MovedFile>,
    /// Sent to the vault.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) pushed: Tally,
    /// Deleted in the vault.
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) deleted_in_vault: Tally,
    /// What was deleted there, by name; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) deleted_in_vault_files: Vec<VaultPath>,
    /// Changed on both sides, and merged; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) merged: Vec<VaultPath>,
    /// Changed in the vault and left there by a push; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) diverged: Vec<VaultPath>,
    /// Left where they were though the vault deleted them, because the function is told to.
    pub(crate) retained: Tally,
    /// Left out by the filter.
    pub(crate) skipped: Tally,
    /// The same by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, Tally>"))]
    pub(crate) skipped_reasons: BTreeMap<&'static str, Tally>,
    /// Folders that look like further configuration folders, and were left out.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) other_config_dirs: BTreeSet<String>,
    /// Files with new content that Obsidian runs or applies by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) code: Vec<VaultPath>,
    /// What the time did not suffice for.
    pub(crate) remaining: Tally,
    /// How many changes could not be applied.
    #[serde(skip)]
    pub(crate) failed_files: usize,
    /// The first of them.
    pub(crate) failures: Vec<Failure>,
    /// Those that are not in `failures`.
    pub(crate) failures_unlisted: u64,
    /// Objects that others had written, and where they are kept now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) conflicts: Vec<Conflict>,
    /// What its owner should know though nothing failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
    /// Objects that others had changed, so that they were not removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) kept: Vec<VaultPath>,
    /// Deletions that are not made before somebody confirms them; the first of them.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) held_back: Vec<VaultPath>,
    /// Those that are not in `held_back`.
    pub(crate) held_back_unlisted: u64,
    /// Deletions in the vault that are not made before somebody confirms them; the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) held_back_in_vault: Vec<VaultPath>,
    /// Those that are not in `held_back_in_vault`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) held_back_in_vault_unlisted: u64,
    /// What was removed and not moved, by name; the first of them.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub(crate) deleted_files: Vec<VaultPath>,
    /// The files that changed, in order, if the event asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<Vec<Step>>,
    /// Those that are not in `changes`.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) changes_unlisted: u64,
    /// Requests made of S3.
    pub(crate) s3_requests: u64,
    /// Wall time.
    pub(crate) duration_ms: u64,
    /// How long its stages took.
    #[serde(skip)]
    pub(crate) stages: Stages,
    /// In how many invocations the run got here.
    pub(crate) invocations: u32,
    /// The chain of invocations that it is a step of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) chain: String,
    /// The step's number; the first is 0.
    pub(crate) step: u32,
    /// What follows of it.
    #[serde(skip)]
    pub(crate) follow_up: FollowUp,
    /// A file took all the time, and is not tried again by the next invocation.
    #[serde(skip)]
    pub(crate) is_held_up: bool,
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
                "{} deletions are held back, because there are too many; `obsync confirm {} --state {table}` lets them go",
                report.held_back(),
                shlex::try_quote(&report.destination).unwrap_or(Cow::Borrowed(&report.destination))
            ),
            VaultStatus::Incomplete => format!(
                "the time was over with {} files ({} bytes) left; the next invocation goes on there",
                remaining.files, remaining.bytes
            ),
            VaultStatus::Partial => {
                format!("all but {} changes are applied; those are tried again next time", report.failed())
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
        let error = code.map(|code| Problem::new(code, message.clone()));
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
        self.files() + self.deleted.files + there > 0 || self.version > self.previous_version
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
