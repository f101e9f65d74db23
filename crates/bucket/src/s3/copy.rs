//! Server-side copies within a bucket (`CopyObject`): no content passes through here.

use object_store::path::Path;
use object_store::signer::Method;
use object_store::{Attributes, UpdateVersion};

use super::address::Maker;
use super::client::S3;
use super::request::{Request, escaped};
use crate::error::RequestError;
use crate::guard::Guard;
use crate::refusal::Operation;

/// A copy to be made.
#[derive(Clone, Debug)]
pub(crate) struct CopyOrder<'a> {
    pub(crate) from: &'a Path,
    /// The version to copy; no other is copied.
    pub(crate) version: &'a UpdateVersion,
    pub(crate) to: &'a Path,
    /// The attributes of the copy; `None`: the original's.
    pub(crate) attributes: Option<&'a Attributes>,
    /// Precondition at the copy's key.
    pub(crate) guard: &'a Guard,
}

#[derive(serde::Deserialize)]
struct CopyResult {
    #[serde(rename = "ETag")]
    e_tag: String,
}

impl S3 {
    /// Makes a copy and returns its version.
    pub(crate) async fn copy(&self, order: &CopyOrder<'_>) -> Result<UpdateVersion, RequestError> {
        let answer = self.send(self.copy_request(order)?).await?;
        let result: CopyResult = answer.document("CopyObjectResult")?;
        Ok(UpdateVersion { e_tag: Some(result.e_tag), version: None })
    }

    fn copy_request(&self, order: &CopyOrder<'_>) -> Result<Request, RequestError> {
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
        // A copy inherits neither encryption nor storage class.
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

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region, SdkConfig};

    use super::super::open::open;
    use super::*;
    use crate::options::BucketOptions;
    use crate::traffic::Traffic;

    #[tokio::test]
    async fn r2_gets_the_conditions_of_copies_in_headers_of_its_own() {
        let config = SdkConfig::builder().behavior_version(BehaviorVersion::latest());
        let config = config.region(Region::new("auto")).build();
        for (endpoint, if_match, other) in [
            ("http://abc.r2.cloudflarestorage.com", "cf-copy-destination-if-match", "if-match"),
            ("http://s3.example.com", "if-match", "cf-copy-destination-if-match"),
        ] {
            let options = BucketOptions { endpoint: Some(endpoint.to_owned()), ..BucketOptions::default() };
            let s3 = open("notes", &options, &config, &Traffic::new(1)).await.unwrap();
            let version = UpdateVersion { e_tag: Some("\"1\"".to_owned()), version: None };
            let (from, to) = (Path::from("a.md"), Path::from("b.md"));
            let guard = Guard::Version(version.clone());
            let order =
                CopyOrder { from: &from, version: &version, to: &to, attributes: None, guard: &guard };
            let request = s3.copy_request(&order).unwrap();
            assert_eq!(request.header_value(if_match), Some("\"1\""), "{endpoint}");
            assert_eq!(request.header_value(other), None, "{endpoint}");
            assert_eq!(request.header_value("x-amz-copy-source-if-match"), Some("\"1\""));
            let order = CopyOrder { guard: &Guard::Nothing, ..order };
            let request = s3.copy_request(&order).unwrap();
            assert_eq!(
                request.header_value(&if_match.replace("match", "none-match")),
                Some("*"),
                "{endpoint}"
            );
        }
    }
}
