//! Probes how a service handles the requests that obsync makes: by plain requests, signed here. Each result
//! is one cell.

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use futures_util::TryStreamExt;
use md5::{Digest as _, Md5};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{HeaderValue, Method};
use object_store::{ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use obsync_protocol::ContentHasher;

use super::bucket::{RemoteBucket, endpoint};
use super::row::InteropRow;

/// An entity tag that no object has.
const NOBODYS: &str = "\"00000000000000000000000000000000\"";
/// The smallest part that is not the last.
const PART: usize = 5 << 20;

/// An S3 bucket, accessed directly.
pub(super) struct Questions {
    http: HttpClient,
    /// The address of the bucket.
    url: String,
    bucket: String,
    region: String,
    credential: AwsCredential,
}

/// An answer, whatever its status.
#[derive(Debug)]
struct Answer {
    status: u16,
    e_tag: String,
    body: String,
}

impl Answer {
    fn code(&self) -> &str {
        between(&self.body, "<Code>", "</Code>").unwrap_or_default()
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && self.code().is_empty()
    }

    /// The answer to a request whose condition does not hold.
    fn on_condition(&self) -> String {
        match (self.status, self.code()) {
            (412, _) | (_, "PreconditionFailed") => "kept".to_owned(),
            (200..300, "") => "ignored".to_owned(),
            _ => self.refused(),
        }
    }

    /// The answer to a request that should succeed.
    fn on_request(&self) -> String {
        if self.is_success() { "yes".to_owned() } else { self.refused() }
    }

    fn refused(&self) -> String {
        format!("refused ({} {})", self.status, self.code()).replace(" )", ")")
    }
}

impl Questions {
    /// The bucket of this name at the service of the environment.
    ///
    /// # Errors
    /// When a variable is missing.
    pub(super) fn from_environment(bucket: &str) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let credential = AwsCredential {
            key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret_key: variable("AWS_SECRET_ACCESS_KEY")?,
            token: None,
        };
        Ok(Self {
            http: HttpClient::new(reqwest::Client::builder().no_proxy().build()?),
            url: format!("{}/{bucket}", endpoint()?),
            bucket: bucket.to_owned(),
            region: variable("AWS_REGION")?,
            credential,
        })
    }

    /// Creates the bucket, and sets it up.
    ///
    /// # Errors
    /// When the service refuses.
    pub(super) async fn create_bucket(&self, versioned: bool, object_lock: bool) -> Result<()> {
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        self.must(Method::PUT, "", if object_lock { &lock } else { &[] }, "").await?;
        if versioned || object_lock {
            let document = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
            self.set("?versioning=", document).await?;
        }
        if object_lock {
            let document = "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
            self.set("?object-lock=", document).await?;
        }
        Ok(())
    }

    /// Sets up the bucket. Services demand a checksum for that.
    async fn set(&self, setting: &str, document: &str) -> Result<Answer> {
        let checksum = BASE64.encode(&Md5::digest(document.as_bytes()));
        self.must(Method::PUT, setting, &[("content-md5", &checksum)], document).await
    }

    /// Runs all probes, in the order of the columns.
    ///
    /// # Errors
    /// When an operation fails that every service supports.
    pub(super) async fn ask_all(&self, row: &mut InteropRow) -> Result<()> {
        self.must(Method::PUT, "/asked/there", &[], "text").await?;
        let create = [("if-none-match", "*")];
        let replace = [("if-match", NOBODYS)];
        row.add(&self.send(Method::PUT, "/asked/there", &create, "other").await?.on_condition());
        row.add(&self.send(Method::PUT, "/asked/there", &replace, "other").await?.on_condition());
        row.add(&self.complete_over("/asked/there", &create).await?.on_condition());
        self.must(Method::PUT, "/asked/other", &[], "other").await?;
        let source = format!("/{}/asked/other", self.bucket);
        let copy = [("x-amz-copy-source", source.as_str())];
        row.add(&self.send(Method::PUT, "/asked/copy", &copy, "").await?.on_request());
        let guarded = [copy[0], create[0]];
        row.add(&self.send(Method::PUT, "/asked/there", &guarded, "").await?.on_condition());
        row.add(&self.send(Method::DELETE, "/asked/other", &replace, "").await?.on_condition());
        self.must(Method::PUT, "/asked/other", &[], "other").await?;
        row.add(&self.delete_many("asked/other", Some(NOBODYS)).await?.on_condition());
        self.must(Method::PUT, "/asked/other", &[], "other").await?;
        row.add(&self.delete_many("asked/other", None).await?.on_request());
        row.add(&self.send(Method::GET, "?uploads=", &[], "").await?.on_request());
        Ok(())
    }

    /// Completes an upload over an object with a condition that does not hold.
    async fn complete_over(&self, key: &str, condition: &[(&'static str, &str)]) -> Result<Answer> {
        let begun = self.must(Method::POST, &format!("{key}?uploads="), &[], "").await?;
        let id = between(&begun.body, "<UploadId>", "</UploadId>").context("an upload without an id")?;
        let (target, content) = (format!("{key}?partNumber=1&uploadId={id}"), "x".repeat(PART));
        let part = self.must(Method::PUT, &target, &[], &content).await?;
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            part.e_tag.replace('"', "&quot;")
        );
        let completed =
            self.send(Method::POST, &format!("{key}?uploadId={id}"), condition, &document).await?;
        if !completed.is_success() {
            self.send(Method::DELETE, &format!("{key}?uploadId={id}"), &[], "").await?;
        }
        Ok(completed)
    }

    async fn delete_many(&self, key: &str, e_tag: Option<&str>) -> Result<Answer> {
        let tag = e_tag.map(|tag| format!("<ETag>{}</ETag>", tag.replace('"', "&quot;")));
        let document = format!(
            "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet><Object><Key>{key}</Key>{}</Object></Delete>",
            tag.unwrap_or_default()
        );
        let checksum = BASE64.encode(&Md5::digest(document.as_bytes()));
        self.send(Method::POST, "?delete=", &[("content-md5", &checksum)], &document).await
    }

    async fn must(
        &self,
        method: Method,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let answer = self.send(method.clone(), target, headers, body).await?;
        if !answer.is_success() {
            bail!("{method} {target} was refused: {answer:?}");
        }
        Ok(answer)
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Answer> {
        let mut hasher = ContentHasher::new();
        hasher.update(body.as_bytes());
        let mut request = HttpRequest::new(match body.is_empty() {
            true => HttpRequestBody::empty(),
            false => PutPayload::from(body.as_bytes().to_vec()).into(),
        });
        let has_body = method == Method::PUT || method == Method::POST;
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{target}", self.url).parse()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value)?);
        }
        if has_body {
            request.headers_mut().insert("content-length", HeaderValue::from(body.len()));
        }
        let authorizer = AwsAuthorizer::new(&self.credential, "s3", &self.region);
        authorizer.try_authorize(&mut request, Some(hasher.finish().as_bytes()))?;
        let answer = self.http.execute(request).await.with_context(|| format!("no answer to {target}"))?;
        let status = answer.status().as_u16();
        let e_tag =
            answer.headers().get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
        let body: Vec<_> = answer.into_body().bytes_stream().try_collect().await?;
        Ok(Answer { status, e_tag, body: String::from_utf8_lossy(&body.concat()).into_owned() })
    }
}

/// Probes a service that obsync uses only through the object store library.
///
/// # Errors
/// When an operation fails that every service supports.
pub(super) async fn ask_library(bucket: &RemoteBucket, row: &mut InteropRow) -> Result<()> {
    let destination = &bucket.destination;
    let (there, copied) = (Path::from("asked/there"), Path::from("asked/copy"));
    destination.put(&there, "text".into()).await?;
    let verdict = |put: object_store::Result<object_store::PutResult>| match put {
        Ok(_) => "ignored".to_owned(),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            "kept".to_owned()
        }
        Err(error) => format!("refused ({error})"),
    };
    let nobodys = UpdateVersion { e_tag: Some(NOBODYS.to_owned()), version: None };
    row.add(&verdict(destination.put_opts(&there, "other".into(), PutMode::Create.into()).await));
    row.add(&verdict(destination.put_opts(&there, "other".into(), PutMode::Update(nobodys).into()).await));
    row.add("not sent");
    destination.copy(&there, &copied).await?;
    row.add("yes");
    row.add(match destination.copy_if_not_exists(&there, &copied).await {
        Err(object_store::Error::AlreadyExists { .. }) => "kept",
        Ok(()) => "ignored",
        Err(_) => "refused",
    });
    row.add("not sent");
    row.add("not sent");
    row.add("library");
    row.add("not sent");
    Ok(())
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, e_tag: String::new(), body: body.to_owned() }
    }

    #[test]
    fn an_answer_says_what_became_of_a_condition() {
        assert_eq!(answer(412, "").on_condition(), "kept");
        let row = "<DeleteResult><Error><Code>PreconditionFailed</Code></Error></DeleteResult>";
        assert_eq!(answer(200, row).on_condition(), "kept");
        assert_eq!(answer(200, "<DeleteResult/>").on_condition(), "ignored");
        let unknown = answer(501, "<Error><Code>NotImplemented</Code></Error>");
        assert_eq!(unknown.on_condition(), "refused (501 NotImplemented)");
        assert_eq!(answer(405, "").on_request(), "refused (405)");
    }
}
