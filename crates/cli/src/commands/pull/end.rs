//! The end of a run: final output, exit status, and errors.

use obsync_core::pin::VaultKind;
use obsync_core::{Direction, Outcome, Problem, ProblemCode, PullError, Report};
use serde::Serialize;

use super::Brought;
use super::time_limit::TimeLimit;
use crate::answer::Answer;
use crate::args::Pull;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::ui::console::Console;
use crate::ui::{human, pull_report};

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PullDocument {
    #[serde(flatten)]
    pub(in crate::commands) report: Report,
    /// The vault's encryption.
    pub(in crate::commands) encryption: VaultKind,
}

/// The problem that a report leaves, for the record of the last run.
pub(super) fn left_to_do(report: &Report) -> Option<Problem> {
    problem(report, exit_of(report), "obsync confirm", "interrupted")
}

/// The exit of a cancelled follower: its normal end unless a report could not be printed, or not even its
/// first run finished. Everything else was printed already.
pub(super) fn follower_stopped(brought: &Brought, context: &Context, limit: &TimeLimit) -> Exit {
    let is_cut_short = brought.is_first && brought.report.outcome == Outcome::Interrupted;
    if is_cut_short {
        context.console.error(&cut_short(limit));
    }
    match (brought.is_unprinted, is_cut_short) {
        (true, _) => Exit::Error,
        (false, true) => Exit::Unfinished,
        (false, false) => Exit::Done,
    }
}

/// The message about a run that was cut short.
fn cut_short(limit: &TimeLimit) -> String {
    let cause = limit.cause();
    format!("obsync: {cause}; pulled files are kept, and the next run continues from here")
}

/// The message about a dry run that was cut short. Its plan is not printed, because it could be mistaken for
/// a complete one.
fn plan_cut_short(limit: &TimeLimit) -> String {
    format!("obsync: {}; nothing was done, and the plan is not complete", limit.cause())
}

/// Prints the result. The report goes to standard output; anything that needs the user's attention goes to
/// standard error, also with `-q`.
pub(super) fn conclude(
    document: PullDocument,
    confirm: &str,
    options: &Pull,
    context: &Context,
    limit: &TimeLimit,
) -> Result<Exit, Failed> {
    let report = &document.report;
    let exit = exit_of(report);
    let problem = problem(report, exit, confirm, &limit.cause());
    if options.dry_run && report.outcome == Outcome::Interrupted {
        if options.json {
            let outcome = report.outcome.into();
            context.console.answer(&Answer::new(exit, problem, document).with_outcome(outcome))?;
        }
        context.console.error(&plan_cut_short(limit));
        return Ok(exit);
    }
    let mut words = Vec::new();
    words.extend(pull_report::failures(report));
    words.extend(pull_report::held_back(report, confirm));
    words.extend(pull_report::not_taken_back(report));
    words.extend(doubtful(report, &context.console));
    if report.outcome == Outcome::Interrupted {
        words.push(cut_short(limit));
    }
    // The output before it can be long.
    let has_summary_last = !options.json && report.outcome == Outcome::DryRun;
    let summary = pull_report::sentences(report);
    if options.json {
        let outcome = report.outcome.into();
        context.console.answer(&Answer::new(exit, problem, document).with_outcome(outcome))?;
    } else if !has_summary_last {
        context.say(&summary)?;
    }
    words.iter().for_each(|words| context.console.error(words));
    if has_summary_last {
        // It is the requested result, so also with -q.
        context.console.result(&summary)?;
    }
    Ok(exit)
}

/// True if a run does not trust the vault or the destination.
pub(in crate::commands) fn is_doubtful(report: &Report) -> bool {
    report.older_vault.is_some() || report.doubt.is_some() || report.vault_restored
}

