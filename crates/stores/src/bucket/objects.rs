//! The objects of one bucket: the few things that are done with them, each one request where the service allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{BoxStream, TryStreamExt};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, UpdateVersion,
};
use obsync_protocol::{ContentHash, ContentHasher, limits};
use tokio_util::task::TaskTracker;

use super::options::BucketOptions;
use super::retries::Retries;
use super::rewrite;
#[cfg(feature = "s3")]
use super::s3::{CopyOrder, Pages, S3};
use super::stamp::Facts;
use super::trouble::{Kind, Trouble};
use super::upload::Upload;

/// How many objects the services remove by one request (S3 API reference, DeleteObjects).
const DELETE_MAX: usize = 1000;

/// What must be at a key for a write to happen.
#[derive(Clone, Debug)]
pub(super) enum Guard {
    /// Nothing.
    Nothing,
    /// This version of an object.
    Version(UpdateVersion),
    /// It does not matter.
    Anything,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    /// Bytes of its content.
    pub(super) size: u64,
    /// When it was written, if the service says so.
    pub(super) modified: Option<Timestamp>,
}

/// An upload that was begun and neither completed nor aborted, by whomever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) key: Path,
    /// The service's name for it.
    pub(super) id: String,
    /// When it was begun.
    pub(super) begun: Timestamp,
}

/// Whether a time is at least `age` ago. Every time is if `age` is zero, even by a clock that is ahead of this one.
pub(super) fn is_older(time: Timestamp, age: Duration) -> bool {
    let now = Timestamp::now();
    age.is_zero() || time <= now && time.duration_until(now).unsigned_abs() >= age
}

/// The objects of a bucket.
#[derive(Debug)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    #[cfg(feature = "s3")]
    s3: Option<S3>,
    /// The service turned out not to know conditional writes.
    unconditional: AtomicBool,
    part_size: usize,
    retries: Retries,
    /// Uploads that are being aborted.
    background: TaskTracker,
}

impl Objects {
    /// Objects of a service of which the library knows all that is needed.
    pub(super) fn new(store: Arc<dyn ObjectStore>, options: &BucketOptions) -> Self {
        Objects {
            store,
            #[cfg(feature = "s3")]
            s3: None,
            unconditional: AtomicBool::new(false),
            part_size: options.part_size,
            retries: options.retries,
            background: TaskTracker::new(),
        }
    }

    /// Objects of S3.
    #[cfg(feature = "s3")]
    pub(super) fn of_s3(s3: S3, options: &BucketOptions) -> Self {
        let store = s3.store();
        Objects { s3: Some(s3), ..Self::new(store, options) }
    }

    /// Looks at an object; `None` when there is none.
    pub(super) async fn head(&self, key: &Path) -> Result<Option<Facts>, Trouble> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(key, options).await.map_err(Trouble::from) {
            Ok(found) => {
                let version = UpdateVersion { e_tag: found.meta.e_tag, version: found.meta.version };
                Ok(Some(Facts::new(version, found.meta.size, &found.attributes)))
            }
            Err(trouble) if trouble.is_missing_object() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// The content of this version of an object, in stretches.
    pub(super) async fn read(
        &self,
        key: &Path,
        version: &UpdateVersion,
    ) -> Result<BoxStream<'static, Result<bytes::Bytes, Trouble>>, Trouble> {
        let options = GetOptions { if_match: version.e_tag.clone(), ..GetOptions::default() };
        let found = self.store.get_opts(key, options).await?;
        let mut left = found.meta.size;
        let bounded = found.into_stream().map_err(Trouble::from).and_then(move |stretch| {
            let rest = left.checked_sub(stretch.len() as u64);
            left = rest.unwrap_or_default();
            let longer = || Trouble::without_answer(Kind::Other, "it has more content than the service says");
            std::future::ready(rest.map(|_| stretch).ok_or_else(longer))
        });
        Ok(bounded.boxed())
    }

