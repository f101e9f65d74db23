//! Receives one file's content and stages it.

use std::io;
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use obsync_core::{DestinationError, FileMeta, FileWriter, Staged};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::error::Action;
use super::portion::Portion;
use super::staging::StagedFile;
use super::write_buffer::Buffering;
use obsync_core::blocking::blocking;

/// Content is collected up to this many bytes before it is written. A file that is no longer than this is
/// staged with one write when it is complete, which is most files of most vaults.
const GATHERED: usize = 1024 * 1024;

/// A [`FileWriter`] into the staging folder. Uses at most [`GATHERED`] bytes and one chunk of memory.
pub(super) struct FolderWriter {
    context: Arc<Context>,
    path: VaultPath,
    meta: FileMeta,
    received: u64,
    gathered: Vec<u8>,
    /// Set once there is too much to collect.
    file: Option<StagedFile>,
}

impl FolderWriter {
    pub(super) fn new(context: Arc<Context>, path: VaultPath, meta: FileMeta) -> Self {
        FolderWriter { context, path, meta, received: 0, gathered: Vec::new(), file: None }
    }

    /// The collected bytes, to be written to the file. It owns all it needs: if the future that awaits it is
    /// dropped, the file is removed.
    fn take_out(&mut self) -> Portion {
        Portion {
            context: self.context.clone(),
            path: self.path.clone(),
            meta: self.meta.clone(),
            content: mem::take(&mut self.gathered),
            file: self.file.take(),
        }
    }
}

#[async_trait]
impl FileWriter for FolderWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), DestinationError> {
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.meta.size {
            let reason = format!("it is larger than the {} bytes that the vault lists", self.meta.size);
            return Err(self.context.errors.error(
                Action::Write,
                self.path.as_str(),
                io::Error::other(reason),
            ));
        }
        if self.gathered.is_empty() {
            self.gathered = chunk;
        } else {
            self.gathered.extend_from_slice(&chunk);
        }
        if self.gathered.len() > GATHERED {
            let mut portion = self.take_out();
            let written = blocking(move || portion.write_on()).await;
            self.file = Some(written.unwrap_or_else(|stopped| Err(self.context.stopped(stopped)))?);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, DestinationError> {
        let portion = self.take_out();
        match self.context.write_buffer.add(Box::new(portion)) {
            Buffering::Buffered { staged, wake } => {
                if wake {
                    // Not awaited: publishing does the rest, and discarding waits for it.
                    let context = self.context.clone();
                    drop(tokio::task::spawn_blocking(move || context.write_buffer.write_all()));
                }
                Ok(staged)
            }
            Buffering::Refused(portion) => {
                let staged = blocking(move || portion.write()).await;
                staged.unwrap_or_else(|stopped| Err(self.context.stopped(stopped)))
            }
        }
    }
}
