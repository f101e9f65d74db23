//! Flushes staged content while more arrives, so that publishing does not have to wait for all of it at once.
//!
//! Complete files are numbered. A flush covers those that had a number when it began. Publishing checks
//! whether all files of its batch are covered, and flushes itself if not.

use std::sync::Arc;

use obsync_core::DestinationError;

use super::context::Context;
use super::place;

impl Context {
    /// Flushes staged files that are not durable yet. Blocks.
    pub(super) fn flush_behind(&self) {
        if !self.options.durability.is_by_file() && !self.flushes.is_level() {
            self.flushes.flush(|| self.flush_root());
        }
    }

    /// Flushes everything, and releases the files that were taken out of their places. An error if the folder
    /// is not at its path any more. Blocks.
    pub(super) fn flush(&self) -> Result<(), DestinationError> {
        let flushed = self.flushes.flush_all(|| self.flush_root());
        self.release_all_taken()?;
        flushed?;
        self.root()?.map_or(Ok(()), |root| place::check(self, &root))
    }

    fn flush_root(&self) -> Result<(), DestinationError> {
        self.root()?.map_or(Ok(()), |root| root.flush())
    }

    /// Flushes staged files on a thread of its own, if a flush is due. For threads that may block.
    pub(super) fn flush_in_background(self: &Arc<Self>) {
        if self.options.durability.is_by_file() || !self.flushes.is_due() {
            return;
        }
        let context = self.clone();
        // Not awaited here: publishing and discarding wait for it.
        drop(tokio::task::spawn_blocking(move || {
            context.flushes.flush(|| context.flush_root());
        }));
    }
}
