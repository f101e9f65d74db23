//! Paged lists: each page names the next. A page that names itself, or hundreds of empty pages, would never
//! end.

use obsync_protocol::limits;

use crate::error::{Kind, RequestError};

/// The position in a paged list.
#[derive(Debug, Default)]
pub(crate) struct Pages<T = String> {
    /// The continuation token of the next page; `None` for the first one.
    pub(crate) next: Option<T>,
    /// Empty pages in a row.
    empty: usize,
}

impl<T: PartialEq> Pages<T> {
    /// After a page with this many items that names `next`: the next position, or `None` at the end of the
    /// list.
    ///
    /// # Errors
    ///
    /// The error of a list that does not advance.
    pub(crate) fn after(self, things: usize, next: Option<T>) -> Result<Option<Self>, RequestError> {
        if next.is_none() {
            return Ok(None);
        }
        let empty = if things == 0 { self.empty + 1 } else { 0 };
        if next == self.next || empty > limits::EMPTY_PAGES {
            return Err(RequestError::without_answer(Kind::Other, "the service's list has no end"));
        }
        Ok(Some(Pages { next, empty }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_goes_on_is_followed_and_one_that_does_not_is_refused() {
        let mut pages = Pages::default();
        for page in 0..5000 {
            pages = pages.after(usize::from(page % 10 == 0), Some(page)).unwrap().unwrap();
        }
        assert!(pages.after(1, Some(4999)).is_err(), "the same page again");
        assert!(Pages::<u8>::default().after(0, None).unwrap().is_none());
        let mut pages = Pages::default();
        let pages_without_anything =
            (0..10_000).position(|page| match std::mem::take(&mut pages).after(0, Some(page)) {
                Ok(more) => {
                    pages = more.unwrap();
                    false
                }
                Err(_) => true,
            });
        assert_eq!(pages_without_anything, Some(limits::EMPTY_PAGES));
    }
}
