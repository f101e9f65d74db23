//! Deletions that a user confirmed while a run had the lease: an item with their uids beside the state,
//! written without the lease.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use obsync_core::StateError;

use super::attributes::{Reader, key, number};
use super::error::CallError;
use super::keys::ItemKeys;
use super::progress::TTL;
use super::table::DynamoTable;

/// Interval at which a waiting process looks for them.
pub(super) const LOOKED_FOR: Duration = Duration::from_secs(30);
/// The attribute with the uids.
const UIDS: &str = "uids";
/// Most uids added by one request: an item has room for 400 KB.
const MOST: usize = 10_000;
/// Their lifetime in seconds if no run takes them over: later deletions of the same entries need a new
/// confirmation.
const KEPT: i64 = 7 * 24 * 3600;
/// Attempts to add them if the item expires or is replaced at that moment.
const ATTEMPTS: usize = 3;

/// The confirmed uids.
pub(super) async fn read(table: &DynamoTable, keys: &ItemKeys) -> Result<Vec<u64>, StateError> {
    let item = table.get(&keys.confirmed()).await?.unwrap_or_default();
    // DynamoDB removes an item up to some days after its expiry.
    if Reader(&item).find_number::<i64>(TTL).ok().flatten().is_some_and(|ttl| ttl <= table.now() / 1000) {
        return Ok(Vec::new());
    }
    let Some(AttributeValue::Ns(uids)) = item.get(UIDS) else { return Ok(Vec::new()) };
    Ok(uids.iter().filter_map(|uid| uid.parse().ok()).collect())
}

pub(super) async fn add(table: &DynamoTable, keys: &ItemKeys, uids: &[u64]) -> Result<(), StateError> {
    // A rename shares its uid, and a set rejects duplicates.
    let uids: Vec<u64> = uids.iter().copied().collect::<BTreeSet<u64>>().into_iter().collect();
    if uids.len() > MOST {
        let reason = format!(
            "{} deletions are too many to be confirmed while a run is at work ({MOST} can be); confirm them when it ended",
            uids.len()
        );
        return Err(table.unavailable(reason));
    }
    let seconds = table.now() / 1000;
    // An expired item may still be there; its uids must not become valid again with the new ones.
    const COUNTS: &str = "attribute_not_exists(#ttl) OR #ttl > :now";
    let (adding, replacing) = (COUNTS.to_owned(), format!("NOT ({COUNTS})"));
    for _ in 0..ATTEMPTS {
        for (expression, condition) in
            [("ADD #uids :uids SET #ttl = :ttl", &adding), ("SET #uids = :uids, #ttl = :ttl", &replacing)]
        {
            let request = |client: &Client| {
                update(client, table, keys, &uids, expression)
                    .condition_expression(condition)
                    .expression_attribute_names("#ttl", TTL)
                    .expression_attribute_values(":ttl", number(seconds + KEPT))
                    .expression_attribute_values(":now", number(seconds))
                    .send()
            };
            match table.call(request).await {
                Ok(_) => return Ok(()),
                Err(CallError::Refused(_)) => {}
                Err(CallError::Failed(error)) => return Err(error),
            }
        }
    }
    Err(table.unavailable("others keep changing the deletions that were confirmed; confirm them again"))
}

/// Removes uids. Others added at this moment stay.
pub(super) async fn remove(table: &DynamoTable, keys: &ItemKeys, uids: &[u64]) -> Result<(), StateError> {
    if uids.is_empty() {
        return Ok(());
    }
    table.send(|client| update(client, table, keys, uids, "DELETE #uids :uids").send()).await.map(drop)
}

fn update(
    client: &Client,
    table: &DynamoTable,
    keys: &ItemKeys,
    uids: &[u64],
    expression: &str,
) -> UpdateItemFluentBuilder {
    client
        .update_item()
        .table_name(table.name().as_str())
        .set_key(Some(key(keys.confirmed())))
        .update_expression(expression)
        .expression_attribute_names("#uids", UIDS)
        .expression_attribute_values(":uids", AttributeValue::Ns(uids.iter().map(u64::to_string).collect()))
}
