//! Copies of objects with other attributes where the service cannot make them: the content passes through here, in bounded
//! memory.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Attributes, UpdateVersion};

use tokio::sync::Semaphore;

use super::conditions::Conditional;
use super::error::{Kind, RequestError};
use super::objects::{Guard, Objects};

/// How many contents pass through at a time: each takes up to two parts of memory, which nothing else accounts for.
static PASSING: Semaphore = Semaphore::const_new(4);

/// Reads `from` and writes it to `to` (which may be the same key), with these attributes or with its own.
pub(super) async fn rewrite(
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
    // Whoever asked for this copy relied upon conditions of copies, if upon any.
    if !objects.keeps(Conditional::of_put(guard)) {
        expect(objects, to, guard).await?;
    }
    objects.put(to, small.into_iter().collect(), None, attributes, guard).await
}

/// Looks whether what must be at a key is there, at the last moment: not every service completes an upload or writes an object on a condition.
/// There, what somebody writes between this look and that request is lost.
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
