//! The index of deferred changes, without their contents: enough to see that a settled change was never
//! deferred, which is the usual case.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::pages::{Fingerprint, Page, Pages};

/// The known pages of one kind of changes.
#[derive(Debug, Default)]
pub(super) struct Index {
    pages: HashMap<u32, HashSet<Fingerprint>>,
}

impl Index {
    /// True if the content of a page is known.
    pub(super) fn knows(&self, page: u32) -> bool {
        self.pages.contains_key(&page)
    }

    /// True if a change is on a known page.
    pub(super) fn has(&self, page: u32, key: Fingerprint) -> bool {
        self.pages.get(&page).is_some_and(|keys| keys.contains(&key))
    }

    /// Records the present content of a page.
    pub(super) fn learn(&mut self, number: u32, page: &Page) {
        self.pages.insert(number, page.keys().map(|key| Fingerprint::of(key)).collect());
    }

    /// Replaces all pages by these.
    pub(super) fn reset(&mut self, pages: &Pages) {
        self.pages.clear();
        pages.iter().for_each(|(number, page)| self.learn(*number, page));
    }

    /// The unknown ones of some pages.
    pub(super) fn unknown(&self, pages: &BTreeSet<u32>) -> Vec<u32> {
        pages.iter().copied().filter(|page| !self.knows(*page)).collect()
    }
}
