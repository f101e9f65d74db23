//! The parts of the reports of `obsync pull --json` and `obsync verify --json` that the demonstration and the
//! benchmarks use.

use std::time::Duration;

use serde::Deserialize;

/// A number of files and the bytes of their content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// The result of a verification; the exit status also shows that nothing is wrong.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Verification {
    /// Files unchanged since the pull.
    pub(crate) intact: Tally,
}

/// A change that the pull could not apply.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Failure {
    pub(crate) path: String,
    pub(crate) reason: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PullReport {
    /// `complete`, or another outcome.
    pub(crate) outcome: String,
    /// The vault's version that the folder is complete up to.
    pub(crate) version: u64,
    /// Downloaded.
    pub(crate) pulled: Tally,
    /// Copied from another path of the folder.
    pub(crate) copied: Tally,
    /// Found in place.
    pub(crate) adopted: Tally,
    /// Removed.
    pub(crate) deleted: Tally,
    pub(crate) folders_created: u64,
    pub(crate) folders_deleted: u64,
    pub(crate) failures: Vec<Failure>,
    pub(crate) connections: u64,
    /// Contents requested.
    pub(crate) requests: u64,
    /// Bytes of content received, encrypted.
    pub(crate) bytes_received: u64,
    duration_ms: u64,
}

impl PullReport {
    /// Wall time by obsync's own clock, without the start of the process and the sign-in.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }

    /// True if nothing was downloaded, copied, removed or created.
    pub(crate) fn is_unchanged(&self) -> bool {
        let tallies = [self.pulled, self.copied, self.adopted, self.deleted];
        tallies.iter().all(|tally| tally.files == 0) && self.folders_created == 0 && self.folders_deleted == 0
    }
}
