//! Lists in pages: each names the next. One that names itself, or hundreds without anything on them, would never end.

use obsync_protocol::limits;

use crate::error::{Kind, RequestError};

/// Where a list in pages has come to.
#[derive(Debug, Default)]
pub(crate) struct Pages<T = String> {
    /// What to ask for the next page with; `None` for the first one.
    pub(crate) next: Option<T>,
    /// How many pages in a row had nothing on them.
    empty: usize,
}

impl<T: PartialEq> Pages<T> {
    /// After a page with so many things on it that names `next`: where the list goes on, or `None` at its end.
    ///
    /// # Errors
    ///
    /// That the list leads nowhere.
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
