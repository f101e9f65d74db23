//! `--follow`: prints what each run of a follower did, and why it waits; waits for a service that is
//! unreachable at the start.

use std::sync::{Arc, Mutex, PoisonError};

use obsync_core::pin::VaultKind;
use obsync_core::{
    Doubt, Failure, FollowOptions, Following, Observer, Outcome, PullError, Report, SystemClock, unseen_time,
};
use obsync_protocol::VaultPath;
use tokio::sync::Notify;

use super::pull::{Brought, PullDocument, doubtful, exit_of, is_doubtful, problem};
use crate::answer::Answer;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::health::Health;
use crate::ui::console::Console;
use crate::ui::{human, pull_report};

/// Prints the reports of a follower as they arrive.
pub(super) struct Teller {
    console: Arc<Console>,
    json: bool,
    encryption: VaultKind,
    /// The command that confirms held-back deletions.
    confirm: String,
    said: Mutex<Said>,
}

/// The last printed state.
#[derive(Default)]
struct Said {
    last: Option<Report>,
    /// Runs that finished or were cut short.
    runs: u64,
    /// Why it is retrying.
    retrying: Option<String>,
    /// Changes that failed.
    failures: Vec<Failure>,
    /// Files whose deletion waits for confirmation.
    held_back: Vec<VaultPath>,
    /// A report could not be printed, and the user was informed.
    is_unprinted: bool,
}

/// The news of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    /// It did something, or is the first.
    is_work: bool,
    /// It has failures that the previous run did not have.
    has_failures: bool,
    /// Other deletions wait than after the previous run.
    is_held_back: bool,
    /// Its status differs from the previous run's.
    is_other_ending: bool,
    /// It does not trust the vault or the destination, for other reasons than the previous run.
    has_doubts: bool,
}

/// The reasons of a run not to trust the vault or the destination.
fn doubts(report: &Report) -> (bool, Option<Doubt>, bool) {
    (report.older_vault.is_some(), report.doubt, report.vault_restored)
}

impl Said {
    /// Records a run.
    fn take(&mut self, report: &Report) -> News {
        let last = self.last.replace(report.clone());
        let before = last.as_ref().map(|last| last.outcome);
        self.runs += 1;
        let held_back: Vec<VaultPath> =
            report.held_back.iter().chain(&report.held_back_in_vault).cloned().collect();
        let news = News {
            is_work: self.runs == 1 || !report.did_nothing(),
            has_failures: !report.failures.is_empty() && report.failures != self.failures,
            is_held_back: !held_back.is_empty() && held_back != self.held_back,
            is_other_ending: before.is_some_and(|before| before != report.outcome),
            has_doubts: is_doubtful(report) && last.as_ref().map(doubts) != Some(doubts(report)),
        };
        // A run that was cut off does not know all of them.
        if report.outcome != Outcome::Interrupted {
            self.failures.clone_from(&report.failures);
            self.held_back = held_back;
        }
        news
    }
}

impl News {
    fn is_any(self) -> bool {
        self.is_work || self.has_failures || self.is_held_back
    }
}

impl Teller {
    pub(super) fn new(console: Arc<Console>, json: bool, encryption: VaultKind, confirm: &str) -> Self {
        Teller { console, json, encryption, confirm: confirm.to_owned(), said: Mutex::default() }
    }

    /// The last run.
    pub(super) fn last(&self) -> Option<Brought> {
        let mut said = self.lock();
        let (is_first, is_unprinted) = (said.runs == 1, said.is_unprinted);
        said.last.take().map(|report| Brought { report, is_first, is_unprinted })
    }

    fn print(&self, report: &Report, news: News) {
        let printed = match self.json {
            true => self.console.json(&self.answer(report)),
            false if !news.is_work => Ok(()),
            false if self.console.is_quiet() => Ok(()),
            false => self.console.result(&pull_report::sentences(report)),
        };
        if let Err(error) = printed {
            self.tell_unprinted(&error);
        }
        let failures = pull_report::failures(report).filter(|_| news.has_failures);
        let held_back = pull_report::held_back(report, &self.confirm).filter(|_| news.is_held_back);
        failures.into_iter().chain(held_back).for_each(|words| self.console.error(&words));
    }

