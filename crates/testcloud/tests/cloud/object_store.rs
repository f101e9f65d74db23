//! The same with the crate `object_store`, which obsync's bucket store is built on.

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
};
use obsync_testcloud::{Cloud, Service};

use crate::client::{BUCKET, Outcome, cloud};

fn store(cloud: &Cloud) -> Outcome<AmazonS3> {
    // Its HTTP client needs a provider, though no test encrypts; the first test installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (key, secret) = cloud.credentials();
    Ok(AmazonS3Builder::new()
        .with_endpoint(cloud.endpoint(Service::S3))
        .with_allow_http(true)
        .with_bucket_name(BUCKET)
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .with_region(cloud.region())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .build()?)
}

#[tokio::test]
async fn an_object_is_put_with_attributes_once_and_read() -> Outcome {
    let cloud = cloud().await?;
    let store = store(&cloud)?;
    let path = Path::from("vault/ä & b.md");
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "text/markdown"),
        (Attribute::Metadata("sha256".into()), "2cf24dba"),
    ]);
    let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
    store.put_opts(&path, "hello".into(), options.clone()).await?;
    let again = store.put_opts(&path, "other".into(), options).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    let got = store.get(&path).await?;
    let metadata = got.attributes.get(&Attribute::Metadata("sha256".into())).map(|value| value.to_string());
    assert_eq!(metadata.as_deref(), Some("2cf24dba"));
    assert_eq!(got.bytes().await?, "hello");
    assert_eq!(cloud.s3().objects(BUCKET, "vault/")[0].content_type.as_deref(), Some("text/markdown"));
    Ok(())
}

#[tokio::test]
async fn a_multipart_upload_is_completed_or_aborted() -> Outcome {
    let cloud = cloud().await?;
    let store = store(&cloud)?;
    let mut upload = store.put_multipart(&Path::from("big")).await?;
    upload.put_part(vec![1; 5 << 20].into()).await?;
    upload.put_part(vec![2; 3].into()).await?;
    assert_eq!(cloud.s3().uploads(BUCKET).len(), 1);
    upload.complete().await?;
    assert_eq!(cloud.s3().object(BUCKET, "big").ok_or("not there")?.content.len(), (5 << 20) + 3);
    let mut aborted = store.put_multipart(&Path::from("other")).await?;
    aborted.put_part(vec![1; 5 << 20].into()).await?;
    aborted.abort().await?;
    assert!(cloud.s3().uploads(BUCKET).is_empty());
    Ok(())
}

#[tokio::test]
async fn objects_are_listed_copied_and_deleted_in_bulk() -> Outcome {
    let cloud = cloud().await?;
    let store = store(&cloud)?;
    (0..1200).for_each(|number| cloud.s3().put(BUCKET, &format!("v/{number:04}"), "x", &[]));
    store.copy(&Path::from("v/0000"), &Path::from("w/0000")).await?;
    let listed: Vec<_> =
        store.list(Some(&Path::from("v"))).map_ok(|meta| meta.location).try_collect().await?;
    assert_eq!(listed.len(), 1200);
    let locations = futures_util::stream::iter(listed.into_iter().map(Ok));
    let deleted: Vec<Path> = store.delete_stream(Box::pin(locations)).try_collect().await?;
    assert_eq!(deleted.len(), 1200);
    let left: Vec<String> = cloud.s3().objects(BUCKET, "").into_iter().map(|object| object.key).collect();
    assert_eq!(left, ["w/0000"]);
    assert_eq!(cloud.counts().of(Service::S3, "DeleteObjects"), 2);
    Ok(())
}
