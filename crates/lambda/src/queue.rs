//! Messages of an SQS queue: one vault a message, each answered for by itself.
//!
//! The answer names the messages that are to come again (`batchItemFailures`): those that failed, those whose
//! vault was not finished in the time there was, those that another run kept from being served, and, of a FIFO queue,
//! the rest of their groups. Messages that differ in nothing but the vault are served together.
//!
//! A message that can never be understood is logged, sent to the dead-letter queue, and not named: it does not come again.

use std::collections::{HashMap, HashSet};

use obsync_protocol::limits::{EVENT_REFUSALS, EVENT_VAULTS};
use serde_json::{Value, json};

use crate::answer::{InvocationError, VaultReport, VaultStatus};
use crate::event::{Action, Message, SyncRequest};

/// How many reasons the error of an invocation has.
const REASONS: usize = 20;

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

/// A message that can never be understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused<'m> {
    /// The message.
    pub(crate) message: &'m Message,
    /// Why, in a sentence.
    pub(crate) reason: String,
}

/// Serves what messages ask for.
pub(crate) trait Service {
    /// Syncs what is asked for.
    async fn sync(&self, request: &SyncRequest) -> Result<Synced, InvocationError>;

    /// Sends messages to the dead-letter queue, if there is one. Whether each of them need not come again.
    async fn bury(&self, refused: &[Refused<'_>]) -> Vec<bool>;

    /// Whether nothing new is to be begun.
    fn is_over(&self) -> bool;
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done with.
    Served,
    /// It is to come again, for there is more to do, or another run does it.
    Again,
    /// It was not begun with, and is to come again.
    Untouched,
    /// It failed, and is to come again.
    Failed,
}

/// Messages that are served together: what is asked for, and the number of each message with what it asks for
/// itself.
struct Batch {
    request: SyncRequest,
    members: Vec<(usize, SyncRequest)>,
}

/// Serves messages, and says which are to come again.
///
/// # Errors
/// When every message failed, or one that the answer cannot name: then the invocation has.
pub(crate) async fn answer(messages: &[Message], service: &impl Service) -> Result<Value, InvocationError> {
    let mut fates = vec![Fate::Served; messages.len()];
    for (index, is_done) in bury(messages, service).await {
        set(&mut fates, index, if is_done { Fate::Served } else { Fate::Untouched });
    }
    let mut reasons = Vec::new();
    let mut stopped: HashSet<&str> = HashSet::new();
    for Batch { mut request, members } in batches(messages) {
        let is_stopped = |index: usize| group(messages, index).is_some_and(|group| stopped.contains(group));
        let (late, members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(index, _)| service.is_over() || is_stopped(*index));
        late.iter().for_each(|(index, _)| set(&mut fates, *index, Fate::Untouched));
        if members.is_empty() {
            continue;
        }
        request.vaults = members.iter().flat_map(|(_, own)| own.vaults.iter().cloned()).collect();
        let result = service.sync(&request).await;
        match &result {
            Ok(synced) => {
                let failed = synced.reports.iter().filter(|report| report.status == VaultStatus::Failed);
                reasons.extend(failed.map(|report| format!("{}: {}", report.vault_id, report.message)));
            }
            Err(error) => reasons.push(error.to_string()),
        }
        for (index, own) in members {
            let fate = result.as_ref().map_or(Fate::Failed, |synced| fate_of(&own, synced));
            let group = group(messages, index);
            let fate = match group.is_some_and(|group| stopped.contains(group)) {
                true if fate == Fate::Served => Fate::Untouched,
                _ => fate,
            };
            stopped.extend(group.filter(|_| fate != Fate::Served));
            set(&mut fates, index, fate);
        }
    }
    let fates: Vec<(&Message, Fate)> = messages.iter().zip(fates).collect();
    let is_unnamed = |(message, fate): &(&Message, Fate)| {
        message.id.is_none() && matches!(fate, Fate::Failed | Fate::Untouched)
    };
    if !fates.is_empty() && fates.iter().all(|(_, fate)| *fate == Fate::Failed)
        || fates.iter().any(is_unnamed)
    {
        if reasons.is_empty() {
            reasons.push("there was no time to serve every message".to_owned());
        }
        return Err(InvocationError::new("SyncFailed", first(reasons, REASONS).join("; ")));
    }
    for reason in first(reasons, EVENT_REFUSALS) {
        tracing::error!(reason, "a message could not be served; it comes again");
    }
    let again = fates.iter().filter(|(_, fate)| *fate != Fate::Served);
    let again = again.filter_map(|(message, _)| message.id.as_ref());
    let again: Vec<Value> = again.map(|id| json!({ "itemIdentifier": id })).collect();
    Ok(json!({ "batchItemFailures": again }))
}

fn set(fates: &mut [Fate], index: usize, fate: Fate) {
    if let Some(slot) = fates.get_mut(index) {
        *slot = fate;
    }
}

fn group(messages: &[Message], index: usize) -> Option<&str> {
    messages.get(index).and_then(|message| message.group.as_deref())
}

/// The first of these reasons, and how many more there are.
fn first(mut reasons: Vec<String>, most: usize) -> Vec<String> {
    let more = reasons.len().saturating_sub(most);
    reasons.truncate(most);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons
}

/// Logs the messages that can never be understood, and has them sent to the dead-letter queue: the number of each, and
/// whether it is done with.
async fn bury(messages: &[Message], service: &impl Service) -> Vec<(usize, bool)> {
    let mut refused = Vec::new();
    let mut numbers = Vec::new();
    let mut ignored: Vec<&str> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let reason = match &message.action {
            Ok(Action::Sync(_)) => continue,
            Ok(Action::Ignore { reason }) => {
                ignored.push(reason);
                continue;
            }
            Ok(Action::Status { .. }) => "nobody would read the answer to a status".to_owned(),
            Err(error) => error.to_string(),
        };
        refused.push(Refused { message, reason });
        numbers.push(index);
    }
    if let Some(reason) = ignored.first() {
        tracing::info!(messages = ignored.len(), reason, "messages that are no requests are ignored");
    }
    if refused.is_empty() {
        return Vec::new();
    }
    for Refused { message, reason } in refused.iter().take(EVENT_REFUSALS) {
        tracing::error!(
            message = message.id,
            reason,
            "a message cannot be understood; it does not come again"
        );
    }
    if let Some(more) = refused.len().checked_sub(EVENT_REFUSALS).filter(|more| *more > 0) {
        tracing::error!(more, "further messages cannot be understood");
    }
    let done = service.bury(&refused).await;
    numbers.into_iter().zip(done).collect()
}

/// What is to be served together, in this order.
fn batches(messages: &[Message]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    // Of each group, the batch that its last message is in: those that follow are not served before it.
    let mut reached: HashMap<&str, usize> = HashMap::new();
    for (index, message) in messages.iter().enumerate() {
        let Ok(Action::Sync(own)) = &message.action else { continue };
        let group = message.group.as_deref();
        let least = group.and_then(|group| reached.get(group)).copied().unwrap_or_default();
        let fits = |batch: &Batch| {
            go_together(&batch.request, own) && batch.request.vaults.len() + own.vaults.len() <= EVENT_VAULTS
        };
        let place = batches.iter().skip(least).position(fits).map(|place| place + least);
        let place = place.unwrap_or_else(|| {
            let vaults = Default::default();
            batches.push(Batch { request: SyncRequest { vaults, ..own.clone() }, members: Vec::new() });
            batches.len() - 1
        });
        if let Some(batch) = batches.get_mut(place) {
            batch.request.vaults.extend(own.vaults.iter().cloned());
            batch.members.push((index, own.clone()));
        }
        if let Some(group) = group {
            reached.insert(group, place);
        }
    }
    batches
}

/// Whether two requests differ in nothing but the vaults. One for every vault goes with its like only.
fn go_together(one: &SyncRequest, other: &SyncRequest) -> bool {
    let SyncRequest { vaults, mode, bucket, prefix, continuation } = one;
    vaults.is_empty() == other.vaults.is_empty()
        && *mode == other.mode
        && *bucket == other.bucket
        && *prefix == other.prefix
        && *continuation == other.continuation
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
            id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            group: None,
            body: "the body".to_owned(),
            action: Ok(Action::Sync(SyncRequest { vaults, ..SyncRequest::default() })),
        }
    }

    fn poison(id: &str) -> Message {
        Message { action: Err(EventError::NoAction), ..message(id, "") }
    }

    fn of_group(group: &str, message: Message) -> Message {
        Message { group: Some(group.to_owned()), ..message }
    }

    fn to(prefix: &str, message: Message) -> Message {
        let Ok(Action::Sync(request)) = message.action else { panic!() };
        let request = SyncRequest { prefix: Some(prefix.to_owned()), ..request };
        Message { action: Ok(Action::Sync(request)), ..message }
    }

    fn report(vault: &str, status: VaultStatus) -> VaultReport {
        VaultReport::nothing(vault, &format!("name of {vault}"), status, "why".to_owned())
    }

    /// Gives these reports, and notes what it is asked for.
    #[derive(Default)]
    struct Given {
        reports: Vec<VaultReport>,
        goes_on: bool,
        has_no_dead_letters: bool,
        /// After how many syncs the time is over.
        over_after: Option<usize>,
        asked: RefCell<Vec<SyncRequest>>,
        buried: RefCell<Vec<String>>,
    }

    impl Service for Given {
        async fn sync(&self, request: &SyncRequest) -> Result<Synced, InvocationError> {
            self.asked.borrow_mut().push(request.clone());
            let meant = self.reports.iter().filter(|report| {
                request.vaults.is_empty()
                    || request.vaults.contains(&report.vault_id)
                    || request.vaults.contains(&report.name)
            });
            Ok(Synced { reports: meant.cloned().collect(), goes_on: self.goes_on, notice: None })
        }

        async fn bury(&self, refused: &[Refused<'_>]) -> Vec<bool> {
            let ids = refused.iter().filter_map(|refused| refused.message.id.clone());
            self.buried.borrow_mut().extend(ids);
            vec![!self.has_no_dead_letters; refused.len()]
        }

        fn is_over(&self) -> bool {
            self.over_after.is_some_and(|most| self.asked.borrow().len() >= most)
        }
    }

    fn given(reports: &[(&str, VaultStatus)]) -> Given {
        let reports = reports.iter().map(|(vault, status)| report(vault, *status)).collect();
        Given { reports, ..Given::default() }
    }

    fn ids(answer: &Value) -> Vec<&str> {
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect()
    }

    const COMPLETE: VaultStatus = VaultStatus::Complete;
    const FAILED: VaultStatus = VaultStatus::Failed;

    #[tokio::test]
    async fn only_what_was_not_served_comes_again() {
        let messages = ["a", "b", "name of c", "d", "a"].iter().enumerate();
        let mut messages: Vec<Message> =
            messages.map(|(index, vault)| message(&format!("m{index}"), vault)).collect();
        messages.push(poison("m5"));
        let service = given(&[
            ("a", COMPLETE),
            ("b", FAILED),
            ("c", VaultStatus::Incomplete),
            ("d", VaultStatus::Skipped),
        ]);
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m1", "m2", "m3"]);
        assert_eq!(
            service.asked.borrow().len(),
            1,
            "messages that differ in the vault only are served together"
        );
        assert_eq!(*service.buried.borrow(), ["m5"]);
    }

    #[tokio::test]
    async fn what_the_dead_letter_queue_does_not_take_comes_again() {
        let service = Given { has_no_dead_letters: true, ..given(&[("a", COMPLETE)]) };
        let messages = [poison("m0"), message("m1", "a")];
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m0"]);
    }

    #[tokio::test]
    async fn poison_beside_failures_does_not_come_again_with_them() {
        let service = given(&[("a", FAILED)]);
        let messages = [poison("m0"), message("m1", "a")];
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m1"]);
    }

    #[tokio::test]
    async fn a_batch_that_failed_as_a_whole_is_a_failed_invocation() {
        let failed = answer(&[message("m", "a")], &given(&[("a", FAILED)])).await;
        assert_eq!(failed.unwrap_err().message, "a: why");
        let incomplete = answer(&[message("m", "a")], &given(&[("a", VaultStatus::Incomplete)])).await;
        assert_eq!(ids(&incomplete.unwrap()), ["m"]);
    }

    #[tokio::test]
    async fn a_failed_message_without_a_name_is_a_failed_invocation() {
        let messages = [message("", "a"), message("", "b")];
        let service = given(&[("a", COMPLETE), ("b", FAILED)]);
        assert_eq!(answer(&messages, &service).await.unwrap_err().message, "b: why");
        let service = given(&[("a", COMPLETE), ("b", VaultStatus::Incomplete)]);
        assert!(ids(&answer(&messages, &service).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn what_another_invocation_goes_on_with_is_served() {
        let service = Given { goes_on: true, ..given(&[("a", VaultStatus::Incomplete)]) };
        assert!(ids(&answer(&[message("m", "a")], &service).await.unwrap()).is_empty());
    }

    #[tokio::test]
    async fn a_message_for_every_vault_goes_by_itself() {
        let service = given(&[("a", COMPLETE)]);
        let messages = [message("m0", ""), message("m1", "a"), message("m2", "")];
        assert!(ids(&answer(&messages, &service).await.unwrap()).is_empty());
        assert_eq!(service.asked.borrow().len(), 2);
    }

    #[tokio::test]
    async fn after_a_failure_the_rest_of_its_group_comes_again_and_is_not_begun_with() {
        let messages = [
            of_group("g", message("m0", "a")),
            of_group("g", message("m1", "b")),
            of_group("h", message("m2", "a")),
            of_group("g", to("elsewhere", message("m3", "a"))),
            of_group("g", message("m4", "a")),
            of_group("h", to("elsewhere", message("m5", "c"))),
        ];
        let service = given(&[("a", COMPLETE), ("b", FAILED), ("c", COMPLETE)]);
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m1", "m3", "m4"]);
        let asked = service.asked.borrow();
        let asked: Vec<usize> = asked.iter().map(|request| request.vaults.len()).collect();
        assert_eq!(asked, [2, 1], "of the second batch only what is of the other group");
    }

    #[tokio::test]
    async fn messages_of_a_group_are_not_served_before_those_that_came_first() {
        let messages = [
            of_group("g", message("m0", "a")),
            of_group("g", to("elsewhere", message("m1", "a"))),
            of_group("g", message("m2", "b")),
        ];
        let service = given(&[("a", COMPLETE), ("b", COMPLETE)]);
        assert!(ids(&answer(&messages, &service).await.unwrap()).is_empty());
        let asked: Vec<Option<String>> =
            service.asked.borrow().iter().map(|request| request.prefix.clone()).collect();
        assert_eq!(asked, [None, Some("elsewhere".to_owned()), None]);
    }

    #[tokio::test]
    async fn what_there_is_no_time_for_comes_again() {
        let service = Given { over_after: Some(1), ..given(&[("a", COMPLETE)]) };
        let messages = [message("m0", "a"), to("elsewhere", message("m1", "a"))];
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m1"]);
    }

    #[tokio::test]
    async fn a_large_batch_is_served_in_requests_that_name_no_more_vaults_than_an_event_may() {
        let names: Vec<String> = (0..2500).map(|number| format!("v{number}")).collect();
        let messages: Vec<Message> = names.iter().map(|name| message(name, name)).collect();
        let reports: Vec<(&str, VaultStatus)> = names.iter().map(|name| (name.as_str(), FAILED)).collect();
        let service = given(&reports);
        let error = answer(&messages, &service).await.unwrap_err();
        assert_eq!(service.asked.borrow().len(), 3);
        assert!(error.message.ends_with("and 2480 more") && error.message.len() < 1000, "{error}");
    }
}