    /// Reports once that reports cannot be printed. The follower continues, because syncing matters more.
    fn tell_unprinted(&self, error: &Failed) {
        if !std::mem::replace(&mut self.lock().is_unprinted, true) {
            let message = &error.message;
            self.console.error(&format!("obsync: {message}; syncing goes on without its reports"));
        }
    }

    fn answer(&self, report: &Report) -> Answer<PullDocument> {
        let exit = exit_of(report);
        let problem = problem(report, exit, &self.confirm, "interrupted");
        let (outcome, report) = (report.outcome.into(), report.clone());
        Answer::new(exit, problem, PullDocument { report, encryption: self.encryption }).with_outcome(outcome)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        // Nothing that can panic runs under the lock.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a vault, and retries until the service is reachable if `is_known` says that the vault is known from
/// an earlier run. At a first contact it returns the error: the address may be wrong. Each failed attempt is
/// recorded.
pub(super) async fn until_reached<T>(
    context: &Context,
    health: &Health,
    look_again: &Notify,
    is_known: impl AsyncFn() -> bool,
    note: impl AsyncFn(&Failed),
    attempt: impl AsyncFn() -> Result<T, Failed>,
) -> Result<T, Failed> {
    let retry = FollowOptions::usual_retry();
    let mut pauses = retry.pauses();
    let mut said = None;
    loop {
        let failed = match attempt().await {
            Err(failed) if failed.exit == Exit::Unreachable && is_known().await => failed,
            result => return result,
        };
        note(&failed).await;
        let (reason, after) = (failed.message, pauses.next().unwrap_or(retry.max_delay));
        if said.as_ref() != Some(&reason) {
            said = Some(reason.clone());
            let next = human::duration(after);
            context.console.error(&format!("obsync: {reason}; trying again, next in {next}"));
        }
        health.following(&Following::Retrying { reason, after });
        tokio::select! {
            () = look_again.notified() => {}
            () = tokio::time::sleep(after) => {}
            // The computer slept, and the network may be another one.
            () = unseen_time(&SystemClock) => pauses = retry.pauses(),
        }
        health.following(&Following::Running);
    }
}

/// Passes news on to two observers.
pub(super) struct Both<'a, A, B>(pub(super) &'a A, pub(super) &'a B);

impl<A: Observer, B: Observer> Observer for Both<'_, A, B> {
    fn following(&self, following: &Following) {
        self.0.following(following);
        self.1.following(following);
    }

    fn ran(&self, report: &Report) {
        self.0.ran(report);
        self.1.ran(report);
    }

    fn failed(&self, error: &PullError) {
        self.0.failed(error);
        self.1.failed(error);
    }
}

impl Observer for Teller {
    fn following(&self, following: &Following) {
        let mut said = self.lock();
        match following {
            Following::Retrying { reason, after } => {
                if said.retrying.as_ref() != Some(reason) {
                    let after = human::duration(*after);
                    self.console.error(&format!("obsync: {reason}; trying again, next in {after}"));
                    said.retrying = Some(reason.clone());
                }
            }
            Following::Waiting => {
                if said.retrying.take().is_some() {
                    self.console.error("obsync: connected again");
                }
            }
            // Usually it is back in a moment.
            Following::Running | Following::Reconnecting { .. } => {}
        }
    }

    fn ran(&self, report: &Report) {
        // The first run reports that it is at work; later ones only what they did, and newly waiting
        // deletions.
        let news = self.lock().take(report);
        // A program gets every status; a person gets the reason.
        if news.is_any() || (self.json && news.is_other_ending) {
            self.print(report, news);
        }
        if news.has_doubts {
            doubtful(report, &self.console).iter().for_each(|words| self.console.error(words));
        }
    }
}
