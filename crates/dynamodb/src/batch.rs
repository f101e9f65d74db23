//! Many items at once: looked up by 100, or found by a scan. Items that DynamoDB leaves unprocessed are
//! requested again.

use aws_sdk_dynamodb::types::KeysAndAttributes;
use futures_util::{StreamExt, TryStreamExt, stream};
use obsync_core::StateError;
use obsync_protocol::limits;

use super::attributes::{Item, VAULT_ID, key, text};
use super::error::{CallError, CallFault};
use super::options::Pauses;
use super::table::DynamoTable;

/// Most items in one look-up request (BatchGetItem).
const LOOKED_UP: usize = 100;
/// Concurrent requests of a large look-up.
const AT_A_TIME: usize = 4;

/// The items that a scan finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Items whose key begins with this.
    BeginningWith(&'a str),
    /// Keys that contain this, without the other attributes.
    KeysWith(&'a str),
    /// Items whose key does not contain this.
    Without(&'a str),
}

impl DynamoTable {
    /// Reads one item, strongly consistent.
    pub(super) async fn get(&self, item: &str) -> Result<Option<Item>, StateError> {
        let name = self.name().as_str();
        let request = |client: &aws_sdk_dynamodb::Client| {
            client.get_item().table_name(name).set_key(Some(key(item))).consistent_read(true).send()
        };
        Ok(self.send(request).await?.item)
    }

    /// The items of these keys (distinct), in no order; missing ones are left out.
    pub(super) async fn look_up(&self, keys: Vec<String>) -> Result<Vec<Item>, StateError> {
        let batches: Vec<Vec<String>> = keys.chunks(LOOKED_UP).map(<[String]>::to_vec).collect();
        let answers =
            stream::iter(batches).map(|batch| self.look_up_batch(batch)).buffer_unordered(AT_A_TIME);
        answers.try_concat().await
    }

    async fn look_up_batch(&self, keys: Vec<String>) -> Result<Vec<Item>, StateError> {
        let mut found = Vec::with_capacity(keys.len());
        let mut wanted: Vec<Item> = keys.into_iter().map(key).collect();
        let mut pauses = self.options().pauses();
        while !wanted.is_empty() {
            let asked = wanted.len();
            let keys = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true).build();
            let keys = keys.map_err(|error| self.unavailable(error.to_string()))?;
            let request = |client: &aws_sdk_dynamodb::Client| {
                client.batch_get_item().request_items(self.name().as_str(), keys.clone()).send()
            };
            let answer = self.send(request).await?;
            found.extend(answer.responses.into_iter().flatten().flat_map(|(_, items)| items));
            let left = answer.unprocessed_keys.into_iter().flatten();
            wanted = left.flat_map(|(_, keys)| keys.keys).take(asked).collect();
            self.pause_for_rest(asked, wanted.len(), &mut pauses).await?;
        }
        Ok(found)
    }

    /// Passes all wanted items to `take`. Reads the whole table, a megabyte a request.
    pub(super) async fn scan(
        &self,
        wanted: Wanted<'_>,
        mut take: impl FnMut(Item) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut from: Option<Item> = None;
        for _ in 0..limits::TABLE_PAGES {
            let request = |client: &aws_sdk_dynamodb::Client| {
                let scan = client.scan().table_name(self.name().as_str()).consistent_read(true);
                let (filter, sought, attributes) = match wanted {
                    Wanted::BeginningWith(prefix) => ("begins_with(#key, :sought)", prefix, None),
                    Wanted::KeysWith(part) => ("contains(#key, :sought)", part, Some("#key".to_owned())),
                    Wanted::Without(part) => ("NOT contains(#key, :sought)", part, None),
                };
                scan.filter_expression(filter)
                    .set_projection_expression(attributes)
                    .expression_attribute_names("#key", VAULT_ID)
                    .expression_attribute_values(":sought", text(sought))
                    .set_exclusive_start_key(from.clone())
                    .send()
            };
            if from.is_some() && self.is_hurried() {
                return Err(self.unavailable("it was not read to its end"));
            }
            let answer = self.send(request).await?;
            answer.items.into_iter().flatten().try_for_each(&mut take)?;
            let next = answer.last_evaluated_key;
            if next.is_none() {
                return Ok(());
            }
            if next == from {
                break;
            }
            from = next;
        }
        Err(self.unavailable("the table has no end: it names the same page again, or has more than 100 GB"))
    }

    /// Waits before the rest of a batch is requested again. Continues as long as each request processes some
    /// of it.
    async fn pause_for_rest(&self, asked: usize, left: usize, pauses: &mut Pauses) -> Result<(), StateError> {
        if left == 0 {
            return Ok(());
        }
        let pause = match left < asked {
            true => self.options().min_delay,
            false => pauses.next().ok_or_else(|| self.error(CallFault::Throttled, pauses.attempts()))?,
        };
        tracing::debug!(asked, left, ?pause, "DynamoDB left a part of a batch undone");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The error of an unconditional request.
    pub(super) fn without_condition<E>(&self, error: CallError<E>) -> StateError {
        error.unconditional(|| self.error(CallFault::Condition, 1))
    }
}
