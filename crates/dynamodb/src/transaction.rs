//! The only way to write to a state: transactions that update the head, on the condition that nobody else
//! did.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use obsync_core::{DeferredKind, StateError};

use super::attributes::{self, Changes, Item, Reader, key, number};
use super::error::{CallError, transaction_fault};
use super::head::{Counts, Head, names};
use super::keys::ItemKeys;
use super::lease::{Lease, seconds};
use super::table::DynamoTable;

/// Most items that one transaction writes besides the head. DynamoDB allows 100 altogether.
pub(super) const WRITES: usize = 99;
/// Most bytes of items in one transaction. DynamoDB allows 4 MB.
const BYTES: usize = 3 << 20;

/// One item to put or remove.
#[derive(Clone, Debug)]
pub(super) struct Write {
    key: String,
    /// The item; `None` removes it.
    item: Option<Item>,
    /// Change of the head's counts.
    delta: Counts,
    is_record: bool,
}

impl Write {
    /// Puts an item over an older one of its key.
    pub(super) fn put(key: String, item: Item, delta: Counts) -> Self {
        Write { key, item: Some(item), delta, is_record: false }
    }

    /// Puts the item of a record.
    pub(super) fn record(key: String, item: Item, delta: Counts) -> Self {
        Write { is_record: true, ..Write::put(key, item, delta) }
    }

    /// Removes an item; it may be missing.
    pub(super) fn removal(key: String, delta: Counts) -> Self {
        Write { key, item: None, delta, is_record: false }
    }

    fn size(&self) -> usize {
        self.item.as_ref().map_or(self.key.len(), attributes::size)
    }

    fn build(&self, table: &str) -> Result<TransactWriteItem, BuildError> {
        let write = TransactWriteItem::builder();
        Ok(match self.item.clone() {
            Some(item) => write.put(Put::builder().table_name(table).set_item(Some(item)).build()?),
            None => {
                let removed = Delete::builder().table_name(table).set_key(Some(key(&self.key)));
                write.delete(removed.build()?)
            }
        }
        .build())
    }
}

/// All writes of a commit.
#[derive(Debug, Default)]
pub(super) struct WritePlan {
    /// Written before the head's update, in this order, in as many transactions as needed.
    pub(super) before: Vec<Write>,
    /// Written in the head's own transaction, as far as it has room.
    pub(super) with_head: Vec<Write>,
    /// Removed after the head's update.
    pub(super) after: Vec<Write>,
    /// The new head. Its counts and revision are updated here.
    pub(super) head: Head,
    /// Change of the counts beyond those of the single writes.
    pub(super) delta: Counts,
    /// What must be written before this plan can be made.
    pub(super) needs: Option<Needs>,
}

/// What a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// More pages for deferred changes of this kind.
    Pages(DeferredKind),
    /// The deferred changes: some move from one kind to the other, and the plan has several transactions. At
    /// no time may a change be in neither.
    Arrivals,
}

impl WritePlan {
    /// True if nothing but the head would be written.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.with_head.is_empty() && self.after.is_empty()
    }

    /// True if one transaction has room for all writes before the removals, and for `more` small ones.
    pub(super) fn is_single(&self, more: usize) -> bool {
        let writes = || self.before.iter().chain(&self.with_head);
        fits(writes().count() + more, writes().map(Write::size).sum())
    }

    /// The transactions up to the head's, which is the last one, and the removals after it.
    fn divided(self) -> (Vec<Vec<Write>>, Vec<Write>) {
        let (mut parts, mut tied, mut after) = (divide(self.before), divide(self.with_head), self.after);
        let last = tied.pop().unwrap_or_default();
        parts.extend(tied);
        let size = |part: &[Write]| part.iter().map(Write::size).sum::<usize>();
        match parts.last_mut() {
            Some(part) if fits(part.len() + last.len(), size(part) + size(&last)) => part.extend(last),
            _ => parts.push(last),
        }
        if let Some(part) = parts.last_mut() {
            // The size of removals is negligible.
            part.extend(after.drain(..after.len().min(WRITES - part.len())));
        }
        (parts, after)
    }
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// An earlier given-up request took effect after all, so the head differs from the cached one.
    Stale,
    /// Another run has the lease.
    LeaseLost,
    /// Anything else.
    State(StateError),
}

