//! Takes refused files whose pause is not over out of the changes to send.

use std::collections::HashMap;

use obsync_protocol::VaultPath;

use crate::model::{Deferred, DeferredKey};
use crate::report::{Failure, Report};

use super::TwoWay;
use super::holding_back::Waiting;
use super::outgoing::Outgoing;
use super::refusal_pauses::Refusal;

impl TwoWay<'_, '_> {
    /// Takes refused files whose pause is not over out of `outgoing`, and reports them as failures. Returns
    /// the keys of the refusals to keep.
    pub(super) fn hold_refused(
        &self,
        outgoing: &mut Outgoing,
        waiting: &Waiting,
        report: &mut Report,
    ) -> Vec<DeferredKey> {
        let keys = &self.run.source.keys;
        let now = jiff::Timestamp::now().as_millisecond();
        // A run that a user started sends everything once.
        let since = if self.options.respects_refusals { i64::MIN } else { self.begun };
        let mut refused: HashMap<&VaultPath, &Deferred> = HashMap::new();
        let mut still = Vec::new();
        for (path, deferred, is_seen) in waiting.deferred_files() {
            match (is_seen, Refusal::of(deferred)) {
                (true, _) => drop(refused.insert(path, deferred)),
                // The path was not covered; a later scan shows whether the file still exists.
                (false, Some(refusal)) if refusal.is_waiting(now) => report.note_refused(deferred, refusal),
                // No time of its own wakes a follower for it: the run would not cover the path either.
                (false, Some(_)) => report.note_failed(deferred),
                (false, None) => {}
            }
        }
        outgoing.refusals.count = refused.len();
        outgoing.files.retain(|file| {
            let path = &file.local.path;
            let Some(deferred) = refused.get(path) else { return true };
            if !keys.decode_hash(&deferred.message.hash).is_ok_and(|hash| hash == file.local.content.hash) {
                return true;
            }
            // The refusal is kept until the vault has the file.
            still.push(deferred.key.clone());
            let Some(refusal) = Refusal::of(deferred) else { return true };
            let waits = refusal.is_waiting(now) && refusal.at >= since;
            match waits {
                true => report.note_refused(deferred, refusal),
                false => drop(outgoing.refusals.before.insert(path.clone(), refusal)),
            }
            !waits
        });
        still
    }
}

impl Report {
    /// Reports a waiting file that the vault refused earlier.
    fn note_refused(&mut self, deferred: &Deferred, refusal: Refusal) {
        self.note_failed(deferred);
        self.retry_at(refusal);
    }

    fn note_failed(&mut self, deferred: &Deferred) {
        Failure::of_deferred(deferred).into_iter().for_each(|failure| self.fail(failure));
    }

    /// Notes the time of the next attempt.
    pub(super) fn retry_at(&mut self, refusal: Refusal) {
        let until = refusal.until();
        self.retry_at = Some(self.retry_at.map_or(until, |at| at.min(until)));
    }
}
