//! Requests on several items: finds their table, and leaves half of a batch unprocessed.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::header::CONTENT_LENGTH;
use serde_json::{Map, Value};

use super::super::http::FullBody;

/// The table of a request; of a batch, the first.
pub(super) fn table_of(body: &[u8]) -> String {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return String::new();
    };
    if let Some(table) = request.get("TableName").and_then(Value::as_str) {
        return table.to_owned();
    }
    let tables = request.get("RequestItems").and_then(Value::as_object);
    tables.and_then(|tables| tables.keys().next()).cloned().unwrap_or_default()
}

/// The unprocessed part of a batch, in the format of the answer.
pub(super) struct HeldBack {
    answer_field: &'static str,
    items: Map<String, Value>,
}

impl HeldBack {
    /// Splits a batch in two: the request for the first half (none when that is empty), and the rest.
    pub(super) fn split(operation: &str, body: &[u8]) -> Option<(Option<Bytes>, Self)> {
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let writes = operation == "BatchWriteItem";
        let tables = request.get_mut("RequestItems")?.as_object_mut()?;
        let mut items = Map::new();
        let mut kept = 0;
        for (table, of_table) in tables.iter_mut() {
            let mut rest = of_table.clone();
            let list = if writes { of_table.as_array_mut() } else { keys_of(of_table) }?;
            let half = list.len() / 2;
            list.truncate(half);
            kept += half;
            if writes { rest.as_array_mut() } else { keys_of(&mut rest) }?.drain(..half);
            items.insert(table.clone(), rest);
        }
        tables.retain(|_, of_table| {
            let list = if writes { of_table.as_array_mut() } else { keys_of(of_table) };
            list.is_some_and(|list| !list.is_empty())
        });
        let answer_field = if writes { "UnprocessedItems" } else { "UnprocessedKeys" };
        let first = (kept > 0).then(|| Bytes::from(request.to_string()));
        Some((first, Self { answer_field, items }))
    }

    /// The answer when nothing at all was processed.
    pub(super) fn alone(self) -> String {
        let responses = Value::Object(Map::new());
        let mut answer = Map::from_iter([(self.answer_field.to_owned(), Value::Object(self.items))]);
        if self.answer_field == "UnprocessedKeys" {
            answer.insert("Responses".to_owned(), responses);
        }
        Value::Object(answer).to_string()
    }

    /// Adds the unprocessed part to the engine's answer for the first half.
    pub(super) async fn add_to(self, response: Response<FullBody>) -> Response<FullBody> {
        let (mut parts, body) = response.into_parts();
        // A body in memory cannot fail.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let answer = match serde_json::from_slice(&body) {
            Ok(Value::Object(mut answer)) if parts.status.is_success() => {
                answer.insert(self.answer_field.to_owned(), Value::Object(self.items));
                Bytes::from(Value::Object(answer).to_string())
            }
            _ => return Response::from_parts(parts, Full::new(body)),
        };
        // Both describe the original answer.
        parts.headers.remove("x-amz-crc32");
        parts.headers.remove(CONTENT_LENGTH);
        Response::from_parts(parts, Full::new(answer))
    }
}

fn keys_of(of_table: &mut Value) -> Option<&mut Vec<Value>> {
    of_table.get_mut("Keys")?.as_array_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_batch_of_writes_is_split_in_halves_and_nothing_gets_lost() {
        let body = json!({ "RequestItems": { "t": [1, 2, 3] } }).to_string();
        let (first, rest) = HeldBack::split("BatchWriteItem", body.as_bytes()).unwrap();
        let first: Value = serde_json::from_slice(&first.unwrap()).unwrap();
        assert_eq!(first, json!({ "RequestItems": { "t": [1] } }));
        assert_eq!(Value::Object(rest.items), json!({ "t": [2, 3] }));
    }

    #[test]
    fn one_key_alone_is_held_back_whole() {
        let body = json!({ "RequestItems": { "t": { "Keys": [1], "ConsistentRead": true } } }).to_string();
        let (first, rest) = HeldBack::split("BatchGetItem", body.as_bytes()).unwrap();
        assert!(first.is_none());
        let answer: Value = serde_json::from_str(&rest.alone()).unwrap();
        let keys = json!({ "t": { "Keys": [1], "ConsistentRead": true } });
        assert_eq!(answer, json!({ "UnprocessedKeys": keys, "Responses": {} }));
    }
}
