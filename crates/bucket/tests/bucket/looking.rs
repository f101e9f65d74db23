//! Existing objects are found with few requests.

use obsync_conformance::{at, place};
use obsync_core::{Destination, DestinationExt, Inspect, Wanted};
use obsync_protocol::ContentHash;

use crate::buckets::S3Bucket;

fn wanted(path: &str, content: &[u8]) -> Wanted {
    Wanted { path: at(path), hash: ContentHash::of(content), size: content.len() as u64 }
}

#[tokio::test]
async fn a_few_questions_cost_one_request_each() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", 1, None).await;
    let before = store.requests();
    let held = store.holds(vec![wanted("a.md", b"text"), wanted("b.md", b"text")]).await.unwrap();
    assert_eq!(held, [true, false]);
    assert_eq!(store.requests() - before, 2);
    assert_eq!(bucket.count("GetObject"), 0);
}

#[tokio::test]
async fn many_questions_cost_one_list_and_a_request_for_what_may_be_there() {
    let bucket = S3Bucket::new().await;
    for number in 0..300 {
        bucket.put(&format!("{number}.md"), b"foreign");
    }
    let store = bucket.store().await;
    place(&store, "a.md", b"text", 1, None).await;
    let mut questions: Vec<Wanted> =
        (0..300).map(|number| wanted(&format!("{number}.md"), b"text")).collect();
    questions.push(wanted("a.md", b"text"));
    questions.push(wanted("7.md", b"foreign"));
    let before = store.requests();
    let held = store.holds(questions.clone()).await.unwrap();
    assert_eq!(held.iter().filter(|held| **held).count(), 2);
    assert_eq!(held[300..], [true, true]);
    assert_eq!(
        store.requests() - before,
        4,
        "a list, two looks, and one object to be read for lack of metadata"
    );

    // A file written now is found, too, without another list.
    place(&store, "8.md", b"text", 1, None).await;
    let held = store.holds(questions).await.unwrap();
    assert!(held[8]);
    assert_eq!(
        bucket.count("ListObjectsV2"),
        2,
        "one of all, one of the conflicted copies of what was in the way"
    );
}

#[tokio::test]
async fn a_list_that_costs_more_than_the_questions_is_given_up_and_not_begun_again() {
    let bucket = S3Bucket::new().await;
    for number in 0..5000 {
        bucket.put(&format!("{number}.md"), b"foreign");
    }
    let store = bucket.store().await;
    place(&store, "zzz.md", b"text", 1, None).await;
    let mut questions: Vec<Wanted> =
        (0..63).map(|number| wanted(&format!("no {number}.md"), b"text")).collect();
    questions.push(wanted("zzz.md", b"text"));
    // The next run knows how many objects there are at least.
    for run in 1..=2 {
        let held = store.holds(questions.clone()).await.unwrap();
        assert!(held[63] && !held[0]);
        assert_eq!(
            bucket.count("ListObjectsV2"),
            4,
            "64 looks cost no more, as a page costs 12.5 times as much as a look"
        );
        assert_eq!(bucket.count("HeadObject"), 64 * run);
        store.end_run().await;
    }
}

#[tokio::test]
async fn a_change_costs_one_look_and_one_write() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"first", 1, None).await;
    store.end_run().await;
    let before = store.requests();
    assert_eq!(store.holds(vec![wanted("a.md", b"second")]).await.unwrap(), [false]);
    place(&store, "a.md", b"second", 2, Some(b"first")).await;
    assert_eq!(store.requests() - before, 3, "and one to find out about conditions");
    // And new files of the vault cost as much.
    assert_eq!(store.holds(vec![wanted("b.md", b"new")]).await.unwrap(), [false]);
    place(&store, "b.md", b"new", 2, None).await;
    assert_eq!(store.requests() - before, 5);
}

#[tokio::test]
async fn whether_a_bucket_is_empty_costs_one_request_or_two_if_it_is() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    assert!(store.is_empty().await.unwrap());
    for number in 0..2000 {
        bucket.put(&format!("{number}.md"), b"foreign");
    }
    assert!(!store.is_empty().await.unwrap());
    assert_eq!(store.requests(), 3);
}
