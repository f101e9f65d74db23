//! Failures are reported in sentences, and transient ones are retried.

use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions};
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{Describe, DestinationError, DestinationExt, Inspect, Receive, Scan};
use obsync_testcloud::{Refusal, ServiceFaults};
use obsync_testkit::Chance;

use crate::buckets::{BUCKET, S3Bucket, config, location};

const TIME: i64 = 1_722_222_222_123;

/// Publishes one small file, which fails.
async fn publish_fails(store: &BucketDestination) -> DestinationError {
    failure_at(store, "a.md").await
}

async fn failure_at(store: &BucketDestination, path: &str) -> DestinationError {
    let staged = stage(store, path, b"text", TIME).await;
    publish_one(store, staged, None).await.map(drop).unwrap_err().error
}

fn assert_says(error: &DestinationError, words: &[&str]) {
    let text = error.to_string();
    assert!(error.is_fatal(), "{text}");
    for word in words {
        assert!(text.contains(word), "{text}");
    }
    assert!(text.contains(&location().to_string()), "{text}");
    assert!(!text.contains("Signature="), "{text}");
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_told_by_every_first_request() {
    let bucket = S3Bucket::new().await;
    bucket.cloud.s3().remove_bucket(BUCKET);
    let store = bucket.store().await;
    assert_says(&store.is_empty().await.unwrap_err(), &["no such bucket", "obsync aws init"]);
    assert_says(&store.list().await.unwrap_err(), &["no such bucket"]);
    assert_says(&publish_fails(&store).await, &["no such bucket"]);
}

#[tokio::test]
async fn a_bucket_that_disappears_midway_ends_the_run() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|faults| faults.bucket_vanishes_after = Some(4));
    let mut batch = Vec::new();
    for number in 0..200 {
        let staged = stage(&store, &format!("{number}.md"), b"text", TIME).await;
        let content = obsync_core::PublicationContent::Staged(staged);
        batch.push(obsync_core::Publication { content, expect: obsync_core::Expect::Absent });
    }
    let before = store.requests();
    let answers = store.publish(batch).await;
    // One of the four was a probe of conditions.
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    for failure in answers.into_iter().filter_map(Result::err) {
        assert_says(&failure.error, &["no such bucket"]);
    }
    assert!(store.requests() - before < 60, "the rest of the batch is not even tried");
}

#[tokio::test]
async fn what_is_forbidden_is_told_with_the_rights_that_are_needed() {
    for operations in [vec!["ListObjectsV2"], vec!["PutObject"], vec![]] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        bucket.cloud.faults().update(|faults| {
            faults.s3 = ServiceFaults {
                operations: operations.iter().map(|operation| (*operation).to_owned()).collect(),
                forbidden: Chance::always(),
                ..ServiceFaults::default()
            };
        });
        if operations != ["PutObject"] {
            assert_says(&store.is_empty().await.unwrap_err(), &["access is denied", "s3:ListBucket"]);
        }
        if operations != ["ListObjectsV2"] {
            assert_says(&publish_fails(&store).await, &["access is denied", "s3:PutObject"]);
        }
    }
}

#[tokio::test]
async fn one_object_that_is_forbidden_among_others_fails_alone() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "first.md", b"text", TIME, None).await;
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { forbidden: Chance::next(1), ..ServiceFaults::default() };
    });
    let error = publish_fails(&store).await;
    assert!(!error.is_fatal(), "{error}");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "AccessDenied: Access Denied", "the service's own code and words");
    place(&store, "a.md", b"text", TIME, None).await;
}

#[tokio::test]
async fn wrong_credentials_are_told_without_showing_them() {
    let bucket = S3Bucket::new().await;
    let (id, _) = bucket.cloud.credentials();
    for (id, secret) in [(id, "wrong secret"), ("AKIAUNKNOWN", "wrong secret")] {
        let config = config(id, secret);
        let store = BucketDestination::open_s3(&location(), bucket.options.clone(), &config).await.unwrap();
        for error in [store.is_empty().await.unwrap_err(), publish_fails(&store).await] {
            assert_says(&error, &["credentials"]);
            assert!(!error.to_string().contains("wrong secret"));
        }
    }
}

#[tokio::test]
async fn no_credentials_at_all_are_told() {
    let bucket = S3Bucket::new().await;
    let nothing = aws_config::SdkConfig::builder().build();
    let store = BucketDestination::open_s3(&location(), bucket.options.clone(), &nothing).await.unwrap();
    assert_says(&store.is_empty().await.unwrap_err(), &["no source of AWS credentials"]);
    assert_says(&publish_fails(&store).await, &["no source of AWS credentials"]);
}

#[tokio::test]
async fn throttling_is_waited_for() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { throttled: Chance::next(3), ..ServiceFaults::default() };
    });
    assert!(store.is_empty().await.unwrap());
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { throttled: Chance::next(3), ..ServiceFaults::default() };
    });
    place(&store, "a.md", b"text", TIME, None).await;
    assert_eq!(bucket.text("a.md").as_deref(), Some("text"));
    for (fault, operation) in [("internal", "CopyObject"), ("dropped", "CopyObject"), ("lost", "CopyObject")]
    {
        bucket.cloud.faults().update(|faults| {
            let two = Chance::next(2);
            faults.s3 = ServiceFaults { operations: vec![operation.to_owned()], ..ServiceFaults::default() };
            match fault {
                "internal" => faults.s3.internal_error = two,
                "dropped" => faults.s3.dropped = two,
                _ => faults.s3.lost_answer = two,
            }
        });
        let copy = store.copy(&at("a.md"), &at(fault), &meta(b"text", TIME)).await.unwrap().unwrap();
        publish_one(&store, copy, None).await.unwrap();
        assert_eq!(bucket.text(fault).as_deref(), Some("text"));
    }
}

