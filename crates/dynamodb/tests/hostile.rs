//! A hostile table service: each answer is bounded in memory, and each list comes to an end.
//!
//! A separate process, because its peak resident memory is measured.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

#[path = "dynamodb/scene.rs"]
#[allow(dead_code, reason = "shared with the other tests of the table")]
mod scene;

use std::time::{Duration, Instant};

use obsync_conformance::peak_memory;
use obsync_dynamodb::{DynamoState, DynamoTable, TableName};
use obsync_protocol::limits;
use obsync_testcloud::{Rogue, RogueAnswer, rogue_answer, rogue_flood};

use scene::{DESTINATION, Scene, client, key, quick};

const JSON: &str = "application/x-amz-json-1.0";

/// A table at a service that gives this answer to every request.
async fn table(answer: impl Fn(&str, &str) -> RogueAnswer + Send + Sync + 'static) -> (Rogue, DynamoTable) {
    let rogue = Rogue::start(answer).await.unwrap();
    let client = client(&rogue.endpoint(), "eu-central-1", ("key", "secret"));
    (rogue, DynamoTable::new(&client, TableName::default(), quick()))
}

/// The error of opening a state at such a service, which must come quickly.
async fn refused(table: &DynamoTable, scene: &Scene) -> String {
    let begun = Instant::now();
    let outcome = DynamoState::open(table, key(DESTINATION), &scene.lease_of("a test")).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    outcome.err().map(|error| error.to_string()).unwrap()
}

#[tokio::test]
async fn an_answer_without_end_takes_no_more_memory_than_the_largest_honest_one() {
    let scene = Scene::new().await;
    for stretch in [" ", "{},", "\"a\":{\"S\":\"b\"},"] {
        for status in [200, 400, 500] {
            let (rogue, table) = table(move |_, _| rogue_flood(status, JSON, stretch)).await;
            refused(&table, &scene).await;
            let most = rogue.requests() * (limits::CLOUD_ANSWER as u64 + (16 << 20));
            assert!(rogue.sent() <= most, "{} bytes in {} requests", rogue.sent(), rogue.requests());
        }
    }
    assert!(peak_memory() < MOST_MEMORY, "{} MB", peak_memory() >> 20);
}

/// Most resident memory of this process, in bytes: its other tests run beside, and an honest run takes some 20 MB.
const MOST_MEMORY: u64 = 150 << 20;

#[tokio::test]
async fn an_item_nested_without_end_does_not_take_the_stack() {
    let scene = Scene::new().await;
    let nested = format!("{{\"Item\":{{\"a\":{}", "{\"M\":{\"a\":".repeat(500_000));
    let (_rogue, table) = table(move |_, _| rogue_answer(200, JSON, &nested)).await;
    refused(&table, &scene).await;
}

#[tokio::test]
async fn a_scan_whose_pages_lead_nowhere_ends() {
    let page = r#"{"Count":0,"ScannedCount":0,"Items":[],"LastEvaluatedKey":{"vault_id":{"S":"a"}}}"#;
    let (rogue, table) = table(move |_, _| rogue_answer(200, JSON, page)).await;
    let found = table.states().await.map(drop).unwrap_err();
    assert!(found.to_string().contains("no end"), "{found}");
    assert!(rogue.requests() < 20, "{} requests", rogue.requests());
}
