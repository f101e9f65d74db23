//! Detects settings that two devices keep rewriting in turn, and stops sending them for a growing time.
//!
//! The journal records which side changed a file, and when. If the sides take turns faster than a person
//! would, the file is not sent until a pause is over; changes of the vault are still applied. As in route
//! flap damping, each repetition doubles the pause.

use std::collections::{BTreeSet, HashSet};

use obsync_protocol::VaultPath;

use crate::conflicted_copy::is_configuration;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalEntry, Side};
use crate::model::{Deferred, DeferredCause, DeferredKey, KnownContent};
use crate::report::Report;

use super::TwoWay;
use super::holding_back::Waiting;
use super::outgoing::{Outgoing, SendFile};

/// So many alternating changes of the two sides are not made by a person.
const TURNS: usize = 4;
/// Time window for these changes, in milliseconds.
const WINDOW: i64 = 10 * 60 * 1000;
/// First pause, in milliseconds.
const FIRST_PAUSE: i64 = WINDOW;
/// Upper limit of the pause in milliseconds; older lines of the journal are ignored.
const LONGEST_PAUSE: i64 = 24 * 60 * 60 * 1000;
/// Lines of the journal that are read per configuration folder.
const LINES: usize = 2000;

impl TwoWay<'_, '_> {
    /// Takes configuration files that two devices fight over out of `outgoing`. Returns the deferred changes
    /// to store, and the keys of stored ones that are still paused.
    pub(super) async fn hold_flapping(
        &self,
        outgoing: &mut Outgoing,
        waiting: &Waiting,
        report: &mut Report,
    ) -> Result<(Vec<Deferred>, HashSet<DeferredKey>), PullError> {
        let sent = outgoing.files.iter().map(|file| &file.local.path).filter(|path| is_configuration(path));
        let paths = sent.chain(waiting.files());
        let folders: BTreeSet<VaultPath> = paths.filter_map(|path| path.ancestors().last()).collect();
        let now = jiff::Timestamp::now().as_millisecond();
        let mut lines = Vec::new();
        for folder in &folders {
            lines.extend(self.run.state.journal(Some(folder), LINES).await?);
        }
        let mut paused_files = Vec::new();
        outgoing.files.retain(|file| {
            let path = &file.local.path;
            let until = is_configuration(path).then(|| pause(&lines, path, now)).flatten();
            paused_files.extend(until.map(|until| (file.clone(), until)));
            until.is_none()
        });
        for (file, until) in &paused_files {
            let path = &file.local.path;
            if !waiting.has(&DeferredKey::outgoing(path)) {
                self.run.warn(format!("{path} stays here for now: {}", reason(*until)), report);
            }
        }
        // The warning is printed once per pause, whether or not the file is here at the moment.
        let paused = waiting.files().filter(|path| pause(&lines, path, now).is_some());
        let still = paused.map(DeferredKey::outgoing).collect();
        Ok((paused_files.iter().map(|(file, until)| self.change_that_waits(file, *until)).collect(), still))
    }

    fn change_that_waits(&self, file: &SendFile, until: i64) -> Deferred {
        let local = &file.local;
        let KnownContent { hash, size } = local.content;
        let entry = RemoteEntry {
            path: local.path.clone(),
            uid: file.base_uid(),
            kind: EntryKind::File { hash, size },
            mtime: local.mtime,
            ctime: local.ctime,
        };
        let cause = DeferredCause::Failed { reason: reason(until) };
        Deferred { key: DeferredKey::outgoing(&local.path), ..entry.defer(cause, &self.run.source.keys) }
    }
}

fn reason(until: i64) -> String {
    let until = jiff::Timestamp::from_millisecond(until).unwrap_or_default();
    format!(
        "two devices rewrite it whenever the other one did; it is not sent before {until:.0}. Turn the sync of this plugin's \
         settings off on one of them"
    )
}

/// End of the path's pause according to these lines of the journal, in milliseconds since the epoch; `None`
/// without a pause.
fn pause(lines: &[JournalEntry], path: &VaultPath, now: i64) -> Option<i64> {
    let of_path =
        lines.iter().filter(|line| line.path == *path && line.at > now - LONGEST_PAUSE && line.at <= now);
    let mut changes: Vec<(i64, Side)> = of_path.map(|line| (line.at, line.side)).collect();
    changes.sort_by_key(|(at, _)| *at);
    let last_sent = changes.iter().rfind(|(_, side)| *side == Side::Vault)?.0;
    let until = last_sent.saturating_add(pause_after(&changes)?);
    (until > now).then_some(until)
}

