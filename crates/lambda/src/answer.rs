//! What the function answers: one shape for every kind of event, and the failures of an invocation.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use lambda_runtime::Diagnostic;
use obsync_core::{
    Conflict, Direction, Doubt, Ending, Failure, MovedFile, Outcome, Problem, ProblemCode, Report,
    SCHEMA_VERSION, Tally,
};
use obsync_dynamodb::TableName;
use obsync_protocol::{VaultPath, escaped, escaped_json};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::closing::Stages;

/// How many paths of a kind are listed for a vault; Lambda takes answers of 6 MB.
pub(crate) const MOST_LISTED: usize = 100;

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
    /// The word for it.
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

    /// The word that the command line has for it.
    fn outcome(self) -> Ending {
        match self {
            VaultStatus::Complete => Ending::Complete,
            VaultStatus::Partial => Ending::Failures,
            VaultStatus::Incomplete => Ending::Interrupted,
            VaultStatus::Skipped => Ending::Skipped,
            VaultStatus::Superseded => Ending::Superseded,
            VaultStatus::Failed => Ending::Failed,
        }
    }

    /// The code where nothing more precise is known.
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

/// What follows of the work on a vault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// Nothing.
    #[default]
    Nothing,
    /// The vault's turn did not come.
    SameStep,
    /// It was handed on to this step.
    Step(u32),
    /// An invocation for that was asked for.
    Sent,
    /// The chain ended with work left.
    Ended(&'static str),
}

impl VaultReport {
    /// A report in which nothing was done.
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

    /// The report of a pull that came to its end, with what was left to do then.
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
            duration_ms: report.duration_ms,
            ..VaultReport::nothing(report.vault_id.as_str(), &report.vault, status, message)
        }
    }

    /// The same with a more precise code of what went wrong.
    pub(crate) fn coded(self, code: ProblemCode) -> Self {
        let error = self.error.map(|error| Problem::new(code, error.message));
        VaultReport { error, ..self }
    }

    /// Files that are in place because of this run.
    pub(crate) fn files(&self) -> u64 {
        self.pulled.files + self.copied.files + self.adopted.files
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.pulled.bytes + self.copied.bytes + self.adopted.bytes
    }

    /// Whether another invocation was asked to go on with it.
    pub(crate) fn goes_on(&self) -> bool {
        self.follow_up == FollowUp::Sent
    }

    /// Whether anything came of it.
    pub(crate) fn is_progress(&self) -> bool {
        let there = self.pushed.files + self.deleted_in_vault.files;
        self.files() + self.deleted.files + there > 0 || self.version > self.previous_version
    }
}

/// Whether there is nothing to count.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
pub(crate) fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// Whether there is nothing of it.
fn is_none(tally: &Tally) -> bool {
    *tally == Tally::default()
}

fn first<T>(mut list: Vec<T>) -> Vec<T> {
    list.truncate(MOST_LISTED);
    list
}

/// What an invocation did for one event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Answer {
    /// The version of the contract (docs/JSON.md).
    pub(crate) schema_version: u32,
    /// How it ended, in the words of the command line.
    pub(crate) outcome: Ending,
    /// The exit status of a command that ends so.
    pub(crate) exit_code: u8,
    /// What went wrong with the first vault that ended so, or with one that failed; null if all are done.
    pub(crate) error: Option<Problem>,
    /// Nothing failed. What is left to do is no failure.
    pub(crate) success: bool,
    /// `complete`, `incomplete`, `partial`, `skipped`, `superseded`, `failed`; `queued`; `ok` for the action `status`; `ignored`.
    pub(crate) status: &'static str,
    /// The same in a sentence.
    pub(crate) message: String,
    /// Vaults that are complete now.
    pub(crate) vaults_synced: usize,
    /// Files that are in place because of this invocation.
    pub(crate) files_count: u64,
    /// What went wrong, a sentence each.
    pub(crate) errors: Vec<String>,
    /// The circumstances: an object that is open, unlike all others.
    pub(crate) metadata: Value,
    /// A report for each vault.
    #[cfg_attr(test, schemars(with = "Vec<crate::schemas::VaultAnswer>"))]
    pub(crate) vaults: Vec<Value>,
    /// Another attempt would end as this one did.
    #[serde(skip)]
    pub(crate) is_final: bool,
    /// The error is one of a bucket or the table.
    #[serde(skip)]
    pub(crate) is_of_place: bool,
}

