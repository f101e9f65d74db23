//! Copies of objects. If the service cannot make one, or not with other attributes, the content passes
//! through here, in bounded memory.

#[cfg(feature = "s3")]
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Attributes, CopyMode, CopyOptions, ObjectStore, UpdateVersion};
use tokio::sync::Semaphore;

use super::conditions::Conditional;
#[cfg(feature = "s3")]
use super::conditions::Sent;
use super::error::{Kind, RequestError};
use super::guard::Guard;
use super::objects::Objects;
#[cfg(feature = "s3")]
use super::refusal::Next;
#[cfg(feature = "s3")]
use super::s3::CopyOrder;

/// Contents that may pass through at a time: each takes up to two parts of memory, which no other budget
/// counts.
static PASSING: Semaphore = Semaphore::const_new(4);

impl Objects {
    /// Copies this version of an object and returns the version of the copy. The copy gets `attributes`;
    /// `None`: the original's. If the service cannot copy, the content passes through here. An error with
    /// [`Next::AnotherWay`] means that it cannot be read either.
    pub(super) async fn copy(
        &self,
        from: &Path,
        version: &UpdateVersion,
        to: &Path,
        attributes: Option<&Attributes>,
        guard: &Guard,
    ) -> Result<UpdateVersion, RequestError> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3
            && !self.copies_not.load(Ordering::Relaxed)
        {
            let kind = Conditional::of_copy(guard);
            let sent = self.sent(kind, guard);
            let copied = s3.copy(&CopyOrder { from, version, to, attributes, guard: sent }).await;
            let refused = match self.learn(kind, Sent::of_guards(guard, sent), copied) {
                Err(error) if error.next() == Some(Next::AnotherWay) => error,
                copied => return copied,
            };
            if refused.is_unknown_operation() && !self.copies_not.swap(true, Ordering::Relaxed) {
                tracing::info!(?refused, "the service does not copy; copies pass through here");
            }
            let passed = rewrite(self, from, version, to, attributes.cloned(), guard).await;
            return passed.map_err(|error| match error.of_copy() {
                // The first error says more.
                error if error.next() == Some(Next::AnotherWay) => refused,
                error => error,
            });
        }
        match attributes {
            None if !self.is_s3() => {
                let mode = match guard {
                    Guard::Nothing => CopyMode::Create,
                    _ => CopyMode::Overwrite,
                };
                let options = CopyOptions::new().with_mode(mode);
                self.store.copy_opts(from, to, options).await?;
                Ok(UpdateVersion { e_tag: None, version: None })
            }
            attributes => {
                let passed = rewrite(self, from, version, to, attributes.cloned(), guard).await;
                passed.map_err(RequestError::of_copy)
            }
        }
    }
}

/// Reads `from` and writes it to `to` (which may be the same key), with these attributes or with its own.
async fn rewrite(
    objects: &Objects,
    from: &Path,
    version: &UpdateVersion,
    to: &Path,
    attributes: Option<Attributes>,
    guard: &Guard,
) -> Result<UpdateVersion, RequestError> {
    // It is never closed.
    let _turn = PASSING.acquire().await.ok();
    let (own, mut content) = objects.read(from, version).await?;
    let attributes = attributes.unwrap_or(own);
    let mut small: Vec<Bytes> = Vec::new();
    let mut size = 0;
    while let Some(stretch) = content.try_next().await? {
        size += stretch.len();
        small.push(stretch);
        if size > objects.part_size() {
            let mut upload = objects.begin_upload(to, attributes, objects.part_size()).await?;
            for stretch in small {
                upload.write(stretch).await?;
            }
            while let Some(stretch) = content.try_next().await? {
                upload.write(stretch).await?;
            }
            upload.finish().await?;
            expect(objects, to, guard).await?;
            return objects.complete(&mut upload, guard).await;
        }
    }
    // The caller relied upon conditions of copies, if upon any.
    if !objects.keeps(Conditional::of_put(guard)) {
        expect(objects, to, guard).await?;
    }
    objects.put(to, small.into_iter().collect(), None, attributes, guard).await
}

/// Checks the precondition of a key at the last moment: not every service supports conditions for completing
/// an upload or writing an object. There, a write by somebody else between this look and that request is
/// lost.
async fn expect(objects: &Objects, key: &Path, guard: &Guard) -> Result<(), RequestError> {
    let is_as_expected = match guard {
        Guard::Anything => true,
        Guard::Nothing => objects.head(key).await?.is_none(),
        Guard::Version(version) => {
            objects.head(key).await?.is_some_and(|found| found.version.e_tag == version.e_tag)
        }
    };
    let changed =
        || RequestError::without_answer(Kind::Changed, "something else was written there meanwhile");
    is_as_expected.then_some(()).ok_or_else(changed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::super::objects::Doomed;
    use super::super::options::BucketOptions;
    use super::*;

    async fn put(objects: &Objects, key: &Path, content: Vec<u8>) -> UpdateVersion {
        objects.put(key, content.into(), None, Attributes::new(), &Guard::Anything).await.unwrap()
    }

    #[tokio::test]
    async fn a_large_copy_takes_no_place_that_somebody_took_meanwhile() {
        let options = BucketOptions::default();
        let objects = Objects::new(Arc::new(InMemory::new()), &options);
        let (from, to) = (Path::from("film.mp4"), Path::from("renamed.mp4"));
        let film = put(&objects, &from, vec![7; options.part_size + 1]).await;
        let copy = async |guard: &Guard| rewrite(&objects, &from, &film, &to, None, guard).await;

        let theirs = put(&objects, &to, b"somebody else's".to_vec()).await;
        assert!(copy(&Guard::Nothing).await.unwrap_err().is_conflict());
        let known = Guard::Version(theirs);
        put(&objects, &to, b"written once more".to_vec()).await;
        assert!(copy(&known).await.unwrap_err().is_conflict());
        assert_eq!(objects.head(&to).await.unwrap().unwrap().size, 17, "what was written last is there");

        objects.delete(vec![Doomed { key: to.clone(), version: None }]).await;
        copy(&Guard::Nothing).await.unwrap();
        assert_eq!(objects.head(&to).await.unwrap().unwrap().size, options.part_size as u64 + 1);
    }
}