#[tokio::test]
async fn throttling_that_does_not_end_ends_the_run() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { throttled: Chance::always(), ..ServiceFaults::default() };
    });
    assert_says(&store.is_empty().await.unwrap_err(), &["throttles", "goes on where it stopped"]);
    assert_says(&publish_fails(&store).await, &["throttles", "goes on where it stopped"]);
    assert_eq!(store.requests(), 10, "each was tried five times");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_told() {
    let bucket = S3Bucket::new().await;
    let nobody = BucketOptions { endpoint: Some("http://127.0.0.1:1".to_owned()), ..bucket.options.clone() };
    let store = bucket.store_with(nobody).await;
    assert_says(&store.is_empty().await.unwrap_err(), &["cannot be reached"]);
    assert_says(&publish_fails(&store).await, &["cannot be reached"]);
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_not_held_unless_nothing_can() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    let wanted = || {
        vec![obsync_core::Wanted {
            path: at("a.md"),
            hash: obsync_protocol::ContentHash::of(b"text"),
            size: 4,
        }]
    };
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { forbidden: Chance::next(1), ..ServiceFaults::default() };
    });
    assert_eq!(store.holds(wanted()).await.unwrap(), [false]);
    bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults { throttled: Chance::always(), ..ServiceFaults::default() };
    });
    assert_says(&store.holds(wanted()).await.unwrap_err(), &["throttles"]);
}

#[tokio::test]
async fn a_location_without_its_service_is_told() {
    let location = BucketLocation::parse("memory://").unwrap();
    let store = BucketDestination::open(&location, BucketOptions::default()).await.unwrap();
    place(&store, "a.md", b"text", TIME, None).await;
    assert_eq!(store.list().await.unwrap().files.len(), 1);
    assert_eq!(store.location(), "memory://");
}

#[tokio::test]
async fn a_web_page_in_place_of_an_answer_is_no_success_of_any_request() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "old.md", b"text", TIME, None).await;
    place(&store, "kept.md", b"kept", TIME, None).await;
    let pages = |operations: &[&str]| {
        let pages = operations.iter().map(|operation| Refusal::page(operation, 200)).collect();
        bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = pages);
    };
    let says = |error: DestinationError, word: &str| {
        let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error} {reason}");
        assert!(text.contains(word), "{text}");
    };
    pages(&["PutObject"]);
    let asked = bucket.count("PutObject");
    says(publish_fails(&store).await, "a web page");
    assert_eq!(bucket.count("PutObject") - asked, 1, "it is not repeated");
    pages(&["CopyObject"]);
    let copy = store.copy(&at("old.md"), &at("new.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
    says(publish_one(&store, copy, None).await.unwrap_err().error, "a web page");
    pages(&["CompleteMultipartUpload"]);
    let large = stage(&store, "large.bin", &vec![1; 9 << 20], TIME).await;
    says(publish_one(&store, large, None).await.unwrap_err().error, "a web page");
    pages(&["DeleteObjects", "DeleteObject"]);
    let file = obsync_core::Removable { path: at("old.md"), content: obsync_core::KnownContent::of(b"text") };
    says(store.remove_files(vec![file]).await.pop().unwrap().unwrap_err(), "a web page");
    pages(&["HeadObject"]);
    says(store.open_file(&at("kept.md")).await.map(drop).unwrap_err(), "a web page");
    pages(&["ListObjectsV2"]);
    says(store.is_empty().await.unwrap_err(), "a web page");
    assert_eq!(bucket.keys(), ["kept.md", "old.md"]);
}

#[tokio::test]
async fn a_web_page_in_place_of_an_object_is_not_its_content() {
    let bucket = S3Bucket::new().await;
    bucket.put("a.md", b"written by somebody else");
    let store = bucket.store().await;
    bucket.cloud.faults().update(|faults| {
        faults.s3_manners.refusals = vec![Refusal::page("GetObject", 200)];
    });
    assert!(store.open_file(&at("a.md")).await.is_err());
}

/// Amazon's answer while the name of a new bucket spreads.
#[tokio::test]
async fn a_redirect_that_is_temporary_is_waited_for_and_not_called_another_region() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let words = "Please re-send this request to the specified temporary endpoint";
    let refusal = Refusal::new("ListObjectsV2", 307, "TemporaryRedirect", words);
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![refusal.clone().times(2)]);
    assert!(store.is_empty().await.unwrap());
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![refusal]);
    let error = store.is_empty().await.unwrap_err();
    assert_says(&error, &["keeps failing", words, "run the same command again later"]);
    assert!(!error.to_string().contains("region"), "{error}");
}

/// At an address of another region a bucket refuses everything except requests that name it (S3 API
/// reference, "Error responses").
#[tokio::test]
async fn an_endpoint_that_redirects_to_another_region_ends_the_run_at_once_and_says_what_to_set() {
    for (status, code, words) in [
        (301, "PermanentRedirect", "must be addressed using the specified endpoint"),
        (400, "AuthorizationHeaderMalformed", "the region is wrong; expecting eu-west-1"),
    ] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        let refusal = |operation: &str| Refusal::new(operation, status, code, words);
        bucket.cloud.faults().update(|faults| {
            faults.s3_manners.refusals = ["ListObjectsV2", "PutObject", "HeadObject"].map(refusal).to_vec();
        });
        let before = store.requests();
        assert_says(&store.is_empty().await.unwrap_err(), &["another region", words, "AWS_REGION"]);
        assert_eq!(store.requests() - before, 1, "{code}");
        assert_says(&publish_fails(&store).await, &["another region"]);
    }
}
