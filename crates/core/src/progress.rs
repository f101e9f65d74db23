//! How the engine tells a program what it is doing. The engine knows no terminal; a program draws.

use obsync_protocol::Uid;

/// Takes news of a running pull. All methods have an empty default; they are called often and must return at once.
pub trait Progress: Send + Sync {
    /// A new stretch of work begins.
    fn phase(&self, _phase: Phase) {}

    /// The number of entries that the server has listed so far.
    fn listed(&self, _entries: u64) {}

    /// The plan is made: this many files with this many bytes are to be brought into place.
    fn planned(&self, _files: u64, _bytes: u64) {}

    /// Plaintext bytes have arrived from the server.
    fn received(&self, _bytes: u64) {}

    /// Of a content, the one of this entry, so many of its bytes have arrived.
    fn receiving(&self, _uid: Uid, _received: u64, _bytes: u64) {}

    /// A file is in place: downloaded, copied or found there.
    fn placed(&self, _bytes: u64) {}

    /// Something the user should see now, in one line.
    fn notice(&self, _text: &str) {}
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
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}
