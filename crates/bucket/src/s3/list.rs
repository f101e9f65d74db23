//! Listings (`ListObjectsV2`). The library's own listing fails at the first key that it cannot represent,
//! such as `a//b`, which somebody else may well have put below the prefix.
//!
//! Keys are requested encoded, because XML cannot represent every character. Services encode differently:
//! Amazon writes a space as `+`, others as `%20` or leave it, and some leave `+` or `%` unescaped. A page is
//! decoded by the one encoding that fits all of its keys; if several fit, the bucket is asked which of the
//! names exists.

use std::sync::atomic::Ordering;

use object_store::path::Path;
use object_store::signer::Method;
use object_store::{GetOptions, ObjectStore};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::address::Maker;
use super::client::S3;
use super::request::Request;
use crate::error::{Kind, RequestError};
use crate::objects::Listed;
use crate::refusal::Operation;

/// Most ambiguous keys of a page that are looked up.
const UNCLEAR: usize = 20;

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Listed>,
    /// The continuation token of the next page; `None` after the last.
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListAnswer {
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
    #[serde(rename = "ETag")]
    e_tag: Option<String>,
    last_modified: Option<String>,
}

impl S3 {
    /// A page of at most `most` (and 1000) of the objects whose keys begin with `prefix` and come after
    /// `after`.
    pub(crate) async fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
        next: Option<String>,
    ) -> Result<Page, RequestError> {
        let mut request = Request::of_bucket(Operation::List, Method::GET)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("max-keys", most.to_string())
            .query("prefix", prefix);
        if let Some(after) = after {
            request = request.query("start-after", after);
        }
        if let Some(token) = next {
            request = request.query("continuation-token", token);
        }
        let answer: ListAnswer = self.send(request).await?.document("ListBucketResult")?;
        let encoding = self.encoding_of(&answer, prefix).await?;
        let objects = answer.contents.into_iter().map(|Entry { key, size, e_tag, last_modified }| {
            let modified = last_modified.and_then(|time| time.parse().ok());
            Listed { key: encoding.decode(&key), size, e_tag, modified }
        });
        Ok(Page { objects: objects.collect(), next: answer.next_continuation_token })
    }

    /// The encoding of a page's keys.
    async fn encoding_of(&self, answer: &ListAnswer, prefix: &str) -> Result<Encoding, RequestError> {
        let is_encoded = answer.encoding_type.as_deref() == Some("url");
        match Encoding::known(self.encoding.load(Ordering::Relaxed)) {
            Some(known) => return Ok(known),
            None if is_encoded && self.address.maker == Maker::Amazon => return Ok(Encoding::Form),
            None => {}
        }
        let keys: Vec<&str> = answer.contents.iter().map(|entry| entry.key.as_str()).collect();
        let candidates = candidates(&keys, prefix, is_encoded);
        let Some(&first) = candidates.first() else {
            let reason = "the keys in the bucket's list are encoded in no known way";
            return Err(RequestError::without_answer(Kind::Other, reason));
        };
        let is_unclear = |key: &&&str| {
            let reading = first.decode(key);
            candidates.iter().any(|other| other.decode(key) != reading)
        };
        let mut likeliest = first;
        for unclear in keys.iter().filter(is_unclear).take(UNCLEAR) {
            let mut there = Vec::new();
            for candidate in &candidates {
                if self.is_there(&candidate.decode(unclear)).await? {
                    there.push(*candidate);
                }
            }
            match there[..] {
                [only] => {
                    self.encoding.store(only as u8, Ordering::Relaxed);
                    return Ok(only);
                }
                // It is gone again, or the bucket has a name for each reading: another key may decide.
                [] => {}
                [one, ..] => likeliest = one,
            }
        }
        // The next page may decide.
        Ok(likeliest)
    }

    async fn is_there(&self, key: &str) -> Result<bool, RequestError> {
        let Ok(key) = Path::parse(key) else { return Ok(false) };
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(&key, options).await.map_err(RequestError::from) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_object() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A service's encoding of keys in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Encoding {
    /// Percent-encoded, with spaces as plus signs: Amazon's encoding.
    Form = 1,
    /// Percent-encoded where escapes occur: a plus sign is a plus sign.
    Percent = 2,
    /// Not encoded.
    Plain = 3,
}

impl Encoding {
    fn known(number: u8) -> Option<Self> {
        [Encoding::Form, Encoding::Percent, Encoding::Plain].into_iter().find(|one| *one as u8 == number)
    }

