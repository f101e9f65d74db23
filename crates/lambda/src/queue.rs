//! Messages of an SQS queue: one vault a message, each answered for by itself.
//!
//! The answer names the messages that are to come again (`batchItemFailures`): those that failed, those whose
//! vault was not finished in the time there was, and those that another run kept from being served. Messages
//! that differ in nothing but the vault are served together.

use serde_json::{Value, json};

use crate::answer::{InvocationError, VaultReport, VaultStatus};
use crate::event::{Action, Message, SyncRequest};

/// What came of serving a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synced {
    /// A report for each vault.
    pub(crate) reports: Vec<VaultReport>,
    /// Another invocation was started for what is left.
    pub(crate) goes_on: bool,
    /// What whoever asked should know besides.
    pub(crate) notice: Option<String>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done with.
    Served,
    /// It is to come again.
    Again,
    /// It failed, and is to come again.
    Failed,
}

/// Messages that are served together: what is asked for, and the number of each message with what it asks for
/// itself.
struct Batch {
    request: SyncRequest,
    members: Vec<(usize, SyncRequest)>,
}

/// Serves messages by `sync`, and says which are to come again.
///
/// # Errors
/// When every message failed: then the invocation has.
pub(crate) async fn answer(
    messages: Vec<Message>,
    sync: impl AsyncFn(&SyncRequest) -> Result<Synced, InvocationError>,
) -> Result<Value, InvocationError> {
    let mut fates = vec![Fate::Failed; messages.len()];
    let (batches, mut reasons) = batches(&messages);
    for Batch { request, members } in batches {
        match sync(&request).await {
            Ok(synced) => {
                let failed = synced.reports.iter().filter(|report| report.status == VaultStatus::Failed);
                reasons.extend(failed.map(|report| format!("{}: {}", report.vault_id, report.message)));
                for (index, own) in members {
                    if let Some(fate) = fates.get_mut(index) {
                        *fate = fate_of(&own, &synced);
                    }
                }
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if !fates.is_empty() && fates.iter().all(|fate| *fate == Fate::Failed) {
        return Err(InvocationError::new("SyncFailed", reasons.join("; ")));
    }
    reasons
        .iter()
        .for_each(|reason| tracing::error!(reason, "a message could not be served; it comes again"));
    let again = messages.iter().zip(&fates).filter(|(_, fate)| **fate != Fate::Served);
    let again: Vec<Value> = again.map(|(message, _)| json!({ "itemIdentifier": message.id })).collect();
    Ok(json!({ "batchItemFailures": again }))
}

/// What is to be served together, and why some messages cannot be served at all.
fn batches(messages: &[Message]) -> (Vec<Batch>, Vec<String>) {
    let mut batches: Vec<Batch> = Vec::new();
    let mut reasons = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let own = match &message.action {
            Ok(Action::Sync(request)) => request.clone(),
            Ok(Action::Status { .. }) => {
                reasons.push(format!("message {}: nobody would read the answer to a status", message.id));
                continue;
            }
            Err(error) => {
                reasons.push(format!("message {}: {error}", message.id));
                continue;
            }
        };
        match batches.iter_mut().find(|batch| go_together(&batch.request, &own)) {
            Some(batch) => {
                batch.request.vaults.extend(own.vaults.iter().cloned());
                batch.members.push((index, own));
            }
            None => batches.push(Batch { request: own.clone(), members: vec![(index, own)] }),
        }
    }
    (batches, reasons)
}

/// Whether two requests differ in nothing but the vaults. One for every vault goes with its like only.
fn go_together(one: &SyncRequest, other: &SyncRequest) -> bool {
    one.vaults.is_empty() == other.vaults.is_empty()
        && SyncRequest { vaults: other.vaults.clone(), ..one.clone() } == *other
}

/// What becomes of a message, by the reports on the vaults that it names.
fn fate_of(request: &SyncRequest, synced: &Synced) -> Fate {
    let is_meant = |report: &&VaultReport| {
        request.vaults.is_empty()
            || request.vaults.contains(&report.vault_id)
            || request.vaults.contains(&report.name)
    };
    let statuses: Vec<VaultStatus> =
        synced.reports.iter().filter(is_meant).map(|report| report.status).collect();
    let has = |status: VaultStatus| statuses.contains(&status);
    if has(VaultStatus::Failed) || (statuses.is_empty() && !request.vaults.is_empty()) {
        Fate::Failed
    } else if (has(VaultStatus::Incomplete) && !synced.goes_on) || has(VaultStatus::Skipped) {
        Fate::Again
    } else {
        Fate::Served
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::event::EventError;

    fn message(id: &str, vault: &str) -> Message {
        let vaults = [vault].into_iter().filter(|vault| !vault.is_empty()).map(str::to_owned).collect();
        Message {
            id: id.to_owned(),
            action: Ok(Action::Sync(SyncRequest { vaults, ..SyncRequest::default() })),
        }
    }

    fn report(vault: &str, status: VaultStatus) -> VaultReport {
        VaultReport::nothing(vault, &format!("name of {vault}"), status, "why".to_owned())
    }

    async fn serve(
        messages: Vec<Message>,
        reports: Vec<VaultReport>,
    ) -> (Result<Value, InvocationError>, usize) {
        let calls = RefCell::new(0);
        let result = answer(messages, async |_: &SyncRequest| {
            *calls.borrow_mut() += 1;
            Ok(Synced { reports: reports.clone(), goes_on: false, notice: None })
        })
        .await;
        (result, calls.into_inner())
    }

    fn ids(answer: &Value) -> Vec<&str> {
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn only_what_was_not_served_comes_again() {
        let messages = ["a", "b", "name of c", "d", "a"].iter().enumerate();
        let mut messages: Vec<Message> =
            messages.map(|(index, vault)| message(&format!("m{index}"), vault)).collect();
        messages.push(Message { id: "m5".to_owned(), action: Err(EventError::NoAction) });
        let reports = vec![
            report("a", VaultStatus::Complete),
            report("b", VaultStatus::Failed),
            report("c", VaultStatus::Incomplete),
            report("d", VaultStatus::Skipped),
        ];
        let (answer, calls) = serve(messages, reports).await;
        assert_eq!(ids(&answer.unwrap()), ["m1", "m2", "m3", "m5"]);
        assert_eq!(calls, 1, "messages that differ in the vault only are served together");
    }

    #[tokio::test]
    async fn a_batch_that_failed_as_a_whole_is_a_failed_invocation() {
        let failed = vec![report("a", VaultStatus::Failed)];
        let (answer, _) = serve(vec![message("m", "a")], failed).await;
        assert_eq!(answer.unwrap_err().message, "a: why");
        let (answer, _) = serve(vec![message("m", "a")], vec![report("a", VaultStatus::Incomplete)]).await;
        assert_eq!(ids(&answer.unwrap()), ["m"]);
    }

    #[tokio::test]
    async fn what_another_invocation_goes_on_with_is_served() {
        let reports = vec![report("a", VaultStatus::Incomplete)];
        let answer = answer(vec![message("m", "a")], async |_: &SyncRequest| {
            Ok(Synced { reports: reports.clone(), goes_on: true, notice: None })
        });
        assert!(ids(&answer.await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn a_message_for_every_vault_goes_by_itself() {
        let reports = vec![report("a", VaultStatus::Complete)];
        let (answer, calls) =
            serve(vec![message("m0", ""), message("m1", "a"), message("m2", "")], reports).await;
        assert_eq!((ids(&answer.unwrap()).len(), calls), (0, 2));
    }
}
