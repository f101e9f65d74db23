//! A content that an earlier run could not transfer in its time: it is fetched alone, first or last, or given
//! up.
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
    /// Its treatment in this run.
    pub handling: Handling,
}

/// The treatment of a content that could not be transferred in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It is fetched alone, before all others.
    First,
    /// It is fetched alone, after all others.
    Last,
    /// It fails for this reason, a sentence.
    GiveUp(String),
}

impl Hurdle {
    /// Leaves those transfers that come first in `transfers`, and returns the others. A content that is given
    /// up is taken out, as failed.
    pub(crate) fn take(&self, transfers: &mut Vec<Transfer>, ledger: &mut Ledger<'_>) -> Vec<Transfer> {
        let is_it = |transfer: &Transfer| transfer.targets.iter().any(|target| target.uid == self.uid);
        let (it, others): (Vec<_>, Vec<_>) = std::mem::take(transfers).into_iter().partition(is_it);
        let (first, later) = match &self.handling {
            Handling::First => (it, others),
            Handling::Last => (others, it),
            Handling::GiveUp(reason) => {
                it.iter().for_each(|transfer| ledger.transfer_failed(transfer, reason));
                (others, Vec::new())
            }
        };
        *transfers = first;
        later
    }
}
