//! Counts the bytes of files on their way to the vault, until each of the files is placed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use obsync_protocol::VaultPath;

use crate::blocking::lock;
use crate::progress::Progress;

/// Files on their way, with the bytes that the current attempt has sent of each.
pub(super) struct UploadProgress {
    progress: Arc<dyn Progress>,
    sent: Mutex<HashMap<VaultPath, u64>>,
}

impl UploadProgress {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        UploadProgress { progress, sent: Mutex::default() }
    }

    /// Notes how many bytes of a file an attempt has sent. Bytes of an earlier attempt are sent again, and do
    /// not count.
    pub(super) fn sent(&self, path: &VaultPath, bytes: u64) {
        let mut sent = lock(&self.sent);
        match sent.get_mut(path) {
            Some(known) if *known == bytes => return,
            Some(known) => *known = bytes,
            None if bytes == 0 => return,
            None => drop(sent.insert(path.clone(), bytes)),
        }
        // Under the lock, so that the last report is the current sum.
        self.progress.sending(sent.values().sum());
    }

    /// Counts a file as placed. It was answered, with success or not, so no byte of it is on its way.
    pub(super) fn placed(&self, path: &VaultPath, size: u64) {
        let mut sent = lock(&self.sent);
        self.progress.placed(size);
        if sent.remove(path).is_some() {
            self.progress.sending(sent.values().sum());
        }
    }
}

impl Drop for UploadProgress {
    fn drop(&mut self) {
        if !lock(&self.sent).is_empty() {
            self.progress.sending(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports in order: bytes on their way, and files in place.
    #[derive(Default)]
    struct Reports(Mutex<Vec<(&'static str, u64)>>);

    impl Progress for Reports {
        fn sending(&self, bytes: u64) {
            lock(&self.0).push(("sending", bytes));
        }

        fn placed(&self, bytes: u64) {
            lock(&self.0).push(("placed", bytes));
        }
    }

    #[test]
    fn what_is_sent_again_is_taken_back_and_what_is_placed_is_not_counted_twice() {
        let reports = Arc::new(Reports::default());
        let (a, b) = (VaultPath::parse("a").unwrap(), VaultPath::parse("b").unwrap());
        let uploads = UploadProgress::new(reports.clone());
        uploads.sent(&a, 0);
        uploads.sent(&a, 10);
        uploads.sent(&a, 10);
        uploads.sent(&b, 5);
        // The connection of `a` broke.
        uploads.sent(&a, 0);
        uploads.sent(&a, 20);
        uploads.placed(&a, 20);
        uploads.placed(&a, 0);
        drop(uploads);
        let reports = std::mem::take(&mut *lock(&reports.0));
        let sending: Vec<_> =
            reports.iter().filter(|(what, _)| *what == "sending").map(|(_, n)| *n).collect();
        assert_eq!(sending, [10, 15, 5, 25, 5, 0], "{reports:?}");
        let placed = reports.iter().position(|(what, _)| *what == "placed");
        assert_eq!(
            reports[placed.unwrap() + 1],
            ("sending", 5),
            "it is placed before it is on its way no more"
        );
    }
}