/// Pause after the last time that the file was sent, given its changes in order; `None` without a pause.
fn pause_after(changes: &[(i64, Side)]) -> Option<i64> {
    let mut by_side = changes.to_vec();
    // Several changes of one side in a row are one turn, dated by the first of them.
    by_side.dedup_by_key(|(_, side)| *side);
    let is_quick = |by_side: &[(i64, Side)]| match by_side {
        [(first, _), .., (last, _)] => last - first <= WINDOW,
        _ => false,
    };
    let begun = by_side.windows(TURNS).position(is_quick)? + TURNS;
    // Number of times that it has been sent and replaced again since.
    let again =
        by_side.get(begun - 1..)?.windows(2).filter(|pair| pair[1].1 == Side::Here && is_quick(pair)).count();
    let doubled =
        u32::try_from(again).ok().and_then(|again| 1_i64.checked_shl(again)).filter(|times| *times > 0);
    Some(doubled.map_or(LONGEST_PAUSE, |times| FIRST_PAUSE.saturating_mul(times).min(LONGEST_PAUSE)))
}

#[cfg(test)]
mod tests {
    use Side::{Here, Vault};

    use obsync_protocol::Uid;

    use super::*;
    use crate::journal::JournalChange;

    const MINUTE: i64 = 60_000;

    fn at(minutes: &[(i64, Side)]) -> Vec<(i64, Side)> {
        minutes.iter().map(|(minute, side)| (minute * MINUTE, *side)).collect()
    }

    #[test]
    fn four_turns_within_ten_minutes_are_a_fight_and_each_further_time_doubles_the_pause() {
        let fight = [(0, Vault), (1, Here), (2, Vault), (3, Here)];
        let after = |more: &[(i64, Side)]| pause_after(&at(&[&fight[..], more].concat()));
        assert_eq!(after(&[]), Some(10 * MINUTE));
        assert_eq!(after(&[(14, Vault)]), Some(10 * MINUTE), "sent, and not replaced yet");
        assert_eq!(after(&[(14, Vault), (15, Here)]), Some(20 * MINUTE));
        assert_eq!(after(&[(14, Vault), (15, Here), (36, Vault), (37, Here)]), Some(40 * MINUTE));
        assert_eq!(after(&[(14, Vault), (300, Here)]), Some(10 * MINUTE), "changed by a person, hours later");
        let often: Vec<(i64, Side)> =
            (0..200).map(|n| (20 + n, if n % 2 == 0 { Vault } else { Here })).collect();
        assert_eq!(after(&often), Some(LONGEST_PAUSE));
    }

    #[test]
    fn changes_of_one_side_and_slow_turns_are_no_fight() {
        let one_side: Vec<(i64, Side)> = (0..60).map(|n| (n, Vault)).collect();
        let slow = [(0, Vault), (4, Here), (8, Vault), (12, Here)];
        let three = [(0, Here), (0, Here), (1, Vault), (1, Vault), (2, Here)];
        for changes in [&[][..], &one_side, &slow, &three] {
            assert_eq!(pause_after(&at(changes)), None, "{changes:?}");
        }
        assert_eq!(
            pause_after(&at(&[(0, Vault), (0, Here), (1, Here), (2, Vault), (10, Here)])),
            Some(10 * MINUTE)
        );
    }

    #[test]
    fn a_file_waits_from_when_it_was_sent_last_and_not_for_the_lines_of_others() {
        let path = |text: &str| VaultPath::parse(text).unwrap();
        let line = |path: &VaultPath, (at, side)| JournalEntry {
            at,
            ..JournalEntry::new(side, JournalChange::Write, path.clone(), Uid(1))
        };
        let (ours, other) = (path(".obsidian/plugins/x/data.json"), path(".obsidian/app.json"));
        let fight = at(&[(100, Vault), (101, Here), (102, Vault), (103, Here)]);
        // Newest first, as in the journal.
        let lines: Vec<JournalEntry> = fight.iter().rev().map(|change| line(&ours, *change)).collect();
        let until = Some(112 * MINUTE);
        assert_eq!(pause(&lines, &ours, 104 * MINUTE), until);
        assert_eq!(pause(&lines, &ours, 112 * MINUTE - 1), until);
        assert_eq!(pause(&lines, &ours, 112 * MINUTE), None, "the pause is over");
        assert_eq!(pause(&lines, &other, 104 * MINUTE), None);
        assert_eq!(pause(&lines, &ours, 101 * MINUTE), None, "a clock that was set back");
    }
}
