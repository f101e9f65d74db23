//! Takes one file's content and stages it.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use obsync_core::{DestinationError, FileMeta, FileWriter, Staged};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::entry::set_file_time;
use super::error::Action;
use super::staging::StagedFile;
use super::write_buffer::Buffering;
use obsync_core::blocking::blocking;

/// Content is gathered up to this many bytes before it is written. A file that is no longer than this is staged in one
/// go when it is complete, which is most files of most vaults.
const GATHERED: usize = 1024 * 1024;

/// A [`FileWriter`] into the staging folder. Holds at most [`GATHERED`] bytes and one chunk.
pub(super) struct FolderWriter {
    context: Arc<Context>,
    path: VaultPath,
    meta: FileMeta,
    received: u64,
    gathered: Vec<u8>,
    /// Once there is too much to gather.
    file: Option<StagedFile>,
}

impl FolderWriter {
    pub(super) fn new(context: Arc<Context>, path: VaultPath, meta: FileMeta) -> Self {
        FolderWriter { context, path, meta, received: 0, gathered: Vec::new(), file: None }
    }

    /// What is gathered, on its way to the file. It owns all it needs: if the future that waits for it is dropped, the
    /// file goes with it.
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

/// The next stretch of a file, to be written on a thread that may block.
pub(super) struct Portion {
    context: Arc<Context>,
    path: VaultPath,
    meta: FileMeta,
    content: Vec<u8>,
    file: Option<StagedFile>,
}

impl fmt::Debug for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portion").field("size", &self.content.len()).finish_non_exhaustive()
    }
}

impl Portion {
    /// Bytes that it holds.
    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    /// Whether it is a whole file that may wait.
    pub(super) fn may_wait(&self) -> bool {
        self.file.is_none() && self.context.has_staging()
    }

    /// The file as staged under this handle.
    pub(super) fn staged_as(&self, handle: String) -> Staged {
        Staged { path: self.path.clone(), meta: self.meta.clone(), handle }
    }

    /// Writes it, creating the file for the first one.
    fn write(&mut self) -> Result<StagedFile, DestinationError> {
        let mut staged = match self.file.take() {
            Some(staged) => staged,
            None => self.context.stage(&self.path, &self.meta)?,
        };
        let written = staged.file.write_all(&self.content);
        written.map_err(|error| self.context.errors.error(Action::Write, self.path.as_str(), error))?;
        Ok(staged)
    }

    /// Writes it as the last one.
    pub(super) fn finish(mut self) -> Result<Staged, DestinationError> {
        let staged = self.write()?;
        let timed = set_file_time(&staged.file, self.meta.mtime);
        timed.map_err(|error| self.context.errors.error(Action::SetTimes, self.path.as_str(), error))?;
        let staged = Staged { path: self.path, meta: self.meta, handle: self.context.keep(staged) };
        self.context.flush_in_background();
        Ok(staged)
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
            let written = blocking(move || portion.write()).await;
            self.file = Some(written.unwrap_or_else(|stopped| Err(self.context.stopped(stopped)))?);
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Staged, DestinationError> {
        let portion = self.take_out();
        match self.context.write_buffer.add(portion) {
            Buffering::Buffered { staged, wake } => {
                if wake {
                    // Not waited for: publishing does what this has not done by then, and discarding waits for it.
                    let context = self.context.clone();
                    drop(tokio::task::spawn_blocking(move || context.write_buffer.write_all()));
                }
                Ok(staged)
            }
            Buffering::Refused(portion) => {
                let staged = blocking(move || portion.finish()).await;
                staged.unwrap_or_else(|stopped| Err(self.context.stopped(stopped)))
            }
        }
    }
}