impl Answer {
    /// The answer to a sync, of its reports.
    pub(crate) fn of_sync(reports: &[VaultReport]) -> Self {
        let count = |status| reports.iter().filter(|report| report.status == status).count();
        let [complete, partial, incomplete, skipped, superseded, failed] = [
            VaultStatus::Complete,
            VaultStatus::Partial,
            VaultStatus::Incomplete,
            VaultStatus::Skipped,
            VaultStatus::Superseded,
            VaultStatus::Failed,
        ]
        .map(count);
        let status = match reports.len() {
            0 => "complete",
            all if failed == all => "failed",
            all if superseded == all => "superseded",
            all if skipped + superseded == all => "skipped",
            _ if failed + partial > 0 => "partial",
            _ if incomplete > 0 => "incomplete",
            _ => "complete",
        };
        let counts = [
            (complete, "complete"),
            (partial, "with failures"),
            (incomplete, "incomplete"),
            (skipped, "skipped, as another run works on it"),
            (superseded, "superseded by another invocation"),
            (failed, "failed"),
        ];
        let counted: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let message = match counted.is_empty() {
            true => "there is no vault that there are credentials for".to_owned(),
            false => format!("vaults: {}", counted.join(", ")),
        };
        let worst = match status {
            "failed" => Ending::Failed,
            "skipped" => Ending::Skipped,
            "superseded" => Ending::Superseded,
            "partial" => worst(reports),
            "incomplete" => Ending::Interrupted,
            _ => Ending::Complete,
        };
        let outcome = match worst {
            Ending::Failed if status == "partial" => Ending::Failures,
            worst => worst,
        };
        let wrong = |report: &&VaultReport| report.error.is_some();
        let mut of_worst = reports.iter().filter(|report| report.outcome == worst);
        let wrong = of_worst.find(wrong).or_else(|| reports.iter().find(wrong));
        let errors = reports
            .iter()
            .filter(|report| matches!(report.status, VaultStatus::Failed | VaultStatus::Partial))
            .map(|report| format!("{}: {}", report.vault_id, report.message));
        Answer {
            schema_version: SCHEMA_VERSION,
            outcome,
            exit_code: 0,
            error: wrong
                .and_then(|report| report.error.clone())
                .filter(|_| !matches!(outcome, Ending::Complete | Ending::Superseded)),
            is_of_place: wrong.is_some_and(|report| report.is_of_place),
            success: failed + partial == 0,
            status,
            message,
            vaults_synced: complete,
            files_count: reports.iter().map(VaultReport::files).sum(),
            errors: errors.collect(),
            metadata: Value::Null,
            vaults: reports.iter().map(|report| serde_json::to_value(report).unwrap_or_default()).collect(),
            is_final: reports.iter().all(|report| report.is_final),
        }
    }

    /// The same where so many vaults were handed to the queue, besides those of the reports.
    pub(crate) fn with_queued(mut self, queued: usize) -> Self {
        if queued == 0 {
            return self;
        }
        let sentence = format!("{queued} vaults are in the queue, a message each");
        (self.status, self.message) = match self.vaults.is_empty() {
            true => ("queued", sentence),
            false if self.status == "failed" => ("partial", format!("{sentence}; {}", self.message)),
            false => (self.status, format!("{sentence}; {}", self.message)),
        };
        if self.outcome == Ending::Failed {
            self.outcome = Ending::Failures;
        }
        self
    }

    /// The answer to the question how things are.
    pub(crate) fn of_status(vaults: Vec<Value>) -> Self {
        Answer {
            schema_version: SCHEMA_VERSION,
            outcome: Ending::Complete,
            exit_code: 0,
            error: None,
            success: true,
            status: "ok",
            message: format!("{} vaults", vaults.len()),
            vaults_synced: 0,
            files_count: 0,
            errors: Vec::new(),
            metadata: Value::Null,
            vaults,
            is_final: false,
            is_of_place: false,
        }
    }

