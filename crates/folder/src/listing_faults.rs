//! What a disk can do to whoever lists a folder, so that a test can have it happen.

use std::fmt;
use std::io;
use std::sync::Arc;

/// What happens in place of the next entry of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingFault {
    /// An error, by its number in the system.
    Error(i32),
    /// The listing ends without a word, as if it were whole.
    End,
}

/// Decides by the name of a folder, relative to the top, and by how many of its entries were read.
type Decide = Arc<dyn Fn(&str, usize) -> Option<ListingFault> + Send + Sync>;

/// The faults of a test. By default there are none.
#[derive(Clone, Default)]
pub(super) struct ListingFaults(Option<Decide>);

impl fmt::Debug for ListingFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListingFaults")
    }
}

impl ListingFaults {
    pub(super) fn decided(
        decide: impl Fn(&str, usize) -> Option<ListingFault> + Send + Sync + 'static,
    ) -> Self {
        ListingFaults(Some(Arc::new(decide)))
    }

    /// Whether a listing ends before its next entry, and whether by an error.
    pub(super) fn ends(&self, folder: &str, entries: usize) -> io::Result<bool> {
        match self.0.as_ref().and_then(|decide| decide(folder, entries)) {
            None => Ok(false),
            Some(ListingFault::End) => Ok(true),
            Some(ListingFault::Error(number)) => Err(io::Error::from_raw_os_error(number)),
        }
    }
}
