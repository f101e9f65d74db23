//! Counts the bytes of files on their way to the vault, until each of the files is placed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use obsync_protocol::VaultPath;

use crate::blocking::lock;
use crate::progress::Progress;

use super::vault_change::VaultChange;

/// The files that are being sent, and how much of each the present attempt has sent. They are forgotten with it.
pub(super) struct UploadProgress {
    progress: Arc<dyn Progress>,
    sent: Mutex<HashMap<VaultPath, u64>>,
}

impl UploadProgress {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        UploadProgress { progress, sent: Mutex::default() }
    }

    /// An attempt has sent so many bytes of a file. Those of an attempt before it are sent once more, and do not count.
    pub(super) fn sent(&self, path: &VaultPath, bytes: u64) {
        let mut sent = lock(&self.sent);
        match sent.get_mut(path) {
            Some(known) if *known == bytes => return,
            Some(known) => *known = bytes,
            None if bytes == 0 => return,
            None => drop(sent.insert(path.clone(), bytes)),
        }
        // Under the lock, so that the last to be told is what is so.
        self.progress.sending(sent.values().sum());
    }

    /// A change was answered for, however: nothing of it is on its way any more.
    pub(super) fn placed(&self, change: &VaultChange) {
        let mut sent = lock(&self.sent);
        self.progress.placed(change.size());
        if sent.remove(change.path()).is_some() {
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

    /// What was told, in order: bytes on their way, and files in place.
    #[derive(Default)]
    struct Told(Mutex<Vec<(&'static str, u64)>>);

    impl Progress for Told {
        fn sending(&self, bytes: u64) {
            lock(&self.0).push(("sending", bytes));
        }

        fn placed(&self, bytes: u64) {
            lock(&self.0).push(("placed", bytes));
        }
    }

    #[test]
    fn what_is_sent_again_is_taken_back_and_what_is_placed_is_not_counted_twice() {
        let told = Arc::new(Told::default());
        let (a, b) = (VaultPath::parse("a").unwrap(), VaultPath::parse("b").unwrap());
        let uploads = UploadProgress::new(told.clone());
        uploads.sent(&a, 0);
        uploads.sent(&a, 10);
        uploads.sent(&a, 10);
        uploads.sent(&b, 5);
        // The connection of `a` broke.
        uploads.sent(&a, 0);
        uploads.sent(&a, 20);
        uploads.placed(&VaultChange::Folder(a.clone()));
        uploads.placed(&VaultChange::Folder(a));
        drop(uploads);
        let told = std::mem::take(&mut *lock(&told.0));
        let sending: Vec<_> = told.iter().filter(|(what, _)| *what == "sending").map(|(_, n)| *n).collect();
        assert_eq!(sending, [10, 15, 5, 25, 5, 0], "{told:?}");
        let placed = told.iter().position(|(what, _)| *what == "placed");
        assert_eq!(told[placed.unwrap() + 1], ("sending", 5), "it is placed before it is on its way no more");
    }
}
