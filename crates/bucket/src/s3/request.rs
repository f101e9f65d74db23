//! One request to S3: signed in its headers, and repeated as the [table of refusals](crate::refusal) says.

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::TryStreamExt;
use md5::{Digest as _, Md5};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::signer::{HeaderName, HeaderValue, Method};
use object_store::{Attribute, Attributes, HeaderMap, PutPayload};
use obsync_protocol::{ContentHash, ContentHasher};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::S3;
use crate::error::{Kind, RequestError};
use crate::objects::Guard;
use crate::refusal::{Next, Operation};

/// The longest answer that is read, in bytes: a page of a listing has about 1 MB.
const ANSWER_MAX: usize = 16 << 20;
/// What is escaped in a query: all but the unreserved characters (RFC 3986, section 2.3).
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What is escaped in a key: the slash is not.
const IN_KEY: &AsciiSet = &IN_QUERY.remove(b'/');

/// A request. All of them can be repeated: what a repetition meets is seen by whoever asked.
#[derive(Debug)]
pub(super) struct Request {
    operation: Operation,
    method: Method,
    /// The object that it is about; `None`: the bucket.
    key: Option<Path>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: PutPayload,
    /// SHA-256 of the body, if it is known.
    hash: Option<ContentHash>,
    conditional: bool,
}

/// An answer of status 2xx.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// The entity tag in the headers.
    pub(super) fn e_tag(&self) -> Option<String> {
        Some(self.headers.get("etag")?.to_str().ok()?.to_owned())
    }
}

impl Request {
    /// A request for the bucket as a whole.
    pub(super) fn of_bucket(operation: Operation, method: Method) -> Self {
        let body = PutPayload::default();
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Request { operation, method, key: None, query, headers, body, hash: None, conditional: false }
    }

