//! Faults of a disk during a scan, for tests.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A fault in place of the next entry of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingFault {
    /// An error, by its system error number.
    Error(i32),
    /// The listing ends silently, as if it were complete.
    End,
}

/// Decides by the name of a folder, relative to the root, and by the number of its entries read; or by the
/// name of a file that is to be read, and 0.
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

    /// An error if a file cannot be read.
    pub(super) fn read(&self, file: &str) -> io::Result<()> {
        self.ends(file, 0).map(|_| ())
    }

    /// True if a listing ends silently before its next entry; an error if it fails there.
    pub(super) fn ends(&self, folder: &str, entries: usize) -> io::Result<bool> {
        match self.0.as_ref().and_then(|decide| decide(folder, entries)) {
            None => Ok(false),
            Some(ListingFault::End) => Ok(true),
            Some(ListingFault::Error(number)) => Err(io::Error::from_raw_os_error(number)),
        }
    }
}
