//! Short ways to do with a store what most checks begin with.

use obsync_core::{
    FileMeta, KnownContent, Publication, PublicationContent, PublishFailure, Published, Staged, VaultStore,
};
use obsync_protocol::{ContentHash, Uid, VaultPath};

/// The largest resident memory of this process so far, in bytes (proc(5), status). 0 where the system does not tell it.
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

/// The particulars of a file with this content and modification time (milliseconds since the epoch).
pub fn meta(content: &[u8], mtime: i64) -> FileMeta {
    FileMeta { hash: ContentHash::of(content), size: content.len() as u64, mtime, ctime: mtime, uid: Uid(1) }
}

/// Stages a file.
pub async fn stage(store: &dyn VaultStore, path: &str, content: &[u8], mtime: i64) -> Staged {
    let mut writer = store.begin(&at(path), &meta(content, mtime)).await.expect("begin");
    writer.write(content.to_vec()).await.expect("write");
    writer.finish().await.expect("finish")
}

/// Publishes one staged file over what obsync is said to have put there.
pub async fn publish_one(
    store: &dyn VaultStore,
    staged: Staged,
    replaces: Option<KnownContent>,
) -> Result<Published, PublishFailure> {
    let publication = Publication { content: PublicationContent::Staged(staged), replaces };
    store.publish(vec![publication]).await.pop().expect("one answer for one publication")
}

/// Stages and publishes a file where obsync is said to have put `replaces`.
pub async fn place(
    store: &dyn VaultStore,
    path: &str,
    content: &[u8],
    mtime: i64,
    replaces: Option<&[u8]>,
) -> Published {
    let staged = stage(store, path, content, mtime).await;
    publish_one(store, staged, replaces.map(KnownContent::of)).await.expect("publish")
}
