//! What obsync asks of S3 by requests of its own: everything that writes, so that each has the conditions, checksums and
//! repetitions that this service takes; and listings that stand any key. The object store library looks at objects and reads
//! them.
//!
//! - [`request`]: one request, signed, repeated as the table of refusals says. [`address`]: where it goes.
//! - [`put`], [`upload`], [`copy`], [`delete`], [`list`], [`uploads`]: the kinds of requests.
//! - [`answers`], [`pages`]: bounds on what the service answers. [`aws_http`]: connections of the SDK's clients.
//! - [`settings`]: the bucket as a whole and its settings, for installers.
//! - [`credentials`]: where the signature comes from. [`open`]: the bucket, set up as the AWS tools are.

mod address;
mod answers;
mod aws_http;
mod copy;
mod credentials;
mod delete;
mod lifecycle;
mod list;
mod open;
mod pages;
mod put;
mod request;
mod settings;
mod upload;
mod uploads;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use object_store::aws::AmazonS3;
use object_store::client::HttpClient;

use super::retries::Retries;

pub use aws_http::AwsHttp;
pub use open::load_aws_config;
pub use settings::{BucketSettings, SettingsError};

pub(super) use address::{Address, Maker};
pub(super) use copy::CopyOrder;
pub(super) use delete::DeleteRow;
pub(super) use open::open;
pub(super) use pages::Pages;
pub(super) use upload::S3Upload;

/// A bucket of S3. Clones share what is learned about the service.
#[derive(Clone, Debug)]
pub(super) struct S3 {
    store: Arc<AmazonS3>,
    http: HttpClient,
    address: Address,
    bucket: String,
    /// The region that requests are signed for.
    region: String,
    retries: Retries,
    sse_kms_key: Option<String>,
    storage_class: Option<String>,
    /// The bucket demands checksums.
    checksums: Arc<AtomicBool>,
    /// How keys are encoded in listings: a [`list::Encoding`], once it is known.
    encoding: Arc<AtomicU8>,
}

impl S3 {
    /// Where the bucket is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    fn demand_checksums(&self) {
        self.checksums.store(true, Ordering::Relaxed);
    }

    fn demands_checksums(&self) -> bool {
        self.checksums.load(Ordering::Relaxed)
    }
}
