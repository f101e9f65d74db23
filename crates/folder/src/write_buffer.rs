//! Small complete contents that wait in memory to be written, many at once.
//!
//! Waking a blocking thread for every note takes longer than writing the note. So small contents are
//! collected here, and a thread is woken when there is work for a while; publishing writes the rest of its
//! batch itself. The waiting bytes are limited, and leftovers do not include them: a process that dies loses
//! them, and the next run downloads them again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use obsync_core::{DestinationError, Staged};

use super::error::again;
use obsync_core::blocking::lock;

/// Larger contents are written when they are complete, on a thread of their own.
const SMALL: usize = 256 << 10;
/// Limit of waiting bytes.
const ROOM: usize = 8 << 20;
/// A thread is woken to write this many contents ...
const ENOUGH: usize = 32;
/// ... or this many bytes.
const ENOUGH_BYTES: usize = 1 << 20;
/// Prefix of the handles of waiting contents. Files in the staging folder are named after their content, in
/// hexadecimal digits.
const MARK: &str = "buffered-";

/// Contents that wait, and those that were written since and were not asked for yet.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    slots: HashMap<String, Arc<Slot>>,
    queue: VecDeque<Arc<Slot>>,
    /// Bytes in the queue.
    bytes: usize,
    /// A thread is at work.
    writing: bool,
}

/// One content; locked while it is being written.
#[derive(Debug)]
struct Slot {
    size: usize,
    content: Mutex<Content>,
}

/// A complete content, none of which is written yet.
pub(super) trait Unwritten: std::fmt::Debug + Send {
    /// Its size in bytes.
    fn len(&self) -> usize;

    /// True if it is a whole file that may wait.
    fn may_wait(&self) -> bool;

    /// The file as staged under this handle.
    fn staged_as(&self, handle: String) -> Staged;

    /// Writes it. Blocks.
    fn write(self: Box<Self>) -> Result<Staged, DestinationError>;
}

#[derive(Debug)]
enum Content {
    Waiting(Box<dyn Unwritten>),
    Written(Result<Staged, DestinationError>),
    Taken,
}

/// Result of adding a content.
pub(super) enum Buffering {
    /// It waits, with this handle. `wake`: a thread has to be woken for [`WriteBuffer::write_all`].
    Buffered { staged: Staged, wake: bool },
    /// There is no room for it.
    Refused(Box<dyn Unwritten>),
}

impl WriteBuffer {
    /// Adds a complete content, none of which is written yet, if it is small and there is room.
    pub(super) fn add(&self, content: Box<dyn Unwritten>) -> Buffering {
        let size = content.len();
        let mut inner = lock(&self.0);
        if size > SMALL || inner.bytes + size > ROOM || !content.may_wait() {
            return Buffering::Refused(content);
        }
        inner.next += 1;
        let staged = content.staged_as(format!("{MARK}{}", inner.next));
        let slot = Arc::new(Slot { size, content: Mutex::new(Content::Waiting(content)) });
        inner.slots.insert(staged.handle.clone(), slot.clone());
        inner.queue.push_back(slot);
        inner.bytes += size;
        let wake = !inner.writing && (inner.queue.len() >= ENOUGH || inner.bytes >= ENOUGH_BYTES);
        inner.writing |= wake;
        Buffering::Buffered { staged, wake }
    }

    /// Writes waiting contents until there are none. Blocks; for the woken thread.
    pub(super) fn write_all(&self) {
        while let Some(slot) = self.next() {
            slot.write();
        }
    }

    fn next(&self) -> Option<Arc<Slot>> {
        let mut inner = lock(&self.0);
        let slot = inner.queue.pop_front();
        match &slot {
            Some(slot) => inner.bytes -= slot.size,
            None => inner.writing = false,
        }
        slot
    }

    /// Writes the waiting ones of these. Blocks.
    pub(super) fn write_these(&self, handles: &[String]) {
        for handle in handles.iter().filter(|handle| handle.starts_with(MARK)) {
            let slot = lock(&self.0).slots.get(handle).cloned();
            if let Some(slot) = slot {
                slot.write();
            }
        }
    }

