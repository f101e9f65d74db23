//! One request to S3: signed in its headers, and retried by the [table of refusals](crate::refusal).

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
use serde::de::DeserializeOwned;

use super::client::S3;
use crate::error::{Kind, RequestError};
use crate::guard::Guard;
use crate::http::is_html;
use crate::refusal::{Next, Operation};

/// The longest answer that is read, in bytes: a page of a listing has about 1 MB.
const ANSWER_MAX: usize = 16 << 20;
/// Escaped in a query: all but the unreserved characters (RFC 3986, section 2.3).
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Escaped in a key: the same, except the slash.
const IN_KEY: &AsciiSet = &IN_QUERY.remove(b'/');

/// A request. All of them may be retried: the caller detects the effects of a repetition.
#[derive(Debug)]
pub(super) struct Request {
    operation: Operation,
    method: Method,
    /// The key of the object; `None`: the bucket.
    key: Option<Path>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: PutPayload,
    /// SHA-256 of the body, if known.
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
    ///
    /// # Errors
    ///
    /// The error for a missing entity tag: every S3-compatible service names the version of what it stores,
    /// so something else on the way answered.
    pub(super) fn e_tag(&self) -> Result<String, RequestError> {
        let e_tag = self.headers.get("etag").and_then(|value| value.to_str().ok());
        e_tag.map(str::to_owned).ok_or_else(|| no_answer("it has no entity tag"))
    }

    /// The XML document in the body.
    ///
    /// # Errors
    ///
    /// The error for another document: the parser itself would accept any document as one without its
    /// optional elements.
    pub(super) fn document<T: DeserializeOwned>(&self, root: &str) -> Result<T, RequestError> {
        if root_of(&self.body) != Some(root) {
            return Err(no_answer(&format!("it is no {root}")));
        }
        quick_xml::de::from_str(&self.body).map_err(|error| no_answer(&error.to_string()))
    }
}

impl Request {
    pub(super) fn of_bucket(operation: Operation, method: Method) -> Self {
        let body = PutPayload::default();
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Request { operation, method, key: None, query, headers, body, hash: None, conditional: false }
    }

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
    /// A value that is not valid in a header.
    pub(super) fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let unfit =
            || RequestError::without_answer(Kind::Other, &format!("{name} cannot have the value {value:?}"));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
        self.headers.insert(header, HeaderValue::from_str(value).map_err(|_| unfit())?);
        Ok(self)
    }

    /// Adds an object's attributes.
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

    /// Adds the condition on the object at the key, as headers of these names.
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

    /// Marks the request as conditional.
    pub(super) fn conditional(self) -> Self {
        Request { conditional: true, ..self }
    }

    /// Adds the checksum that every service supports (MD5). (Amazon accepts newer ones as well, but for a
    /// part only those that the upload began with.)
    pub(super) fn with_checksum(self) -> Result<Self, RequestError> {
        let mut hasher = Md5::new();
        self.body.iter().for_each(|stretch| hasher.update(stretch));
        let checksum = BASE64.encode(&hasher.finalize());
        self.header("content-md5", &checksum)
    }

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
    /// Sends a request until it is answered, or refused in a way that a retry does not change.
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

    /// Sends a request once. An error comes with a flag that a retry may help.
    async fn send_once(&self, request: &Request) -> Result<Answer, (RequestError, bool)> {
        let signed = self.signed(request).await.map_err(|error| (error, false))?;
        let answer = self.http.execute(signed).await.map_err(lost)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = read(answer).await?;
        if is_web_page(status, &headers, &body) {
            return Err((RequestError::web_page(status), false));
        }
        // Long operations begin with status 200 and may fail nevertheless (S3 API reference, CopyObject).
        // Errors in rows about single objects are not errors of the request as a whole.
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

/// A key for an address or a header: percent-encoded, except for characters that never need it.
pub(super) fn escaped(key: &str) -> PercentEncode<'_> {
    utf8_percent_encode(key, IN_KEY)
}

/// The error for an answer that does not fit the request.
pub(super) fn no_answer(why: &str) -> RequestError {
    RequestError::without_answer(Kind::Other, &format!("the service's answer cannot be read: {why}"))
}

/// True if an answer is an error, whatever its status.
fn is_error(body: &str) -> bool {
    root_of(body) == Some("Error")
}

/// The name of an XML document's root element.
fn root_of(body: &str) -> Option<&str> {
    let root = body.trim_start_matches('\u{feff}').trim_start();
    let root = match root.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest.trim_start(),
        None => root,
    };
    let name =
        root.strip_prefix('<')?.split(|next: char| next.is_whitespace() || "/>".contains(next)).next()?;
    // Without the prefix of its namespace.
    name.rsplit(':').next()
}

/// True if a portal or a proxy answers in place of the service. Pages about an overloaded or failing server
/// are left to their status: they are transient.
fn is_web_page(status: u16, headers: &HeaderMap, body: &str) -> bool {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_page = match root_of(body) {
        Some(root) => root.eq_ignore_ascii_case("html") || root.eq_ignore_ascii_case("!doctype"),
        None => !body.is_empty() && is_html(kind),
    };
    // No S3-compatible service sends 302 or 303.
    is_page && matches!(status, 200..300 | 403 | 511) || matches!(status, 302 | 303)
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

/// No answer came. The library has removed the address from the message.
fn lost(error: HttpError) -> (RequestError, bool) {
    let may_repeat = !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
    (RequestError::unreachable(&error), may_repeat)
}

#[cfg(test)]
mod tests {
    use hyper::header::CONTENT_TYPE;

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

    #[test]
    fn a_web_page_is_known_by_its_root_or_by_its_type() {
        let typed = |kind: &str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        let (html, xml) = (typed("Text/HTML; charset=utf-8"), typed("application/xml"));
        assert!(is_web_page(200, &xml, "\r\n <!DOCTYPE html><html></html>"));
        assert!(is_web_page(204, &HeaderMap::new(), "<HTML lang=\"en\"></HTML>"));
        assert!(is_web_page(200, &html, "Please sign in"));
        assert!(is_web_page(403, &html, "<html>blocked</html>"));
        assert!(is_web_page(302, &HeaderMap::new(), ""), "to the page of a portal");
        assert!(!is_web_page(301, &xml, ""), "to another region");
        assert!(!is_web_page(503, &html, "<html>overloaded</html>"), "that passes");
        assert!(!is_web_page(404, &html, "<html>not found</html>"), "the status says enough");
        assert!(!is_web_page(200, &html, ""), "some services call every answer that");
        assert!(!is_web_page(200, &html, "<CopyObjectResult><ETag>1</ETag></CopyObjectResult>"));
    }
}