    /// SHA-256 of this version of an object.
    pub(super) async fn hash(&self, key: &Path, version: &UpdateVersion) -> Result<ContentHash, Trouble> {
        let mut content = self.read(key, version).await?;
        let mut hasher = ContentHasher::new();
        while let Some(stretch) = content.try_next().await? {
            hasher.update(&stretch);
        }
        Ok(hasher.finish())
    }

    /// Writes an object by one request and tells its version.
    ///
    /// The request is repeated if no answer came, though it may have happened: then the condition fails, and whoever looks
    /// finds what was written.
    pub(super) async fn put(
        &self,
        key: &Path,
        content: PutPayload,
        attributes: Attributes,
        guard: &Guard,
    ) -> Result<UpdateVersion, Trouble> {
        let mode = match guard {
            Guard::Nothing if !self.is_unconditional() => PutMode::Create,
            Guard::Version(version) if !self.is_unconditional() => PutMode::Update(version.clone()),
            _ => PutMode::Overwrite,
        };
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let put = || async {
            self.store.put_opts(key, content.clone(), options.clone()).await.map_err(Trouble::from)
        };
        let put = self.retries.through_silence(put).await;
        Ok(self.learn(put, !matches!(options.mode, PutMode::Overwrite))?.into())
    }

    /// Begins a multipart upload in parts of this size.
    pub(super) async fn begin_upload(
        &self,
        key: &Path,
        attributes: Attributes,
        part_size: usize,
    ) -> Result<Upload, Trouble> {
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let open = self.store.put_multipart_opts(key, options).await?;
        Ok(Upload::new(open, part_size, self.background.clone()))
    }

