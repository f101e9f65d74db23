//! A multipart upload: parts are uploaded while the content arrives, and nothing is visible before
//! completion.
//!
//! Dropping an upload aborts it in the background, so that no invisible parts are left and billed. If the
//! process is killed, a later run finds the parts
//! ([`Objects::open_uploads`](super::objects::Objects::open_uploads)) and aborts those that it recognises as
//! ours; the rest is left to the bucket's lifecycle rules.

use bytes::Bytes;
use object_store::{MultipartUpload, PutPayload, UpdateVersion};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::error::{Kind, RequestError};
use super::guard::Guard;
use super::options::PARTS_HELD;
use super::parts::Parts;
#[cfg(feature = "s3")]
use super::s3::S3Upload;

/// An upload as the service knows it.
#[derive(Debug)]
pub(super) enum Open {
    /// An upload of the library, which is completed without a condition.
    Library(Box<dyn MultipartUpload>),
    #[cfg(feature = "s3")]
    S3(Box<S3Upload>),
}

/// An upload that was begun.
#[derive(Debug)]
pub(super) struct Upload {
    /// `None` once it is completed.
    open: Option<Open>,
    parts: Parts,
    /// Parts being sent.
    flying: JoinSet<Result<(), RequestError>>,
    background: TaskTracker,
}

impl Upload {
    pub(super) fn new(open: Open, part_size: usize, background: TaskTracker) -> Self {
        Upload { open: Some(open), parts: Parts::new(part_size), flying: JoinSet::new(), background }
    }

    /// Takes the next chunk of the content. Waits while the limit of parts being sent is reached.
    pub(super) async fn write(&mut self, stretch: Bytes) -> Result<(), RequestError> {
        self.parts.push(stretch);
        while let Some(part) = self.parts.next_full() {
            self.send(part).await?;
        }
        Ok(())
    }

    /// Ends the content, and waits until all of it has been uploaded.
    pub(super) async fn finish(&mut self) -> Result<(), RequestError> {
        let rest = self.parts.rest();
        if rest.content_length() > 0 {
            self.send(rest).await?;
        }
        self.wait_for(0).await
    }

    /// Makes it visible, with this condition where the service supports it, and returns its version.
    pub(super) async fn complete(&mut self, guard: &Guard) -> Result<UpdateVersion, RequestError> {
        let version = match self.open.as_mut().ok_or_else(over)? {
            Open::Library(open) => open.complete().await?.into(),
            #[cfg(feature = "s3")]
            Open::S3(open) => open.complete(guard).await?,
        };
        #[cfg(not(feature = "s3"))]
        let _ = guard;
        self.open = None;
        Ok(version)
    }

    async fn send(&mut self, part: PutPayload) -> Result<(), RequestError> {
        self.wait_for(PARTS_HELD - 2).await?;
        match self.open.as_mut().ok_or_else(over)? {
            Open::Library(open) => {
                let sent = open.put_part(part);
                self.flying.spawn(async { sent.await.map_err(RequestError::from) });
            }
            #[cfg(feature = "s3")]
            Open::S3(open) => {
                let number = open.next_part();
                self.flying.spawn(open.clone().put_part(number, part));
            }
        }
        Ok(())
    }

    /// Waits until at most `most` parts are being sent.
    async fn wait_for(&mut self, most: usize) -> Result<(), RequestError> {
        while self.flying.len() > most {
            match self.flying.join_next().await {
                Some(Ok(sent)) => sent?,
                Some(Err(error)) => {
                    return Err(RequestError::without_answer(Kind::Other, &error.to_string()));
                }
                None => break,
            }
        }
        Ok(())
    }
}

fn over() -> RequestError {
    RequestError::without_answer(Kind::Other, "the upload is over already")
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        // Without a runtime the process is ending; a later run aborts it.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut flying = std::mem::take(&mut self.flying);
        let abort = async move {
            // A part that arrives after the abort would stay.
            flying.shutdown().await;
            let aborted = match &mut open {
                Open::Library(open) => open.abort().await.map_err(RequestError::from),
                #[cfg(feature = "s3")]
                Open::S3(open) => open.abort().await.map(drop),
            };
            if let Err(error) = aborted
                && !error.is_missing_object()
            {
                tracing::warn!(?error, "an upload could not be aborted; a later run does it");
            }
        };
        self.background.spawn_on(abort, &runtime);
    }
}
