//! Self-continuation: an invocation that runs out of time hands each unfinished vault on to another one.
//!
//! A chain ends when everything is done, when two of its steps made no durable progress, at its longest
//! length, or when the vault has used its invocations of a day: a function must not run for ever at its
//! owner's expense. The table has the present step of a vault (`obsync_dynamodb::ChainEntry`); an event has
//! only the number.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::error::{DisplayErrorContext, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use obsync_dynamodb::{ChainEnd, ChainStep};
use obsync_protocol::limits::EVENT_VAULTS;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::event::SyncRequest;
use crate::vault_report::{FollowUp, VaultReport, VaultStatus};

/// Consecutive steps without durable progress that end a chain.
const IDLE_STEPS: u32 = 2;
/// The pause of a step after one without durable progress; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(2);
/// The largest part of its time that a step pauses.
const PAUSE_PART: u32 = 10;
/// The pause before the second attempt to send a continuation; it doubles with each further one.
const RETRY: Duration = Duration::from_millis(50);
/// The longest of these pauses.
const RETRY_MOST: Duration = Duration::from_secs(2);
/// The longest continuation, in bytes: Lambda takes asynchronous events, and SQS messages, of 1 MiB.
const EVENT_BYTES: usize = 1_000_000;
/// Bytes of a continuation besides the names of its vaults.
const EVENT_FRAME: usize = 8 << 10;

/// Limits of chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Steps after the first; 0: the function does not continue by itself.
    pub(crate) steps: u32,
    /// Invocations of a vault in a day.
    pub(crate) daily: u64,
}

/// Decides on the chain after a step with this report. Returns the reason if it ends with work left.
pub(crate) fn end_of(
    step: &ChainStep,
    report: &VaultReport,
    is_quiet: bool,
    limits: Limits,
) -> (ChainEnd, Option<&'static str>) {
    let over = |reason| (ChainEnd::Over, Some(reason));
    match report.status {
        VaultStatus::Complete | VaultStatus::Partial => return (ChainEnd::Over, None),
        VaultStatus::Failed | VaultStatus::Skipped | VaultStatus::Superseded => {
            return (ChainEnd::Again, None);
        }
        VaultStatus::Incomplete => {}
    }
    let idle = if report.is_progress() { 0 } else { step.idle.saturating_add(1) };
    // The next step skips the file that held up this one and the one before.
    let most = IDLE_STEPS + u32::from(report.is_held_up);
    match limits {
        Limits { steps: 0, .. } => (ChainEnd::Over, None),
        _ if idle >= most => {
            over("two invocations in a row made nothing durable; give the function more time or memory")
        }
        Limits { steps, .. } if step.step >= steps => {
            over("the function has invoked itself as often as OBSYNC_SELF_CONTINUE_LIMIT allows")
        }
        Limits { daily, .. } if step.today >= daily => {
            over("the vault had as many invocations today as OBSYNC_DAILY_INVOCATIONS allows")
        }
        _ => (ChainEnd::HandOn { idle, is_quiet }, None),
    }
}

/// The pause before a step, after this many steps without durable progress, if it has this long to work.
pub(crate) fn pause(idle: u32, left: Duration) -> Duration {
    match idle.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE.saturating_mul(1 << doublings.min(10)).min(left / PAUSE_PART),
    }
}

/// The vaults to continue, by step. A vault whose turn did not come is requested as before, as long as others
/// make progress: without that condition this would never end.
pub(crate) fn rest(
    request: &SyncRequest,
    reports: &[VaultReport],
    limits: Limits,
) -> BTreeMap<u32, Vec<String>> {
    let gets_somewhere = reports.iter().any(VaultReport::is_progress);
    let mut rest: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for report in reports {
        let step = match report.follow_up {
            FollowUp::Step(step) => step,
            FollowUp::SameStep if limits.steps > 0 && gets_somewhere => request.continuation,
            _ => continue,
        };
        rest.entry(step).or_default().push(report.vault_id.clone());
    }
    rest
}