/// Writes under a lease.
pub(super) struct Writer<'a> {
    pub(super) table: &'a DynamoTable,
    pub(super) keys: &'a ItemKeys,
    pub(super) lease: &'a Lease,
    /// The number of the last attempted transaction under this lease. None is used twice, whether it
    /// succeeded or not.
    pub(super) revisions: &'a AtomicU64,
}

impl Writer<'_> {
    /// Carries a plan out and brings `head` up to date with it.
    pub(super) async fn carry_out(&self, plan: WritePlan, head: &mut Head) -> Result<(), WriteError> {
        let (whole, delta) = (plan.head.clone(), plan.delta);
        let (parts, after) = plan.divided();
        let last = parts.len() - 1;
        for (number, part) in parts.into_iter().enumerate() {
            let mut next = match number == last {
                false => head.clone(),
                true => Head { counts: head.counts.plus(delta), ..whole.clone() },
            };
            next.counts = part.iter().fold(next.counts, |counts, write| counts.plus(write.delta));
            next.recorded = head.recorded || part.iter().any(|write| write.is_record);
            next.revision = self.transact(&part, &next, head.revision).await?;
            *head = next;
        }
        for part in divide(after) {
            head.revision = self.transact(&part, head, head.revision).await?;
        }
        Ok(())
    }

    /// Runs one transaction; returns its revision. Lost answers do no harm: a transaction that took effect is
    /// recognised by its revision.
    async fn transact(&self, writes: &[Write], head: &Head, seen: u64) -> Result<u64, WriteError> {
        let revision = self.revisions.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = |error: BuildError| WriteError::State(self.table.unavailable(error.to_string()));
        let mut items = vec![self.head_update(head, revision, seen).map_err(failed)?];
        for write in writes {
            items.push(write.build(self.table.name().as_str()).map_err(failed)?);
        }
        match self.send(items).await? {
            None => Ok(revision),
            Some(found) if self.is_ours(&found) => match Reader(&found).number::<u64>(names::REVISION) {
                Ok(found) if found == revision => Ok(revision),
                _ => Err(WriteError::Stale),
            },
            Some(_) => Err(WriteError::LeaseLost),
        }
    }

    /// Writes at most [`WRITES`] items beside the state, if the lease is still ours.
    pub(super) async fn write_beside(&self, writes: &[Write]) -> Result<(), WriteError> {
        let failed = |error: BuildError| WriteError::State(self.table.unavailable(error.to_string()));
        let name = self.table.name().as_str();
        let mut changes = Changes::default();
        let condition = self.lease.condition(&mut changes);
        let check = ConditionCheck::builder()
            .table_name(name)
            .set_key(Some(key(self.keys.head())))
            .condition_expression(condition)
            .set_expression_attribute_names(Some(changes.names.clone()))
            .set_expression_attribute_values(changes.values())
            .build()
            .map_err(failed)?;
        let mut items = vec![TransactWriteItem::builder().condition_check(check).build()];
        for write in writes {
            items.push(write.build(name).map_err(failed)?);
        }
        match self.send(items).await? {
            None => Ok(()),
            Some(_) => Err(WriteError::LeaseLost),
        }
    }

    /// Sends a transaction whose first item is the head. `Some`: its condition was not met, because of this
    /// head.
    async fn send(&self, items: Vec<TransactWriteItem>) -> Result<Option<Item>, WriteError> {
        let request =
            |client: &Client| client.transact_write_items().set_transact_items(Some(items.clone())).send();
        match self.table.call_judged(request, transaction_fault).await {
            Ok(_) => Ok(None),
            Err(CallError::Failed(error)) => Err(WriteError::State(error)),
            Err(CallError::Refused(TransactWriteItemsError::TransactionCanceledException(cancelled))) => {
                let reason = cancelled
                    .cancellation_reasons
                    .and_then(|mut reasons| (!reasons.is_empty()).then(|| reasons.swap_remove(0)));
                Ok(Some(reason.and_then(|reason| reason.item).unwrap_or_default()))
            }
            Err(CallError::Refused(_)) => Ok(Some(Item::default())),
        }
    }

    fn head_update(&self, head: &Head, revision: u64, seen: u64) -> Result<TransactWriteItem, BuildError> {
        let mut changes = head.changes();
        changes.set(names::REVISION, number(revision));
        changes.set(names::LEASE_EXPIRES, number(seconds(self.lease.expiry(self.table.now()))));
        let is_leased = self.lease.condition(&mut changes);
        let seen = changes.operand("seen", number(seen));
        let condition = format!("{is_leased} AND {} = {seen}", changes.attribute(names::REVISION));
        let update = Update::builder()
            .table_name(self.table.name().as_str())
            .set_key(Some(key(self.keys.head())))
            .update_expression(changes.expression())
            .condition_expression(condition)
            .set_expression_attribute_values(changes.values())
            .set_expression_attribute_names(Some(changes.names))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn is_ours(&self, head: &Item) -> bool {
        let head = Reader(head);
        head.number(names::FENCING) == Ok(self.lease.fencing)
            && head.find_text(names::LEASE_ID) == Ok(Some(&self.lease.id))
    }
}

