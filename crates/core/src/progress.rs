//! Reports progress to a program. The engine has no terminal code; a program draws.

use obsync_protocol::{Uid, VaultPath};

/// Receives the progress of a pull. All methods have an empty default; they are called often and must return
/// at once.
pub trait Progress: Send + Sync {
    /// A new phase begins.
    fn phase(&self, _phase: Phase) {}

    /// The number of entries that the server has listed so far.
    fn listed(&self, _entries: u64) {}

    /// Of the listed changes, this many files with this many bytes are in place since an earlier run. Called
    /// before [`planned`](Self::planned).
    fn in_place(&self, _files: u64, _bytes: u64) {}

    /// The plan is made: this many files with this many bytes have to be put in place, in addition to those
    /// of earlier calls.
    fn planned(&self, _files: u64, _bytes: u64) {}

    /// Plaintext bytes have arrived from the server.
    fn received(&self, _bytes: u64) {}

    /// This many of the bytes of one content, that of this entry, have arrived.
    fn receiving(&self, _uid: Uid, _received: u64, _bytes: u64) {}

    /// This many bytes are on their way to the vault: the bytes sent so far of files that are not in place
    /// there yet. The number falls when one of them is [`placed`](Self::placed), and when a file is sent
    /// again.
    fn sending(&self, _bytes: u64) {}

    /// A file is in place: downloaded, copied or found there, or in the vault.
    fn placed(&self, _bytes: u64) {}

    /// A file was handled in this way. Names of files are private: not for logs that others read.
    fn file(&self, _path: &VaultPath, _action: FileAction) {}

    /// Changes of the destination may be missed, for this reason: it is scanned more often.
    fn unwatched(&self, _reason: &str) {}

    /// Something the user should see now, in one line.
    fn notice(&self, _text: &str) {}
}

/// Action on a file of the destination, or of the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAction {
    /// It was downloaded from the server.
    Downloaded,
    /// Its content was in the destination already, under another name.
    Copied,
    /// It was in place already.
    Found,
    /// Its times were set.
    TimesSet,
    /// It was removed.
    Deleted,
    /// The changes of both sides were merged.
    Merged,
    /// It was sent to the vault.
    Sent,
    /// It was removed in the vault.
    DeletedInVault,
}

/// The phases of a run, in order.
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
    /// Making the last changes durable.
    Finishing,
    /// Scanning the destination for local changes.
    Scanning,
    /// Sending local changes.
    Sending,
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
