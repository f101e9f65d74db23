//! One request to S3: signed by the library, so that the address of the bucket and the credentials are the ones of its own
//! requests, and repeated under the same conditions.

use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::HeaderMap;
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use super::S3;
use crate::bucket::trouble::{Kind, Trouble};

/// For how long a signature is good: longer than a request may take.
const SIGNATURE_LIMIT: Duration = Duration::from_secs(900);
/// The longest answer that is read, in bytes: a page of a listing has about 1 MB.
const ANSWER_MAX: usize = 16 << 20;

/// A request without a body. All of these can be repeated without harm.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The object that it is about; [`Path::ROOT`] for the bucket.
    pub(super) key: Path,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: HeaderMap,
}

impl S3 {
    /// Sends a request and gives back the body of the answer.
    pub(super) async fn send(&self, request: &Request) -> Result<String, Trouble> {
        self.retries.repeat(|| self.send_once(request)).await
    }

    /// Sends a request once. An error comes with whether repeating it can help.
    async fn send_once(&self, request: &Request) -> Result<String, (Trouble, bool)> {
        let mut options = SignedUrlOptions::new().with_query(request.query.clone());
        options.signed_headers = request.headers.clone();
        let signed =
            self.store.signed_url_opts(request.method.clone(), &request.key, SIGNATURE_LIMIT, &options);
        let url = signed.await.map_err(|error| (Trouble::from(error), false))?;
        // The address carries the signature: it must not appear in a message.
        let uri = url.as_str().parse().map_err(|_| {
            (Trouble::without_answer(Kind::Other, "the bucket's address cannot be used"), false)
        })?;
        let mut sent = HttpRequest::new(HttpRequestBody::empty());
        *sent.method_mut() = request.method.clone();
        *sent.uri_mut() = uri;
        *sent.headers_mut() = request.headers.clone();
        let answer = self.http.execute(sent).await.map_err(lost)?;
        let status = answer.status().as_u16();
        let body = read(answer).await?;
        // A copy that takes long is begun with status 200 and may fail nevertheless (S3 API reference, CopyObject).
        if (200..300).contains(&status) && !body.contains("<Error>") {
            return Ok(body);
        }
        let trouble = Trouble::of_answer(status, &body);
        let may_repeat = matches!(trouble.kind, Kind::Throttled | Kind::Failing) || status == 408;
        Err((trouble, may_repeat))
    }
}

async fn read(answer: HttpResponse) -> Result<String, (Trouble, bool)> {
    let mut chunks = answer.into_body().bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.try_next().await.map_err(lost)? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err((Trouble::without_answer(Kind::Other, "the service's answer is too long"), false));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body)
        .map_err(|_| (Trouble::without_answer(Kind::Other, "the service's answer is not text"), false))
}

/// No answer came. The library has taken the address out of the message.
fn lost(error: HttpError) -> (Trouble, bool) {
    let may_repeat = !matches!(error.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
    (Trouble::unreachable(&error), may_repeat)
}