    /// Copies this version of an object and tells the version of the copy. It is to carry `attributes`; `None`: what the
    /// original does.
    pub(super) async fn copy(
        &self,
        from: &Path,
        version: &UpdateVersion,
        to: &Path,
        attributes: Option<&Attributes>,
        guard: &Guard,
    ) -> Result<UpdateVersion, Trouble> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            let guard = if self.is_unconditional() { &Guard::Anything } else { guard };
            let copied = s3.copy(&CopyOrder { from, version, to, attributes, guard }).await;
            return self.learn(copied, !matches!(guard, Guard::Anything));
        }
        match attributes {
            None => {
                let mode = match guard {
                    Guard::Nothing if !self.is_unconditional() => CopyMode::Create,
                    _ => CopyMode::Overwrite,
                };
                let options = CopyOptions::new().with_mode(mode);
                let copied = self.store.copy_opts(from, to, options).await.map_err(Trouble::from);
                self.learn(copied, mode == CopyMode::Create)?;
                Ok(UpdateVersion { e_tag: None, version: None })
            }
            Some(attributes) => rewrite::rewrite(self, from, version, to, attributes.clone(), guard).await,
        }
    }

    /// Removes objects. Answers in order; one that is not there counts as removed.
    pub(super) async fn delete(&self, keys: Vec<Path>) -> Vec<Result<(), Trouble>> {
        let mut answers = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(DELETE_MAX) {
            let removed = self.retries.through_silence(|| self.delete_chunk(chunk)).await;
            answers.extend(removed.unwrap_or_else(|trouble| vec![Err(trouble); chunk.len()]));
        }
        answers
    }

    /// Removes as many objects as one request can. An error is one of the request as a whole.
    async fn delete_chunk(&self, keys: &[Path]) -> Result<Vec<Result<(), Trouble>>, Trouble> {
        let stream = stream::iter(keys.to_vec()).map(Ok).boxed();
        let removed: Vec<object_store::Result<Path>> = self.store.delete_stream(stream).collect().await;
        let mut answers: Vec<Result<(), Trouble>> = removed
            .into_iter()
            .map(|removed| match removed.map_err(Trouble::from) {
                Err(trouble) if !trouble.is_missing_object() => Err(trouble),
                _ => Ok(()),
            })
            .collect();
        if answers.len() == keys.len() && (keys.len() > 1 || answers.iter().all(Result::is_ok)) {
            return Ok(answers);
        }
        let silence = Trouble::without_answer(Kind::Other, "the service does not say whether it is gone");
        Err(answers.pop().and_then(Result::err).unwrap_or(silence))
    }

    /// The objects whose keys begin with `prefix` (which is empty or ends with a slash), asked for page by page as far as
    /// they are taken, at most `page` at a time.
    ///
    /// A list of more than [`limits::OBJECTS_LISTED`] objects is an error, and so is one whose pages lead nowhere.
    pub(super) fn list(&self, prefix: &str, page: usize) -> BoxStream<'_, Result<Listed, Trouble>> {
        let mut listed = 0;
        let list = self.pages(prefix, page);
        let bounded = list.map(move |object| {
            listed += 1;
            if listed > limits::OBJECTS_LISTED {
                return Err(Trouble::without_answer(Kind::Other, &too_many()));
            }
            object
        });
        bounded.boxed()
    }

    fn pages(&self, prefix: &str, page: usize) -> BoxStream<'_, Result<Listed, Trouble>> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3_list(s3, prefix.to_owned(), page).boxed();
        }
        let _ = page;
        let prefix = Path::parse(prefix).ok().filter(|prefix| !prefix.is_root());
        self.store
            .list(prefix.as_ref())
            .map_ok(|object| Listed {
                key: object.location.into(),
                size: object.size,
                modified: Timestamp::from_millisecond(object.last_modified.timestamp_millis()).ok(),
            })
            .map_err(Trouble::from)
            .boxed()
    }

    /// Uploads below a prefix that were begun at least `age` ago and never completed, where the service lets them be listed.
    pub(super) async fn open_uploads(&self, prefix: &str, age: Duration) -> Result<Vec<OpenUpload>, Trouble> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3.open_uploads(prefix, age).await;
        }
        let _ = (prefix, age);
        Ok(Vec::new())
    }

    /// Aborts an upload; `false` if it is not there any more.
    pub(super) async fn abort_upload(&self, upload: &OpenUpload) -> Result<bool, Trouble> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3.abort_upload(upload).await;
        }
        let _ = upload;
        Ok(false)
    }

    /// Waits, not longer than `limit`, until what goes on in the background is done; whether it is.
    pub(super) async fn settle(&self, limit: Duration) -> bool {
        self.background.close();
        let settled = tokio::time::timeout(limit, self.background.wait()).await.is_ok();
        self.background.reopen();
        settled
    }

    /// Bytes of a part, and of what is held at a time of a content that passes through here.
    pub(super) fn part_size(&self) -> usize {
        self.part_size
    }

    /// Whether the service turned out not to know conditional writes: then nothing tells that what was supposed is not so.
    pub(super) fn is_unconditional(&self) -> bool {
        self.unconditional.load(Ordering::Relaxed)
    }

    /// Remembers when the service does not know conditions. The trouble then is a conflict for each request that had one
    /// (many are in flight at a time), so that whoever meets it looks again and tries once more.
    fn learn<T>(&self, answer: Result<T, Trouble>, had_condition: bool) -> Result<T, Trouble> {
        match answer {
            Err(trouble) if trouble.kind == Kind::Unsupported && had_condition => {
                if !self.unconditional.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "the service does not know conditional writes; what others write at the same moment may be lost"
                    );
                }
                Err(trouble.into_conflict())
            }
            answer => answer,
        }
    }
}

fn too_many() -> String {
    format!(
        "the list of its objects has more than {} of them; give the vault a prefix of its own",
        limits::OBJECTS_LISTED
    )
}

#[cfg(feature = "s3")]
fn s3_list(
    s3: &S3,
    prefix: String,
    page: usize,
) -> impl futures_util::Stream<Item = Result<Listed, Trouble>> {
    stream::try_unfold(Some(Pages::default()), move |pages| {
        let prefix = prefix.clone();
        async move {
            let Some(pages) = pages else {
                return Ok::<_, Trouble>(None);
            };
            let page = s3.page(&prefix, page, pages.next.clone()).await?;
            let more = pages.after(page.objects.len(), page.next)?;
            Ok(Some((stream::iter(page.objects.into_iter().map(Ok)), more)))
        }
    })
    .try_flatten()
}
