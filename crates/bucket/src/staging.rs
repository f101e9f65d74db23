//! What is staged: complete, checked by the engine, and not visible yet.
//!
//! All of it lives in this process. A run that dies takes it along, and the next one downloads those files again: what a
//! bucket could keep of them would be neither checked nor cheap to find.

use std::collections::HashMap;
use std::sync::Mutex;

use object_store::PutPayload;
use object_store::path::Path;
use tokio::sync::OwnedSemaphorePermit;

use super::metadata::Facts;
use super::upload::Upload;
use obsync_core::blocking::lock;

/// One staged content.
#[derive(Debug)]
pub(super) enum Stage {
    /// Small content, in memory.
    Content {
        payload: PutPayload,
        /// The memory that it takes.
        _room: OwnedSemaphorePermit,
    },
    /// Larger content, which is in the bucket but for its completion.
    Upload {
        upload: Box<Upload>,
        /// The memory that it took.
        _room: OwnedSemaphorePermit,
    },
    /// An object that is copied when this is published.
    Original(Path, Facts),
    /// A copy that was made already, because its original is about to go.
    Parked(Path, Facts),
}

/// All that is staged, by handle.
#[derive(Debug, Default)]
pub(super) struct Stages(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    next: u64,
    stages: HashMap<u64, Stage>,
}

impl Stages {
    /// A number that was not given before.
    pub(super) fn number(&self) -> u64 {
        let mut numbered = lock(&self.0);
        numbered.next += 1;
        numbered.next
    }

    /// Keeps a content and tells its handle.
    pub(super) fn put(&self, stage: Stage) -> String {
        let number = self.number();
        lock(&self.0).stages.insert(number, stage);
        number.to_string()
    }

    /// Keeps a content that was taken out under its handle again.
    pub(super) fn keep(&self, handle: &str, stage: Stage) {
        if let Ok(number) = handle.parse() {
            lock(&self.0).stages.insert(number, stage);
        }
    }

    /// Takes a content out.
    pub(super) fn take(&self, handle: &str) -> Option<Stage> {
        let number: u64 = handle.parse().ok()?;
        lock(&self.0).stages.remove(&number)
    }

    /// Takes everything out.
    pub(super) fn take_all(&self) -> Vec<Stage> {
        std::mem::take(&mut lock(&self.0).stages).into_values().collect()
    }
}
