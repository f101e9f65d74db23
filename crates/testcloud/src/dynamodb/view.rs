//! The tables for tests, without requests and faults.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::CloudError;
use super::backups::Backups;
use super::capacity::{Capacity, Meter};
use super::engine::Engine;

/// Direct access to the tables of a cloud: no request is counted, no fault strikes.
///
/// Items are in the JSON of the DynamoDB API: `{"vault_id": {"S": "…"}, …}`.
pub struct DynamoDb {
    engine: Arc<Engine>,
    meter: Meter,
    backups: Arc<Backups>,
}

impl std::fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoDb").finish_non_exhaustive()
    }
}

impl DynamoDb {
    pub(super) fn new(engine: Arc<Engine>, meter: Meter, backups: Arc<Backups>) -> Self {
        Self { engine, meter, backups }
    }

    /// The properties of a table in terms of CloudFormation's `AWS::DynamoDB::Table`, without unset ones.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn properties(&self, table: &str) -> Result<Value, CloudError> {
        let mut answer = self.engine.call("DescribeTable", json!({ "TableName": table }))?;
        let mut described = answer["Table"].take();
        let tags = self.engine.call("ListTagsOfResource", json!({ "ResourceArn": described["TableArn"] }))?;
        let ttl = self.engine.call("DescribeTimeToLive", json!({ "TableName": table }))?;
        let ttl = &ttl["TimeToLiveDescription"];
        let mut properties = json!({
            "BillingMode": described["BillingModeSummary"]["BillingMode"],
            "AttributeDefinitions": described["AttributeDefinitions"].take(),
            "KeySchema": described["KeySchema"].take(),
        });
        if ttl["TimeToLiveStatus"] == "ENABLED" {
            properties["TimeToLiveSpecification"] =
                json!({ "AttributeName": ttl["AttributeName"], "Enabled": true });
        }
        if self.backups.is_restorable(table) {
            properties["PointInTimeRecoverySpecification"] = json!({ "PointInTimeRecoveryEnabled": true });
        }
        if described["SSEDescription"]["Status"] == "ENABLED" {
            properties["SSESpecification"] = json!({ "SSEEnabled": true });
        }
        if tags["Tags"].as_array().is_some_and(|tags| !tags.is_empty()) {
            properties["Tags"] = tags["Tags"].clone();
        }
        Ok(properties)
    }

    /// The units used by requests so far. Refused requests use none here.
    pub fn capacity(&self) -> Capacity {
        self.meter.read()
    }

    /// Creates a table with the hash key `vault_id`, billed by request.
    ///
    /// # Errors
    /// When the table exists already, or its name is invalid.
    pub fn create_table(&self, name: &str) -> Result<(), CloudError> {
        let table = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{ "AttributeName": "vault_id", "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": "vault_id", "AttributeType": "S" }],
        });
        self.engine.call("CreateTable", table).map(drop)
    }

    /// Deletes a table with everything in it.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn delete_table(&self, name: &str) -> Result<(), CloudError> {
        let request = json!({ "TableName": name });
        self.engine.call("DeleteTable", request).map(drop)
    }

    /// Every item of a table, in no order.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn items(&self, table: &str) -> Result<Vec<Value>, CloudError> {
        let mut items = Vec::new();
        let mut start = Value::Null;
        loop {
            let mut request = json!({ "TableName": table, "ConsistentRead": true });
            if !start.is_null() {
                request["ExclusiveStartKey"] = start;
            }
            let mut page = self.engine.call("Scan", request)?;
            if let Some(Value::Array(found)) = page.get_mut("Items").map(Value::take) {
                items.extend(found);
            }
            start = page.get_mut("LastEvaluatedKey").map(Value::take).unwrap_or_default();
            if start.is_null() {
                return Ok(items);
            }
        }
    }

    /// The item with this `vault_id`, if it is there.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn item(&self, table: &str, vault_id: &str) -> Result<Option<Value>, CloudError> {
        let request = json!({
            "TableName": table,
            "ConsistentRead": true,
            "Key": { "vault_id": { "S": vault_id } },
        });
        let mut answer = self.engine.call("GetItem", request)?;
        Ok(answer.get_mut("Item").map(Value::take).filter(|item| !item.is_null()))
    }

    /// Puts an item, as another program.
    ///
    /// # Errors
    /// When there is no such table, or the item is invalid.
    pub fn put_item(&self, table: &str, item: Value) -> Result<(), CloudError> {
        let request = json!({ "TableName": table, "Item": item });
        self.engine.call("PutItem", request).map(drop)
    }

    /// Deletes an item by its key, as another program.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn delete_item(&self, table: &str, key: Value) -> Result<(), CloudError> {
        let request = json!({ "TableName": table, "Key": key });
        self.engine.call("DeleteItem", request).map(drop)
    }

    /// Makes a time in an item earlier, if there is one: as if this many seconds had passed since it was
    /// written.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn age(&self, table: &str, key: &str, attribute: &str, by: u64) -> Result<(), CloudError> {
        if self.item(table, key)?.is_none_or(|item| item.get(attribute).is_none()) {
            return Ok(());
        }
        let request = json!({
            "TableName": table,
            "Key": { "vault_id": { "S": key } },
            "UpdateExpression": "SET #time = #time - :by",
            "ExpressionAttributeNames": { "#time": attribute },
            "ExpressionAttributeValues": { ":by": { "N": by.to_string() } },
        });
        self.engine.call("UpdateItem", request).map(drop)
    }

    /// Deletes expired items, as AWS does within days; returns their number.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sweep_ttl(&self) -> Result<u64, CloudError> {
        Ok(self.engine.call("SweepTtl", Value::Null)?.as_u64().unwrap_or_default())
    }
}