/// True if one transaction has room for this many writes and bytes.
fn fits(count: usize, bytes: usize) -> bool {
    count <= WRITES && bytes <= BYTES
}

/// Divides writes into transactions, in order.
pub(super) fn divide(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut parts: Vec<Vec<Write>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = write.size();
        match parts.last_mut() {
            Some(part) if fits(part.len() + 1, bytes + size) => {
                bytes += size;
                part.push(write);
            }
            _ => {
                bytes = size;
                parts.push(vec![write]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::text;

    fn write(size: usize) -> Write {
        let item = Item::from([("data".to_owned(), text("x".repeat(size)))]);
        Write::put("key".to_owned(), item, Counts::default())
    }

    #[test]
    fn writes_are_divided_by_number_and_by_size_in_their_order() {
        let lengths = |parts: Vec<Vec<Write>>| parts.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(divide(Vec::new())), [0; 0]);
        assert_eq!(lengths(divide(vec![write(1); 99])), [99]);
        assert_eq!(lengths(divide(vec![write(1); 200])), [99, 99, 2]);
        assert_eq!(lengths(divide(vec![write(1 << 20); 5])), [2, 2, 1]);
        assert_eq!(
            lengths(divide(vec![write(4 << 20); 2])),
            [1, 1],
            "one that is too large is not forgotten"
        );
    }

    #[test]
    fn what_belongs_to_the_head_is_in_its_transaction() {
        let divided = |before: usize, with_head: usize, after: usize| {
            let plan = WritePlan {
                before: vec![write(1); before],
                with_head: vec![write(1); with_head],
                after: vec![write(1); after],
                ..WritePlan::default()
            };
            let is_single = plan.is_single(0);
            let (parts, after) = plan.divided();
            (is_single, parts.iter().map(Vec::len).collect::<Vec<_>>(), after.len())
        };
        assert_eq!(divided(0, 0, 0), (true, vec![0], 0), "the head alone");
        assert_eq!(divided(98, 1, 5), (true, vec![99], 5));
        assert_eq!(divided(90, 2, 3), (true, vec![95], 0));
        assert_eq!(divided(98, 2, 0), (false, vec![98, 2], 0), "not one here and one there");
        assert_eq!(divided(100, 3, 200), (false, vec![99, 99], 105));
    }
}
