//! The index of deferred changes, without what they say: enough to see that a change which is settled was never
//! deferred, which is the rule.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::pages::{Fingerprint, Page, Pages};

/// What is known of the pages of one kind of changes.
#[derive(Debug, Default)]
pub(super) struct Index {
    pages: HashMap<u32, HashSet<Fingerprint>>,
}

impl Index {
    /// Whether it is known what is on a page.
    pub(super) fn knows(&self, page: u32) -> bool {
        self.pages.contains_key(&page)
    }

    /// Whether a change is on a page that is known.
    pub(super) fn has(&self, page: u32, key: Fingerprint) -> bool {
        self.pages.get(&page).is_some_and(|keys| keys.contains(&key))
    }

    /// Takes in what is on a page now.
    pub(super) fn learn(&mut self, number: u32, page: &Page) {
        self.pages.insert(number, page.keys().map(|key| Fingerprint::of(key)).collect());
    }

    /// Starts over with these pages and no others.
    pub(super) fn reset(&mut self, pages: &Pages) {
        self.pages.clear();
        pages.iter().for_each(|(number, page)| self.learn(*number, page));
    }

    /// Those of some pages that are not known.
    pub(super) fn unknown(&self, pages: &BTreeSet<u32>) -> Vec<u32> {
        pages.iter().copied().filter(|page| !self.knows(*page)).collect()
    }
}
