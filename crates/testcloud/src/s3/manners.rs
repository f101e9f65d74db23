//! Differences of other S3-compatible services from Amazon's, set and changed while the cloud runs.

use std::borrow::Cow;
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap as Headers, StatusCode};
use s3s::{S3Error, S3ErrorCode};

use obsync_testkit::Chance;

/// Marks an answer that is replaced by a web page.
pub(super) const PAGE: &str = "x-testcloud-page";

/// Behaviour of a service; Amazon's by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct S3Manners {
    /// Refusals of requests; the first match applies.
    pub refusals: Vec<Refusal>,
    /// Operations (such as `PutObject`) that are carried out regardless of their conditions, or one header of
    /// them (such as `PutObject If-None-Match`).
    pub ignored_conditions: Vec<String>,
    /// Encoding of keys in listings that request it.
    pub keys: ListedKeys,
    /// Buckets must be named in the host; by path every request is refused.
    pub hosts_only: bool,
    /// The parts of an upload must have one size, except the last (Cloudflare R2).
    pub equal_parts: bool,
}

/// Encoding of keys in a listing with `encoding-type=url`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListedKeys {
    /// All but unreserved characters and the slash as `%XX`.
    #[default]
    Percent,
    /// The same, but a space as `+`: Amazon's encoding.
    Form,
    /// The same as the first, but `+` stays.
    PercentButPlus,
    /// Only what is not ASCII, controls and `%`: spaces and `+` stay.
    Half,
    /// Not encoded, though the answer claims so.
    Plain,
}

impl ListedKeys {
    pub(super) fn encode(self, key: &str) -> String {
        let stays = |byte: u8| match self {
            ListedKeys::Percent | ListedKeys::Form => {
                byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte)
            }
            ListedKeys::PercentButPlus => byte.is_ascii_alphanumeric() || b"-_.~/+".contains(&byte),
            ListedKeys::Half => byte.is_ascii_graphic() && byte != b'%' || byte == b' ',
            ListedKeys::Plain => true,
        };
        if self == ListedKeys::Plain {
            return key.to_owned();
        }
        let mut encoded = String::with_capacity(key.len());
        for byte in key.bytes() {
            match byte {
                b' ' if self == ListedKeys::Form => encoded.push('+'),
                byte if stays(byte) => encoded.push(char::from(byte)),
                byte => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    }
}

/// Which requests of an operation are refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RefusedWhen {
    /// All.
    #[default]
    Always,
    /// Those with a condition on the object at their key.
    Conditional,
    /// Those without a checksum of their body.
    Unchecked,
}

/// A kind of request that a service refuses.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The operation, such as `CopyObject`.
    pub operation: String,
    /// Which of its requests.
    pub when: RefusedWhen,
    /// Only keys that contain this.
    pub key: String,
    /// The status of the answer; 200 answers an error in its body.
    pub status: u16,
    /// The service's code.
    pub code: String,
    /// The service's message.
    pub message: String,
    /// Value of `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// A web page replaces the service's error.
    pub page: bool,
    /// When it strikes.
    pub chance: Chance,
}

impl Refusal {
    /// Refuses every request of an operation.
    pub fn new(operation: &str, status: u16, code: &str, message: &str) -> Self {
        Self {
            operation: operation.to_owned(),
            when: RefusedWhen::Always,
            key: String::new(),
            status,
            code: code.to_owned(),
            message: message.to_owned(),
            retry_after: None,
            page: false,
            chance: Chance::always(),
        }
    }

    /// Answers every request of an operation with a web page, like a portal or a proxy.
    pub fn page(operation: &str, status: u16) -> Self {
        Self { page: true, ..Self::new(operation, status, "WebPage", "") }
    }

    /// The same, only for requests with a condition.
    #[must_use]
    pub fn conditional(self) -> Self {
        Self { when: RefusedWhen::Conditional, ..self }
    }

    /// The same, only for requests without a checksum.
    #[must_use]
    pub fn unchecked(self) -> Self {
        Self { when: RefusedWhen::Unchecked, ..self }
    }

    /// The same, only for keys that contain this.
    #[must_use]
    pub fn about(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    /// The same, only for this many requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { chance: Chance::next(times), ..self }
    }

    pub(crate) fn fits(&self, operation: &str, resource: &str, asked: Asked) -> bool {
        let fits = match self.when {
            RefusedWhen::Always => true,
            RefusedWhen::Conditional => asked.conditional,
            RefusedWhen::Unchecked => !asked.checked,
        };
        fits && self.operation == operation && resource.contains(&self.key)
    }

    pub(super) fn error(&self) -> S3Error {
        let code = S3ErrorCode::from_str(&self.code)
            .unwrap_or_else(|_| S3ErrorCode::Custom(self.code.as_str().into()));
        let mut error = S3Error::with_message(code, Cow::Owned(self.message.clone()));
        if let Ok(status) = StatusCode::from_u16(self.status) {
            error.set_status_code(status);
        }
        let mut headers = HeaderMap::new();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.page {
            headers.insert(PAGE, HeaderValue::from_static("1"));
        }
        error.set_headers(headers);
        error
    }
}

/// Properties of a request that refusals depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    conditional: bool,
    checked: bool,
}

impl Asked {
    /// A row of a request.
    pub(super) fn row(conditional: bool) -> Self {
        Self { conditional, checked: false }
    }

    pub(super) fn by(headers: &Headers) -> Self {
        let conditional = ["if-match", "if-none-match"].iter().any(|name| headers.contains_key(*name));
        let is_checksum = |name: &str| {
            name == "content-md5" || name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-algorithm"
        };
        let checked = headers.keys().any(|name| is_checksum(name.as_str()));
        Self { conditional, checked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_in_each_way() {
        let key = "a b+c%/ü.md";
        assert_eq!(ListedKeys::Percent.encode(key), "a%20b%2Bc%25/%C3%BC.md");
        assert_eq!(ListedKeys::Form.encode(key), "a+b%2Bc%25/%C3%BC.md");
        assert_eq!(ListedKeys::Half.encode(key), "a b+c%25/%C3%BC.md");
        assert_eq!(ListedKeys::Plain.encode(key), key);
    }
}
