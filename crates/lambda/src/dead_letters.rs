//! The dead-letter queue for messages that can never be understood, so that somebody can look at them.
//!
//! SQS itself would move them there as well, but only after the queue's maximum number of deliveries, which
//! must be high for vaults that need many invocations.

use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use obsync_protocol::escaped;
use tokio::time::{Instant, timeout_at};

use crate::event::quoted_reason;
use crate::queue::Refused;

/// Most messages of one request (SQS quotas).
const ENTRIES: usize = 10;
/// Most bytes of one request (SQS quotas).
const BYTES: usize = 1 << 20;
/// Part of [`BYTES`] reserved for the attributes of each message.
const ATTRIBUTES: usize = 8 << 10;
/// The attribute with the reason.
const REASON: &str = "ObsyncReason";
/// In a FIFO queue, the group of messages that came without one.
const GROUP: &str = "obsync";

/// A message to send: its body, shortened to the longest allowed one.
fn body_of<'m>(refused: &Refused<'m>) -> &'m str {
    let body = refused.message.body.as_str();
    match body.is_empty() {
        // A queue takes no empty message.
        true => "{}",
        false => body.get(..body.floor_char_boundary(BYTES - ATTRIBUTES)).unwrap_or_default(),
    }
}

/// Number of leading messages that fit into one request.
fn fitting(refused: &[Refused<'_>]) -> usize {
    let mut bytes = 0;
    let is_within = |letter: &&Refused<'_>| {
        bytes += body_of(letter).len() + ATTRIBUTES;
        bytes <= BYTES
    };
    refused.iter().take(ENTRIES).take_while(is_within).count().max(1)
}

/// Sends messages to a queue. Returns for each whether the queue accepted it. The rest is not sent once the
/// time is up or a request failed.
pub(crate) async fn send(
    aws: &aws_config::SdkConfig,
    queue: &str,
    refused: &[Refused<'_>],
    request_id: &str,
    until: Instant,
) -> Vec<bool> {
    let client = aws_sdk_sqs::Client::new(aws);
    let mut taken = vec![false; refused.len()];
    let mut begin = 0;
    while let Some(rest) = refused.get(begin..).filter(|rest| !rest.is_empty()) {
        let end = begin + fitting(rest);
        let entries = refused.iter().enumerate().take(end).skip(begin);
        let entries: Vec<_> =
            entries.filter_map(|(number, letter)| entry(letter, number, queue, request_id)).collect();
        let request = client.send_message_batch().queue_url(queue).set_entries(Some(entries));
        match timeout_at(until, request.send()).await {
            Ok(Ok(answer)) => {
                let numbers = answer.successful().iter().filter_map(|entry| entry.id().parse().ok());
                for number in numbers {
                    let number: usize = number;
                    if let Some(is_taken) = taken.get_mut(number) {
                        *is_taken = true;
                    }
                }
                if let Some(failed) = answer.failed().first() {
                    let (code, why) = (escaped(failed.code()), escaped(failed.message().unwrap_or_default()));
                    tracing::error!(%code, %why, "the dead-letter queue does not take a message; it comes again");
                }
            }
            Ok(Err(error)) => {
                let reason = DisplayErrorContext(&error).to_string();
                tracing::error!(
                    reason,
                    "the dead-letter queue cannot be reached; the messages come again: allow the function's role \
                     sqs:SendMessage on it"
                );
                break;
            }
            Err(_) => {
                tracing::error!("there was no time to reach the dead-letter queue; the messages come again");
                break;
            }
        }
        begin = end;
    }
    taken
}

fn entry(
    refused: &Refused<'_>,
    number: usize,
    queue: &str,
    request_id: &str,
) -> Option<SendMessageBatchRequestEntry> {
    let reason = quoted_reason(&escaped(&refused.reason));
    let reason = MessageAttributeValue::builder().data_type("String").string_value(reason).build().ok()?;
    let entry = SendMessageBatchRequestEntry::builder()
        .id(number.to_string())
        .message_body(body_of(refused))
        .message_attributes(REASON, reason);
    let entry = match queue.ends_with(".fifo") {
        false => entry,
        true => {
            let group = refused.message.group.as_deref().unwrap_or(GROUP);
            let own = refused.message.id.clone().unwrap_or_else(|| format!("{request_id}-{number}"));
            entry.message_group_id(group).message_deduplication_id(own)
        }
    };
    entry.build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventError, Message};

    fn message(bytes: usize) -> Message {
        let action = Err(EventError::NoAction);
        Message { id: None, queue: None, group: None, body: "é".repeat(bytes / 2), action }
    }

    #[test]
    fn a_request_has_no_more_messages_and_bytes_than_sqs_takes() {
        for (bytes, sizes) in [
            (vec![10; 25], vec![10, 10, 5]),
            (vec![1 << 20, 10], vec![1, 1]),
            (vec![(1 << 19) - ATTRIBUTES; 3], vec![2, 1]),
            (vec![8 << 20], vec![1]),
        ] {
            let messages: Vec<Message> = bytes.into_iter().map(message).collect();
            let letters = messages.iter().map(|message| Refused { message, reason: String::new() });
            let letters: Vec<Refused<'_>> = letters.collect();
            let (mut found, mut rest) = (Vec::new(), letters.as_slice());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest));
                assert!(now.iter().map(|letter| body_of(letter).len()).sum::<usize>() <= BYTES);
                found.push(now.len());
                rest = later;
            }
            assert_eq!(found, sizes);
        }
    }
}
