//! Files that the vault refused are sent again after growing pauses.
//!
//! A refusal is remembered as a deferred change that has the content which was refused; the two times of its message say when that
//! was, and when the file is sent again. Other content goes at once.

use std::collections::HashMap;

use obsync_protocol::{Uid, VaultKeys, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::{Deferred, DeferredCause, DeferredKey, KnownContent};
use crate::report::{Failure, Report};

use super::TwoWay;
use super::holding_back::Waiting;
use super::outgoing::{Outgoing, SendFile};
use super::refusal_pauses::{Refusal, Refusals};

impl Refusals {
    /// What is to be remembered of a file that was refused just now. `None`: there is no room for more.
    pub(super) fn note(
        &mut self,
        file: &SendFile,
        reason: &str,
        now: i64,
        keys: &VaultKeys,
    ) -> Option<Deferred> {
        let refusal = self.refuse(&file.local.path, now)?;
        Some(deferred(file, reason, (refusal.at, refusal.until()), keys))
    }

    /// The same of one that is too large to be sent at all, which costs nothing to find out again: it waits for nothing.
    pub(super) fn note_too_large(
        &mut self,
        file: &SendFile,
        reason: &str,
        keys: &VaultKeys,
    ) -> Option<Deferred> {
        self.has_room().then(|| deferred(file, reason, (0, 0), keys))
    }
}

/// A file that is not sent. The first time is that of the refusal, the second one when it is sent again.
fn deferred(file: &SendFile, reason: &str, (ctime, mtime): (i64, i64), keys: &VaultKeys) -> Deferred {
    let path = file.local.path.clone();
    let KnownContent { hash, size } = file.local.content;
    let uid = file.base.as_ref().map_or(Uid(0), |base| base.uid);
    let key = DeferredKey::outgoing(&path);
    let entry = RemoteEntry { path, uid, kind: EntryKind::File { hash, size }, mtime, ctime };
    Deferred { key, ..entry.defer(DeferredCause::Failed { reason: reason.to_owned() }, keys) }
}

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