    fn decode(self, key: &str) -> String {
        match self {
            Encoding::Form => percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned(),
            Encoding::Percent => percent_decode_str(key).decode_utf8_lossy().into_owned(),
            Encoding::Plain => key.to_owned(),
        }
    }
}

/// The encodings that fit all keys of a page below a prefix, the likeliest first. `is_encoded`: by the
/// service's statement.
fn candidates(keys: &[&str], prefix: &str, is_encoded: bool) -> Vec<Encoding> {
    let any = |test: fn(&str) -> bool| keys.iter().any(|key| test(key));
    let is_raw = any(|key| key.chars().any(|char| char == ' ' || !char.is_ascii()));
    let has_bare_percent = any(has_bare_percent);
    let fits = |encoding: &Encoding| {
        let is_possible = match encoding {
            // A space is a plus sign there, and a plus sign %2B.
            Encoding::Form => !has_bare_percent && !is_raw && !any(|key| key.contains("%20")),
            Encoding::Percent => !has_bare_percent,
            Encoding::Plain => !is_encoded || is_raw || has_bare_percent,
        };
        is_possible && keys.iter().all(|key| encoding.decode(key).starts_with(prefix))
    };
    let order = match is_encoded {
        true => [Encoding::Form, Encoding::Percent, Encoding::Plain],
        false => [Encoding::Plain, Encoding::Percent, Encoding::Form],
    };
    order.into_iter().filter(fits).collect()
}

/// True if there is a percent sign that begins no escape.
fn has_bare_percent(key: &str) -> bool {
    let mut rest = key;
    while let Some((_, after)) = rest.split_once('%') {
        let escape = after.as_bytes().get(..2);
        if !escape.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Encoding::*;

    fn parse(xml: &str) -> Result<ListAnswer, quick_xml::DeError> {
        quick_xml::de::from_str(xml)
    }

    #[test]
    fn pages_are_understood() {
        let xml = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <Contents><Key>a+b%2Bc/%C3%BC.md</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified><Size>7</Size><ETag>&quot;e&quot;</ETag></Contents>\
            <Contents><Key>a//b</Key><Size>0</Size></Contents>\
            <NextContinuationToken>more</NextContinuationToken></ListBucketResult>";
        let page = parse(xml).unwrap();
        let objects: Vec<(&str, u64)> =
            page.contents.iter().map(|entry| (entry.key.as_str(), entry.size)).collect();
        assert_eq!(objects, [("a+b%2Bc/%C3%BC.md", 7), ("a//b", 0)]);
        assert_eq!(page.contents[0].last_modified.as_deref(), Some("2009-10-12T17:50:30.000Z"));
        assert_eq!(page.next_continuation_token.as_deref(), Some("more"));
        assert!(
            parse("<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>").unwrap().contents.is_empty()
        );
        assert!(parse("<html>").is_err());
    }

    #[test]
    fn a_key_is_decoded_in_each_way() {
        assert_eq!(Form.decode("a+b%2Bc/%C3%BC.md"), "a b+c/ü.md");
        assert_eq!(Percent.decode("a+b%20c"), "a+b c");
        assert_eq!(Plain.decode("a+%41"), "a+%41");
    }

    #[test]
    fn what_a_page_shows_rules_encodings_out() {
        let fits = |keys: &[&str], prefix: &str| candidates(keys, prefix, true);
        assert_eq!(fits(&["a+b.md"], ""), [Form, Percent], "nothing tells");
        assert_eq!(fits(&["a+b.md", "c%20d.md"], ""), [Percent]);
        assert_eq!(fits(&["a+b.md", "c d%C3%BC.md"], ""), [Percent, Plain], "a space is left as it is");
        assert_eq!(fits(&["100%.md"], ""), [Plain]);
        assert_eq!(fits(&["my+notes/a.md"], "my notes/"), [Form], "the prefix is known");
        assert_eq!(fits(&["my+notes/a.md"], "my+notes/"), [Percent]);
        assert_eq!(candidates(&["a.md"], "", false)[0], Plain);
        assert_eq!(fits(&["b/a.md"], "a/"), [], "it is not what was asked for");
    }

    proptest! {
        #[test]
        fn no_key_is_too_strange_to_be_decoded(key in ".{0,40}") {
            let encoded: String = key.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for encoding in [Form, Percent] {
                let _ = encoding.decode(&key);
                prop_assert_eq!(encoding.decode(&encoded), key.clone());
            }
            let _ = candidates(&[&key], "", true);
        }
    }
}
