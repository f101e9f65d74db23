//! obsync's own S3 requests: everything that writes, so that each has the conditions, checksums and retries
//! that this service needs; and listings with arbitrary keys. The object store library looks at objects and
//! reads them.
//!
//! - [`request`]: one signed request, retried by the table of refusals. [`address`]: its URL.
//! - [`put`], [`upload`], [`copy`], [`delete`], [`list`], [`uploads`]: the kinds of requests.
//! - [`client`]: shared state of all requests.
//! - [`answers`], [`pages`]: bounds on the service's answers. [`aws_http`]: connections of the SDK's clients.
//! - [`settings`]: the bucket as a whole and its settings, for installers.
//! - [`credentials`]: keys for signatures. [`open`]: the bucket, configured as the AWS tools are.

mod address;
mod answers;
mod aws_http;
mod client;
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

pub use aws_http::AwsHttp;
pub use open::load_aws_config;
pub use settings::{BucketSettings, SettingsError};

pub(super) use address::Maker;
pub(super) use client::S3;
pub(super) use copy::CopyOrder;
pub(super) use delete::DeleteRow;
pub(super) use open::open;
pub(super) use pages::Pages;
pub(super) use upload::S3Upload;