    /// A request for an object.
    pub(super) fn of_object(operation: Operation, method: Method, key: &Path) -> Self {
        Request { key: Some(key.clone()), ..Self::of_bucket(operation, method) }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn body(self, body: PutPayload, hash: Option<ContentHash>) -> Self {
        Request { body, hash, ..self }
    }

    /// Adds a header.
    ///
    /// # Errors
    ///
    /// A value that no header can have.
    pub(super) fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let unfit =
            || RequestError::without_answer(Kind::Other, &format!("{name} cannot have the value {value:?}"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        self.headers.insert(header, HeaderValue::from_str(value).map_err(|_| unfit())?);
        Ok(self)
    }

    /// Adds what an object is to carry.
    pub(super) fn describe(mut self, attributes: &Attributes) -> Result<Self, RequestError> {
        for (attribute, value) in attributes {
            self = match attribute {
                Attribute::ContentType => self.header("content-type", value)?,
                Attribute::Metadata(name) => self.header(&format!("x-amz-meta-{name}"), value)?,
                Attribute::StorageClass => self.header("x-amz-storage-class", value)?,
                // obsync gives objects no other attribute.
                _ => self,
            };
        }
        Ok(self)
    }

    /// Adds the condition on what is at the key, as headers of these names.
    pub(super) fn guard(
        self,
        guard: &Guard,
        if_match: &str,
        if_none_match: &str,
    ) -> Result<Self, RequestError> {
        let guarded = match guard {
            Guard::Nothing => self.header(if_none_match, "*")?,
            Guard::Version(version) => match &version.e_tag {
                Some(e_tag) => self.header(if_match, e_tag)?,
                None => return Ok(self),
            },
            Guard::Anything => return Ok(self),
        };
        Ok(guarded.conditional())
    }

    /// Says that it has a condition.
    pub(super) fn conditional(self) -> Self {
        Request { conditional: true, ..self }
    }

    /// Adds the checksum that every service knows. (Amazon takes newer ones as well, but for a part only those that the upload
    /// began with.)
    pub(super) fn with_checksum(self) -> Result<Self, RequestError> {
        let mut hasher = Md5::new();
        self.body.iter().for_each(|stretch| hasher.update(stretch));
        let checksum = BASE64.encode(&hasher.finalize());
        self.header("content-md5", &checksum)
    }

    /// The value of a header.
    #[cfg(test)]
    pub(super) fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn is_checksummed(&self) -> bool {
        self.headers.contains_key("content-md5")
    }

    fn hash(&self) -> ContentHash {
        self.hash.unwrap_or_else(|| {
            let mut hasher = ContentHasher::new();
            self.body.iter().for_each(|stretch| hasher.update(stretch));
            hasher.finish()
        })
    }
}

impl S3 {
    /// Sends a request until it is answered, or refused in a way that asking again does not change.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, RequestError> {
        let request = Request { hash: Some(request.hash()), ..request };
        let error = match self.repeated(&request).await {
            Err(error) if error.next() == Some(Next::WithChecksum) => error,
            answer => return answer,
        };
        tracing::debug!(?error, "the bucket demands checksums");
        self.demand_checksums();
        self.repeated(&request.with_checksum()?).await
    }

    async fn repeated(&self, request: &Request) -> Result<Answer, RequestError> {
        self.retries.repeat(|| self.send_once(request)).await
    }

    /// Sends a request once. An error comes with whether repeating it can help.
    async fn send_once(&self, request: &Request) -> Result<Answer, (RequestError, bool)> {
        let signed = self.signed(request).await.map_err(|error| (error, false))?;
        let answer = self.http.execute(signed).await.map_err(lost)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = read(answer).await?;
        // What takes long is begun with status 200 and may fail nevertheless (S3 API reference, CopyObject). Rows about single
        // objects are no answer of the request as a whole.
        if (200..300).contains(&status) && !is_error(&body) {
            return Ok(Answer { headers, body });
        }
        let error = RequestError::of_answer(status, &body).at(
            request.operation,
            request.conditional,
            request.is_checksummed(),
        );
        let may_repeat = error.next() == Some(Next::Repeat);
        Err((error, may_repeat))
    }

    async fn signed(&self, request: &Request) -> Result<HttpRequest, RequestError> {
        let unfit = |_| RequestError::without_answer(Kind::Other, "the bucket's address cannot be used");
        let length = request.body.content_length();
        let mut signed = HttpRequest::new(match length {
            0 => HttpRequestBody::empty(),
            _ => request.body.clone().into(),
        });
        *signed.method_mut() = request.method.clone();
        *signed.uri_mut() = self.uri(request).parse().map_err(unfit)?;
        *signed.headers_mut() = request.headers.clone();
        if request.method != Method::GET && request.method != Method::HEAD {
            signed.headers_mut().insert("content-length", HeaderValue::from(length));
        }
        let credential = self.store.credentials().get_credential().await?;
        let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
        authorizer.try_authorize(&mut signed, Some(request.hash().as_bytes()))?;
        Ok(signed)
    }

    fn uri(&self, request: &Request) -> String {
        let mut uri = format!("{}/", self.address.url);
        if let Some(key) = &request.key {
            uri.extend(escaped(key.as_ref()));
        } else if self.address.by_path {
            // The bucket itself has no slash after its name.
            uri.pop();
        }
        for (index, (name, value)) in request.query.iter().enumerate() {
            uri.push(if index == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            uri.extend(utf8_percent_encode(value, IN_QUERY));
        }
        uri
    }
}

/// A key as it is named in an address or a header: percent-encoded, except for what needs it nowhere.
pub(super) fn escaped(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, IN_KEY)
}

/// Whether an answer is an error, whatever its status says.
fn is_error(body: &str) -> bool {
    let root = body.trim_start_matches('\u{feff}').trim_start();
    let root = match root.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest.trim_start(),
        None => root,
    };
    root.starts_with("<Error>") || root.starts_with("<Error ")
}

async fn read(answer: HttpResponse) -> Result<String, (RequestError, bool)> {
    let mut chunks = answer.into_body().bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.try_next().await.map_err(lost)? {
        let chunk: Bytes = chunk;
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err((
                RequestError::without_answer(Kind::Other, "the service's answer is too long"),
                false,
            ));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body)
        .map_err(|_| (RequestError::without_answer(Kind::Other, "the service's answer is not text"), false))
}

/// No answer came. The library has taken the address out of the message.
fn lost(error: HttpError) -> (RequestError, bool) {
    let may_repeat = !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
    (RequestError::unreachable(&error), may_repeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_escaped_byte_by_byte() {
        assert_eq!(escaped("a b/ü+%~.md").to_string(), "a%20b/%C3%BC%2B%25~.md");
    }

    #[test]
    fn an_error_is_known_by_the_root_of_the_answer() {
        assert!(is_error("<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>"));
        assert!(!is_error("<DeleteResult><Error><Key>a</Key></Error></DeleteResult>"));
        assert!(!is_error(""));
    }
}
