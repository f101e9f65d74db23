//! Multipart uploads that were begun and neither completed nor aborted: invisible and billed remains of
//! killed runs.

use std::time::Duration;

use jiff::Timestamp;
use object_store::path::Path;
use object_store::signer::Method;
use serde::Deserialize;

use super::client::S3;
use super::pages::Pages;
use super::request::Request;
use crate::error::RequestError;
use crate::objects::{OpenUpload, is_older};
use crate::refusal::Operation;

/// Number of uploads from which on no more are listed. A later run handles the rest.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadsAnswer {
    #[serde(default)]
    upload: Vec<ListedUpload>,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(default)]
    is_truncated: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
    initiated: String,
}

impl S3 {
    /// The uploads below a prefix that have been open for at least `age`, as many as one run handles.
    pub(crate) async fn open_uploads(
        &self,
        prefix: &str,
        age: Duration,
    ) -> Result<Vec<OpenUpload>, RequestError> {
        let mut open = Vec::new();
        let mut pages = Pages::default();
        loop {
            let markers = pages.next.clone().map(|(key, id)| [("key-marker", key), ("upload-id-marker", id)]);
            let answer = self.uploads_page(prefix, markers.into_iter().flatten().collect()).await?;
            let count = answer.upload.len();
            open.extend(answer.upload.into_iter().filter_map(|upload| old_one(upload, age)));
            let next = answer.next_key_marker.zip(answer.next_upload_id_marker);
            let next = next.filter(|_| answer.is_truncated && open.len() < MOST);
            match pages.after(count, next)? {
                Some(more) => pages = more,
                None => return Ok(open),
            }
        }
    }

    async fn uploads_page(
        &self,
        prefix: &str,
        markers: Vec<(&'static str, String)>,
    ) -> Result<UploadsAnswer, RequestError> {
        let request = Request::of_bucket(Operation::ListUploads, Method::GET).query("uploads", "");
        let request = request.query("prefix", prefix);
        let request = markers.into_iter().fold(request, |request, (name, value)| request.query(name, value));
        self.send(request).await?.document("ListMultipartUploadsResult")
    }

    /// Aborts an upload; `false` if it does not exist any more.
    pub(crate) async fn abort_upload(&self, upload: &OpenUpload) -> Result<bool, RequestError> {
        self.abort(&upload.key, &upload.id).await
    }
}

/// An upload, if it was begun at least `age` ago, at a valid time (ISO 8601), and for a key that obsync could
/// have written.
fn old_one(upload: ListedUpload, age: Duration) -> Option<OpenUpload> {
    let initiated: Timestamp = upload.initiated.parse().ok()?;
    let key = Path::parse(&upload.key).ok()?;
    is_older(initiated, age).then_some(OpenUpload { key, id: upload.upload_id, begun: initiated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_old(initiated: &str, age: Duration) -> bool {
        let upload = ListedUpload {
            key: "a.md".to_owned(),
            upload_id: "1".to_owned(),
            initiated: initiated.to_owned(),
        };
        old_one(upload, age).is_some()
    }

    #[test]
    fn only_what_is_old_enough_is_old() {
        let hour = Duration::from_secs(3600);
        assert!(is_old("2020-01-01T00:00:00.000Z", hour));
        assert!(!is_old(&Timestamp::now().to_string(), hour));
        assert!(is_old(&Timestamp::now().to_string(), Duration::ZERO));
        assert!(!is_old("2999-01-01T00:00:00Z", hour), "in the future");
        assert!(!is_old("yesterday", Duration::ZERO));
    }
}
