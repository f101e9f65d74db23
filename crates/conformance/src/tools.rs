//! Shorthands for operations on a destination that most checks begin with.

use obsync_core::{
    Destination, DestinationError, DestinationExt, Expect, FileMeta, KeptBeside, KnownContent, LocalFacts,
    Publication, PublicationContent, PublishFailure, Staged,
};
use obsync_protocol::{ContentHash, Uid, VaultPath};

/// The largest resident memory of this process so far, in bytes (proc(5), status). 0 if the system does not
/// report it.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .map_or(0, |kib| kib.parse::<u64>().expect("KiB") << 10)
}

/// A path that is known to be valid.
pub fn at(path: &str) -> VaultPath {
    VaultPath::parse(path).expect("a valid path")
}

/// Metadata of a file with this content and modification time (milliseconds since the epoch).
pub fn meta(content: &[u8], mtime: i64) -> FileMeta {
    FileMeta { hash: ContentHash::of(content), size: content.len() as u64, mtime, ctime: mtime, uid: Uid(1) }
}

/// Stages a file.
pub async fn stage(destination: &dyn Destination, path: &str, content: &[u8], mtime: i64) -> Staged {
    let mut writer = destination.begin(&at(path), &meta(content, mtime)).await.expect("begin");
    writer.write(content.to_vec()).await.expect("write");
    writer.finish().await.expect("finish")
}

/// Result of publishing a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    /// New path of the file that was in its place.
    pub conflict: Option<VaultPath>,
    /// The file's facts from the destination.
    pub facts: Option<LocalFacts>,
}

/// Publishes one staged file over the content that obsync is assumed to have put there, and keeps any other
/// file there, like the engine.
pub async fn publish_one(
    destination: &dyn Destination,
    staged: Staged,
    replaces: Option<KnownContent>,
) -> Result<Placed, PublishFailure> {
    let path = staged.path.clone();
    let mut publication =
        Publication { content: PublicationContent::Staged(staged), expect: replaces.into() };
    let mut kept: Option<KeptBeside> = None;
    loop {
        let failure = match destination.publish(vec![publication]).await.pop().expect("one answer") {
            Ok(published) => {
                return Ok(Placed { conflict: kept.map(|kept| kept.kept_as), facts: published.facts });
            }
            Err(failure) => failure,
        };
        let uid = failure.publication.content.meta().uid;
        match failure.error {
            DestinationError::Changed { found: Some(found), version: Some(version), .. }
                if version <= uid =>
            {
                publication = Publication { expect: Expect::Content(found), ..*failure.publication };
                continue;
            }
            DestinationError::Changed { version: None, .. } => {}
            _ => {
                if let Some(kept) = kept {
                    destination.put_back(&path, &kept).await;
                }
                return Err(failure);
            }
        }
        publication = *failure.publication;
        match destination.keep_beside(&path).await {
            Ok(now) => {
                publication.expect = now.expect.clone();
                kept = Some(now);
            }
            Err(DestinationError::Changed { .. }) => {}
            Err(error) => return Err(PublishFailure { publication: Box::new(publication), error }),
        }
    }
}

/// Stages and publishes a file at a path where obsync is assumed to have put `replaces`.
pub async fn place(
    destination: &dyn Destination,
    path: &str,
    content: &[u8],
    mtime: i64,
    replaces: Option<&[u8]>,
) -> Placed {
    let staged = stage(destination, path, content, mtime).await;
    publish_one(destination, staged, replaces.map(KnownContent::of)).await.expect("publish")
}
