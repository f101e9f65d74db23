//! Maps operations of the S3 API to functions; unlisted ones answer `NotImplemented`.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::{Backend, buckets, listing, objects, uploads};

/// One method of the trait for each line; `await` where the function waits for a body.
macro_rules! operations {
    ($($method:ident($input:ty => $output:ty) = $function:path $(, $awaited:tt)?;)*) => {
        #[async_trait::async_trait]
        impl S3 for Backend {
            $(
                async fn $method(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    $function(self, req)$(.$awaited)?
                }
            )*
        }
    };
}

operations! {
    create_bucket(CreateBucketInput => CreateBucketOutput) = buckets::create;
    delete_bucket(DeleteBucketInput => DeleteBucketOutput) = buckets::delete;
    head_bucket(HeadBucketInput => HeadBucketOutput) = buckets::head;
    get_bucket_location(GetBucketLocationInput => GetBucketLocationOutput) = buckets::location;
    list_buckets(ListBucketsInput => ListBucketsOutput) = buckets::list;
    put_bucket_versioning(PutBucketVersioningInput => PutBucketVersioningOutput) = buckets::put_versioning;
    get_bucket_versioning(GetBucketVersioningInput => GetBucketVersioningOutput) = buckets::versioning;
    put_bucket_encryption(PutBucketEncryptionInput => PutBucketEncryptionOutput) = buckets::put_encryption;
    get_bucket_encryption(GetBucketEncryptionInput => GetBucketEncryptionOutput) = buckets::encryption;
    put_public_access_block(PutPublicAccessBlockInput => PutPublicAccessBlockOutput) = buckets::put_public_access;
    get_public_access_block(GetPublicAccessBlockInput => GetPublicAccessBlockOutput) = buckets::public_access;
    put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput => PutBucketLifecycleConfigurationOutput) = buckets::put_lifecycle;
    get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput => GetBucketLifecycleConfigurationOutput) = buckets::lifecycle;
    put_bucket_policy(PutBucketPolicyInput => PutBucketPolicyOutput) = buckets::put_policy;
    get_bucket_policy(GetBucketPolicyInput => GetBucketPolicyOutput) = buckets::policy;
    put_bucket_ownership_controls(PutBucketOwnershipControlsInput => PutBucketOwnershipControlsOutput) = buckets::put_ownership;
    get_bucket_ownership_controls(GetBucketOwnershipControlsInput => GetBucketOwnershipControlsOutput) = buckets::ownership;
    put_bucket_tagging(PutBucketTaggingInput => PutBucketTaggingOutput) = buckets::put_tagging;
    get_bucket_tagging(GetBucketTaggingInput => GetBucketTaggingOutput) = buckets::tagging;
    put_object(PutObjectInput => PutObjectOutput) = objects::put, await;
    get_object(GetObjectInput => GetObjectOutput) = objects::get;
    head_object(HeadObjectInput => HeadObjectOutput) = objects::head;
    copy_object(CopyObjectInput => CopyObjectOutput) = objects::copy;
    delete_object(DeleteObjectInput => DeleteObjectOutput) = objects::delete;
    delete_objects(DeleteObjectsInput => DeleteObjectsOutput) = objects::delete_many;
    list_objects_v2(ListObjectsV2Input => ListObjectsV2Output) = listing::list;
    create_multipart_upload(CreateMultipartUploadInput => CreateMultipartUploadOutput) = uploads::create;
    upload_part(UploadPartInput => UploadPartOutput) = uploads::put_part, await;
    upload_part_copy(UploadPartCopyInput => UploadPartCopyOutput) = uploads::copy_part;
    complete_multipart_upload(CompleteMultipartUploadInput => CompleteMultipartUploadOutput) = uploads::complete;
    abort_multipart_upload(AbortMultipartUploadInput => AbortMultipartUploadOutput) = uploads::abort;
    list_multipart_uploads(ListMultipartUploadsInput => ListMultipartUploadsOutput) = uploads::list;
    list_parts(ListPartsInput => ListPartsOutput) = uploads::list_parts;
}
