//! A bucket passes the conformance suite of the engine's storage trait.

use obsync_bucket::BucketOptions;
use obsync_conformance::check_destination;

use crate::buckets::{MemoryBucket, S3Bucket, options};

#[tokio::test]
async fn a_bucket_in_memory_is_a_vault_store() {
    check_destination(async || MemoryBucket::new()).await;
}

#[tokio::test]
async fn a_bucket_of_s3_is_a_vault_store() {
    check_destination(S3Bucket::new).await;
}

#[tokio::test]
async fn a_bucket_of_s3_is_a_vault_store_in_little_memory_and_one_request_at_a_time() {
    let options = BucketOptions { memory: 8 << 10, concurrency: 1, part_size: 5 << 20, ..options() };
    check_destination(async || S3Bucket::with(options.clone()).await).await;
}
