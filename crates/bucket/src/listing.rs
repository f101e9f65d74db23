//! The list of all objects, fetched for large batches of queries: one request shows for a thousand objects
//! whether they are missing or have another size, which otherwise costs one request each.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::TryStreamExt;
use object_store::path::Path;

use super::error::RequestError;
use super::objects::Objects;
use obsync_core::blocking::lock;

/// Objects in one page of a list (S3 API reference, ListObjectsV2).
pub(super) const PAGE: usize = 1000;
/// Number of queries from which the list is worth fetching.
const WORTH: usize = 64;
/// The price of a request for a page, in requests for one object: 12.5, rounded up (S3 prices of us-east-1).
const PRICE: usize = 13;

/// The listed keys and sizes. Keys are remembered by a hash of 64 bits, 16 bytes each. If two keys share a
/// hash, an existing object may seem missing; that costs a download and is detected when it is written.
#[derive(Debug, Default)]
pub(super) struct Listing {
    hasher: RandomState,
    sizes: Mutex<Sizes>,
    /// There are at least this many objects. Outlives the list.
    least: AtomicUsize,
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
        let most = most_listed(questions);
        if self.least.load(Ordering::Relaxed) > most {
            return Ok(());
        }
        let mut sizes = HashMap::new();
        let mut list = objects.list(prefix, PAGE);
        while let Some(object) = list.try_next().await? {
            if sizes.len() >= most {
                self.least.store(most + 1, Ordering::Relaxed);
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

/// Most objects of a list that costs no more than these queries. The last page shows that there are more.
fn most_listed(questions: usize) -> usize {
    (questions / PRICE).saturating_sub(1) * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_given_up_costs_no_more_than_the_queries_that_it_was_to_save() {
        for questions in WORTH..5000 {
            let pages = most_listed(questions) / PAGE + 1;
            assert!(pages > 1 && pages * PRICE <= questions, "{pages} pages for {questions} queries");
        }
    }
}
