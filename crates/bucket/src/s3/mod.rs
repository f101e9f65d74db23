//! The S3 requests that obsync makes by itself: everything that writes, so that each has the conditions, checksums and
//! repetitions that this service takes; and listings that stand any key. The object store library looks at objects and reads
//! them.
//!
//! - [`request`]: one request, signed, repeated as the table of refusals says. [`address`]: where it goes.
//! - [`put`], [`upload`], [`copy`], [`delete`], [`list`], [`uploads`]: the kinds of requests.
//! - [`client`]: what all of them have in common.
//! - [`answers`], [`pages`]: bounds on what the service answers. [`aws_http`]: connections of the SDK's clients.
//! - [`settings`]: the bucket as a whole and its settings, for installers.
//! - [`credentials`]: where the signature comes from. [`open`]: the bucket, set up as the AWS tools are.

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
