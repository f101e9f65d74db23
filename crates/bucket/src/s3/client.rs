//! An S3 bucket, and findings about its service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use object_store::aws::AmazonS3;
use object_store::client::HttpClient;

use super::address::Address;
use crate::retries::Retries;

/// An S3 bucket. Clones share the findings about the service.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    pub(super) store: Arc<AmazonS3>,
    pub(super) http: HttpClient,
    pub(super) address: Address,
    pub(super) bucket: String,
    /// The region that requests are signed for.
    pub(super) region: String,
    pub(super) retries: Retries,
    pub(super) sse_kms_key: Option<String>,
    pub(super) storage_class: Option<String>,
    /// The bucket demands checksums.
    pub(super) checksums: Arc<AtomicBool>,
    /// Encoding of keys in listings: an [`Encoding`](super::list::Encoding), once it is known.
    pub(super) encoding: Arc<AtomicU8>,
}

impl S3 {
    /// Where the bucket is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn demand_checksums(&self) {
        self.checksums.store(true, Ordering::Relaxed);
    }

    pub(super) fn demands_checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }
}
