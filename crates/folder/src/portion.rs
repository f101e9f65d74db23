//! Writes one part of a file to the disk.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use obsync_core::{DestinationError, FileMeta, Staged};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::entry::set_file_time;
use super::error::Action;
use super::staging::StagedFile;
use super::write_buffer::Unwritten;

/// The next part of a file, to be written on a thread that may block.
pub(super) struct Portion {
    pub(super) context: Arc<Context>,
    pub(super) path: VaultPath,
    pub(super) meta: FileMeta,
    pub(super) content: Vec<u8>,
    pub(super) file: Option<StagedFile>,
}

impl fmt::Debug for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portion").field("size", &self.content.len()).finish_non_exhaustive()
    }
}

impl Portion {
    /// Writes it, creating the file for the first part.
    pub(super) fn write_on(&mut self) -> Result<StagedFile, DestinationError> {
        let mut staged = match self.file.take() {
            Some(staged) => staged,
            None => self.context.stage(&self.path, &self.meta)?,
        };
        let written = staged.file.write_all(&self.content);
        written.map_err(|error| self.context.errors.error(Action::Write, self.path.as_str(), error))?;
        Ok(staged)
    }
}

impl Unwritten for Portion {
    fn len(&self) -> usize {
        self.content.len()
    }

    fn may_wait(&self) -> bool {
        self.file.is_none() && self.context.has_staging()
    }

    fn staged_as(&self, handle: String) -> Staged {
        Staged { path: self.path.clone(), meta: self.meta.clone(), handle }
    }

    fn write(mut self: Box<Self>) -> Result<Staged, DestinationError> {
        let staged = self.write_on()?;
        let timed = set_file_time(&staged.file, self.meta.mtime);
        timed.map_err(|error| self.context.errors.error(Action::SetTimes, self.path.as_str(), error))?;
        let staged = Staged { path: self.path, meta: self.meta, handle: self.context.keep(staged) };
        self.context.flush_in_background();
        Ok(staged)
    }
}