    /// The answer to an event that is no request.
    pub(crate) fn of_nothing(reason: &str) -> Self {
        Answer { status: "ignored", message: reason.to_owned(), ..Answer::of_status(Vec::new()) }
    }

    /// The answer as JSON.
    pub(crate) fn json(&self) -> Value {
        let code = self.error.as_ref().map(|error| error.code).filter(|_| !self.is_of_place);
        let answer = Answer { exit_code: exit_code(self.outcome, code), ..self.clone() };
        serde_json::to_value(answer).unwrap_or_default()
    }
}

/// How the vault ended that is worst off, where one at least is not complete.
fn worst(reports: &[VaultReport]) -> Ending {
    let is_any = |ending: &Ending| reports.iter().any(|report| report.outcome == *ending);
    let order = [Ending::Failed, Ending::Interrupted, Ending::VaultOlder, Ending::HeldBack];
    order.into_iter().find(is_any).unwrap_or(Ending::Failures)
}

/// The exit status of a command that ends so.
fn exit_code(outcome: Ending, code: Option<ProblemCode>) -> u8 {
    match outcome {
        Ending::Complete | Ending::DryRun | Ending::Superseded => 0,
        Ending::Failures => 5,
        Ending::Interrupted => 6,
        Ending::Skipped => 7,
        Ending::HeldBack => 9,
        Ending::TooOld => 10,
        Ending::VaultOlder => 11,
        Ending::Failed => code.map_or(1, exit_code_of_failure),
    }
}

fn exit_code_of_failure(code: ProblemCode) -> u8 {
    match code {
        ProblemCode::Usage => 2,
        ProblemCode::NotSignedIn
        | ProblemCode::SignIn
        | ProblemCode::SubscriptionExpired
        | ProblemCode::VaultPassword
        | ProblemCode::EncryptionChanged => 3,
        ProblemCode::VaultNotFound | ProblemCode::VaultAmbiguous | ProblemCode::DestinationUnknown => 4,
        ProblemCode::Unreachable
        | ProblemCode::TimedOut
        | ProblemCode::Overloaded
        | ProblemCode::Certificate
        | ProblemCode::Proxy
        | ProblemCode::NotTheService
        | ProblemCode::HostNotAllowed => 8,
        _ => 1,
    }
}

/// An invocation that failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// What kind of failure it is, as alarms and logs see it.
    pub kind: &'static str,
    /// The code for scripts.
    pub(crate) code: ProblemCode,
    /// The bucket or the table is to blame.
    pub(crate) is_of_place: bool,
    /// What went wrong and what to do.
    pub message: String,
}

impl InvocationError {
    /// A failure of a kind, with the code that is usual for it.
    pub(crate) fn new(kind: &'static str, error: impl ToString) -> Self {
        let code = match kind {
            "InvalidEvent" => ProblemCode::Usage,
            "VaultNotFound" => ProblemCode::VaultNotFound,
            "TimeOver" => ProblemCode::TimedOut,
            "StateUnavailable" => ProblemCode::State,
            _ => ProblemCode::Error,
        };
        let is_of_place = kind == "StateUnavailable";
        InvocationError { kind, code, is_of_place, message: error.to_string() }
    }

    /// The same with a more precise code.
    pub(crate) fn coded(self, code: ProblemCode) -> Self {
        InvocationError { code, ..self }
    }

