//! Deferred changes of one kind, divided into pages by the hash of their keys.
//!
//! A page is an item. When one grows too large, all are divided into more pages, a power of two: a change's
//! page follows from its key alone, so a change is found, replaced and removed without reading the others.

use std::collections::BTreeMap;

use obsync_core::DeferredKind;
use obsync_protocol::ContentHash;

use super::rows::DeferredRow;

/// Largest page in bytes before the changes are divided into more pages.
const PAGE_SIZE: usize = 64 << 10;
/// The most pages. Beyond that, pages grow.
pub(super) const MOST_PAGES: u32 = 4096;
/// The largest page that can be written, in bytes: an item has at most 400 KB with its key.
pub(super) const LARGEST_PAGE: usize = 390 << 10;

/// Name of a kind of changes in item keys.
pub(super) fn kind_name(kind: DeferredKind) -> &'static str {
    match kind {
        DeferredKind::Failed => "failed",
        DeferredKind::Filtered => "filtered",
    }
}

/// A hash that determines the page of a key and stands for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(stored_key: &str) -> Self {
        let hash = ContentHash::of(stored_key.as_bytes());
        Fingerprint(hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Orders changes so that those of one page are neighbours, however many pages there are.
    pub(super) fn place(self) -> u64 {
        self.0.reverse_bits()
    }

    /// Its page of `pages` (a power of two).
    pub(super) fn page(self, pages: u32) -> u32 {
        // The remainder is smaller than a u32.
        (self.0 % u64::from(pages.max(1))) as u32
    }
}

/// The changes of one page, by key.
pub(super) type Page = BTreeMap<String, DeferredRow>;

/// The pages of one kind of changes in memory, by number.
pub(super) type Pages = BTreeMap<u32, Page>;

/// A row's bytes on a page.
pub(super) fn row_size(row: &DeferredRow) -> usize {
    serde_json::to_string(row).map_or(0, |json| json.len() + 1)
}

/// An estimate of a page's bytes, never too low.
pub(super) fn page_size(page: &Page) -> usize {
    page.values().map(row_size).sum::<usize>() + 2
}

/// True if a page is too large for this number of pages.
pub(super) fn is_too_large(page: &Page, pages: u32) -> bool {
    page.len() > 1 && pages < MOST_PAGES && page_size(page) > PAGE_SIZE
}

/// Divides changes into the fewest pages that are all small enough.
pub(super) fn divide(rows: impl IntoIterator<Item = DeferredRow>) -> (u32, Pages) {
    let mut count = 1;
    let mut pages = divide_into(rows, count);
    while pages.values().any(|page| is_too_large(page, count)) {
        count *= 2;
        pages = divide_into(pages.into_values().flat_map(Page::into_values), count);
    }
    (count, pages)
}

/// Divides the changes of some pages of `count` into two pages each; empty ones are included.
pub(super) fn halve(pages: Pages, count: u32) -> Pages {
    let mut halves: Pages = pages
        .keys()
        .flat_map(|number| [*number, *number + count])
        .map(|number| (number, Page::new()))
        .collect();
    for (key, row) in pages.into_values().flatten() {
        halves.entry(Fingerprint::of(&key).page(count * 2)).or_default().insert(key, row);
    }
    halves
}

/// Divides changes into this many pages; empty ones are included.
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
        let (count, pages) = divide((0..2000).map(row));
        assert!(count.is_power_of_two() && count >= 16, "{count}");
        assert_eq!(pages.len(), count as usize);
        assert_eq!(pages.values().map(Page::len).sum::<usize>(), 2000);
        for (number, page) in &pages {
            assert!(page_size(page) <= PAGE_SIZE);
            assert!(page.keys().all(|key| Fingerprint::of(key).page(count) == *number));
        }
        assert_eq!(divide((0..3).map(row)).0, 1);
    }

    #[test]
    fn halved_pages_are_those_of_a_division_into_twice_as_many() {
        let rows = || (0..500).map(row);
        for count in [1, 8] {
            assert_eq!(halve(divide_into(rows(), count), count), divide_into(rows(), count * 2));
        }
    }

    #[test]
    fn changes_of_one_page_are_neighbours_however_many_pages_there_are() {
        let mut marks: Vec<Fingerprint> =
            (0..500).map(|number| Fingerprint::of(&format!("{number}"))).collect();
        marks.sort_by_key(|mark| mark.place());
        for count in [1, 2, 16, 64] {
            let mut pages: Vec<u32> = marks.iter().map(|mark| mark.page(count)).collect();
            pages.dedup();
            assert_eq!(pages.len(), count as usize);
        }
    }
}
