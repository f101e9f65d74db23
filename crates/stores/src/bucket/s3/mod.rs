//! What obsync asks of S3 that the object store library does not offer: copies with other metadata, listings that stand any
//! key, and the multipart uploads that are open.
//!
//! - [`request`]: one request, signed by the library, repeated as the library repeats its own.
//! - [`copy`], [`list`], [`uploads`]: the three kinds.
//! - [`answers`], [`pages`]: bounds on what the service answers.
//! - [`credentials`]: where the signature comes from. [`open`]: the library's S3 client, set up.

mod answers;
mod copy;
mod credentials;
mod list;
mod open;
mod pages;
mod request;
mod uploads;

use std::sync::Arc;

use object_store::aws::AmazonS3;
use object_store::client::HttpClient;

use super::retries::Retries;

pub use open::{AwsHttp, load_aws_config};

pub(super) use copy::CopyOrder;
#[cfg(feature = "aws-admin")]
pub(super) use open::configured_endpoint;
pub(super) use open::open;
pub(super) use pages::Pages;

/// A bucket of S3.
#[derive(Clone, Debug)]
pub(super) struct S3 {
    store: Arc<AmazonS3>,
    http: HttpClient,
    bucket: String,
    retries: Retries,
    sse_kms_key: Option<String>,
    storage_class: Option<String>,
}
