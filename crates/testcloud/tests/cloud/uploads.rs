//! Multipart uploads with the S3 client.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::client::{BUCKET, Outcome, cloud, code, s3};

/// The smallest part except the last one.
const PART: usize = 5 * 1024 * 1024;

async fn begin(s3: &Client, key: &str) -> Outcome<String> {
    let upload = s3.create_multipart_upload().bucket(BUCKET).key(key).metadata("uid", "7").send().await?;
    Ok(upload.upload_id().ok_or("no upload id")?.to_owned())
}

async fn part(s3: &Client, key: &str, id: &str, number: i32, content: Vec<u8>) -> Outcome<CompletedPart> {
    let body = ByteStream::from(content);
    let put = s3.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(number).body(body);
    let etag = put.send().await?.e_tag().ok_or("no etag")?.to_owned();
    Ok(CompletedPart::builder().part_number(number).e_tag(etag).build())
}

fn parts(parts: &[&CompletedPart]) -> CompletedMultipartUpload {
    let parts = parts.iter().map(|part| (*part).clone()).collect();
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

#[tokio::test]
async fn parts_in_any_order_become_one_object_with_its_metadata() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let id = begin(&s3, "big").await?;
    let last = part(&s3, "big", &id, 2, vec![2; 10]).await?;
    let first = part(&s3, "big", &id, 1, vec![1; PART]).await?;
    assert!(cloud.s3().object(BUCKET, "big").is_none(), "there before it was completed");
    let complete = || s3.complete_multipart_upload().bucket(BUCKET).key("big").upload_id(&id);
    let backwards = complete().multipart_upload(parts(&[&last, &first])).send().await;
    assert_eq!(code(backwards), "InvalidPartOrder");
    complete().multipart_upload(parts(&[&first, &last])).send().await?;
    let object = cloud.s3().object(BUCKET, "big").ok_or("not there")?;
    assert_eq!(object.content.len(), PART + 10);
    assert_eq!((object.content[PART - 1], object.content[PART]), (1, 2));
    assert_eq!((object.metadata["uid"].as_str(), object.parts), ("7", Some(2)));
    assert!(object.etag.ends_with("-2"), "{}", object.etag);
    assert!(cloud.s3().uploads(BUCKET).is_empty());
    let range = s3.get_object().bucket(BUCKET).key("big").range(format!("bytes={}-{PART}", PART - 1));
    assert_eq!(range.send().await?.body.collect().await?.into_bytes(), vec![1, 2]);
    Ok(())
}

#[tokio::test]
async fn wrong_missing_and_small_parts_are_refused_and_the_upload_stays() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let id = begin(&s3, "big").await?;
    let small = part(&s3, "big", &id, 1, vec![1; 10]).await?;
    let last = part(&s3, "big", &id, 2, vec![2; 10]).await?;
    let wrong = CompletedPart::builder().part_number(2).e_tag("\"0000\"").build();
    let missing = CompletedPart::builder().part_number(3).e_tag("\"0000\"").build();
    let complete = async |named: &[&CompletedPart]| {
        let complete = s3.complete_multipart_upload().bucket(BUCKET).key("big").upload_id(&id);
        code(complete.multipart_upload(parts(named)).send().await)
    };
    assert_eq!(complete(&[&small, &last]).await, "EntityTooSmall");
    assert_eq!(complete(&[&wrong]).await, "InvalidPart");
    assert_eq!(complete(&[&missing]).await, "InvalidPart");
    assert_eq!(cloud.s3().uploads(BUCKET).len(), 1);
    assert_eq!(complete(&[&small]).await, "no error");
    assert_eq!(complete(&[&small]).await, "NoSuchUpload");
    Ok(())
}

#[tokio::test]
async fn a_completion_that_must_not_replace_leaves_what_is_there() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let id = begin(&s3, "a").await?;
    let only = part(&s3, "a", &id, 1, b"mine".to_vec()).await?;
    cloud.s3().put(BUCKET, "a", "foreign", &[]);
    let complete = s3.complete_multipart_upload().bucket(BUCKET).key("a").upload_id(&id);
    let complete = complete.if_none_match("*").multipart_upload(parts(&[&only]));
    assert_eq!(code(complete.send().await), "PreconditionFailed");
    assert_eq!(cloud.s3().object(BUCKET, "a").ok_or("not there")?.content, "foreign");
    s3.abort_multipart_upload().bucket(BUCKET).key("a").upload_id(&id).send().await?;
    assert!(cloud.s3().uploads(BUCKET).is_empty());
    let again = s3.abort_multipart_upload().bucket(BUCKET).key("a").upload_id(&id).send().await;
    assert_eq!(code(again), "NoSuchUpload");
    Ok(())
}

#[tokio::test]
async fn uploads_in_progress_are_listed_by_prefix_page_by_page_with_their_age() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    for key in ["in/b", "in/a", "in/a", "out/c"] {
        begin(&s3, key).await?;
    }
    cloud.s3().age_uploads(BUCKET, Duration::from_secs(7200));
    let list = || s3.list_multipart_uploads().bucket(BUCKET).prefix("in/").max_uploads(2);
    let first = list().send().await?;
    let keys: Vec<_> = first.uploads().iter().filter_map(|upload| upload.key()).collect();
    assert_eq!((keys, first.is_truncated()), (vec!["in/a", "in/a"], Some(true)));
    let markers = (first.next_key_marker(), first.next_upload_id_marker());
    let second = list()
        .key_marker(markers.0.ok_or("no key marker")?)
        .upload_id_marker(markers.1.ok_or("no id marker")?)
        .send()
        .await?;
    let keys: Vec<_> = second.uploads().iter().filter_map(|upload| upload.key()).collect();
    assert_eq!((keys, second.is_truncated()), (vec!["in/b"], Some(false)));
    let began = second.uploads().first().and_then(|upload| upload.initiated()).ok_or("no time")?;
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    assert!(SystemTime::try_from(*began)? < an_hour_ago);
    Ok(())
}

#[tokio::test]
async fn parts_are_listed_and_can_be_copied_from_objects() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    cloud.s3().put(BUCKET, "source", "0123456789", &[]);
    let id = begin(&s3, "a").await?;
    let copied = s3
        .upload_part_copy()
        .bucket(BUCKET)
        .key("a")
        .upload_id(&id)
        .part_number(1)
        .copy_source("notes/source")
        .copy_source_range("bytes=3-5")
        .send()
        .await?;
    assert!(copied.copy_part_result().is_some_and(|result| result.e_tag().is_some()));
    part(&s3, "a", &id, 5, vec![0; 7]).await?;
    let listed = s3.list_parts().bucket(BUCKET).key("a").upload_id(&id).send().await?;
    let sizes: Vec<_> = listed.parts().iter().map(|part| (part.part_number(), part.size())).collect();
    assert_eq!(sizes, [(Some(1), Some(3)), (Some(5), Some(7))]);
    Ok(())
}
