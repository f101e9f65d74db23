//! Takes a file's content: in memory while it fits into one part, else part by part into a multipart upload.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use obsync_core::{FileMeta, FileWriter, Staged, StoreError};
use obsync_protocol::VaultPath;
use tokio::sync::OwnedSemaphorePermit;

use super::context::Shared;
use super::error::{Action, Trouble};
use super::staging::Stage;
use super::upload::Upload;
use obsync_core::blocking::lock;

/// One file on its way.
pub(super) struct BucketWriter {
    shared: Arc<Shared>,
    path: VaultPath,
    meta: FileMeta,
    received: u64,
    taken: Taken,
    room: OwnedSemaphorePermit,
}

/// Where what was taken is.
enum Taken {
    Memory(Vec<Bytes>),
    Upload(Box<Upload>),
}

impl BucketWriter {
    /// Begins a file whose content is as large as `meta` says; waits until there is room for it.
    pub(super) async fn begin(
        shared: Arc<Shared>,
        key: Path,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Self, StoreError> {
        let options = &shared.options;
        if meta.size > options.largest() {
            let reason = format!(
                "the vault lists {} bytes for it, and with this much memory at most {} go into one object",
                meta.size,
                options.largest()
            );
            return Err(shared.site.io(Action::Write, path.as_str(), &reason));
        }
        let room = shared.room.take(options.memory_for(meta.size)).await.ok_or_else(|| {
            shared.site.unavailable("the files that came before are not written; check the network, and run the same command again")
        })?;
        let part_size = options.part_size_for(meta.size);
        let taken = if meta.size <= part_size as u64 {
            Taken::Memory(Vec::new())
        } else {
            let attributes = shared.attributes(path, meta);
            // Before it is: the answer may be lost, and the upload open.
            lock(&shared.begun).insert(key.clone());
            let upload = shared.objects.begin_upload(&key, attributes, part_size).await;
            Taken::Upload(Box::new(upload.map_err(|trouble| failed(&shared, path, &trouble))?))
        };
        Ok(BucketWriter { shared, path: path.clone(), meta: meta.clone(), received: 0, taken, room })
    }
}

#[async_trait]
impl FileWriter for BucketWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        self.received += chunk.len() as u64;
        if self.received > self.meta.size {
            let reason = format!("it is larger than the {} bytes that the vault lists", self.meta.size);
            return Err(self.shared.site.io(Action::Write, self.path.as_str(), &reason));
        }
        match &mut self.taken {
            Taken::Memory(chunks) => {
                if !chunk.is_empty() {
                    chunks.push(Bytes::from(chunk));
                }
                Ok(())
            }
            Taken::Upload(upload) => {
                let written = upload.write(Bytes::from(chunk)).await;
                written.map_err(|trouble| failed(&self.shared, &self.path, &trouble))
            }
        }
    }

    async fn finish(self: Box<Self>) -> Result<Staged, StoreError> {
        let BucketWriter { shared, path, meta, taken, room, .. } = *self;
        let stage = match taken {
            Taken::Memory(chunks) => {
                Stage::Content { payload: chunks.into_iter().collect(), memory: Arc::new(room) }
            }
            Taken::Upload(mut upload) => {
                upload.finish().await.map_err(|trouble| failed(&shared, &path, &trouble))?;
                Stage::Upload { upload, key: shared.keys.of(&path)?, _memory: room }
            }
        };
        Ok(Staged { path, meta, handle: shared.stages.put(stage) })
    }
}

fn failed(shared: &Shared, path: &VaultPath, trouble: &Trouble) -> StoreError {
    shared.site.error(Action::Write, path.as_str(), trouble)
}
