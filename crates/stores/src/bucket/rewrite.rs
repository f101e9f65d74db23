//! Copies of objects with other attributes where the service cannot make them: the content passes through here, in bounded
//! memory.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{Attributes, UpdateVersion};

use tokio::sync::Semaphore;

use super::objects::{Guard, Objects};
use super::trouble::Trouble;

/// How many contents pass through at a time: each takes up to two parts of memory, which nothing else accounts for.
static PASSING: Semaphore = Semaphore::const_new(4);

/// Reads `from` and writes it to `to` (which may be the same key).
pub(super) async fn rewrite(
    objects: &Objects,
    from: &Path,
    version: &UpdateVersion,
    to: &Path,
    attributes: Attributes,
    guard: &Guard,
) -> Result<UpdateVersion, Trouble> {
    // It is never closed.
    let _turn = PASSING.acquire().await.ok();
    let mut content = objects.read(from, version).await?;
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
            return upload.complete().await;
        }
    }
    objects.put(to, small.into_iter().collect(), attributes, guard).await
}