/// The events that request these vaults, each short enough to be sent and with no more vaults than an event
/// may name.
pub(crate) fn events(request: &SyncRequest, step: u32, vaults: &[String]) -> Vec<(Vec<String>, Value)> {
    let mut events: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for vault in vaults {
        // The longest JSON form of a name.
        let length = 6 * vault.len() + 3;
        bytes += length;
        match events.last_mut() {
            Some(names) if names.len() < EVENT_VAULTS && bytes + EVENT_FRAME <= EVENT_BYTES => {
                names.push(vault.clone());
            }
            _ => {
                bytes = length;
                events.push(vec![vault.clone()]);
            }
        }
    }
    events.into_iter().map(|names| (names.clone(), request.continued(names, step))).collect()
}

/// Invokes a function asynchronously with an event. Retried until `until` while it is throttled.
///
/// # Errors
/// A sentence about the failure.
pub(crate) async fn invoke(
    aws: &aws_config::SdkConfig,
    function: &str,
    event: &Value,
    until: Instant,
) -> Result<(), String> {
    let config = aws_sdk_lambda::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
    let client = aws_sdk_lambda::Client::from_conf(config);
    let send = || {
        client
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event.to_string()))
            .send()
    };
    let advice = "allow its role lambda:InvokeFunction on itself, and recursive invocations";
    persistently(send, until, "the function could not invoke itself to go on", advice).await.map(drop)
}

/// The queue that a continuation returns to, and its message group there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue<'a> {
    /// Its ARN, as received with the message.
    pub(crate) arn: &'a str,
    /// The group, in a FIFO queue.
    pub(crate) group: Option<&'a str>,
}

/// Sends an event to a queue. Retried until `until` while the queue is throttled. `id` identifies the
/// message.
///
/// # Errors
/// A sentence about the failure.
pub(crate) async fn enqueue(
    aws: &aws_config::SdkConfig,
    queue: Queue<'_>,
    event: &Value,
    id: &str,
    until: Instant,
) -> Result<(), String> {
    let config = aws_sdk_sqs::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
    let client = aws_sdk_sqs::Client::from_conf(config);
    let url = queue_url(queue.arn).ok_or_else(|| format!("{:?} names no queue", queue.arn))?;
    let entry = SendMessageBatchRequestEntry::builder().id("0").message_body(event.to_string());
    let entry = match queue.group {
        Some(group) => entry.message_group_id(group).message_deduplication_id(id),
        None => entry,
    };
    let entry = entry.build().map_err(|error| error.to_string())?;
    let send = || client.send_message_batch().queue_url(&url).entries(entry.clone()).send();
    let what = "the message that goes on could not be sent to its queue";
    let answer = persistently(send, until, what, "allow the function's role sqs:SendMessage on it").await?;
    match answer.failed().first() {
        None => Ok(()),
        Some(failed) => Err(format!("{what} ({})", obsync_protocol::escaped(failed.code()))),
    }
}

/// The URL of the queue of an ARN (`arn:aws:sqs:REGION:ACCOUNT:NAME`).
fn queue_url(arn: &str) -> Option<String> {
    let mut parts = arn.split(':');
    let (Some("arn"), Some(partition), Some("sqs"), Some(region), Some(account), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    let is_plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    [region, account, name]
        .into_iter()
        .all(is_plain)
        .then(|| format!("https://sqs.{region}.{domain}/{account}/{name}"))
}

/// Growing pauses between attempts.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Option<Duration>);

impl Pauses {
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0.map_or(RETRY, |last| (last * 2).min(RETRY_MOST));
        self.0 = Some(pause);
        pause
    }
}

/// Sends a request until it is answered, with growing pauses while the service is overloaded or unreachable.
pub(crate) async fn persistently<T, E, F: Future<Output = Result<T, SdkError<E>>>>(
    mut send: impl FnMut() -> F,
    until: Instant,
    what: &str,
    advice: &str,
) -> Result<T, String>
where
    SdkError<E>: std::error::Error,
{
    let mut pauses = Pauses::default();
    let mut last = "there was no time for it".to_owned();
    loop {
        let demanded = match timeout_at(until, send()).await {
            Err(_) => return Err(format!("{what} ({last})")),
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_passing(&error) => {
                last = DisplayErrorContext(&error).to_string();
                demanded_pause(&error)
            }
            Ok(Err(error)) => return Err(format!("{what} ({}); {advice}", DisplayErrorContext(&error))),
        };
        // Without the time for a demanded pause, an earlier attempt is better than none.
        let demanded = demanded.filter(|pause| Instant::now() + *pause < until);
        let pause = pauses.next().max(demanded.unwrap_or_default());
        if Instant::now() + pause >= until {
            return Err(format!("{what} ({last})"));
        }
        sleep(pause).await;
    }
}

