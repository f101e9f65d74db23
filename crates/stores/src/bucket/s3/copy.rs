//! Copies within a bucket, made by the service (`CopyObject`): no content passes through here.

use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method};
use object_store::{Attribute, Attributes, HeaderMap, UpdateVersion};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::S3;
use super::request::Request;
use crate::bucket::objects::Guard;
use crate::bucket::trouble::{Kind, Trouble};

/// What is escaped in a key: all but the unreserved characters (RFC 3986, section 2.3) and the slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A copy to be made.
#[derive(Debug)]
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
        let request = Request {
            method: Method::PUT,
            key: order.to.clone(),
            query: Vec::new(),
            headers: self.headers(order)?,
        };
        let answer = self.send(&request).await?;
        let result: CopyResult = quick_xml::de::from_str(&answer).map_err(|error| {
            Trouble::without_answer(Kind::Other, &format!("the answer to a copy makes no sense: {error}"))
        })?;
        Ok(UpdateVersion { e_tag: result.e_tag, version: None })
    }

    fn headers(&self, order: &CopyOrder<'_>) -> Result<HeaderMap, Trouble> {
        let mut headers = Headers::default();
        headers.set("x-amz-copy-source", &format!("/{}/{}", self.bucket, escaped(order.from.as_ref())))?;
        if let Some(e_tag) = &order.version.e_tag {
            headers.set("x-amz-copy-source-if-match", e_tag)?;
        }
        match order.guard {
            Guard::Nothing => headers.set("if-none-match", "*")?,
            Guard::Version(UpdateVersion { e_tag: Some(e_tag), .. }) => headers.set("if-match", e_tag)?,
            Guard::Version(_) | Guard::Anything => {}
        }
        // Neither encryption nor storage class are copied with an object.
        if let Some(key) = &self.sse_kms_key {
            headers.set("x-amz-server-side-encryption", "aws:kms")?;
            headers.set("x-amz-server-side-encryption-aws-kms-key-id", key)?;
        }
        if let Some(class) = &self.storage_class {
            headers.set("x-amz-storage-class", class)?;
        }
        match order.attributes {
            None => headers.set("x-amz-metadata-directive", "COPY")?,
            Some(attributes) => {
                headers.set("x-amz-metadata-directive", "REPLACE")?;
                headers.describe(attributes)?;
            }
        }
        Ok(headers.0)
    }
}

#[derive(Default)]
struct Headers(HeaderMap);

impl Headers {
    fn set(&mut self, name: &str, value: &str) -> Result<(), Trouble> {
        let unfit =
            || Trouble::without_answer(Kind::Other, &format!("{name} cannot have the value {value:?}"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        self.0.insert(header, HeaderValue::from_str(value).map_err(|_| unfit())?);
        Ok(())
    }

    fn describe(&mut self, attributes: &Attributes) -> Result<(), Trouble> {
        for (attribute, value) in attributes {
            match attribute {
                Attribute::ContentType => self.set("content-type", value)?,
                Attribute::Metadata(name) => self.set(&format!("x-amz-meta-{name}"), value)?,
                // The storage class is set above; obsync gives objects no other attribute.
                _ => {}
            }
        }
        Ok(())
    }
}

/// A key as it is named in a header: percent-encoded, except for what needs it nowhere.
fn escaped(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, ESCAPED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_byte_by_byte() {
        assert_eq!(escaped("a b/ü+%~.md").to_string(), "a%20b/%C3%BC%2B%25~.md");
    }
}
