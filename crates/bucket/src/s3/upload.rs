//! Objects uploaded in parts (`CreateMultipartUpload`, `UploadPart`, `CompleteMultipartUpload`,
//! `AbortMultipartUpload`).

use std::sync::{Arc, Mutex};

use object_store::path::Path;
use object_store::signer::Method;
use object_store::{Attributes, PutPayload, UpdateVersion};
use serde::Deserialize;

use super::client::S3;
use super::request::{Request, no_answer};
use crate::error::RequestError;
use crate::guard::Guard;
use crate::refusal::Operation;
use obsync_core::blocking::lock;

/// An upload that was begun.
#[derive(Clone, Debug)]
pub(crate) struct S3Upload {
    s3: S3,
    key: Path,
    id: String,
    /// The entity tags of the parts that arrived, by number.
    parts: Arc<Mutex<Vec<Option<String>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    upload_id: String,
}

#[derive(Deserialize)]
struct Completed {
    #[serde(rename = "ETag")]
    e_tag: String,
}

impl S3 {
    pub(crate) async fn begin_upload(
        &self,
        key: &Path,
        attributes: &Attributes,
    ) -> Result<S3Upload, RequestError> {
        let request = Request::of_object(Operation::Begin, Method::POST, key).query("uploads", "");
        let answer = self.send(self.encrypted(request.describe(attributes)?)?).await?;
        let begun: Begun = answer.document("InitiateMultipartUploadResult")?;
        Ok(S3Upload { s3: self.clone(), key: key.clone(), id: begun.upload_id, parts: Arc::default() })
    }

    /// Aborts an upload; `false` if it does not exist any more.
    pub(crate) async fn abort(&self, key: &Path, id: &str) -> Result<bool, RequestError> {
        let request = Request::of_object(Operation::Abort, Method::DELETE, key).query("uploadId", id);
        match self.send(request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_object() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl S3Upload {
    /// Takes the next part number.
    pub(crate) fn next_part(&self) -> usize {
        let mut parts = lock(&self.parts);
        parts.push(None);
        parts.len()
    }

    /// Sends a part.
    pub(crate) async fn put_part(self, number: usize, part: PutPayload) -> Result<(), RequestError> {
        let request = Request::of_object(Operation::Part, Method::PUT, &self.key)
            .query("partNumber", number.to_string())
            .query("uploadId", &self.id)
            .body(part, None);
        let answer = self.s3.send(self.s3.checked(request)?).await?;
        let e_tag = answer.e_tag()?;
        if let Some(part) = lock(&self.parts).get_mut(number - 1) {
            *part = Some(e_tag);
        }
        Ok(())
    }

    /// Makes the object visible if the precondition holds, and returns its version.
    pub(crate) async fn complete(&self, guard: &Guard) -> Result<UpdateVersion, RequestError> {
        let mut body =
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
        for (index, e_tag) in lock(&self.parts).iter().enumerate() {
            let e_tag = e_tag.as_deref().ok_or_else(|| no_answer("a part did not arrive"))?;
            let (number, e_tag) = (index + 1, quick_xml::escape::escape(e_tag));
            body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{e_tag}</ETag></Part>"));
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = Request::of_object(Operation::Complete, Method::POST, &self.key)
            .query("uploadId", &self.id)
            .header("content-type", "application/xml")?
            .body(body.into_bytes().into(), None)
            .guard(guard, "if-match", "if-none-match")?;
        let completed: Completed = self.s3.send(request).await?.document("CompleteMultipartUploadResult")?;
        Ok(UpdateVersion { e_tag: Some(completed.e_tag), version: None })
    }

    /// Aborts the upload: the service discards the parts.
    pub(crate) async fn abort(&self) -> Result<bool, RequestError> {
        self.s3.abort(&self.key, &self.id).await
    }
}