/// The pause that a service demands, in seconds (Lambda API reference, "Invoke": `retryAfterSeconds` of
/// `TooManyRequestsException`).
fn demanded_pause<E>(error: &SdkError<E>) -> Option<Duration> {
    let seconds = error.raw_response()?.headers().get("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// True if a retry may help.
fn is_passing<E>(error: &SdkError<E>) -> bool {
    match error.raw_response() {
        Some(answer) => {
            answer.status().as_u16() == 429 || answer.status().is_server_error() || {
                let body = answer.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
                body.contains("Throttl")
            }
        }
        None => !matches!(error, SdkError::ConstructionFailure(_)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_lambda::config::http::HttpResponse;
    use aws_sdk_lambda::primitives::SdkBody;
    use obsync_core::Tally;

    use super::*;
    use crate::event::{Action, Event};
    use crate::spread::deduplication_id;

    const LIMITS: Limits = Limits { steps: 3, daily: 100 };

    fn incomplete(id: &str, files: u64) -> VaultReport {
        VaultReport {
            pulled: Tally { files, bytes: files },
            ..VaultReport::nothing(id, "", VaultStatus::Incomplete, String::new())
        }
    }

    fn step(step: u32, idle: u32, today: u64) -> ChainStep {
        ChainStep { chain: "c".to_owned(), step, idle, today }
    }

    #[test]
    fn a_chain_goes_on_until_it_is_done_idle_long_or_expensive() {
        let hand_on = |idle| ChainEnd::HandOn { idle, is_quiet: true };
        for (at, files, limits, end, has_reason) in [
            (step(0, 0, 1), 1, LIMITS, hand_on(0), false),
            (step(2, 1, 1), 1, LIMITS, hand_on(0), false),
            (step(1, 0, 1), 0, LIMITS, hand_on(1), false),
            (step(1, 1, 1), 0, LIMITS, ChainEnd::Over, true),
            (step(3, 0, 1), 1, LIMITS, ChainEnd::Over, true),
            (step(1, 0, 100), 1, LIMITS, ChainEnd::Over, true),
            (step(0, 0, 1), 1, Limits { steps: 0, ..LIMITS }, ChainEnd::Over, false),
        ] {
            let (found, reason) = end_of(&at, &incomplete("a", files), true, limits);
            assert_eq!((found, reason.is_some()), (end, has_reason), "{at:?} {files}");
        }
    }

    #[test]
    fn a_chain_outlives_the_file_that_held_it_up() {
        let report = VaultReport { is_held_up: true, ..incomplete("a", 0) };
        let (end, _) = end_of(&step(1, 1, 1), &report, true, LIMITS);
        assert_eq!(end, ChainEnd::HandOn { idle: 2, is_quiet: true });
        assert_eq!(end_of(&step(2, 2, 1), &report, true, LIMITS).0, ChainEnd::Over);
    }

    #[test]
    fn what_failed_may_begin_again_and_what_is_done_may_not() {
        for (status, end) in [
            (VaultStatus::Complete, ChainEnd::Over),
            (VaultStatus::Partial, ChainEnd::Over),
            (VaultStatus::Failed, ChainEnd::Again),
            (VaultStatus::Skipped, ChainEnd::Again),
        ] {
            let report = VaultReport { status, ..incomplete("a", 1) };
            assert_eq!(end_of(&step(0, 0, 1), &report, true, LIMITS), (end, None));
        }
    }

    #[test]
    fn vaults_are_gone_on_with_at_their_own_steps() {
        let at = |id, files, follow_up| VaultReport { follow_up, ..incomplete(id, files) };
        let request = SyncRequest { continuation: 2, ..SyncRequest::default() };
        let reports = [
            at("a", 1, FollowUp::Step(3)),
            at("b", 0, FollowUp::SameStep),
            at("c", 1, FollowUp::Step(8)),
            at("d", 1, FollowUp::Ended("")),
        ];
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let wanted = BTreeMap::from([(2, named(&["b"])), (3, named(&["a"])), (8, named(&["c"]))]);
        assert_eq!(rest(&request, &reports, LIMITS), wanted);
        let waiting = [at("b", 0, FollowUp::SameStep)];
        assert!(rest(&request, &waiting, LIMITS).is_empty(), "nothing gets anywhere");
    }

    #[test]
    fn a_chain_that_checks_goes_on() {
        let report = VaultReport { has_checked: true, ..incomplete("a", 0) };
        let (end, _) = end_of(&step(1, 1, 1), &report, true, LIMITS);
        assert_eq!(end, ChainEnd::HandOn { idle: 0, is_quiet: true });
    }

    #[test]
    fn no_continuation_names_more_vaults_than_an_event_may() {
        let vaults: Vec<String> = (0..=2 * EVENT_VAULTS).map(|number| format!("{number:032}")).collect();
        let events = events(&SyncRequest::default(), 0, &vaults);
        assert_eq!(events.len(), 3);
        for (names, event) in &events {
            let Ok(Event::Direct(Action::Sync(request))) = Event::parse(&event.to_string()) else {
                panic!("{event}")
            };
            assert!(request.vaults.iter().eq(names));
        }
        let id = |event: &Value| deduplication_id("r", &event.to_string());
        let ids: BTreeSet<String> = events.iter().map(|(_, event)| id(event)).collect();
        assert_eq!(ids.len(), 3, "a FIFO queue takes each of them");
        let sent: Vec<String> = events.into_iter().flat_map(|(names, _)| names).collect();
        assert_eq!(sent, vaults);
    }

    #[test]
    fn no_continuation_is_longer_than_lambda_and_sqs_take() {
        let vaults: Vec<String> =
            (0..1000).map(|number| format!("{number:04}{}", "\u{1}".repeat(1000))).collect();
        let events = events(&SyncRequest::default(), 1, &vaults);
        assert!(events.len() > 1);
        assert!(events.iter().all(|(_, event)| event.to_string().len() <= 1 << 20));
        let sent: Vec<String> = events.into_iter().flat_map(|(names, _)| names).collect();
        assert_eq!(sent, vaults);
    }

    #[test]
    fn pauses_grow_within_a_tenth_of_the_time() {
        let minutes = Duration::from_secs(600);
        let seconds: Vec<u64> = (0..4).map(|idle| pause(idle, minutes).as_secs()).collect();
        assert_eq!(seconds, [0, 2, 4, 8]);
        assert_eq!(pause(9, Duration::from_secs(4)), Duration::from_millis(400));
    }

    fn throttled(retry_after: &'static str) -> SdkError<std::io::Error> {
        let mut answer = HttpResponse::new(429.try_into().unwrap(), SdkBody::empty());
        answer.headers_mut().insert("retry-after", retry_after);
        SdkError::service_error(std::io::Error::other("too many requests"), answer)
    }

    #[tokio::test(start_paused = true)]
    async fn a_demanded_pause_is_made_where_there_is_time_for_it() {
        for (demanded, pause) in
            [("3", Duration::from_secs(3)), ("100", RETRY), ("0", RETRY), ("soon", RETRY)]
        {
            let mut sent = Vec::new();
            let send = || {
                sent.push(Instant::now());
                let outcome = if sent.len() > 1 { Ok(()) } else { Err(throttled(demanded)) };
                async move { outcome }
            };
            persistently(send, Instant::now() + Duration::from_secs(60), "", "").await.unwrap();
            let passed = sent[1] - sent[0];
            assert!(passed >= pause && passed < pause + Duration::from_millis(10), "{demanded}: {passed:?}");
        }
    }

    #[test]
    fn a_queue_is_found_by_its_arn() {
        let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/notes.fifo";
        assert_eq!(queue_url("arn:aws:sqs:eu-central-1:123456789012:notes.fifo").as_deref(), Some(url));
        for arn in ["", "arn:aws:sns:r:1:n", "arn:aws:sqs:r:1:n:x", "arn:aws:sqs:evil/:1:n", "arn:aws:sqs:::"]
        {
            assert_eq!(queue_url(arn), None, "{arn}");
        }
    }
}