    /// What went wrong, for scripts.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.code, self.message.clone())
    }

    /// The failure that an answer is in which nothing succeeded; else the answer.
    pub(crate) fn unless_any_success(answer: Answer) -> Result<Answer, Self> {
        match answer.status {
            "failed" if !answer.is_final => {
                let code = answer.error.as_ref().map_or(ProblemCode::Error, |error| error.code);
                let failed = InvocationError::new("SyncFailed", answer.errors.join("; ")).coded(code);
                Err(InvocationError { is_of_place: answer.is_of_place, ..failed })
            }
            _ => Ok(answer),
        }
    }

    /// The answer for scripts: an answer of which nothing came.
    fn body(&self) -> Value {
        let answer = Answer {
            outcome: Ending::Failed,
            error: Some(self.problem()),
            success: false,
            status: "failed",
            errors: vec![self.message.clone()],
            is_of_place: self.is_of_place,
            ..Answer::of_nothing(&self.message)
        };
        answer.json()
    }

    /// The answer to someone who speaks HTTP, where a failed invocation could not say why.
    pub(crate) fn http(&self) -> Value {
        let status = match self.kind {
            "InvalidEvent" => 400,
            "VaultNotFound" => 404,
            _ => 500,
        };
        http_answer(status, &self.body())
    }
}

impl From<InvocationError> for Diagnostic {
    fn from(error: InvocationError) -> Self {
        Diagnostic { error_type: error.kind.to_owned(), error_message: escaped(&error.message).into_owned() }
    }
}

