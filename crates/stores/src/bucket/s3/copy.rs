//! Copies within a bucket, made by the service (`CopyObject`): no content passes through here.

use object_store::path::Path;
use object_store::signer::Method;
use object_store::{Attributes, UpdateVersion};

use super::S3;
use super::address::Maker;
use super::request::{Request, escaped};
use crate::bucket::objects::Guard;
use crate::bucket::refusal::Operation;
use crate::bucket::trouble::{Kind, Trouble};

/// A copy to be made.
#[derive(Clone, Debug)]
pub(in crate::bucket) struct CopyOrder<'a> {
    pub(in crate::bucket) from: &'a Path,
    /// The version that is to be copied; any other is not.
    pub(in crate::bucket) version: &'a UpdateVersion,
    pub(in crate::bucket) to: &'a Path,
    /// What the copy is to carry; `None`: what the original does.
    pub(in crate::bucket) attributes: Option<&'a Attributes>,
    /// What must be at the copy's place.
    pub(in crate::bucket) guard: &'a Guard,
}

#[derive(serde::Deserialize)]
struct CopyResult {
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
}

impl S3 {
    /// Makes a copy and tells its version.
    pub(in crate::bucket) async fn copy(&self, order: &CopyOrder<'_>) -> Result<UpdateVersion, Trouble> {
        let answer = self.send(self.copy_request(order)?).await?;
        let result: CopyResult = quick_xml::de::from_str(&answer.body).map_err(|error| {
            Trouble::without_answer(Kind::Other, &format!("the answer to a copy cannot be read: {error}"))
        })?;
        Ok(UpdateVersion { e_tag: result.e_tag, version: None })
    }

    fn copy_request(&self, order: &CopyOrder<'_>) -> Result<Request, Trouble> {
        // R2 ignores the standard headers (R2 documentation, "Extensions", conditional operations in CopyObject).
        let (if_match, if_none_match) = match self.address.maker {
            Maker::Cloudflare => ("cf-copy-destination-if-match", "cf-copy-destination-if-none-match"),
            Maker::Amazon | Maker::Other => ("if-match", "if-none-match"),
        };
        let source = format!("/{}/{}", self.bucket, escaped(order.from.as_ref()));
        let mut request = Request::of_object(Operation::Copy, Method::PUT, order.to)
            .header("x-amz-copy-source", &source)?
            .guard(order.guard, if_match, if_none_match)?;
        if let Some(e_tag) = &order.version.e_tag {
            request = request.header("x-amz-copy-source-if-match", e_tag)?;
        }
        // Neither encryption nor storage class are copied with an object.
        request = self.encrypted(request)?;
        if let Some(class) = &self.storage_class {
            request = request.header("x-amz-storage-class", class)?;
        }
        match order.attributes {
            None => request.header("x-amz-metadata-directive", "COPY"),
            Some(attributes) => request.header("x-amz-metadata-directive", "REPLACE")?.describe(attributes),
        }
    }
}