    /// Writes the waiting contents of a batch, and returns the file in the staging folder for each; with
    /// each, whether it stays staged for a later one. Blocks.
    ///
    /// # Errors
    ///
    /// The errors of contents that could not be written, by index in `batch`.
    pub(super) fn write_out<'s>(
        &self,
        batch: impl Iterator<Item = Option<(&'s mut Staged, bool)>>,
    ) -> HashMap<usize, DestinationError> {
        let mut failed = HashMap::new();
        for (index, staged) in batch.enumerate() {
            let Some((staged, stays)) = staged.filter(|(staged, _)| staged.handle.starts_with(MARK)) else {
                continue;
            };
            let slot = match stays {
                true => lock(&self.0).slots.get(&staged.handle).cloned(),
                false => lock(&self.0).slots.remove(&staged.handle),
            };
            let Some(slot) = slot else { continue };
            match slot.written() {
                Some(Ok(handle)) => staged.handle = handle,
                Some(Err(error)) => {
                    failed.insert(index, error);
                }
                None => {}
            }
        }
        failed
    }

    /// Drops all waiting contents, and waits for those being written. Blocks.
    pub(super) fn discard(&self) {
        let slots: Vec<Arc<Slot>> = {
            let mut inner = lock(&self.0);
            inner.queue.clear();
            inner.bytes = 0;
            inner.slots.drain().map(|(_, slot)| slot).collect()
        };
        for slot in slots {
            *lock(&slot.content) = Content::Taken;
        }
    }
}

impl Slot {
    /// Writes the content unless that is done.
    fn write(&self) {
        lock(&self.content).write();
    }

    /// The handle of the written content.
    fn written(&self) -> Option<Result<String, DestinationError>> {
        self.write();
        match &*lock(&self.content) {
            Content::Written(Ok(staged)) => Some(Ok(staged.handle.clone())),
            Content::Written(Err(error)) => Some(Err(again(error))),
            Content::Waiting(_) | Content::Taken => None,
        }
    }
}

impl Content {
    fn write(&mut self) {
        *self = match std::mem::replace(self, Content::Taken) {
            Content::Waiting(content) => Content::Written(content.write()),
            done => done,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use obsync_core::{FileMeta, Receive};
    use obsync_protocol::{ContentHash, Uid, VaultPath};

    use super::super::{FolderDestination, FolderOptions};
    use super::*;

    async fn stage(destination: &FolderDestination, path: &str) -> Staged {
        let hash = ContentHash::of(path.as_bytes());
        let meta = FileMeta { hash, size: path.len() as u64, mtime: 0, ctime: 0, uid: Uid(1) };
        let mut writer = destination.begin(&VaultPath::parse(path).unwrap(), &meta).await.unwrap();
        writer.write(path.into()).await.unwrap();
        writer.finish().await.unwrap()
    }

    #[tokio::test]
    async fn discarding_waits_for_what_is_being_written_and_removes_it() {
        let home = tempfile::tempdir().unwrap();
        let destination = FolderDestination::open(home.path(), FolderOptions::default()).unwrap();
        stage(&destination, "first.md").await;
        let handle = stage(&destination, "second.md").await.handle;
        let context = destination.context();
        let buffer = &context.write_buffer;
        let slot = lock(&buffer.0).slots[&handle].clone();
        let mut content = lock(&slot.content);
        thread::scope(|scope| {
            let discarding = scope.spawn(|| context.discard_staged());
            while !lock(&buffer.0).slots.is_empty() {
                thread::yield_now();
            }
            assert!(matches!(*content, Content::Waiting(_)));
            content.write();
            assert!(matches!(*content, Content::Written(Ok(_))), "the ground is still there");
            assert!(!discarding.is_finished());
            drop(content);
            discarding.join().unwrap().unwrap();
        });
        assert!(matches!(*lock(&slot.content), Content::Taken));
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left");
    }
}
