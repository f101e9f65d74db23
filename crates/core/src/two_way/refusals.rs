//! Takes the files out of what is to be sent that the vault refused earlier and that still wait.

use std::collections::HashMap;

use obsync_protocol::VaultPath;

use crate::model::{Deferred, DeferredKey};
use crate::report::{Failure, Report};

use super::TwoWay;
use super::holding_back::Waiting;
use super::outgoing::Outgoing;
use super::refusal_pauses::Refusal;

impl TwoWay<'_, '_> {
    /// Takes the files out that the vault refused and that still wait, and tells them as failures. Gives back the keys of the
    /// refusals that are remembered on.
    pub(super) fn hold_refused(
        &self,
        outgoing: &mut Outgoing,
        waiting: &Waiting,
        report: &mut Report,
    ) -> Vec<DeferredKey> {
        let keys = &self.run.source.keys;
        let now = jiff::Timestamp::now().as_millisecond();
        // A run that somebody started sends everything once.
        let since = if self.options.respects_refusals { i64::MIN } else { self.begun };
        let mut refused: HashMap<&VaultPath, &Deferred> = HashMap::new();
        let mut still = Vec::new();
        for (path, deferred, is_seen) in waiting.deferred_files() {
            match (is_seen, Refusal::of(deferred)) {
                (true, _) => drop(refused.insert(path, deferred)),
                // A later scan says whether it is still here.
                (false, Some(refusal)) => report.note_refused(deferred, refusal),
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
            // It is remembered until the vault has it.
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
    /// Takes in a file that the vault refused earlier, and that waits.
    fn note_refused(&mut self, deferred: &Deferred, refusal: Refusal) {
        Failure::of_deferred(deferred).into_iter().for_each(|failure| self.fail(failure));
        self.retry_at(refusal);
    }

    /// A file is sent again at the end of its pause.
    pub(super) fn retry_at(&mut self, refusal: Refusal) {
        let until = refusal.until();
        self.retry_at = Some(self.retry_at.map_or(until, |at| at.min(until)));
    }
}
