//! Tracks which staged files are durable.
//!
//! Complete files are numbered. A flush covers those that had a number when it began. Publishing checks
//! whether all files of its batch are covered, and flushes itself if not.

use std::collections::HashMap;
use std::sync::Mutex;

use obsync_core::DestinationError;
use obsync_core::blocking::lock;

use super::error::again;

/// A flush is started when this many files are complete since the last one began. Their bytes do not count:
/// flushing large files while they are written makes the writers wait, and was slower.
const FILES: u64 = 512;

/// Durability of staged files.
#[derive(Debug, Default)]
pub(super) struct FlushTracker {
    account: Mutex<Account>,
    /// Locked during a flush.
    flushing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Account {
    /// Number of completed files.
    completed: u64,
    /// All files up to this number are durable.
    durable: u64,
    /// The numbers of files by their names in the staging folder.
    numbers: HashMap<String, u64>,
    /// Files completed since the last flush began.
    files: u64,
    /// A flush was ordered and has not begun.
    ordered: bool,
    /// The error of a failed flush. The system reports it only once.
    failed: Option<DestinationError>,
}

impl FlushTracker {
    /// Notes that the staged file of this name is complete.
    pub(super) fn completed(&self, name: &str) {
        let mut account = lock(&self.account);
        account.completed += 1;
        account.files += 1;
        let number = account.completed;
        account.numbers.insert(name.to_owned(), number);
    }

    /// True if a flush is due; then the caller has to start it.
    pub(super) fn is_due(&self) -> bool {
        let mut account = lock(&self.account);
        let due = !account.ordered && account.files >= FILES;
        account.ordered |= due;
        due
    }

    /// True if all complete files are durable.
    pub(super) fn is_level(&self) -> bool {
        let account = lock(&self.account);
        account.durable == account.completed
    }

    /// Flushes the files that are complete so far. An error is kept for [`make_durable`](Self::make_durable).
    pub(super) fn flush(&self, flush: impl FnOnce() -> Result<(), DestinationError>) {
        let _one = lock(&self.flushing);
        if let Err(error) = self.flush_now(flush) {
            lock(&self.account).failed = Some(error);
        }
    }

    /// Makes these staged files durable: waits for a flush that covers them, or flushes if there is none.
    ///
    /// # Errors
    ///
    /// If this or an earlier flush failed. Then no staged file can be trusted.
    pub(super) fn make_durable<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        flush: impl FnOnce() -> Result<(), DestinationError>,
    ) -> Result<(), DestinationError> {
        let _one = lock(&self.flushing);
        if self.covers(names)? { Ok(()) } else { self.flush_now(flush) }
    }

    /// Flushes for names and folders, not for staged files.
    ///
    /// # Errors
    ///
    /// If this flush failed, or an earlier one, whose error the system does not repeat.
    pub(super) fn flush_all(
        &self,
        flush: impl FnOnce() -> Result<(), DestinationError>,
    ) -> Result<(), DestinationError> {
        let _one = lock(&self.flushing);
        if let Some(error) = &lock(&self.account).failed {
            return Err(again(error));
        }
        self.flush_now(flush)
    }

    /// True if all of these are durable. Each is asked about once.
    fn covers<'n>(&self, names: impl Iterator<Item = &'n str>) -> Result<bool, DestinationError> {
        let mut account = lock(&self.account);
        if let Some(error) = &account.failed {
            return Err(again(error));
        }
        let durable = account.durable;
        let uncovered =
            names.filter(|name| account.numbers.remove(*name).is_none_or(|number| number > durable));
        Ok(uncovered.count() == 0)
    }

    /// Flushes, and records the files that it covers.
    fn flush_now(
        &self,
        flush: impl FnOnce() -> Result<(), DestinationError>,
    ) -> Result<(), DestinationError> {
        let covered = {
            let mut account = lock(&self.account);
            (account.files, account.ordered) = (0, false);
            account.completed
        };
        flush()?;
        let mut account = lock(&self.account);
        account.durable = account.durable.max(covered);
        Ok(())
    }

    /// Forgets everything, because the staged files are gone.
    pub(super) fn forget(&self) {
        let _one = lock(&self.flushing);
        *lock(&self.account) = Account::default();
    }
}

#[cfg(test)]
mod tests {
    use obsync_core::ProblemCode;

    use super::*;

    fn failure() -> DestinationError {
        DestinationError::Unavailable {
            location: "here".to_owned(),
            reason: "the disk is gone".to_owned(),
            code: ProblemCode::Destination,
        }
    }

    /// True if publishing these files would flush.
    fn would_flush(flushes: &FlushTracker, names: &[&str]) -> bool {
        let mut flushed = false;
        flushes
            .make_durable(names.iter().copied(), || {
                flushed = true;
                Ok(())
            })
            .unwrap();
        flushed
    }

    #[test]
    fn only_what_was_complete_when_a_flush_began_is_durable() {
        let flushes = FlushTracker::default();
        flushes.completed("a");
        flushes.flush(|| {
            flushes.completed("b");
            Ok(())
        });
        assert!(!would_flush(&flushes, &["a"]));
        assert!(would_flush(&flushes, &["b"]));
        flushes.completed("c");
        flushes.completed("d");
        assert!(would_flush(&flushes, &["c"]));
        assert!(!would_flush(&flushes, &["d"]));
        assert!(!would_flush(&flushes, &[]));
    }

    #[test]
    fn what_nothing_is_known_of_is_not_durable() {
        let flushes = FlushTracker::default();
        flushes.completed("a");
        flushes.flush(|| Ok(()));
        assert!(would_flush(&flushes, &["a", "left by another run"]));
        // Nor is a name that was asked about before: another file may have it now.
        assert!(would_flush(&flushes, &["a"]));
    }

    #[test]
    fn a_failed_flush_fails_whatever_is_published_after_it() {
        let flushes = FlushTracker::default();
        flushes.completed("a");
        flushes.flush(|| Err(failure()));
        flushes.completed("b");
        for name in ["a", "b"] {
            let published = flushes.make_durable([name].into_iter(), || Ok(()));
            assert!(matches!(published, Err(DestinationError::Unavailable { .. })), "{published:?}");
        }
        let folders = flushes.flush_all(|| Ok(()));
        assert!(matches!(folders, Err(DestinationError::Unavailable { .. })), "{folders:?}");
        flushes.forget();
        flushes.completed("c");
        assert!(would_flush(&flushes, &["c"]));
    }

    #[test]
    fn a_flush_is_due_after_so_many_files_and_ordered_once() {
        let flushes = FlushTracker::default();
        (1..FILES).for_each(|number| flushes.completed(&number.to_string()));
        assert!(!flushes.is_due());
        flushes.completed("one more");
        assert!(flushes.is_due());
        assert!(!flushes.is_due());
        flushes.flush(|| Ok(()));
        assert!(!flushes.is_due());
        (0..FILES).for_each(|number| flushes.completed(&format!("again {number}")));
        assert!(flushes.is_due());
    }
}
