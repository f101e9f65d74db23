//! Listings (`ListObjectsV2`). The library's own end at the first key that it has no name for, such as `a//b`, which
//! somebody else may well have put below the prefix.

use object_store::HeaderMap;
use object_store::path::Path;
use object_store::signer::Method;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::S3;
use super::request::Request;
use crate::bucket::objects::Listed;
use crate::bucket::trouble::{Kind, Trouble};

/// A page of a listing.
#[derive(Debug, Default)]
pub(in crate::bucket) struct Page {
    pub(in crate::bucket) objects: Vec<Listed>,
    /// What to ask for the next page with; `None` after the last.
    pub(in crate::bucket) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    contents: Vec<Entry>,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    key: String,
    size: u64,
    last_modified: Option<String>,
}

impl S3 {
    /// A page of at most `most` (and 1000) of the objects whose keys begin with `prefix`.
    pub(in crate::bucket) async fn page(
        &self,
        prefix: &str,
        most: usize,
        next: Option<String>,
    ) -> Result<Page, Trouble> {
        let mut query = vec![
            ("list-type", "2".to_owned()),
            ("encoding-type", "url".to_owned()),
            ("max-keys", most.to_string()),
            ("prefix", prefix.to_owned()),
        ];
        query.extend(next.map(|token| ("continuation-token", token)));
        let request = Request { method: Method::GET, key: Path::ROOT, query, headers: HeaderMap::new() };
        parse(&self.send(&request).await?)
    }
}

fn parse(xml: &str) -> Result<Page, Trouble> {
    let answer: Answer = quick_xml::de::from_str(xml).map_err(|error| {
        Trouble::without_answer(Kind::Other, &format!("the bucket's list makes no sense: {error}"))
    })?;
    let is_encoded = answer.encoding_type.as_deref() == Some("url");
    let objects = answer.contents.into_iter().map(|Entry { key, size, last_modified }| {
        let key = if is_encoded { decoded(&key) } else { key };
        let modified = last_modified.and_then(|time| time.parse().ok());
        Listed { key, size, modified }
    });
    Ok(Page { objects: objects.collect(), next: answer.next_continuation_token })
}

/// A key as S3 encodes it in XML on request: percent-encoded, and spaces as plus signs.
fn decoded(key: &str) -> String {
    percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_read_as_they_are() {
        let xml = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <Contents><Key>a+b%2Bc/%C3%BC.md</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified><Size>7</Size><ETag>&quot;e&quot;</ETag></Contents>\
            <Contents><Key>a//b</Key><Size>0</Size></Contents>\
            <NextContinuationToken>more</NextContinuationToken></ListBucketResult>";
        let page = parse(xml).unwrap();
        let objects: Vec<(&str, u64)> =
            page.objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
        assert_eq!(objects, [("a b+c/ü.md", 7), ("a//b", 0)]);
        let modified: Vec<Option<i64>> =
            page.objects.iter().map(|object| object.modified.map(|time| time.as_second())).collect();
        assert_eq!(modified, [Some(1_255_369_830), None]);
        assert_eq!(page.next.as_deref(), Some("more"));
    }

    #[test]
    fn an_empty_list_and_one_without_encoding_are_understood() {
        assert!(
            parse("<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>").unwrap().objects.is_empty()
        );
        let plain = "<ListBucketResult><Contents><Key>a+%41 &amp;.md</Key><Size>1</Size></Contents></ListBucketResult>";
        assert_eq!(parse(plain).unwrap().objects[0].key, "a+%41 &.md");
        assert!(parse("<html>").is_err());
    }

    proptest! {
        #[test]
        fn no_key_is_too_strange_to_be_decoded(key in ".{0,40}") {
            let _ = decoded(&key);
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(decoded(&encoded), key);
        }
    }
}
