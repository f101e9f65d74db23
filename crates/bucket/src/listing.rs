//! The list of all objects, fetched for large batches of queries: one request shows for a thousand objects
//! whether they are missing or have another size, which otherwise costs one request each.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use futures_util::TryStreamExt;
use object_store::path::Path;

use super::error::RequestError;
use super::objects::Objects;
use obsync_core::blocking::lock;

/// Objects in one page of a list (S3 API reference, ListObjectsV2).
pub(super) const PAGE: usize = 1000;
/// Number of queries from which the list is worth fetching.
const WORTH: usize = 64;

/// The listed keys and sizes. Keys are remembered by a hash of 64 bits, 16 bytes each. If two keys share a
/// hash, an existing object may seem missing; that costs a download and is detected when it is written.
#[derive(Debug, Default)]
pub(super) struct Listing {
    hasher: RandomState,
    sizes: Mutex<Sizes>,
}

#[derive(Debug, Default)]
enum Sizes {
    #[default]
    Unasked,
    /// There are so many objects that one request per file is cheaper.
    TooMany,
    Listed(HashMap<u64, u64>),
}

impl Listing {
    /// Fetches the list if `questions` queries justify it.
    pub(super) async fn prepare(
        &self,
        objects: &Objects,
        prefix: &str,
        questions: usize,
    ) -> Result<(), RequestError> {
        if questions < WORTH || !matches!(*lock(&self.sizes), Sizes::Unasked) {
            return Ok(());
        }
        // At most a quarter of the requests that single queries would cost.
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

    /// False if the list excludes an object of this size at a key.
    pub(super) fn may_hold(&self, key: &Path, size: u64) -> bool {
        match &*lock(&self.sizes) {
            Sizes::Listed(sizes) => sizes.get(&self.hasher.hash_one(key.as_ref())) == Some(&size),
            Sizes::Unasked | Sizes::TooMany => true,
        }
    }

    /// False if the list excludes an object at a key.
    pub(super) fn may_be(&self, key: &Path) -> bool {
        match &*lock(&self.sizes) {
            Sizes::Listed(sizes) => sizes.contains_key(&self.hasher.hash_one(key.as_ref())),
            Sizes::Unasked | Sizes::TooMany => true,
        }
    }

    /// Records a written object.
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
