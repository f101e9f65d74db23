//! Listing the objects of a bucket (`ListObjectsV2`).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use s3s::dto::{
    CommonPrefix, EncodingType, ListObjectsV2Input, ListObjectsV2Output, Object as Listed, ObjectStorageClass,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Backend;
use super::conditions::etag;
use super::store::Object;

/// The most keys that one page holds.
const PAGE_MAX: i32 = 1000;

/// An entry of a listing: an object, or a prefix shared by several.
enum ListedEntry<'a> {
    Object(&'a str, &'a Object),
    Prefix(String),
}

pub(super) fn list(
    backend: &Backend,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let mut state = backend.store.lock();
    let bucket = state.bucket(&input.bucket)?;
    let after = match &input.continuation_token {
        Some(token) => Some(decode_token(token)?),
        None => input.start_after.clone(),
    };
    let most = input.max_keys.unwrap_or(PAGE_MAX).clamp(0, PAGE_MAX);
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().unwrap_or_default();
    let (entries, last, truncated) =
        page(&bucket.objects, &prefix, delimiter, after.as_deref(), most as usize);
    let manner = backend.gate.faults.listed_keys();
    let is_encoded = input.encoding_type.is_some();
    let encode = |key: &str| if is_encoded { manner.encode(key) } else { key.to_owned() };
    let mut contents = Vec::new();
    let mut common_prefixes = Vec::new();
    for entry in &entries {
        match entry {
            ListedEntry::Object(key, object) => contents.push(listed(encode(key), object)),
            ListedEntry::Prefix(prefix) => {
                common_prefixes.push(CommonPrefix { prefix: Some(encode(prefix)) })
            }
        }
    }
    Ok(S3Response::new(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        prefix: Some(encode(&prefix)),
        delimiter: input.delimiter.as_deref().map(encode),
        max_keys: Some(most),
        key_count: i32::try_from(entries.len()).ok(),
        is_truncated: Some(truncated),
        next_continuation_token: last.filter(|_| truncated).map(|key| BASE64URL_NOPAD.encode(key.as_bytes())),
        continuation_token: input.continuation_token,
        start_after: input.start_after,
        encoding_type: input.encoding_type.map(|_| EncodingType::from_static(EncodingType::URL)),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        ..ListObjectsV2Output::default()
    }))
}

/// One page: its entries, its last key (or prefix), and whether more follow.
fn page<'a>(
    objects: &'a BTreeMap<String, Arc<Object>>,
    prefix: &str,
    delimiter: &str,
    after: Option<&str>,
    most: usize,
) -> (Vec<ListedEntry<'a>>, Option<String>, bool) {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut entries = Vec::new();
    let mut last: Option<String> = None;
    for (key, object) in objects.range::<str, _>((from, Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(prefix) else {
            break;
        };
        let shared = (!delimiter.is_empty())
            .then(|| rest.find(delimiter))
            .flatten()
            .map(|at| key[..prefix.len() + at + delimiter.len()].to_owned());
        // A page that ended at a shared prefix continues after everything below it.
        if shared.as_deref().is_some_and(|shared| Some(shared) == last.as_deref() || Some(shared) == after) {
            continue;
        }
        if entries.len() == most {
            return (entries, last, true);
        }
        last = Some(shared.clone().unwrap_or_else(|| key.clone()));
        entries.push(match shared {
            Some(shared) => ListedEntry::Prefix(shared),
            None => ListedEntry::Object(key, object),
        });
    }
    (entries, last, false)
}

fn listed(key: String, object: &Object) -> Listed {
    let class = object.attributes.storage_class.clone();
    Listed {
        key: Some(key),
        size: i64::try_from(object.content.size).ok(),
        e_tag: etag(&object.etag),
        last_modified: Some(object.modified.into()),
        storage_class: Some(
            class.map_or(
                ObjectStorageClass::from_static(ObjectStorageClass::STANDARD),
                ObjectStorageClass::from,
            ),
        ),
        ..Listed::default()
    }
}

fn decode_token(token: &str) -> S3Result<String> {
    let wrong = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
    let key = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| wrong())?;
    String::from_utf8(key).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> BTreeMap<String, Arc<Object>> {
        let object = Arc::new(Object::whole(Default::default(), Default::default()));
        keys.iter().map(|key| ((*key).to_owned(), Arc::clone(&object))).collect()
    }

    /// Every page of a listing, one entry a text; prefixes end with the delimiter.
    fn pages(keys: &[&str], prefix: &str, delimiter: &str, most: usize) -> Vec<Vec<String>> {
        let objects = bucket(keys);
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let (entries, last, truncated) = page(&objects, prefix, delimiter, after.as_deref(), most);
            let text = |entry: &ListedEntry<'_>| match entry {
                ListedEntry::Object(key, _) => (*key).to_owned(),
                ListedEntry::Prefix(prefix) => prefix.clone(),
            };
            pages.push(entries.iter().map(text).collect());
            if !truncated {
                return pages;
            }
            after = last;
        }
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended_and_end_exactly() {
        let keys = ["a", "b/1", "b/2", "b0", "c"];
        assert_eq!(pages(&keys, "", "", 2), [vec!["a", "b/1"], vec!["b/2", "b0"], vec!["c"]]);
        assert_eq!(pages(&keys, "b/", "", 2), [vec!["b/1", "b/2"]]);
        assert_eq!(pages(&keys, "x", "", 2), [Vec::<String>::new()]);
    }

    #[test]
    fn a_delimiter_rolls_keys_up_and_each_prefix_is_shown_once() {
        let keys = ["a", "b/1", "b/2", "b0", "c/d/e"];
        assert_eq!(pages(&keys, "", "/", 1), [vec!["a"], vec!["b/"], vec!["b0"], vec!["c/"]]);
        assert_eq!(pages(&keys, "c/", "/", 9), [vec!["c/d/"]]);
    }
}
