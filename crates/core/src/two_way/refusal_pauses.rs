//! Pauses before a refused file is sent again: they grow from a minute to a day.
//!
//! A refusal is stored as a deferred change with the refused content. The two times of its message are the
//! time of the refusal and the time of the next attempt. Changed content is sent at once.

use std::collections::HashMap;

use obsync_protocol::{Uid, VaultKeys, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::{Deferred, DeferredCause, DeferredKey, KnownContent};
use crate::scan::LocalFile;

/// Pause after the first refusal, in milliseconds.
const FIRST_PAUSE: i64 = 60 * 1000;
/// Upper limit of the pause, in milliseconds.
const LONGEST_PAUSE: i64 = 24 * 60 * 60 * 1000;
/// Refusals stored at most. Files beyond that are sent by each run.
const REMEMBERED: usize = 10_000;

/// Time of the last refusal and the pause after it, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) at: i64,
    pause: i64,
}

impl Refusal {
    /// The refusal that a deferred change stores.
    pub(crate) fn of(deferred: &Deferred) -> Option<Self> {
        let is_failure = matches!(deferred.cause, DeferredCause::Failed { .. });
        let (at, pause) =
            (deferred.message.ctime, deferred.message.mtime.saturating_sub(deferred.message.ctime));
        // Settings paused because two devices rewrite them have the times of the file instead.
        let is_pause = pauses().any(|other| other == pause);
        (is_failure && deferred.key.is_outgoing() && is_pause).then_some(Refusal { at, pause })
    }

    /// The next refusal at this time, or the first.
    fn next(before: Option<&Refusal>, at: i64) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| before.pause.saturating_mul(2).min(LONGEST_PAUSE));
        Refusal { at, pause }
    }

    /// Time of the next attempt, in milliseconds since the epoch.
    pub(crate) fn until(self) -> i64 {
        self.at.saturating_add(self.pause)
    }

    /// True while the file waits. A refusal dated by a clock that was ahead does not count.
    pub(super) fn is_waiting(self, now: i64) -> bool {
        self.at <= now && now < self.until()
    }
}

/// All possible pauses, shortest first.
fn pauses() -> impl Iterator<Item = i64> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| {
        (*pause < LONGEST_PAUSE).then(|| (pause * 2).min(LONGEST_PAUSE))
    })
}

/// Refusals that a sending run knows and adds to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    /// Refusals of the contents to send.
    pub(super) before: HashMap<VaultPath, Refusal>,
    /// Number of stored refusals.
    pub(super) count: usize,
}

impl Refusals {
    /// Deferred change for a file that was refused just now; `base` is the version that it was made from.
    /// `None` if there is no room for more.
    pub(super) fn note(
        &mut self,
        file: &LocalFile,
        base: Uid,
        reason: &str,
        now: i64,
        keys: &VaultKeys,
    ) -> Option<Deferred> {
        let path = &file.path;
        if !self.before.contains_key(path) && !self.has_room() {
            return None;
        }
        let refusal = Refusal::next(self.before.get(path), now);
        self.before.insert(path.clone(), refusal);
        Some(deferred(file, base, reason, (refusal.at, refusal.until()), keys))
    }

    /// The same for a file that is too large to send. Checking that again costs nothing, so it has no pause.
    pub(super) fn note_too_large(
        &mut self,
        file: &LocalFile,
        base: Uid,
        reason: &str,
        keys: &VaultKeys,
    ) -> Option<Deferred> {
        self.has_room().then(|| deferred(file, base, reason, (0, 0), keys))
    }

    /// True if the content to send from this path was refused before.
    pub(super) fn knows(&self, path: &VaultPath) -> bool {
        self.before.contains_key(path)
    }

    fn has_room(&mut self) -> bool {
        let has_room = self.count < REMEMBERED;
        self.count += usize::from(has_room);
        has_room
    }
}

/// A file that is not sent. `ctime` is the time of the refusal, `mtime` that of the next attempt.
fn deferred(
    file: &LocalFile,
    uid: Uid,
    reason: &str,
    (ctime, mtime): (i64, i64),
    keys: &VaultKeys,
) -> Deferred {
    let path = file.path.clone();
    let KnownContent { hash, size } = file.content;
    let key = DeferredKey::outgoing(&path);
    let entry = RemoteEntry { path, uid, kind: EntryKind::File { hash, size }, mtime, ctime };
    Deferred { key, ..entry.defer(DeferredCause::Failed { reason: reason.to_owned() }, keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_minute_to_a_day() {
        const MINUTE: i64 = 60_000;
        let mut refusal = Refusal::next(None, 0);
        let mut waited = Vec::new();
        for _ in 0..13 {
            waited.push(refusal.pause / MINUTE);
            refusal = Refusal::next(Some(&refusal), refusal.until());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440]);
        let known: Vec<i64> = pauses().map(|pause| pause / MINUTE).collect();
        assert_eq!(known, waited[..12]);
    }

    #[test]
    fn a_refusal_of_a_clock_that_was_ahead_does_not_count() {
        let refusal = Refusal::next(None, 1000);
        assert!(refusal.is_waiting(1000) && refusal.is_waiting(1000 + FIRST_PAUSE - 1));
        assert!(!refusal.is_waiting(1000 + FIRST_PAUSE) && !refusal.is_waiting(999));
    }
}
