//! The tables as tests see them, without requests and without faults.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::CloudError;

/// The tables of a cloud, seen from inside: no request is counted, no fault strikes.
///
/// Items are in the JSON of the DynamoDB API: `{"vault_id": {"S": "…"}, …}`.
pub struct DynamoDb {
    database: dynoxide::Database,
}

impl std::fmt::Debug for DynamoDb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoDb").finish_non_exhaustive()
    }
}

impl DynamoDb {
    pub(super) fn new(database: dynoxide::Database) -> Self {
        Self { database }
    }

    /// Makes a table with the hash key `vault_id`, paid by request.
    ///
    /// # Errors
    /// When there is such a table already, or the name is none.
    pub fn create_table(&self, name: &str) -> Result<(), CloudError> {
        let table = json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{ "AttributeName": "vault_id", "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": "vault_id", "AttributeType": "S" }],
        });
        self.call(table, |database, request| database.create_table(request)).map(drop)
    }

    /// Deletes a table with everything in it.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn delete_table(&self, name: &str) -> Result<(), CloudError> {
        let request = json!({ "TableName": name });
        self.call(request, |database, request| database.delete_table(request)).map(drop)
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
            let mut page = self.call(request, |database, request| database.scan(request))?;
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
        let mut answer = self.call(request, |database, request| database.get_item(request))?;
        Ok(answer.get_mut("Item").map(Value::take).filter(|item| !item.is_null()))
    }

    /// Puts an item, as somebody else would.
    ///
    /// # Errors
    /// When there is no such table, or the item is none.
    pub fn put_item(&self, table: &str, item: Value) -> Result<(), CloudError> {
        let request = json!({ "TableName": table, "Item": item });
        self.call(request, |database, request| database.put_item(request)).map(drop)
    }

    /// Deletes what is past its time to live, as AWS does within days; how many items that were.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sweep_ttl(&self) -> Result<usize, CloudError> {
        self.database.sweep_ttl().map_err(|error| CloudError::Database(error.to_string()))
    }

    fn call<Q: DeserializeOwned, A: Serialize>(
        &self,
        request: Value,
        operation: impl FnOnce(&dynoxide::Database, Q) -> Result<A, dynoxide::DynoxideError>,
    ) -> Result<Value, CloudError> {
        let failed = |error: serde_json::Error| CloudError::Database(error.to_string());
        let request = serde_json::from_str(&request.to_string()).map_err(failed)?;
        let answer =
            operation(&self.database, request).map_err(|error| CloudError::Database(error.to_string()))?;
        serde_json::to_value(answer).map_err(failed)
    }
}
