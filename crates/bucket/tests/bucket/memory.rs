//! The memory of waiting contents is bounded.

use obsync_core::{Describe, Receive};
use std::time::Duration;

use obsync_bucket::BucketOptions;
use obsync_conformance::{at, meta, publish_one, stage};
use obsync_core::Destination;

use crate::buckets::{MemoryBucket, options};

#[tokio::test(start_paused = true)]
async fn a_file_begins_when_there_is_room_for_it() {
    let bucket = MemoryBucket::new();
    let store = bucket.open(BucketOptions { memory: 100 << 10, ..options() });
    let content = vec![1; 60 << 10];
    let first = stage(&store, "a.md", &content, 1).await;
    let second = store.clone();
    let second = tokio::spawn(async move { stage(&second, "b.md", &vec![2; 60 << 10], 1).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!second.is_finished(), "there is room for 40 KiB");
    publish_one(&store, first, None).await.unwrap();
    publish_one(&store, second.await.unwrap(), None).await.unwrap();
    // A content that is larger than all memory gets all of it.
    let large = stage(&store, "c.md", &vec![3; 200 << 10], 1).await;
    publish_one(&store, large, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn room_is_given_back_whatever_becomes_of_a_content() {
    let bucket = MemoryBucket::new();
    let store = bucket.open(BucketOptions { memory: 64 << 10, ..options() });
    let content = vec![1; 64 << 10];
    for _ in 0..3 {
        let mut writer = store.begin(&at("a.md"), &meta(&content, 1)).await.unwrap();
        writer.write(vec![1; 10]).await.unwrap();
        drop(writer);
        drop(stage(&store, "a.md", &content, 1).await);
        store.end_run().await;
    }
}

#[tokio::test]
async fn a_content_that_is_larger_than_its_list_says_takes_no_more_memory_than_that() {
    let bucket = MemoryBucket::new();
    let store = bucket.open(options());
    let mut writer = store.begin(&at("a.md"), &meta(b"four", 1)).await.unwrap();
    writer.write(b"fou".to_vec()).await.unwrap();
    let error = writer.write(b"r and more".to_vec()).await.unwrap_err();
    assert!(!error.is_fatal() && error.to_string().contains("larger than the 4 bytes"), "{error}");
}

#[test]
fn the_engine_is_told_what_a_content_holds() {
    let options = BucketOptions { part_size: 8 << 20, ..BucketOptions::default() };
    assert_eq!(options.memory_for(2_000), 2_000);
    assert_eq!(options.memory_for(8 << 20), 8 << 20);
    assert_eq!(options.memory_for(190 << 20), 10 << 20, "two parts");
    let store = MemoryBucket::new().open(options);
    assert_eq!(store.traits().batch_limit.bytes, 64 << 20);
    assert_eq!(store.memory_for(190 << 20), 14 << 20, "and what is between the network and the store");
}
