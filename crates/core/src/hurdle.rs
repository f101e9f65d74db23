//! A content that the run before could not transfer in its time: it is fetched first and alone, or given up.
//!
//! A content cannot be requested from the middle. If it takes longer than a run has time, each run would
//! start it again, beside others that share the bandwidth.

use obsync_protocol::Uid;

use crate::ledger::Ledger;
use crate::schedule::Transfer;

/// A content that could not be transferred in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hurdle {
    /// The entry to request it by.
    pub uid: Uid,
    /// The reason for giving up, as a sentence; `None`: retry once more, alone.
    pub give_up: Option<String>,
}

impl Hurdle {
    /// Leaves only the transfer of this content in `transfers` and returns the others; or takes it out, as
    /// failed.
    pub(crate) fn take(&self, transfers: &mut Vec<Transfer>, ledger: &mut Ledger<'_>) -> Vec<Transfer> {
        let is_it = |transfer: &Transfer| transfer.targets.iter().any(|target| target.uid == self.uid);
        let (it, others): (Vec<_>, Vec<_>) = std::mem::take(transfers).into_iter().partition(is_it);
        match &self.give_up {
            Some(reason) => {
                it.iter().for_each(|transfer| ledger.transfer_failed(transfer, reason));
                *transfers = others;
                Vec::new()
            }
            None => {
                *transfers = it;
                others
            }
        }
    }
}
