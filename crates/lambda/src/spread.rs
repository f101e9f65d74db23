//! Puts many vaults as one message each on the function's own queue, so that the queue's mapping decides how
//! many invocations serve them at a time, and a slow or failing vault holds up no other.

use std::collections::BTreeSet;

use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use obsync_protocol::ContentHash;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::chain::{Pauses, persistently};

/// Most messages of one request (SQS quotas).
const ENTRIES: usize = 10;

/// Which vaults of a request may become a message each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spreading {
    /// None: they are this invocation's work.
    No,
    /// Existing ones. Names that denote no vault are reported to the sender.
    Vaults,
    /// All names of a queue's message: one that denotes no vault fails by itself, and does not bring the
    /// others again.
    Names,
}

/// A message for one vault.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// The vault's id.
    pub(crate) vault: String,
    pub(crate) event: Value,
}

/// The queue of a function.
pub(crate) struct Spread<'a> {
    client: aws_sdk_sqs::Client,
    queue: &'a str,
    request_id: &'a str,
    until: Instant,
}

impl<'a> Spread<'a> {
    /// The queue with this URL. Nothing is sent after `until`.
    pub(crate) fn new(
        aws: &aws_config::SdkConfig,
        queue: &'a str,
        request_id: &'a str,
        until: Instant,
    ) -> Self {
        let config = aws_sdk_sqs::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
        Spread { client: aws_sdk_sqs::Client::from_conf(config), queue, request_id, until }
    }

    /// The approximate number of messages in the queue.
    ///
    /// # Errors
    /// A sentence about the failure.
    pub(crate) async fn waiting(&self) -> Result<usize, String> {
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let ask =
            || self.client.get_queue_attributes().queue_url(self.queue).attribute_names(name.clone()).send();
        let advice = "allow the function's role sqs:GetQueueAttributes on it";
        let answer =
            persistently(ask, self.until, "the queue did not say how much waits in it", advice).await?;
        let count = answer.attributes().and_then(|all| all.get(&name)).and_then(|count| count.parse().ok());
        Ok(count.unwrap_or(0))
    }

    /// Sends these. Returns the vaults whose messages could not be sent, and why.
    pub(crate) async fn send(&self, letters: &[Letter]) -> Vec<(String, String)> {
        let mut unsent = Vec::new();
        for batch in letters.chunks(ENTRIES) {
            if let Err((vaults, reason)) = self.send_batch(batch).await {
                unsent.extend(vaults.into_iter().map(|vault| (vault, reason.clone())));
            }
        }
        unsent
    }

    /// Sends up to ten messages, and retries those that the queue throttled.
    async fn send_batch(&self, batch: &[Letter]) -> Result<(), (BTreeSet<String>, String)> {
        let mut left: BTreeSet<String> = batch.iter().map(|letter| letter.vault.clone()).collect();
        let mut pauses = Pauses::default();
        let what = "a vault's message could not be sent to the queue";
        loop {
            let entries = batch.iter().enumerate().filter(|(_, letter)| left.contains(&letter.vault));
            let entries: Vec<_> = entries.filter_map(|(number, letter)| self.entry(number, letter)).collect();
            let send = || {
                self.client
                    .send_message_batch()
                    .queue_url(self.queue)
                    .set_entries(Some(entries.clone()))
                    .send()
            };
            let advice = "allow the function's role sqs:SendMessage on it";
            let answer = match persistently(send, self.until, what, advice).await {
                Ok(answer) => answer,
                Err(reason) => return Err((left, reason)),
            };
            let vault_of = |id: &str| Some(batch.get(id.parse::<usize>().ok()?)?.vault.clone());
            for sent in answer.successful().iter().filter_map(|entry| vault_of(entry.id())) {
                left.remove(&sent);
            }
            if left.is_empty() {
                return Ok(());
            }
            let refused = answer.failed().iter().find(|entry| entry.sender_fault());
            let code = answer.failed().first().map_or("no answer about it", |entry| entry.code());
            let reason = format!("{what} ({})", obsync_protocol::escaped(code));
            let pause = pauses.next();
            if refused.is_some() || Instant::now() + pause >= self.until {
                return Err((left, reason));
            }
            sleep(pause).await;
        }
    }

    fn entry(&self, number: usize, letter: &Letter) -> Option<SendMessageBatchRequestEntry> {
        let entry = SendMessageBatchRequestEntry::builder().id(number.to_string());
        let entry = entry.message_body(letter.event.to_string());
        let entry = match self.queue.ends_with(".fifo") {
            false => entry,
            // A vault's messages are served in order, those of others meanwhile.
            true => entry
                .message_group_id(group_id(&letter.vault))
                .message_deduplication_id(deduplication_id(self.request_id, &letter.event.to_string())),
        };
        entry.build().ok()
    }
}

/// The group of a vault's messages: its id, or the hash of a name that is not valid in a queue.
fn group_id(vault: &str) -> String {
    let is_plain =
        vault.len() <= 128 && !vault.is_empty() && vault.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_plain { vault.to_owned() } else { ContentHash::of(vault.as_bytes()).to_string() }
}

/// A deduplication id: the same for a message that is sent twice, and different for each other request.
pub(crate) fn deduplication_id(request_id: &str, body: &str) -> String {
    let hash = ContentHash::of(body.as_bytes()).to_string();
    format!("{request_id}-{}", hash.get(..32).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_ask_for_different_things_are_no_duplicates() {
        let id = |body: &str| deduplication_id("8e5e5b0e-0000-0000-0000-000000000000", body);
        assert_eq!(id("{\"sync_type\":\"complete\"}"), id("{\"sync_type\":\"complete\"}"));
        assert_ne!(id("{\"sync_type\":\"complete\"}"), id("{\"sync_type\":\"incremental\"}"));
        assert!(id("").len() <= 128, "the limit of SQS");
    }

    #[test]
    fn any_name_has_a_group_that_a_queue_takes() {
        assert_eq!(group_id("0123abc"), "0123abc");
        for name in ["no such vault", "", "Über", &"x".repeat(1024)] {
            let group = group_id(name);
            assert!(
                group.len() == 64 && group.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{name}: {group}"
            );
        }
    }
}
