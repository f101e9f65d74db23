//! Staged contents: complete, checked by the engine, and not visible yet.
//!
//! They exist only in this process. They are lost with it, and the next run downloads those files again:
//! remains in a bucket would be neither checked nor cheap to find.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use object_store::PutPayload;
use object_store::path::Path;
use obsync_core::FileMeta;
use obsync_protocol::VaultPath;
use tokio::sync::OwnedSemaphorePermit;

use super::error::RequestError;
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
        memory: Arc<OwnedSemaphorePermit>,
    },
    /// Larger content, uploaded to the bucket except for the completion, which is possible only at this key.
    Upload {
        upload: Box<Upload>,
        key: Path,
        /// The memory that it took.
        _memory: OwnedSemaphorePermit,
    },
    /// An object to copy at publication.
    Original(Box<Original>),
    /// A copy made in advance, because its original was about to be replaced or removed.
    Parked(Arc<Path>, Facts),
    /// It is gone, and the reason: the content has to come from the vault.
    Lost(RequestError),
}

/// An object whose content is staged for another file.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub(super) key: Path,
    pub(super) facts: Facts,
    /// The path of the staged copy.
    pub(super) path: VaultPath,
    pub(super) meta: FileMeta,
}

impl Stage {
    /// True for a content that the bucket does not have at another key.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Stage::Content { .. } | Stage::Upload { .. })
    }

    /// The same content for one more path. `None`: it can be published only at its own path.
    pub(super) fn share(&self) -> Option<Stage> {
        Some(match self {
            Stage::Content { payload, memory } => {
                Stage::Content { payload: payload.clone(), memory: memory.clone() }
            }
            Stage::Upload { .. } => return None,
            Stage::Original(original) => Stage::Original(original.clone()),
            Stage::Parked(key, facts) => Stage::Parked(key.clone(), facts.clone()),
            Stage::Lost(error) => Stage::Lost(error.clone()),
        })
    }

    /// True if any number of paths can use it at a time, and a published path offers nothing better to copy.
    pub(super) fn is_for_many(&self) -> bool {
        matches!(self, Stage::Original(_) | Stage::Lost(_))
    }

    /// The key of a parked copy that nothing else needs.
    pub(super) fn into_parked(self) -> Option<Path> {
        match self {
            Stage::Parked(key, _) => Arc::into_inner(key),
            _ => None,
        }
    }
}

/// All staged contents, by handle.
#[derive(Debug, Default)]
pub(super) struct Stages(Mutex<Numbered>);

#[derive(Debug, Default)]
struct Numbered {
    next: u64,
    stages: HashMap<u64, Stage>,
}

impl Stages {
    /// A unique number.
    pub(super) fn number(&self) -> u64 {
        let mut numbered = lock(&self.0);
        numbered.next += 1;
        numbered.next
    }

    /// Stores a content and returns its handle.
    pub(super) fn put(&self, stage: Stage) -> String {
        let number = self.number();
        lock(&self.0).stages.insert(number, stage);
        number.to_string()
    }

    /// Stores a content again under its handle.
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

    /// Takes out the contents to be copied from these keys, with their numbers.
    pub(super) fn take_originals(&self, keys: &HashSet<Path>) -> Vec<(u64, Box<Original>)> {
        let is_of = |stage: &mut Stage| matches!(stage, Stage::Original(of) if keys.contains(&of.key));
        let mut numbered = lock(&self.0);
        let taken = numbered.stages.extract_if(|_, stage| is_of(stage));
        let originals = taken.filter_map(|(number, stage)| match stage {
            Stage::Original(original) => Some((number, original)),
            _ => None,
        });
        originals.collect()
    }

    /// Takes everything out.
    pub(super) fn take_all(&self) -> Vec<Stage> {
        std::mem::take(&mut lock(&self.0).stages).into_values().collect()
    }
}
