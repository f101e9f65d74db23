//! Messages of an SQS queue: one vault a message, each with its own result.
//!
//! The answer names the messages that are to come again (`batchItemFailures`): those that failed, those whose
//! vault was not finished in time, those that another run's lease blocked, and, in a FIFO queue, the rest of
//! their groups. Messages that differ only in the vault are served together.
//!
//! A message for several vaults is replaced by one message for each in the function's queue, if there is such
//! a queue.
//!
//! A message that can never be understood is logged, sent to the dead-letter queue, and not named: it does not come again.

use std::collections::{BTreeMap, HashMap};

use obsync_protocol::limits::{EVENT_REFUSALS, EVENT_VAULTS};
use serde_json::{Value, json};

use crate::answer::InvocationError;
use crate::chain;
use crate::event::{Action, Message, SyncRequest};
use crate::vault_report::{FollowUp, VaultReport, VaultStatus};

/// Most reasons in the error of an invocation.
const REASONS: usize = 20;

/// The result of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Synced {
    pub(crate) reports: Vec<VaultReport>,
    /// Work for another invocation: vaults by the step of their chains.
    pub(crate) rest: BTreeMap<u32, Vec<String>>,
    /// Number of vaults put into the function's queue, a message each.
    pub(crate) queued: usize,
    /// None was, because the messages of the last round still wait there.
    pub(crate) last_round_waits: bool,
    /// A further notice for the sender.
    pub(crate) notice: Option<String>,
}

/// An invalid message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused<'m> {
    pub(crate) message: &'m Message,
    /// The reason, in a sentence.
    pub(crate) reason: String,
}

/// Serves the requests of messages.
pub(crate) trait Service {
    /// Syncs the requested vaults, or `spreads` them: puts a message for each into the function's queue, if
    /// there is one.
    async fn sync(&self, request: &SyncRequest, spreads: bool) -> Result<Synced, InvocationError>;

