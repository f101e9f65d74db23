//! Point-in-time recovery, which the engine lacks: it can be enabled and queried.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::super::http::FullBody;
use super::super::json_api::{json_answer, json_error};
use super::engine::Engine;
use super::proxy::JSON;

/// The tables that can be restored.
#[derive(Debug, Default)]
pub(super) struct Backups(Mutex<HashSet<String>>);

impl Backups {
    /// True if a table can be restored.
    pub(super) fn is_restorable(&self, table: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(table)
    }

    /// Answers requests about recovery; `None` for other requests.
    pub(super) fn answer(&self, engine: &Engine, operation: &str, body: &[u8]) -> Option<Response<FullBody>> {
        let request: Value = match operation {
            "DescribeContinuousBackups" | "UpdateContinuousBackups" => {
                serde_json::from_slice(body).unwrap_or_default()
            }
            _ => return None,
        };
        let table = request["TableName"].as_str().unwrap_or_default();
        if !is_there(engine, table) {
            let kind = "com.amazonaws.dynamodb.v20120810#TableNotFoundException";
            let message = format!("Table not found: {table}");
            return Some(json_error(StatusCode::BAD_REQUEST, JSON, kind, &message));
        }
        let mut restorable = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &request["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] {
            Value::Bool(true) => drop(restorable.insert(table.to_owned())),
            Value::Bool(false) => drop(restorable.remove(table)),
            _ => {}
        }
        let status = if restorable.contains(table) { "ENABLED" } else { "DISABLED" };
        let answer = json!({ "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": { "PointInTimeRecoveryStatus": status },
        }});
        Some(json_answer(StatusCode::OK, JSON, &answer))
    }
}

fn is_there(engine: &Engine, table: &str) -> bool {
    engine.call("DescribeTable", json!({ "TableName": table })).is_ok()
}
