//! Names that read like an answer of the service: the name of an object decides nothing.

use obsync_bucket::BucketDestination;
use obsync_conformance::{at, meta, place, publish_one};
use obsync_core::{
    Checked, CheckedBy, DestinationExt, Inspect, KnownContent, Receive, Removable, Removal, Scan, Wanted,
};
use obsync_protocol::ContentHash;
use obsync_testcloud::Refusal;

use crate::azure::Azure;
use crate::buckets::S3Bucket;

const TIME: i64 = 1_722_222_222_123;
const NAMES: [&str; 7] = [
    "HTTP status code: 403.pdf",
    "status code: 404.md",
    "Server returned non-2xx status code: 503 Service Unavailable: .md",
    "a<Code>NoSuchBucket</Code>.md",
    "a<Code>QuotaExceeded</Code><Message>pay</Message>.md",
    "<Error><Code>RequestTimeTooSkewed</Code></Error>.md",
    "Received redirect without LOCATION.md",
];

async fn check(store: &BucketDestination, path: &str, content: &[u8]) -> Checked {
    let wanted = Wanted { path: at(path), hash: ContentHash::of(content), size: content.len() as u64 };
    store.check(vec![wanted]).await.unwrap().pop().unwrap()
}

/// Makes every kind of request about this name, absent and present. `open` opens the store as a new run does.
async fn every_request(open: &mut impl AsyncFnMut() -> BucketDestination, name: &str) {
    let absent = Checked { holds: false, is_unreadable: false, by: CheckedBy::Metadata };
    let large = vec![b'.'; 9 << 20];
    for (path, content) in [(name.to_owned(), &b"text"[..]), (format!("large/{name}"), &large)] {
        let store = open().await;
        assert_eq!(check(&store, &path, content).await, absent, "{path}");
        assert!(store.open_file(&at(&path)).await.is_err_and(|error| !error.is_fatal()), "{path}");
        assert!(store.copy(&at(&path), &at("copy"), &meta(content, TIME)).await.unwrap().is_none(), "{path}");
        let file = Removable { path: at(&path), content: KnownContent::of(content) };
        let missing = store.remove_files(vec![file.clone()]).await.pop().unwrap().unwrap();
        assert_eq!(missing, Removal::Missing, "{path}");
        place(&store, &path, content, TIME, None).await;

        // It is there, and taken over.
        let store = open().await;
        assert_eq!(place(&store, &path, content, TIME, None).await.conflict, None, "{path}");
        assert!(check(&store, &path, content).await.holds, "{path}");
        let to = format!("copies/{path}");
        let copy = store.copy(&at(&path), &at(&to), &meta(content, TIME)).await.unwrap().unwrap();
        publish_one(&store, copy, None).await.unwrap();
        let copy = Removable { path: at(&to), content: KnownContent::of(content) };
        for removal in store.remove_files(vec![file, copy]).await {
            assert_eq!(removal.unwrap(), Removal::Removed, "{path}");
        }
        assert_eq!(check(&store, &path, content).await, absent, "{path}");
    }
}

#[tokio::test]
async fn names_that_read_like_answers_are_names_at_s3() {
    for ignored in [vec![], vec!["PutObject".to_owned(), "CopyObject".to_owned()]] {
        let bucket = S3Bucket::new().await;
        bucket.cloud.faults().update(|faults| faults.s3_manners.ignored_conditions = ignored);
        for name in NAMES {
            every_request(&mut async || bucket.store().await, name).await;
            bucket.put(name, b"somebody else's");
            let aside = place(&bucket.store().await, name, b"text", TIME, None).await.conflict.unwrap();
            assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
        }
    }
}

#[tokio::test]
async fn names_that_read_like_answers_are_names_at_azure() {
    let azure = Azure::start().await;
    for name in NAMES {
        every_request(&mut async || azure.store(), name).await;
        assert_eq!(azure.count(), 0, "{name}");
    }
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_not_taken_for_missing_because_of_its_name() {
    let bucket = S3Bucket::new().await;
    for name in NAMES {
        bucket.put(name, b"text");
    }
    let denied = |operation| Refusal::new(operation, 403, "AccessDenied", "no");
    let refusals = vec![denied("HeadObject"), denied("GetObject")];
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = refusals);
    for (number, name) in NAMES.into_iter().enumerate() {
        let store = bucket.store().await;
        place(&store, &format!("first {number}.md"), b"text", TIME, None).await;
        assert!(check(&store, name, b"text").await.is_unreadable, "{name}");
    }
}
