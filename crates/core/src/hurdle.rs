//! A content that did not come through in the time of the run before: it is brought first and alone, or given up.
//!
//! Contents cannot be asked for from the middle. One that takes longer than a run has time would be begun again by each, beside
//! others that take its share of the line.

use obsync_protocol::Uid;

use crate::ledger::Ledger;
use crate::schedule::Transfer;

/// A content that did not come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hurdle {
    /// The entry that it is asked for by.
    pub uid: Uid,
    /// Why it is not to be tried again, in a sentence; `None`: it is to be tried once more, alone.
    pub give_up: Option<String>,
}

impl Hurdle {
    /// Leaves the transfer of this content alone in `transfers`, and returns the others; or takes it out, as failed.
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