/// The same document for whoever parses it, and harmless for whoever prints it: names of the vault are in it.
pub(crate) fn harmless(answer: &Value) -> Box<RawValue> {
    let text = answer.to_string();
    let escaped = escaped_json(&text).into_owned();
    // It is JSON with some of its characters written otherwise.
    RawValue::from_string(escaped).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An answer for a function URL or API Gateway.
pub(crate) fn http_answer(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": { "content-type": "application/json", "cache-control": "no-store" },
        "body": escaped_json(&body.to_string()),
        "isBase64Encoded": false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_draws_on_no_terminal_and_says_the_same() {
        let evil = "Notes\u{202e}gpj.\u{9b}31m\u{2066}\u{85}";
        let harmless = super::harmless(&json!({ "name": evil }));
        assert!(harmless.get().is_ascii(), "{harmless}");
        assert_eq!(serde_json::from_str::<Value>(harmless.get()).unwrap()["name"], evil);
        let http = http_answer(200, &json!({ "name": evil }));
        assert!(http["body"].as_str().unwrap().is_ascii(), "{http}");
        let error = Diagnostic::from(InvocationError::new("SyncFailed", evil));
        assert!(error.error_message.is_ascii(), "{error:?}");
    }

    fn report(id: &str, status: VaultStatus) -> VaultReport {
        VaultReport::nothing(id, "Notes", status, format!("{id} is {status:?}"))
    }

    fn status(statuses: &[VaultStatus]) -> (&'static str, bool) {
        let reports: Vec<VaultReport> = statuses.iter().map(|status| report("v", *status)).collect();
        let answer = Answer::of_sync(&reports);
        (answer.status, answer.success)
    }

    #[test]
    fn an_answer_has_the_exit_status_of_a_command_that_ends_so() {
        let of = |report: VaultReport| {
            let answer = Answer::of_sync(&[report]).json();
            (answer["outcome"].as_str().unwrap().to_owned(), answer["exit_code"].as_u64().unwrap())
        };
        let is = |outcome: &str, exit_code: u64| (outcome.to_owned(), exit_code);
        assert_eq!(of(report("a", VaultStatus::Complete)), is("complete", 0));
        assert_eq!(of(report("a", VaultStatus::Partial)), is("failures", 5));
        assert_eq!(of(report("a", VaultStatus::Incomplete)), is("interrupted", 6));
        assert_eq!(of(report("a", VaultStatus::Skipped)), is("skipped", 7));
        let held_back = VaultReport { outcome: Ending::HeldBack, ..report("a", VaultStatus::Partial) }
            .coded(ProblemCode::HeldBack);
        assert_eq!(of(held_back), is("held_back", 9));
        let older = VaultReport { outcome: Ending::VaultOlder, ..report("a", VaultStatus::Partial) }
            .coded(ProblemCode::VaultOlder);
        assert_eq!(of(older), is("vault_older", 11));
        let failed = |code| report("a", VaultStatus::Failed).coded(code);
        assert_eq!(of(failed(ProblemCode::NotSignedIn)), is("failed", 3));
        assert_eq!(of(failed(ProblemCode::VaultAmbiguous)), is("failed", 4));
        assert_eq!(of(failed(ProblemCode::Unreachable)), is("failed", 8));
        assert_eq!(of(failed(ProblemCode::State)), is("failed", 1));
    }

    #[test]
    fn of_several_vaults_the_answer_has_the_ending_and_the_error_of_the_worst() {
        use ProblemCode::{Failures, HeldBack, Interrupted, Unreachable, VaultOlder};
        let ended = |code: ProblemCode| match code {
            Interrupted => report("v", VaultStatus::Incomplete),
            Unreachable => report("v", VaultStatus::Failed).coded(code),
            HeldBack => {
                VaultReport { outcome: Ending::HeldBack, ..report("v", VaultStatus::Partial) }.coded(code)
            }
            VaultOlder => {
                VaultReport { outcome: Ending::VaultOlder, ..report("v", VaultStatus::Partial) }.coded(code)
            }
            _ => report("v", VaultStatus::Partial),
        };
        let order = [
            (Failures, "failures", 5),
            (HeldBack, "held_back", 9),
            (VaultOlder, "vault_older", 11),
            (Interrupted, "interrupted", 6),
            (Unreachable, "failures", 5),
        ];
        for (place, (code, outcome, exit_code)) in order.into_iter().enumerate() {
            let mut reports = vec![report("done", VaultStatus::Complete)];
            reports.extend(order[..=place].iter().map(|(code, ..)| ended(*code)));
            let answer = Answer::of_sync(&reports).json();
            assert_eq!(
                (&answer["outcome"], &answer["exit_code"], &answer["error"]["code"]),
                (&json!(outcome), &json!(exit_code), &json!(code)),
                "{answer:#}"
            );
        }
    }

    #[test]
    fn the_whole_is_what_its_worst_part_is_unless_all_failed() {
        use VaultStatus::{Complete, Failed, Incomplete, Partial, Skipped, Superseded};
        assert_eq!(status(&[]), ("complete", true));
        assert_eq!(status(&[Complete, Complete]), ("complete", true));
        assert_eq!(status(&[Complete, Skipped]), ("complete", true));
        assert_eq!(status(&[Skipped]), ("skipped", true));
        assert_eq!(status(&[Superseded]), ("superseded", true));
        assert_eq!(status(&[Superseded, Skipped]), ("skipped", true));
        assert_eq!(status(&[Superseded, Complete]), ("complete", true));
        assert_eq!(status(&[Complete, Incomplete]), ("incomplete", true));
        assert_eq!(status(&[Partial, Incomplete]), ("partial", false));
        assert_eq!(status(&[Complete, Failed]), ("partial", false));
        assert_eq!(status(&[Failed, Failed]), ("failed", false));
    }

    #[test]
    fn a_total_failure_is_a_failed_invocation_and_a_partial_one_is_not() {
        let total = Answer::of_sync(&[report("a", VaultStatus::Failed), report("b", VaultStatus::Failed)]);
        let error = InvocationError::unless_any_success(total).unwrap_err();
        assert_eq!(error.kind, "SyncFailed");
        assert_eq!(error.message, "a: a is Failed; b: b is Failed");
        let partial =
            Answer::of_sync(&[report("a", VaultStatus::Failed), report("b", VaultStatus::Complete)]);
        let answer = InvocationError::unless_any_success(partial).unwrap();
        assert_eq!(answer.errors, ["a: a is Failed"]);
        assert_eq!(answer.vaults_synced, 1);
    }

    #[test]
    fn an_answer_has_every_field() {
        let json = Answer::of_sync(&[report("a", VaultStatus::Complete)]).json();
        for name in
            ["success", "status", "message", "vaults_synced", "files_count", "errors", "metadata", "vaults"]
        {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["vaults"][0]["status"], "complete");
    }

    #[test]
    fn who_speaks_http_is_told_whose_fault_it_is() {
        for (kind, status) in [("SyncFailed", 500), ("InvalidEvent", 400), ("VaultNotFound", 404)] {
            assert_eq!(InvocationError::new(kind, "no").http()["statusCode"], json!(status), "{kind}");
        }
    }
}
