//! Reports progress to a program. The engine knows no terminal; a program draws.

use obsync_protocol::{Uid, VaultPath};

/// Takes news of a running pull. All methods have an empty default; they are called often and must return at once.
pub trait Progress: Send + Sync {
    /// A new stretch of work begins.
    fn phase(&self, _phase: Phase) {}

    /// The number of entries that the server has listed so far.
    fn listed(&self, _entries: u64) {}

    /// Of the changes that were listed, this many files with this many bytes are in place since an earlier run. Comes before
    /// [`planned`](Self::planned).
    fn in_place(&self, _files: u64, _bytes: u64) {}

    /// The plan is made: this many files with this many bytes are to be brought into place, besides those of earlier calls.
    fn planned(&self, _files: u64, _bytes: u64) {}

    /// Plaintext bytes have arrived from the server.
    fn received(&self, _bytes: u64) {}

    /// Of a content, the one of this entry, so many of its bytes have arrived.
    fn receiving(&self, _uid: Uid, _received: u64, _bytes: u64) {}

    /// So many bytes are on their way to the vault: what was sent so far of files that are not in place there yet. It falls when
    /// one of them is [`placed`](Self::placed), and when a file is sent anew.
    fn sending(&self, _bytes: u64) {}

    /// A file is in place: downloaded, copied or found there, or in the vault.
    fn placed(&self, _bytes: u64) {}

    /// This was done with a file. Names of files are the user's: not for logs that others read.
    fn file(&self, _path: &VaultPath, _action: FileAction) {}

    /// Not every change of the destination is seen at once, for this reason: it is scanned more often.
    fn unwatched(&self, _reason: &str) {}

    /// Something the user should see now, in one line.
    fn notice(&self, _text: &str) {}
}

/// What was done with a file of the destination, or of the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// It came from the server.
    Downloaded,
    /// Its content was in the destination already, under another name.
    Copied,
    /// It was there already.
    Found,
    /// Its times were set.
    TimesSet,
    /// It was removed.
    Deleted,
    /// What was changed on both sides was merged.
    Merged,
    /// The vault got it.
    Sent,
    /// It was removed in the vault.
    DeletedInVault,
}

/// The stretches of a pull, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting to the server.
    Connecting,
    /// Receiving the list of changes.
    Listing,
    /// Comparing the list with the state.
    Planning,
    /// Removing, copying and downloading.
    Transferring,
    /// Making the last of it durable.
    Finishing,
    /// Looking at what is in the destination, to find what was changed there.
    Scanning,
    /// Sending what was changed there.
    Sending,
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
