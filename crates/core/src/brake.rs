//! Holds deletions back when a run would make too many: a vault that was emptied elsewhere must not empty its
//! copies.
//!
//! A file counts if it would be gone. Files that the same run puts elsewhere (a renamed folder) and confirmed
//! deletions do not count; files that become empty do. The deletions of the last hour count too, so that many
//! small runs are held back like a large one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use obsync_protocol::{ContentHash, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::Deletions;
use crate::schedule::{Schedule, Transfer, is_at_or_below};

/// Length of time in which deletions count, in minutes.
const WINDOW: i64 = 60;

/// Limit of files that a run may delete in a destination; above it, the deletions are held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxDelete {
    /// Not more than 50 or 20 % of the files, whichever is more, and not more than half of them if there are
    /// ten or more.
    #[default]
    Usual,
    /// The default for deletions in the vault itself: not more than 20 or 5 % of the files, whichever is
    /// more, not more than 50, and not more than half of them if there are ten or more.
    InVault,
    /// Not more than this many.
    Files(u64),
    /// Not more than this part of the files, in percent.
    Percent(u64),
    /// Any number.
    Unlimited,
}

/// A text that is no [`MaxDelete`].
#[derive(Debug, thiserror::Error)]
#[error("expected a number (100), a share of the files (20%), or \"none\" for no limit")]
pub struct MaxDeleteError;

impl FromStr for MaxDelete {
    type Err = MaxDeleteError;

    fn from_str(text: &str) -> Result<Self, MaxDeleteError> {
        if text == "none" {
            return Ok(MaxDelete::Unlimited);
        }
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| MaxDeleteError);
        match text.strip_suffix('%') {
            // More than the whole would be no limit, which has its own word.
            Some(percent) => match number(percent)? {
                percent @ 0..=100 => Ok(MaxDelete::Percent(percent)),
                _ => Err(MaxDeleteError),
            },
            None => number(text).map(MaxDelete::Files),
        }
    }
}

/// As in "more than 20 %".
impl fmt::Display for MaxDelete {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxDelete::Usual => formatter.write_str("50 and 20 %, or half of 10 or more"),
            MaxDelete::InVault => formatter.write_str("20 and 5 %, 50, or half of 10 or more"),
            MaxDelete::Files(most) => most.fmt(formatter),
            MaxDelete::Percent(percent) => write!(formatter, "{percent} %"),
            MaxDelete::Unlimited => formatter.write_str("any number"),
        }
    }
}

impl MaxDelete {
    /// True if this many of `of` files may be deleted.
    pub(crate) fn allows(self, deletions: u64, of: u64) -> bool {
        let is_above = |percent: u64| u128::from(deletions) * 100 > u128::from(of) * u128::from(percent);
        match self {
            MaxDelete::Usual => !(deletions > 50 && is_above(20) || of >= 10 && is_above(50)),
            MaxDelete::InVault => {
                !(deletions > 20 && is_above(5) || deletions > 50 || of >= 10 && is_above(50))
            }
            MaxDelete::Files(most) => deletions <= most,
            MaxDelete::Percent(percent) => !is_above(percent),
            MaxDelete::Unlimited => true,
        }
    }
}

/// Minutes since the epoch.
pub(crate) fn this_minute() -> i64 {
    jiff::Timestamp::now().as_second().div_euclid(60)
}

/// Files deleted here in the hour before `now` (minutes since the epoch).
pub(crate) fn recent(deletions: &[Deletions], now: i64) -> u64 {
    within_the_hour(deletions, now).map(|deletions| deletions.here).fold(0, u64::saturating_add)
}

/// Files deleted in the vault from here in the hour before `now` (minutes since the epoch).
pub(crate) fn recent_there(deletions: &[Deletions], now: i64) -> u64 {
    within_the_hour(deletions, now).map(|deletions| deletions.there).fold(0, u64::saturating_add)
}

fn within_the_hour(deletions: &[Deletions], now: i64) -> impl Iterator<Item = &Deletions> {
    // Deletions dated by a clock that was ahead do not count.
    deletions.iter().filter(move |deletions| deletions.minute > now - WINDOW && deletions.minute <= now)
}

/// Records that `files` were deleted here at `now` (minutes since the epoch), and drops deletions older than
/// an hour.
pub(crate) fn note(deletions: &mut Vec<Deletions>, files: u64, now: i64) {
    let row = row_of(deletions, now);
    row.here = row.here.saturating_add(files);
}

/// Records that `files` were deleted in the vault at `now`, likewise.
pub(crate) fn note_there(deletions: &mut Vec<Deletions>, files: u64, now: i64) {
    let row = row_of(deletions, now);
    row.there = row.there.saturating_add(files);
}

fn row_of(deletions: &mut Vec<Deletions>, now: i64) -> &mut Deletions {
    // A clock that was set back must not make an old minute count for ever.
    deletions.retain(|deletions| deletions.minute > now - WINDOW && deletions.minute <= now);
    let at = deletions.iter().position(|deletions| deletions.minute == now).unwrap_or_else(|| {
        deletions.push(Deletions { minute: now, here: 0, there: 0 });
        deletions.len() - 1
    });
    &mut deletions[at]
}

