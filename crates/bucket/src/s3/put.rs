//! Objects uploaded by one request (`PutObject`).

use object_store::path::Path;
use object_store::signer::Method;
use object_store::{Attributes, PutPayload, UpdateVersion};
use obsync_protocol::ContentHash;

use super::client::S3;
use super::request::Request;
use crate::error::RequestError;
use crate::guard::Guard;
use crate::refusal::Operation;

impl S3 {
    /// Puts an object and returns its version. `hash` is the SHA-256 of the content, if known.
    pub(crate) async fn put(
        &self,
        key: &Path,
        content: PutPayload,
        hash: Option<ContentHash>,
        attributes: &Attributes,
        guard: &Guard,
    ) -> Result<UpdateVersion, RequestError> {
        let request = Request::of_object(Operation::Put, Method::PUT, key)
            .body(content, hash)
            .describe(attributes)?
            .guard(guard, "if-match", "if-none-match")?;
        let answer = self.send(self.checked(self.encrypted(request)?)?).await?;
        Ok(UpdateVersion { e_tag: Some(answer.e_tag()?), version: None })
    }

    /// Adds the requested encryption.
    pub(super) fn encrypted(&self, request: Request) -> Result<Request, RequestError> {
        match &self.sse_kms_key {
            None => Ok(request),
            Some(key) => request
                .header("x-amz-server-side-encryption", "aws:kms")?
                .header("x-amz-server-side-encryption-aws-kms-key-id", key),
        }
    }

    /// Adds a checksum if the bucket demands one.
    pub(super) fn checked(&self, request: Request) -> Result<Request, RequestError> {
        if self.demands_checksums() { request.with_checksum() } else { Ok(request) }
    }
}
