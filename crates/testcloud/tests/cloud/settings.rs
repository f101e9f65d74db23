//! Buckets created and set up like `obsync aws init` does.

use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration,
    PublicAccessBlockConfiguration, ServerSideEncryption, ServerSideEncryptionByDefault,
    ServerSideEncryptionConfiguration, ServerSideEncryptionRule, VersioningConfiguration,
};

use crate::client::{BUCKET, Outcome, cloud, code, s3};

#[tokio::test]
async fn a_bucket_is_made_once_in_the_region_asked_for() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    assert_eq!(code(s3.head_bucket().bucket("fresh-bucket").send().await), "NotFound");
    let place = CreateBucketConfiguration::builder()
        .location_constraint(BucketLocationConstraint::EuCentral1)
        .build();
    let create = s3.create_bucket().bucket("fresh-bucket").create_bucket_configuration(place);
    create.clone().send().await?;
    assert_eq!(code(create.send().await), "BucketAlreadyOwnedByYou");
    let head = s3.head_bucket().bucket("fresh-bucket").send().await?;
    assert_eq!(head.bucket_region(), Some("eu-central-1"));
    let location = s3.get_bucket_location().bucket("fresh-bucket").send().await?;
    assert_eq!(location.location_constraint(), Some(&BucketLocationConstraint::EuCentral1));
    let names: Vec<_> = s3
        .list_buckets()
        .send()
        .await?
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name())
        .map(str::to_owned)
        .collect();
    assert_eq!(names, ["fresh-bucket", BUCKET]);
    cloud.s3().put(BUCKET, "a", "x", &[]);
    assert_eq!(code(s3.delete_bucket().bucket(BUCKET).send().await), "BucketNotEmpty");
    s3.delete_bucket().bucket("fresh-bucket").send().await?;
    assert_eq!(cloud.s3().buckets(), [BUCKET]);
    Ok(())
}

#[tokio::test]
async fn versioning_encryption_and_the_public_access_block_are_kept() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    assert_eq!(s3.get_bucket_versioning().bucket(BUCKET).send().await?.status(), None);
    let missing = s3.get_public_access_block().bucket(BUCKET).send().await;
    assert_eq!(code(missing), "NoSuchPublicAccessBlockConfiguration");
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    s3.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning).send().await?;
    let by_default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::AwsKms)
        .kms_master_key_id("alias/notes")
        .build()?;
    let rule =
        ServerSideEncryptionRule::builder().apply_server_side_encryption_by_default(by_default).build();
    let encryption = ServerSideEncryptionConfiguration::builder().rules(rule).build()?;
    s3.put_bucket_encryption().bucket(BUCKET).server_side_encryption_configuration(encryption).send().await?;
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .block_public_policy(true)
        .ignore_public_acls(true)
        .restrict_public_buckets(true)
        .build();
    s3.put_public_access_block()
        .bucket(BUCKET)
        .public_access_block_configuration(block.clone())
        .send()
        .await?;
    let set = cloud.s3().settings(BUCKET).ok_or("no bucket")?;
    assert!(set.versioned && set.public_access_blocked);
    assert_eq!((set.encryption.as_deref(), set.kms_key.as_deref()), (Some("aws:kms"), Some("alias/notes")));
    let got = s3.get_public_access_block().bucket(BUCKET).send().await?;
    assert_eq!(got.public_access_block_configuration(), Some(&block));
    let status = s3.get_bucket_versioning().bucket(BUCKET).send().await?;
    assert_eq!(status.status(), Some(&BucketVersioningStatus::Enabled));
    s3.put_object().bucket(BUCKET).key("a").send().await?;
    let object = cloud.s3().object(BUCKET, "a").ok_or("not there")?;
    assert_eq!(object.encryption.as_deref(), Some("aws:kms"), "the bucket's encryption is the default");
    Ok(())
}
