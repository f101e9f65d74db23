//! Faults on request, from the clients' view.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use obsync_testcloud::Service;
use obsync_testkit::Chance;

use crate::client::{BUCKET, Outcome, cloud, code, dynamodb, only, s3};

#[tokio::test]
async fn s3_throttles_forbids_and_fails_as_often_as_asked() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let put =
        async || code(s3.put_object().bucket(BUCKET).key("a").body(vec![0; 100_000].into()).send().await);
    cloud.faults().update(|faults| faults.s3.throttled = Chance::next(2));
    assert_eq!([put().await, put().await, put().await], ["SlowDown", "SlowDown", "no error"]);
    only(&cloud, |faults| faults.s3.forbidden = Chance::next(1).after(1));
    assert_eq!([put().await, put().await, put().await], ["no error", "AccessDenied", "no error"]);
    only(&cloud, |faults| faults.s3.internal_error = Chance::always());
    assert_eq!(put().await, "InternalError");
    cloud.faults().clear();
    assert_eq!(put().await, "no error");
    Ok(())
}

#[tokio::test]
async fn faults_strike_only_the_operations_that_are_named() -> Outcome {
    let cloud = cloud().await?;
    cloud.faults().update(|faults| {
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.throttled = Chance::always();
    });
    let s3 = s3(&cloud);
    assert_eq!(code(s3.put_object().bucket(BUCKET).key("a").send().await), "SlowDown");
    s3.list_objects_v2().bucket(BUCKET).send().await?;
    Ok(())
}

#[tokio::test]
async fn dynamodb_throttles_and_forbids() -> Outcome {
    let cloud = cloud().await?;
    let scan = async || code(dynamodb(&cloud).scan().table_name("state").send().await);
    cloud.dynamodb().create_table("state")?;
    cloud.faults().update(|faults| faults.dynamodb.throttled = Chance::next(1));
    assert_eq!(scan().await, "ProvisionedThroughputExceededException");
    only(&cloud, |faults| faults.dynamodb.forbidden = Chance::next(1));
    assert_eq!([scan().await, scan().await], ["AccessDeniedException", "no error"]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_request_did_nothing_and_a_lost_answer_is_of_something_done() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let put = async |key: &str| code(s3.put_object().bucket(BUCKET).key(key).send().await);
    cloud.faults().update(|faults| faults.s3.dropped = Chance::next(1));
    assert_eq!(put("dropped").await, "no answer: connection");
    assert!(cloud.s3().object(BUCKET, "dropped").is_none());
    only(&cloud, |faults| faults.s3.lost_answer = Chance::next(1));
    assert_eq!(put("done").await, "no answer: connection");
    assert!(cloud.s3().object(BUCKET, "done").is_some());
    Ok(())
}

#[tokio::test]
async fn a_hanging_request_is_seen_and_ends_with_the_client_or_the_cloud() -> Outcome {
    let cloud = cloud().await?;
    cloud.faults().update(|faults| faults.s3.hang = Chance::always());
    let s3 = s3(&cloud);
    let hanging = tokio::spawn(s3.put_object().bucket(BUCKET).key("a").send());
    cloud.wait_for(|counts| counts.of(Service::S3, "PutObject") == 1).await;
    assert!(!hanging.is_finished());
    cloud.shutdown().await;
    assert!(hanging.await?.is_err());
    Ok(())
}

#[tokio::test]
async fn a_bucket_vanishes_after_so_many_objects_and_can_be_brought_back() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let put = async |key: &str| {
        let body = ByteStream::from_static(b"text");
        code(s3.put_object().bucket(BUCKET).key(key).body(body).send().await)
    };
    cloud.faults().update(|faults| faults.bucket_vanishes_after = Some(2));
    assert_eq!([put("a").await, put("b").await, put("c").await], ["no error", "no error", "NoSuchBucket"]);
    assert!(cloud.s3().objects(BUCKET, "").is_empty());
    assert!(cloud.s3().restore_bucket(BUCKET));
    assert_eq!(cloud.s3().objects(BUCKET, "").len(), 2);
    assert_eq!(put("c").await, "no error");
    Ok(())
}

#[tokio::test]
async fn latency_holds_each_request_up() -> Outcome {
    let cloud = cloud().await?;
    let latency = Duration::from_millis(50);
    cloud.faults().update(|faults| faults.s3.latency = latency);
    let began = std::time::Instant::now();
    s3(&cloud).list_buckets().send().await?;
    assert!(began.elapsed() >= latency);
    Ok(())
}
