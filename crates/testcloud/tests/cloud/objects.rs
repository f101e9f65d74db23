//! Objects put, read, copied and deleted with the S3 client.

use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, MetadataDirective, ObjectIdentifier, ServerSideEncryption, StorageClass};

use crate::client::{BUCKET, Outcome, cloud, code, s3, s3_with};

#[tokio::test]
async fn an_object_comes_back_with_content_metadata_and_type() -> Outcome {
    let (cloud, key) = (cloud().await?, "vault/Über uns & Co. + 100%.md");
    let s3 = s3(&cloud);
    s3.put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from_static(b"hello"))
        .content_type("text/markdown")
        .metadata("sha256", "2cf24dba")
        .metadata("mtime", "1700000000123")
        .storage_class(StorageClass::StandardIa)
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("alias/notes")
        .send()
        .await?;
    let head = s3.head_object().bucket(BUCKET).key(key).send().await?;
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.content_type(), Some("text/markdown"));
    assert_eq!(head.metadata().and_then(|all| all.get("mtime")).map(String::as_str), Some("1700000000123"));
    assert_eq!(head.storage_class(), Some(&StorageClass::StandardIa));
    assert_eq!(head.e_tag(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let got = s3.get_object().bucket(BUCKET).key(key).send().await?;
    assert_eq!(got.ssekms_key_id(), Some("alias/notes"));
    assert_eq!(got.body.collect().await?.into_bytes(), "hello");
    let stored = cloud.s3().object(BUCKET, key).ok_or("not there")?;
    assert_eq!(stored.content, "hello");
    assert_eq!(stored.metadata["sha256"], "2cf24dba");
    assert_eq!(stored.encryption.as_deref(), Some("aws:kms"));
    cloud.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_range_of_an_object_is_exact() -> Outcome {
    let cloud = cloud().await?;
    cloud.s3().put(BUCKET, "a", "0123456789", &[]);
    let got = s3(&cloud).get_object().bucket(BUCKET).key("a").range("bytes=2-4").send().await?;
    assert_eq!(got.content_range(), Some("bytes 2-4/10"));
    assert_eq!(got.body.collect().await?.into_bytes(), "234");
    let beyond = s3(&cloud).get_object().bucket(BUCKET).key("a").range("bytes=10-").send().await;
    assert_eq!(code(beyond), "InvalidRange");
    Ok(())
}

#[tokio::test]
async fn an_object_is_created_once_and_replaced_only_if_it_is_the_one_meant() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let put =
        |body: &'static [u8]| s3.put_object().bucket(BUCKET).key("a").body(ByteStream::from_static(body));
    let first = put(b"first").if_none_match("*").send().await?;
    assert_eq!(code(put(b"second").if_none_match("*").send().await), "PreconditionFailed");
    assert_eq!(code(put(b"second").if_match("\"0000\"").send().await), "PreconditionFailed");
    put(b"second").if_match(first.e_tag().ok_or("no etag")?).send().await?;
    assert_eq!(cloud.s3().object(BUCKET, "a").ok_or("not there")?.content, "second");
    let missing = s3.put_object().bucket(BUCKET).key("b").if_match("\"0000\"").send().await;
    assert_eq!(code(missing), "NoSuchKey");
    Ok(())
}

#[tokio::test]
async fn content_that_does_not_match_its_checksum_is_refused() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    let put = || s3.put_object().bucket(BUCKET).key("a").body(ByteStream::from_static(b"hello"));
    let wrong = put().checksum_sha256("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").send().await;
    assert_eq!(code(wrong), "BadDigest");
    assert_eq!(code(put().content_md5("AAAAAAAAAAAAAAAAAAAAAA==").send().await), "BadDigest");
    assert!(cloud.s3().objects(BUCKET, "").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_copy_keeps_the_metadata_or_replaces_it() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    cloud.s3().put(BUCKET, "from/ä b.md", "text", &[("uid", "1"), ("mtime", "5")]);
    let copy = |to: &str| {
        let source = format!("{BUCKET}/from/%C3%A4%20b.md");
        s3.copy_object().bucket(BUCKET).key(to).copy_source(source)
    };
    copy("kept").send().await?;
    assert_eq!(cloud.s3().object(BUCKET, "kept").ok_or("not there")?.metadata["uid"], "1");
    copy("replaced")
        .metadata_directive(MetadataDirective::Replace)
        .metadata("uid", "2")
        .content_type("text/markdown")
        .send()
        .await?;
    let replaced = cloud.s3().object(BUCKET, "replaced").ok_or("not there")?;
    assert_eq!(replaced.content, "text");
    assert_eq!(replaced.metadata, [("uid".to_owned(), "2".to_owned())].into());
    assert_eq!(replaced.content_type.as_deref(), Some("text/markdown"));
    assert_eq!(code(copy("from/ä b.md").send().await), "InvalidRequest");
    assert_eq!(code(copy("x").copy_source("notes/none").send().await), "NoSuchKey");
    Ok(())
}

#[tokio::test]
async fn objects_are_deleted_one_by_one_and_in_bulk() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    ["a", "b", "c"].iter().for_each(|key| cloud.s3().put(BUCKET, key, "text", &[]));
    s3.delete_object().bucket(BUCKET).key("a").send().await?;
    s3.delete_object().bucket(BUCKET).key("never there").send().await?;
    let mut delete = Delete::builder();
    for key in ["b", "never there"] {
        delete = delete.objects(ObjectIdentifier::builder().key(key).build()?);
    }
    let deleted = s3.delete_objects().bucket(BUCKET).delete(delete.build()?).send().await?;
    assert_eq!(deleted.deleted().len(), 2);
    let left: Vec<String> = cloud.s3().objects(BUCKET, "").into_iter().map(|object| object.key).collect();
    assert_eq!(left, ["c"]);
    Ok(())
}

#[tokio::test]
async fn what_is_missing_or_too_large_is_refused_as_s3_does() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    assert_eq!(code(s3.get_object().bucket(BUCKET).key("none").send().await), "NoSuchKey");
    assert_eq!(code(s3.get_object().bucket("nowhere").key("a").send().await), "NoSuchBucket");
    assert_eq!(code(s3.put_object().bucket("nowhere").key("a").send().await), "NoSuchBucket");
    let long = "k".repeat(1025);
    assert_eq!(code(s3.put_object().bucket(BUCKET).key(&long).send().await), "KeyTooLongError");
    s3.put_object().bucket(BUCKET).key(&long[..1024]).send().await?;
    let metadata = HashMap::from([("text".to_owned(), "x".repeat(2048))]);
    let heavy = s3.put_object().bucket(BUCKET).key("a").set_metadata(Some(metadata)).send().await;
    assert_eq!(code(heavy), "MetadataTooLarge");
    Ok(())
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_secret_are_forbidden() -> Outcome {
    let cloud = cloud().await?;
    let (key, _) = cloud.credentials();
    let wrong_secret = s3_with(&cloud, Credentials::from_keys(key, "another secret", None));
    assert_eq!(code(wrong_secret.list_buckets().send().await), "SignatureDoesNotMatch");
    let wrong_key = s3_with(&cloud, Credentials::from_keys("AKIANOBODY", "secret", None));
    assert_eq!(code(wrong_key.list_buckets().send().await), "InvalidAccessKeyId");
    let with_token = Credentials::from_keys(key, cloud.credentials().1, Some("session token".to_owned()));
    s3_with(&cloud, with_token).list_buckets().send().await?;
    Ok(())
}
