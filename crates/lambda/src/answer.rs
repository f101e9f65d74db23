//! The function's answers: one shape for every kind of event, and the failures of an invocation.

use lambda_runtime::Diagnostic;
use obsync_core::{Ending, Problem, ProblemCode, SCHEMA_VERSION};
use obsync_protocol::{escaped, escaped_json};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::vault_report::{VaultReport, VaultStatus};

/// The answer of an invocation to one event.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Answer {
    /// The version of the contract (docs/JSON.md).
    pub(crate) schema_version: u32,
    /// The outcome, with the values of the command line.
    pub(crate) outcome: Ending,
    /// The exit status of a command with this outcome.
    pub(crate) exit_code: u8,
    /// The problem of the vault with the worst outcome; null if all vaults are complete.
    pub(crate) error: Option<Problem>,
    /// True if nothing failed. Remaining work is not a failure.
    pub(crate) success: bool,
    /// `complete`, `incomplete`, `partial`, `skipped`, `superseded`, `failed`; `queued`; `ok` for the action `status`; `ignored`.
    pub(crate) status: &'static str,
    /// The result, in a sentence.
    pub(crate) message: String,
    /// Number of vaults that are complete now.
    pub(crate) vaults_synced: usize,
    /// Number of files that this invocation put in place.
    pub(crate) files_count: u64,
    /// The errors, one sentence each.
    pub(crate) errors: Vec<String>,
    /// Metadata of the invocation: an open object, unlike all others.
    pub(crate) metadata: Value,
    /// One report for each vault.
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
        let lasts = |report: &&VaultReport| report.error.as_ref().is_some_and(|error| !error.retryable);
        let of_worst = || reports.iter().filter(|report| report.outcome == worst);
        // As long as one of them lasts, no repetition of this event succeeds.
        let wrong =
            of_worst().find(lasts).or_else(|| of_worst().find(wrong)).or_else(|| reports.iter().find(wrong));
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

    /// The same, with the number of vaults put into the queue besides those of the reports.
    /// `last_round_waits`: none was, because the messages of the last round are still there.
    pub(crate) fn with_queued(mut self, queued: usize, last_round_waits: bool) -> Self {
        let sentence = match (queued, last_round_waits) {
            (_, true) => "the messages of the last round still wait in the queue; none is added".to_owned(),
            (0, false) => return self,
            (queued, false) => format!("{queued} vaults are in the queue, a message each"),
        };
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

    /// The answer to a status request.
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

    pub(crate) fn json(&self) -> Value {
        let code = self.error.as_ref().map(|error| error.code).filter(|_| !self.is_of_place);
        let answer = Answer { exit_code: exit_code(self.outcome, code), ..self.clone() };
        serde_json::to_value(answer).unwrap_or_default()
    }
}

/// The worst outcome of the vaults; `None` if all are complete.
fn worst(reports: &[VaultReport]) -> Ending {
    let is_any = |ending: &Ending| reports.iter().any(|report| report.outcome == *ending);
    let order = [Ending::Failed, Ending::Interrupted, Ending::VaultOlder, Ending::HeldBack];
    order.into_iter().find(is_any).unwrap_or(Ending::Failures)
}

/// The exit status of a command with this outcome.
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
    /// The kind of failure, for alarms and logs.
    pub kind: &'static str,
    /// The code for scripts.
    pub(crate) code: ProblemCode,
    /// The bucket or the table is the cause.
    pub(crate) is_of_place: bool,
    /// The cause and the remedy.
    pub message: String,
}

impl InvocationError {
    /// A failure of a kind, with its default code.
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

    /// The error for scripts.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(self.code, self.message.clone())
    }

    /// The failure of an answer in which nothing succeeded; otherwise the answer.
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

    /// The failure as an answer without results, for scripts.
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

    /// The answer to an HTTP client, since a failed invocation could not give the reason.
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

/// The same document for parsers, and safe to print: it contains names from the vault.
pub(crate) fn harmless(answer: &Value) -> Box<RawValue> {
    let text = answer.to_string();
    let escaped = escaped_json(&text).into_owned();
    // It is JSON with some of its characters escaped.
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
    fn of_several_vaults_that_ended_alike_the_answer_has_the_error_that_no_repetition_resolves() {
        let passing = |name| report(name, VaultStatus::Partial);
        let lasting = |name| {
            let report = report(name, VaultStatus::Partial);
            VaultReport { error: report.error.map(Problem::lasting), ..report }
        };
        let retryable = |reports: &[VaultReport]| Answer::of_sync(reports).error.unwrap().retryable;
        assert!(retryable(&[passing("a"), passing("b")]));
        assert!(!retryable(&[passing("a"), lasting("b")]));
        assert!(!retryable(&[lasting("a"), passing("b")]));
        let of = |code| report("v", VaultStatus::Failed).coded(code);
        let answer = Answer::of_sync(&[of(ProblemCode::Unreachable), of(ProblemCode::VaultNotFound)]);
        assert_eq!(answer.error.unwrap().code, ProblemCode::VaultNotFound);
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
