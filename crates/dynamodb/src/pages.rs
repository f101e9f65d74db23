//! Deferred changes of one kind, divided into pages by the hash of what they are filed under.
//!
//! A page is an item. When one grows too large, all are divided into more, a power of two: which page a change is on follows
//! from its key alone, so a change is found, replaced and removed without reading the others.

use std::collections::BTreeMap;

use obsync_core::DeferredKind;
use obsync_protocol::ContentHash;

use super::rows::DeferredRow;

/// How large a page may grow, in bytes, before the changes are divided into more.
const PAGE_SIZE: usize = 64 << 10;
/// The most pages that there can be. From then on pages grow.
pub(super) const MOST_PAGES: u32 = 4096;
/// The largest page that can be written, in bytes: an item has at most 400 KB with its key.
pub(super) const LARGEST_PAGE: usize = 390 << 10;

/// What the items of a kind of changes are called.
pub(super) fn kind_name(kind: DeferredKind) -> &'static str {
    match kind {
        DeferredKind::Failed => "failed",
        DeferredKind::Filtered => "filtered",
    }
}

/// Where a key belongs, and a short name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(stored_key: &str) -> Self {
        let hash = ContentHash::of(stored_key.as_bytes());
        Fingerprint(hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The page of `pages` (a power of two) that it is on.
    pub(super) fn page(self, pages: u32) -> u32 {
        // The remainder is smaller than a u32.
        (self.0 % u64::from(pages.max(1))) as u32
    }
}

/// The changes of one page, by what they are filed under.
pub(super) type Page = BTreeMap<String, DeferredRow>;

/// The pages of one kind of changes that are in memory, by their number.
pub(super) type Pages = BTreeMap<u32, Page>;

/// Roughly how many bytes a page takes, and never fewer than it does.
pub(super) fn page_size(page: &Page) -> usize {
    page.values().map(|row| serde_json::to_string(row).map_or(0, |json| json.len() + 1)).sum::<usize>() + 2
}

/// Whether a page is too large for how many there are.
pub(super) fn is_too_large(page: &Page, pages: u32) -> bool {
    page.len() > 1 && pages < MOST_PAGES && page_size(page) > PAGE_SIZE
}

/// Divides changes into as few pages as keep each small enough, at least `at_least`.
pub(super) fn divide(rows: impl IntoIterator<Item = DeferredRow>, at_least: u32) -> (u32, Pages) {
    let mut count = at_least.clamp(1, MOST_PAGES).next_power_of_two();
    let mut pages = divide_into(rows, count);
    while pages.values().any(|page| is_too_large(page, count)) {
        count *= 2;
        pages = divide_into(pages.into_values().flat_map(Page::into_values), count);
    }
    (count, pages)
}

/// Divides changes into so many pages; every one is there, if only empty.
fn divide_into(rows: impl IntoIterator<Item = DeferredRow>, count: u32) -> Pages {
    let mut pages: Pages = (0..count).map(|number| (number, Page::new())).collect();
    for row in rows {
        let page = pages.entry(Fingerprint::of(&row.key).page(count)).or_default();
        page.insert(row.key.clone(), row);
    }
    pages
}

#[cfg(test)]
mod tests {
    use obsync_core::{Deferred, DeferredCause, DeferredKey};
    use obsync_protocol::PushMessage;

    use super::*;

    fn row(number: usize) -> DeferredRow {
        let deferred = Deferred {
            key: DeferredKey::encoded(&number.to_string()),
            message: PushMessage { path: "p".repeat(500).into(), ..PushMessage::default() },
            cause: DeferredCause::Filtered,
        };
        DeferredRow::from(&deferred)
    }

    #[test]
    fn many_changes_are_divided_into_pages_that_fit_and_stay_where_their_keys_say() {
        let (count, pages) = divide((0..2000).map(row), 1);
        assert!(count.is_power_of_two() && count >= 16, "{count}");
        assert_eq!(pages.len(), count as usize);
        assert_eq!(pages.values().map(Page::len).sum::<usize>(), 2000);
        for (number, page) in &pages {
            assert!(page_size(page) <= PAGE_SIZE);
            assert!(page.keys().all(|key| Fingerprint::of(key).page(count) == *number));
        }
        assert_eq!(divide((0..3).map(row), 1).0, 1);
    }
}
