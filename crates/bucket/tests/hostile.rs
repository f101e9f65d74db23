//! A hostile bucket service: each answer is bounded in memory, and each list comes to an end.
//!
//! A separate process, because its peak resident memory is measured.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

#[path = "bucket/buckets.rs"]
#[allow(dead_code, reason = "shared with the other tests of the bucket")]
mod buckets;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::{at, peak_memory, publish_one, stage};
use obsync_core::{Destination, DestinationError, DestinationExt, Inspect};
use obsync_protocol::{ContentHash, limits};
use obsync_testcloud::{Rogue, RogueAnswer, rogue_answer, rogue_flood};

use buckets::{config, location, options};

const XML: &str = "application/xml";

/// A bucket at a service that gives this answer to every request.
async fn bucket(
    answer: impl Fn(&str, &str) -> RogueAnswer + Send + Sync + 'static,
) -> (Rogue, BucketDestination) {
    let rogue = Rogue::start(answer).await.unwrap();
    let options = BucketOptions { endpoint: Some(rogue.endpoint()), ..options() };
    let store = BucketDestination::open_s3(&location(), options, &config("key", "secret")).await.unwrap();
    (rogue, store)
}

/// A page of a list with one object, that names the page `next`.
fn page(key: &str, next: &str) -> String {
    let object = match key {
        "" => String::new(),
        key => format!("<Contents><Key>notes/My%20Vault/{key}</Key><Size>1</Size></Contents>"),
    };
    format!(
        "<ListBucketResult><EncodingType>url</EncodingType>{object}<IsTruncated>true</IsTruncated>\
         <NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"
    )
}

async fn list_is_refused(store: &BucketDestination) -> String {
    let begun = Instant::now();
    let refused = store.list().await.map(drop).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
    refused.to_string()
}

#[tokio::test]
async fn an_answer_without_end_takes_no_more_memory_than_the_largest_honest_one() {
    for stretch in [" ", "<Contents><Key>a</Key><Size>1</Size></Contents>"] {
        for status in [200, 403] {
            let (rogue, store) = bucket(move |_, _| rogue_flood(status, XML, stretch)).await;
            list_is_refused(&store).await;
            let staged = stage(&store, "a.md", b"text", 0).await;
            publish_one(&store, staged, None).await.unwrap_err();
            let most = rogue.requests() * (limits::CLOUD_ANSWER as u64 + (16 << 20));
            assert!(rogue.sent() <= most, "{} bytes in {} requests", rogue.sent(), rogue.requests());
        }
    }
    assert!(peak_memory() < MOST_MEMORY, "{} MB", peak_memory() >> 20);
}

/// Most resident memory of this process, in bytes: its other tests run beside, and an honest run takes some 20 MB.
const MOST_MEMORY: u64 = 150 << 20;

#[tokio::test]
async fn a_list_that_names_the_same_page_again_ends() {
    let (rogue, store) = bucket(|_, _| rogue_answer(200, XML, &page("a.md", "again"))).await;
    assert!(list_is_refused(&store).await.contains("no end"));
    assert!(rogue.requests() < 10, "{} requests", rogue.requests());
}

#[tokio::test]
async fn a_list_of_empty_pages_ends() {
    let count = std::sync::atomic::AtomicU64::new(0);
    let (_rogue, store) = bucket(move |_, _| {
        let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        rogue_answer(200, XML, &page("", &next.to_string()))
    })
    .await;
    assert!(list_is_refused(&store).await.contains("no end"));
}

#[tokio::test]
async fn xml_that_means_to_grow_or_to_nest_is_refused() {
    let entities = "<!DOCTYPE l [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>\
        <ListBucketResult><Contents><Key>&b;</Key><Size>1</Size></Contents></ListBucketResult>";
    let (_rogue, store) = bucket(move |_, _| rogue_answer(200, XML, entities)).await;
    list_is_refused(&store).await;
    let nested = format!("<ListBucketResult>{}", "<Contents>".repeat(500_000));
    let (_rogue, store) = bucket(move |_, _| rogue_answer(200, XML, &nested)).await;
    list_is_refused(&store).await;
}

#[tokio::test]
async fn an_object_with_more_content_than_it_has_is_not_read_to_its_end() {
    let (rogue, store) = bucket(|first, _| match first.starts_with("GET") {
        true => rogue_flood(200, "text/plain", "more and more "),
        false => rogue_answer(200, "text/plain", ""),
    })
    .await;
    let wanted = obsync_core::Wanted { path: at("a.md"), hash: ContentHash::of(b""), size: 0 };
    let begun = Instant::now();
    let held = store.holds(vec![wanted]).await;
    assert!(
        matches!(held.as_deref(), Ok([false]) | Err(DestinationError::Unavailable { .. })) || held.is_err()
    );
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    assert!(rogue.sent() < (64 << 20), "{} bytes", rogue.sent());
}

#[tokio::test]
async fn a_service_that_calls_every_removal_a_conflict_does_not_get_one_copy_after_the_other() {
    let copies = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&copies);
    let object = "text/plain\r\nlast-modified: Mon, 12 Oct 2009 17:50:30 GMT\r\netag: \"1\"";
    let (_rogue, store) = bucket(move |first, _| {
        let (method, target) = first.split_once(' ').unwrap();
        match method {
            "HEAD" if target.contains("onflict") => rogue_answer(404, XML, ""),
            "HEAD" => rogue_answer(200, object, ""),
            "PUT" => {
                counted.fetch_add(1, Ordering::Relaxed);
                rogue_answer(200, XML, "<CopyObjectResult><ETag>&quot;1&quot;</ETag></CopyObjectResult>")
            }
            _ => rogue_answer(
                200,
                XML,
                "<DeleteResult><Error><Key>notes/My Vault/a.md</Key><Code>PreconditionFailed</Code></Error></DeleteResult>",
            ),
        }
    })
    .await;
    let refused = store.set_aside(&at("a.md")).await.unwrap_err();
    assert!(!refused.is_fatal(), "{refused}");
    assert!(copies.load(Ordering::Relaxed) <= 4, "{copies:?} copies");
}
