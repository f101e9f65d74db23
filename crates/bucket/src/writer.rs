//! Receives a file's content: in memory while it fits into one part, else part by part into a multipart
//! upload.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use obsync_core::{DestinationError, FileMeta, FileWriter, Staged};
use obsync_protocol::VaultPath;
use tokio::sync::OwnedSemaphorePermit;

use super::context::Context;
use super::error_context::Action;
use super::staging::Stage;
use super::upload::Upload;
use obsync_core::blocking::lock;

/// One file being received.
pub(super) struct BucketWriter {
    context: Arc<Context>,
    path: VaultPath,
    meta: FileMeta,
    received: u64,
    taken: Taken,
    budget: OwnedSemaphorePermit,
}

/// Where the received bytes are.
enum Taken {
    Memory(Vec<Bytes>),
    Upload(Box<Upload>),
}

impl BucketWriter {
    /// Begins a file of the size in `meta`; waits until there is room for it.
    pub(super) async fn begin(
        context: Arc<Context>,
        key: Path,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Self, DestinationError> {
        let options = &context.options;
        if meta.size > options.largest() {
            let reason = format!(
                "the vault lists {} bytes for it, and with this much memory at most {} go into one object",
                meta.size,
                options.largest()
            );
            return Err(context.errors.io(Action::Write, path.as_str(), &reason));
        }
        let budget = context.budget.take(options.memory_for(meta.size)).await.ok_or_else(|| {
            context.errors.unavailable("the files that came before are not written; check the network, and run the same command again")
        })?;
        let part_size = options.part_size_for(meta.size);
        let taken = if meta.size <= part_size as u64 {
            Taken::Memory(Vec::new())
        } else {
            let attributes = context.attributes(path, meta);
            // Recorded beforehand: the answer may be lost although the upload is open.
            lock(&context.begun).insert(key.clone());
            match context.objects.begin_upload(&key, attributes, part_size).await {
                Ok(upload) => Taken::Upload(Box::new(upload)),
                Err(error) => return Err(context.write_failed(path, &error).await),
            }
        };
        Ok(BucketWriter { context, path: path.clone(), meta: meta.clone(), received: 0, taken, budget })
    }
}

#[async_trait]
impl FileWriter for BucketWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), DestinationError> {
        self.received += chunk.len() as u64;
        if self.received > self.meta.size {
            let reason = format!("it is larger than the {} bytes that the vault lists", self.meta.size);
            return Err(self.context.errors.io(Action::Write, self.path.as_str(), &reason));
        }
        match &mut self.taken {
            Taken::Memory(chunks) => {
                if !chunk.is_empty() {
                    chunks.push(Bytes::from(chunk));
                }
                Ok(())
            }
            Taken::Upload(upload) => match upload.write(Bytes::from(chunk)).await {
                Ok(()) => Ok(()),
                Err(error) => Err(self.context.write_failed(&self.path, &error).await),
            },
        }
    }

    async fn finish(self: Box<Self>) -> Result<Staged, DestinationError> {
        let BucketWriter { context, path, meta, taken, budget, .. } = *self;
        let stage = match taken {
            Taken::Memory(chunks) => {
                Stage::Content { payload: chunks.into_iter().collect(), memory: Arc::new(budget) }
            }
            Taken::Upload(mut upload) => {
                if let Err(error) = upload.finish().await {
                    return Err(context.write_failed(&path, &error).await);
                }
                Stage::Upload { upload, key: context.keys.of(&path)?, _memory: budget }
            }
        };
        Ok(Staged { path, meta, handle: context.stages.put(stage) })
    }
}
