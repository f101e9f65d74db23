//! The list of all objects, fetched when many files are asked for at once: one request tells of a thousand objects what is
//! missing or has another size, which otherwise costs one request each.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use futures_util::TryStreamExt;
use object_store::path::Path;

use super::error::RequestError;
use super::objects::Objects;
use obsync_core::blocking::lock;

/// How many objects a request for a list tells of (S3 API reference, ListObjectsV2).
pub(super) const PAGE: usize = 1000;
/// From how many questions on the list is worth fetching.
const WORTH: usize = 64;

/// What the list says. Keys are remembered by a hash of 64 bits, 16 bytes each. Should two keys share one, an object
/// is taken to be missing that is not, which costs a download and is found out when it is written.
#[derive(Debug, Default)]
pub(super) struct Listing {
    hasher: RandomState,
    sizes: Mutex<Sizes>,
}

#[derive(Debug, Default)]
enum Sizes {
    #[default]
    Unasked,
    /// There are so many objects that asking for each file is cheaper.
    TooMany,
    Listed(HashMap<u64, u64>),
}

impl Listing {
    /// Fetches the list if that is worth it for `questions` questions.
    pub(super) async fn prepare(
        &self,
        objects: &Objects,
        prefix: &str,
        questions: usize,
    ) -> Result<(), RequestError> {
        if questions < WORTH || !matches!(*lock(&self.sizes), Sizes::Unasked) {
            return Ok(());
        }
        // At most a quarter of the requests that the questions would cost one by one.
        let most = questions / 4 * PAGE;
        let mut sizes = HashMap::new();
        let mut list = objects.list(prefix, PAGE);
        while let Some(object) = list.try_next().await? {
            if sizes.len() >= most {
                *lock(&self.sizes) = Sizes::TooMany;
                return Ok(());
            }
            sizes.insert(self.hasher.hash_one(object.key.as_str()), object.size);
        }
        *lock(&self.sizes) = Sizes::Listed(sizes);
        Ok(())
    }

    /// Whether an object of this size can be at a key.
    pub(super) fn may_hold(&self, key: &Path, size: u64) -> bool {
        match &*lock(&self.sizes) {
            Sizes::Listed(sizes) => sizes.get(&self.hasher.hash_one(key.as_ref())) == Some(&size),
            Sizes::Unasked | Sizes::TooMany => true,
        }
    }

    /// Whether an object can be at a key.
    pub(super) fn may_be(&self, key: &Path) -> bool {
        match &*lock(&self.sizes) {
            Sizes::Listed(sizes) => sizes.contains_key(&self.hasher.hash_one(key.as_ref())),
            Sizes::Unasked | Sizes::TooMany => true,
        }
    }

    /// Notes an object that was written.
    pub(super) fn wrote(&self, key: &Path, size: u64) {
        if let Sizes::Listed(sizes) = &mut *lock(&self.sizes) {
            sizes.insert(self.hasher.hash_one(key.as_ref()), size);
        }
    }

    /// Forgets the list.
    pub(super) fn clear(&self) {
        *lock(&self.sizes) = Sizes::Unasked;
    }
}
