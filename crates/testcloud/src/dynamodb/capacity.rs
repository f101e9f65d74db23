//! The cost of requests in capacity units, as DynamoDB reports it: transactions cost twice.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;

/// Capacity units: of reading 4 KB each, and of writing 1 KB each.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Capacity {
    /// Units of reading.
    pub read: f64,
    /// Units of writing.
    pub write: f64,
}

impl Capacity {
    /// The units used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { read: self.read - earlier.read, write: self.write - earlier.write }
    }
}

/// Sums the units reported by answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Capacity>>);

/// One table's part of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Consumed {
    capacity_units: f64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reported {
    One(Consumed),
    Many(Vec<Consumed>),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    consumed_capacity: Option<Reported>,
}

/// True if an operation writes items, false if it reads them; `None` for neither.
fn is_write(operation: &str) -> Option<bool> {
    match operation {
        "GetItem" | "BatchGetItem" | "TransactGetItems" | "Query" | "Scan" => Some(false),
        "PutItem" | "UpdateItem" | "DeleteItem" | "BatchWriteItem" | "TransactWriteItems" => Some(true),
        _ => None,
    }
}

impl Meter {
    /// The units used so far.
    pub(super) fn read(&self) -> Capacity {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request with a demand to report its cost.
    pub(super) fn asking(operation: &str, body: Bytes) -> Bytes {
        match body.strip_prefix(b"{").filter(|rest| !rest.trim_ascii_start().starts_with(b"}")) {
            Some(rest) if is_write(operation).is_some() => {
                [br#"{"ReturnConsumedCapacity":"TOTAL","#, rest].concat().into()
            }
            _ => body,
        }
    }

    /// Adds the units reported by an answer.
    pub(super) fn note(&self, operation: &str, answer: &[u8]) {
        let Some(is_write) = is_write(operation) else { return };
        let units: f64 = match serde_json::from_slice(answer) {
            Ok(Answer { consumed_capacity: Some(Reported::One(one)) }) => one.capacity_units,
            Ok(Answer { consumed_capacity: Some(Reported::Many(many)) }) => {
                many.iter().map(|one| one.capacity_units).sum()
            }
            _ => return,
        };
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *(if is_write { &mut used.write } else { &mut used.read }) += units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_ask_for_their_cost_and_answers_are_added_up() {
        let asked = Meter::asking("PutItem", Bytes::from_static(br#"{"TableName":"t"}"#));
        assert_eq!(asked, br#"{"ReturnConsumedCapacity":"TOTAL","TableName":"t"}"#.as_slice());
        assert_eq!(Meter::asking("ListTables", Bytes::from_static(b"{}")), b"{}".as_slice());
        let meter = Meter::default();
        meter.note("GetItem", br#"{"Item":{},"ConsumedCapacity":{"TableName":"t","CapacityUnits":0.5}}"#);
        let before = meter.read();
        meter.note(
            "TransactWriteItems",
            br#"{"ConsumedCapacity":[{"CapacityUnits":4.0},{"CapacityUnits":2.0}]}"#,
        );
        meter.note("TransactWriteItems", br#"{"__type":"refused"}"#);
        assert_eq!(before, Capacity { read: 0.5, write: 0.0 });
        assert_eq!(meter.read().since(before), Capacity { read: 0.0, write: 6.0 });
    }
}