/// The warnings of such a run with `-q`, which otherwise suppresses them.
pub(in crate::commands) fn doubtful(report: &Report, console: &Console) -> Vec<String> {
    match is_doubtful(report) && console.is_quiet() {
        true => report.warnings.iter().map(|warning| format!("obsync: {warning}")).collect(),
        false => Vec::new(),
    }
}

pub(in crate::commands) fn exit_of(report: &Report) -> Exit {
    match report.outcome {
        Outcome::DryRun if report.older_vault.is_some() => Exit::VaultOlder,
        Outcome::Complete | Outcome::DryRun => Exit::Done,
        Outcome::Failures => Exit::Failures,
        Outcome::HeldBack => Exit::HeldBack,
        Outcome::VaultOlder => Exit::VaultOlder,
        Outcome::Interrupted => Exit::Unfinished,
    }
}

/// The problem that a finished pull leaves, for scripts and for the record of the last run.
pub(in crate::commands) fn problem(
    report: &Report,
    exit: Exit,
    confirm: &str,
    cause: &str,
) -> Option<Problem> {
    let problem = match exit {
        Exit::Failures => {
            let sentence = pull_report::could_not(report.failed(), report.direction);
            let problem = Problem::new(ProblemCode::Failures, sentence);
            match (report.has_lasting_failures, report.direction) {
                (false, _) => problem,
                (true, Direction::Push) => problem.lasting().with_hint(
                    "`obsync sync` with --accept-failures accepts entries that can never be stored there",
                ),
                (true, _) => problem
                    .lasting()
                    .with_hint("--accept-failures accepts entries that can never be stored there"),
            }
        }
        Exit::HeldBack if report.held_back() == 0 => {
            let count = human::counted(report.not_taken_back(), "file", "files");
            let message =
                format!("{count} changed or added here and not reverted, because there are too many");
            Problem::new(ProblemCode::HeldBack, message).with_hint("--max-delete none reverts them")
        }
        Exit::HeldBack => {
            let count = human::counted(report.held_back(), "deletion", "deletions");
            let message = format!("{count} held back, because there are too many");
            Problem::new(ProblemCode::HeldBack, message).with_hint(format!("`{confirm}`"))
        }
        Exit::VaultOlder => {
            let message = "the vault on the server is older than the destination; nothing was removed";
            Problem::new(ProblemCode::VaultOlder, message)
        }
        Exit::Unfinished => Problem::new(ProblemCode::Interrupted, cause),
        _ => return None,
    };
    Some(problem)
}

/// A pull that could not continue: cut off after its beginning, refused before that.
pub(super) fn failed(error: PullError, connected: bool) -> Failed {
    match error {
        PullError::Client(error) => match Failed::from(error) {
            Failed { exit: Exit::Unreachable, message, code, .. } if connected => {
                let message =
                    format!("{message}; pulled files are kept, and the next run continues from there");
                Failed::new(Exit::Unfinished, message).coded(code)
            }
            failed => failed,
        },
        PullError::State(error) => error.into(),
        PullError::Store(error) => error.into(),
        other => Failed::of(Exit::Error, &other).coded(ProblemCode::from(&other)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use obsync_client::ClientError;
    use obsync_core::DestinationError;

    use super::*;

    #[test]
    fn the_same_trouble_is_refused_before_and_unfinished_after_the_pull_has_begun() {
        let lost =
            || PullError::Client(ClientError::TimedOut { what: "an answer", after: Duration::from_secs(60) });
        assert_eq!(failed(lost(), false).exit, Exit::Unreachable);
        assert_eq!(failed(lost(), true).exit, Exit::Unfinished);
        let expired = PullError::Client(ClientError::SubscriptionExpired);
        assert_eq!(failed(expired, true).exit, Exit::SignIn);
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let full = failed(PullError::Store(DestinationError::Full { location: "notes".to_owned() }), true);
        assert_eq!(full.exit, Exit::Error);
        assert_eq!(
            full.message,
            "notes is full; free some space and run the same command again, it goes on where it stopped"
        );
    }
}