    /// Sends messages to the dead-letter queue, if there is one. Returns for each whether it is done with.
    async fn bury(&self, refused: &[Refused<'_>]) -> Vec<bool>;

    /// Sends an event that continues the rest the way that a message came. Returns true if that succeeded.
    async fn hand_on(&self, event: &Value, origin: &Message) -> bool;

    /// True if no new work may begin.
    fn is_over(&self) -> bool;
}

/// The fate of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Done.
    Served,
    /// It is to come again: there is more to do, or another run is at it.
    Again,
    /// It was not begun, and is to come again.
    Untouched,
    /// It failed, and is to come again.
    Failed,
}

/// Messages that are served together: the common request, and the index and own request of each message.
struct Batch {
    request: SyncRequest,
    /// Each of them is for several vaults, or for all. A message for a single vault is this invocation's
    /// work: an earlier one may have made it from such a message.
    spreads: bool,
    members: Vec<(usize, SyncRequest)>,
}

/// Serves messages, and returns which are to come again.
///
/// # Errors
/// When every message failed, or one that the answer cannot name: then the invocation fails.
pub(crate) async fn answer(messages: &[Message], service: &impl Service) -> Result<Value, InvocationError> {
    let mut fates = vec![Fate::Served; messages.len()];
    // For each group, the first message that comes again: those after it wait for it.
    let mut stopped: HashMap<&str, usize> = HashMap::new();
    for (index, is_done) in bury(messages, service).await {
        set(&mut fates, index, if is_done { Fate::Served } else { Fate::Untouched });
        stop(&mut stopped, group(messages, index).filter(|_| !is_done), index);
    }
    let mut reasons = Vec::new();
    for Batch { mut request, spreads, members } in batches(messages) {
        let is_stopped = |index: usize| waits(&stopped, group(messages, index), index);
        let (late, members): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(index, _)| service.is_over() || is_stopped(*index));
        late.iter().for_each(|(index, _)| set(&mut fates, *index, Fate::Untouched));
        if members.is_empty() {
            continue;
        }
        request.vaults = members.iter().flat_map(|(_, own)| own.vaults.iter().cloned()).collect();
        let mut result = service.sync(&request, spreads).await;
        match &mut result {
            Ok(synced) => {
                // Before the messages are acknowledged: sending twice does no harm.
                hand_on(synced, &request, messages, &members, service).await;
                let failed = synced.reports.iter().filter(|report| report.status == VaultStatus::Failed);
                let (final_ones, failed): (Vec<_>, Vec<_>) = failed.partition(|report| report.is_final);
                for report in final_ones {
                    let reason = &report.message;
                    tracing::error!(
                        vault_id = report.vault_id,
                        reason,
                        "a message is of no use; it does not come again"
                    );
                }
                let failed = failed.into_iter();
                reasons.extend(failed.map(|report| format!("{}: {}", report.vault_id, report.message)));
            }
            Err(error) => reasons.push(error.to_string()),
        }
        for (index, own) in members {
            let fate = result.as_ref().map_or(Fate::Failed, |synced| fate_of(&own, synced));
            let group = group(messages, index);
            let fate = match waits(&stopped, group, index) {
                true if fate == Fate::Served => Fate::Untouched,
                _ => fate,
            };
            stop(&mut stopped, group.filter(|_| fate != Fate::Served), index);
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

/// Records that a message of a group comes again.
fn stop<'m>(stopped: &mut HashMap<&'m str, usize>, group: Option<&'m str>, index: usize) {
    if let Some(group) = group {
        let first = stopped.entry(group).or_insert(index);
        *first = index.min(*first);
    }
}

/// True if a message before this one in its group comes again.
fn waits(stopped: &HashMap<&str, usize>, group: Option<&str>, index: usize) -> bool {
    group.and_then(|group| stopped.get(group)).is_some_and(|first| *first < index)
}

fn group(messages: &[Message], index: usize) -> Option<&str> {
    messages.get(index).and_then(|message| message.group.as_deref())
}

/// The first reasons, and the number of further ones.
fn first(mut reasons: Vec<String>, most: usize) -> Vec<String> {
    let more = reasons.len().saturating_sub(most);
    reasons.truncate(most);
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons
}

/// Sends the rest of these vaults the way that their messages came: those of each group together.
async fn hand_on(
    synced: &mut Synced,
    request: &SyncRequest,
    messages: &[Message],
    members: &[(usize, SyncRequest)],
    service: &impl Service,
) {
    let names: HashMap<String, String> =
        synced.reports.iter().map(|report| (report.vault_id.clone(), report.name.clone())).collect();
    let origin_of = |vault: &String| {
        let name = names.get(vault);
        let is_meant = |own: &SyncRequest| {
            own.vaults.is_empty()
                || own.vaults.contains(vault)
                || name.is_some_and(|name| own.vaults.contains(name))
        };
        let (index, _) = members.iter().find(|(_, own)| is_meant(own)).or(members.first())?;
        messages.get(*index)
    };
    for (step, vaults) in std::mem::take(&mut synced.rest) {
        let mut by_group: BTreeMap<Option<&str>, (&Message, Vec<String>)> = BTreeMap::new();
        for vault in vaults {
            if let Some(origin) = origin_of(&vault) {
                by_group.entry(origin.group.as_deref()).or_insert((origin, Vec::new())).1.push(vault);
            }
        }
        for (origin, vaults) in by_group.into_values() {
            for (vaults, event) in chain::events(request, step, &vaults) {
                if service.hand_on(&event, origin).await {
                    note_sent(&mut synced.reports, &vaults);
                }
            }
        }
    }
}

/// Records that another invocation continues with these vaults.
pub(crate) fn note_sent(reports: &mut [VaultReport], vaults: &[String]) {
    for report in reports.iter_mut().filter(|report| vaults.contains(&report.vault_id)) {
        report.follow_up = FollowUp::Sent;
    }
}

/// Logs invalid messages, and sends them to the dead-letter queue. Returns the index of each, and whether it
/// is done with.
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
            message_id = message.id,
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

/// Groups messages to be served together, in this order.
fn batches(messages: &[Message]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    // For each group, the batch of its last message: later ones are not served before it.
    let mut reached: HashMap<&str, usize> = HashMap::new();
    for (index, message) in messages.iter().enumerate() {
        let Ok(Action::Sync(own)) = &message.action else { continue };
        let group = message.group.as_deref();
        let least = group.and_then(|group| reached.get(group)).copied().unwrap_or_default();
        let fits = |batch: &Batch| {
            go_together(&batch.request, own)
                && batch.spreads == is_for_several(own)
                && batch.request.vaults.len() + own.vaults.len() <= EVENT_VAULTS
        };
        let place = batches.iter().skip(least).position(fits).map(|place| place + least);
        let place = place.unwrap_or_else(|| {
            let vaults = Default::default();
            let request = SyncRequest { vaults, ..own.clone() };
            batches.push(Batch { request, spreads: is_for_several(own), members: Vec::new() });
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

fn is_for_several(request: &SyncRequest) -> bool {
    request.vaults.len() != 1
}

/// True if two requests differ only in the vaults. A request for every vault is combined only with its like.
fn go_together(one: &SyncRequest, other: &SyncRequest) -> bool {
    // Nobody reads the answers to a queue's messages, so the list of changes does not matter.
    let SyncRequest { vaults, mode, bucket, prefix, direction, list_changes: _, continuation } = one;
    vaults.is_empty() == other.vaults.is_empty()
        && *mode == other.mode
        && *bucket == other.bucket
        && *prefix == other.prefix
        && *direction == other.direction
        && *continuation == other.continuation
}

/// The fate of a message, by the reports on the vaults that it names.
fn fate_of(request: &SyncRequest, synced: &Synced) -> Fate {
    let is_meant = |report: &&VaultReport| {
        request.vaults.is_empty()
            || request.vaults.contains(&report.vault_id)
            || request.vaults.contains(&report.name)
    };
    let reports: Vec<&VaultReport> = synced.reports.iter().filter(is_meant).collect();
    let has = |is_so: fn(&VaultReport) -> bool| reports.iter().any(|report| is_so(report));
    if has(|report| report.status == VaultStatus::Failed && !report.is_final)
        || (reports.is_empty() && !request.vaults.is_empty() && synced.queued == 0)
    {
        Fate::Failed
    } else if has(|report| report.status == VaultStatus::Incomplete && !report.goes_on())
        || has(|report| report.status == VaultStatus::Skipped)
    {
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
            queue: None,
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

    /// Returns these reports, and records its requests.
    #[derive(Default)]
    struct Given {
        reports: Vec<VaultReport>,
        /// Another invocation can be started.
        goes_on: bool,
        has_no_dead_letters: bool,
        /// Number of syncs after which the time is over.
        over_after: Option<usize>,
        asked: RefCell<Vec<SyncRequest>>,
        buried: RefCell<Vec<String>>,
        /// The groups and vaults that were handed on.
        handed_on: RefCell<Vec<(Option<String>, Value)>>,
    }

    impl Service for Given {
        async fn sync(&self, request: &SyncRequest, _spreads: bool) -> Result<Synced, InvocationError> {
            self.asked.borrow_mut().push(request.clone());
            let meant = self.reports.iter().filter(|report| {
                request.vaults.is_empty()
                    || request.vaults.contains(&report.vault_id)
                    || request.vaults.contains(&report.name)
            });
            let reports: Vec<VaultReport> = meant.cloned().collect();
            let left = reports.iter().filter(|report| report.status == VaultStatus::Incomplete);
            let left: Vec<String> = left.map(|report| report.vault_id.clone()).collect();
            let rest = BTreeMap::from([(1, left)]);
            Ok(Synced { reports, rest, ..Synced::default() })
        }

        async fn hand_on(&self, event: &Value, origin: &Message) -> bool {
            self.handed_on.borrow_mut().push((origin.group.clone(), event["vaults"].clone()));
            self.goes_on
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
    async fn what_follows_in_its_group_waits_for_what_the_dead_letter_queue_does_not_take() {
        let messages = [
            of_group("one", message("m0", "a")),
            of_group("one", poison("m1")),
            of_group("one", message("m2", "b")),
            of_group("two", message("m3", "c")),
        ];
        let reports = [("a", COMPLETE), ("b", COMPLETE), ("c", COMPLETE)];
        let service = Given { has_no_dead_letters: true, ..given(&reports) };
        assert_eq!(ids(&answer(&messages, &service).await.unwrap()), ["m1", "m2"]);
        assert!(service.asked.borrow()[0].vaults.iter().eq(["a", "c"]));
        let service = given(&reports);
        assert!(ids(&answer(&messages, &service).await.unwrap()).is_empty());
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
    async fn what_is_left_goes_back_to_the_group_that_it_came_from() {
        let left = [("a", VaultStatus::Incomplete), ("b", VaultStatus::Incomplete), ("c", COMPLETE)];
        let service = Given { goes_on: true, ..given(&left) };
        let messages = [
            of_group("g", message("m0", "a")),
            of_group("h", message("m1", "name of b")),
            of_group("h", message("m2", "c")),
        ];
        assert!(ids(&answer(&messages, &service).await.unwrap()).is_empty());
        let sent = [("g", json!(["a"])), ("h", json!(["b"]))];
        assert_eq!(*service.handed_on.borrow(), sent.map(|(group, vaults)| (Some(group.to_owned()), vaults)));
    }

    #[tokio::test]
    async fn what_fails_for_good_does_not_come_again() {
        let report = VaultReport { is_final: true, ..report("a", FAILED) };
        let service = Given { reports: vec![report], ..Given::default() };
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
