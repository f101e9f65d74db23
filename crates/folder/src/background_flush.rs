//! Staged content that is flushed while more arrives, so that publishing does not have to wait for all of it at once.
//!
//! Files that are complete are numbered. A flush covers those that had a number when it began. Publishing asks whether all
//! of its batch are covered, and flushes itself if not.

use std::sync::Arc;

use obsync_core::DestinationError;

use super::context::Context;

impl Context {
    /// Flushes what is staged and not durable yet. Blocks.
    pub(super) fn flush_behind(&self) {
        if !self.options.durability.is_by_file() && !self.flushes.is_level() {
            self.flushes.flush(|| self.flush_root());
        }
    }

    /// Flushes everything, and lets go of the files that were taken out of their places. Blocks.
    pub(super) fn flush(&self) -> Result<(), DestinationError> {
        let flushed = self.flushes.flush_all(|| self.flush_root());
        self.release_all_taken()?;
        flushed
    }

    fn flush_root(&self) -> Result<(), DestinationError> {
        self.root()?.map_or(Ok(()), |root| root.flush())
    }

    /// Has what is staged flushed by a thread of its own, if it is time for that. For threads that may block.
    pub(super) fn flush_in_background(self: &Arc<Self>) {
        if self.options.durability.is_by_file() || !self.flushes.is_due() {
            return;
        }
        let context = self.clone();
        // Not waited for here: publishing does, and discarding.
        drop(tokio::task::spawn_blocking(move || {
            context.flushes.flush(|| context.flush_root());
        }));
    }
}