impl Schedule {
    /// Marks the removals that count as deletions. Returns their number, with the files that become empty.
    pub(crate) fn count_deletions(&mut self, confirmed: &HashSet<VaultPath>) -> u64 {
        if self.removals.is_empty() {
            return self.count_emptied(confirmed);
        }
        let mut elsewhere: HashMap<ContentHash, usize> = HashMap::new();
        // A file that becomes empty is not the move of an empty file.
        let contents = self.rescues.iter().chain(&self.transfers);
        for transfer in contents.filter(|transfer| transfer.hash != ContentHash::EMPTY) {
            *elsewhere.entry(transfer.hash).or_default() += transfer.renewed_targets().count();
        }
        let folds_names = self.folds_names;
        let key = |path: &VaultPath| folds_names.key(path).into_owned();
        let wanted: BTreeSet<String> = self.wanted_paths().map(key).collect();
        for removal in &mut self.removals {
            let path = &removal.file.path;
            let moves = elsewhere.get_mut(&removal.file.content.hash).filter(|places| **places > 0);
            // A file replaced by a folder, or by another file if names are folded.
            let is_replaced = is_at_or_below(&folds_names.key(path), &wanted);
            removal.counts = !confirmed.contains(path) && !is_replaced && moves.is_none();
            if let Some(places) = moves {
                *places -= 1;
            }
        }
        let removed = self.removals.iter().filter(|removal| removal.counts).count();
        (removed + self.emptied(confirmed).count()) as u64
    }

    /// Number of files that become empty.
    pub(crate) fn count_emptied(&self, confirmed: &HashSet<VaultPath>) -> u64 {
        self.emptied(confirmed).count() as u64
    }

    fn emptied<'s>(&'s self, confirmed: &'s HashSet<VaultPath>) -> impl Iterator<Item = &'s VaultPath> {
        let empty = self.transfers.iter().filter(|transfer| transfer.hash == ContentHash::EMPTY);
        let targets = empty.flat_map(|transfer| &transfer.targets);
        let emptied = targets.filter(|target| target.replaces.is_some_and(|known| known.size > 0));
        emptied.map(|target| &target.path).filter(|path| !confirmed.contains(*path))
    }

    /// Takes out the deletions, and the removals of folders, which may contain files that stay.
    pub(crate) fn hold_back(&mut self, confirmed: &HashSet<VaultPath>) {
        let deleted = |path: VaultPath, uid, folder| {
            let kind = EntryKind::Deleted { folder };
            RemoteEntry { path, uid, kind, mtime: 0, ctime: 0 }
        };
        let removals = self.removals.extract_if(.., |removal| removal.counts);
        self.held_back.extend(removals.map(|removal| deleted(removal.file.path, removal.uid, false)));
        let folders = self.folder_removals.extract_if(.., |folder| !confirmed.contains(&folder.path));
        self.held_back.extend(folders.map(|folder| deleted(folder.path, folder.uid, true)));
        let emptied: HashSet<VaultPath> = self.emptied(confirmed).cloned().collect();
        for transfer in &mut self.transfers {
            let whole = transfer.clone();
            let targets = transfer.targets.extract_if(.., |target| emptied.contains(&target.path)).collect();
            self.held_back.extend(Transfer { targets, ..whole }.entries());
        }
        self.transfers.retain(|transfer| !transfer.targets.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limit() {
        for (deletions, of, allowed) in [
            (1, 1, true),
            (9, 9, true),
            (5, 10, true),
            (6, 10, false),
            (50, 100, true),
            (51, 100, false),
            (51, 255, true),
            (52, 255, false),
            (0, 0, true),
            (10_000, 100_000, true),
            (u64::MAX, u64::MAX, false),
            (0, u64::MAX, true),
        ] {
            assert_eq!(MaxDelete::Usual.allows(deletions, of), allowed, "{deletions} of {of}");
        }
    }

    #[test]
    fn limits_as_they_are_written() {
        assert_eq!("none".parse::<MaxDelete>().unwrap(), MaxDelete::Unlimited);
        assert_eq!("0".parse::<MaxDelete>().unwrap(), MaxDelete::Files(0));
        assert_eq!("20%".parse::<MaxDelete>().unwrap(), MaxDelete::Percent(20));
        for text in ["", "%", "-1", "20 %", "all", "1.5%"] {
            assert!(text.parse::<MaxDelete>().is_err(), "{text}");
        }
        assert!(MaxDelete::Files(3).allows(3, 3) && !MaxDelete::Files(3).allows(4, 1000));
        assert!(MaxDelete::Percent(10).allows(10, 100) && !MaxDelete::Percent(10).allows(11, 100));
        assert!(MaxDelete::Percent(0).allows(0, 5) && !MaxDelete::Percent(0).allows(1, 5));
    }

    #[test]
    fn deletions_count_for_an_hour() {
        let mut deletions = Vec::new();
        for minute in [100, 100, 130, 159] {
            note(&mut deletions, 10, minute);
        }
        assert_eq!(deletions.len(), 3);
        assert_eq!(recent(&deletions, 159), 40);
        assert_eq!(recent(&deletions, 160), 20);
        assert_eq!(recent(&deletions, 300), 0);
        note(&mut deletions, 1, 300);
        assert_eq!(deletions.len(), 1);
        note(&mut deletions, 1, 200);
        assert_eq!(deletions, [Deletions { minute: 200, here: 1, there: 0 }], "the clock was set back");
    }
}
