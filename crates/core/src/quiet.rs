//! Decides when a local change is quiet enough to be sent: a pure state machine that gets the time as an
//! argument.
//!
//! - A file that was calm before and is closed after writing, or renamed into place, is sent at once: a user
//!   saved it.
//! - A file that changes repeatedly is sent [`QuietRule::quiet_for`] after its last change.
//! - A file that became empty, or lost half of its bytes or more, is never sent at once: it may be about to
//!   be written anew.
//! - A deletion is never sent at once either: an editor may be about to put the file back.
//! - Hundreds of changes at once (a checkout of another branch) wait until they end, each for half a minute at
//!   most. A file that keeps changing after them delays only itself.
//! - Editors that save by renaming, with their temporary files, make one change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use obsync_protocol::VaultPath;

/// So many paths that change within a [`MOMENT`] may be the first of hundreds.
const CROWD: usize = 10;
/// A crowd must be over for this long before its paths may be sent at once.
const MOMENT: Duration = Duration::from_millis(50);
/// A storm without end delays a path that does not change any more for this long at most.
const LONGEST: Duration = Duration::from_secs(30);

/// Delays of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietRule {
    /// Quiet time of a file that is not sent at once.
    pub quiet_for: Duration,
    /// So many paths that change within [`quiet_for`](Self::quiet_for) are a storm. Its changes are sent
    /// together, that long after the last change that came with so many others, but at most half a minute
    /// after their own. (A slower checkout is sent while it goes on; git's lock guards its deletions.)
    pub storm: usize,
}

impl Default for QuietRule {
    fn default() -> Self {
        QuietRule { quiet_for: Duration::from_secs(2), storm: 200 }
    }
}

/// Event of a path, as far as the watcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It is being written, or something unknown happened to it.
    Changed,
    /// A file was closed after writing, or renamed into place: it is complete. Has its size, if that could be
    /// read.
    Saved {
        /// Bytes.
        size: Option<u64>,
    },
    /// It is gone.
    Gone,
}

/// Local changes that wait.
#[derive(Debug, Default)]
pub struct Quiet {
    rule: QuietRule,
    waiting: BTreeMap<VaultPath, RestlessPath>,
    /// Time of the last change of each path, including sent ones: a file that changes again soon is not calm.
    changed: BTreeMap<VaultPath, Instant>,
    /// The same ordered by time. Both are pruned as paths are taken.
    by_time: BTreeSet<(Instant, VaultPath)>,
    /// The last change that came in a storm.
    storm: Option<Instant>,
    /// The last change that came in a crowd, which may become a storm.
    crowd: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct RestlessPath {
    last: Instant,
    /// It is complete, and was calm before.
    at_once: bool,
    /// It was calm when the first waiting change came.
    was_calm: bool,
}

impl Quiet {
    /// Nothing waits.
    #[must_use]
    pub fn new(rule: QuietRule) -> Self {
        Quiet { rule, ..Quiet::default() }
    }

    /// Notes an event of a path. `known`: size of the file recorded there in bytes, if any.
    pub fn touch(&mut self, path: &VaultPath, touch: Touch, known: Option<u64>, now: Instant) {
        if is_litter(path.file_name()) {
            return;
        }
        let was_calm = match self.waiting.get(path) {
            Some(waiting) => waiting.was_calm && !waiting.at_once,
            None => self.changed.get(path).is_none_or(|last| self.is_over(*last, now)),
        };
        let is_complete = match touch {
            Touch::Saved { size } => !shrank(size, known),
            Touch::Changed | Touch::Gone => false,
        };
        let waiting = RestlessPath { last: now, at_once: was_calm && is_complete, was_calm };
        self.waiting.insert(path.clone(), waiting);
        self.note_change(path, now);
        if self.is_storm(now) {
            self.storm = Some(now);
        }
        if self.is_crowd(now) {
            self.crowd = Some(now);
        }
    }

    /// Takes the paths that are quiet now, in order.
    pub fn take(&mut self, now: Instant) -> Vec<VaultPath> {
        self.forget_old_changes(now);
        let is_due = |(_, waiting): &(&VaultPath, &RestlessPath)| self.when(waiting) <= now;
        let quiet: Vec<VaultPath> =
            self.waiting.iter().filter(is_due).map(|(path, _)| path.clone()).collect();
        for path in &quiet {
            self.waiting.remove(path);
        }
        quiet
    }

    /// The waiting paths.
    pub fn paths(&self) -> impl Iterator<Item = &VaultPath> {
        self.waiting.keys()
    }

    /// Time of the next [`take`](Self::take), if a path waits.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| self.when(waiting)).min()
    }

    /// Puts a taken path back that is still changing.
    pub fn put_back(&mut self, path: &VaultPath, now: Instant) {
        self.note_change(path, now);
        self.touch(path, Touch::Changed, None, now);
    }

    /// Number of waiting paths.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn note_change(&mut self, path: &VaultPath, now: Instant) {
        if let Some(before) = self.changed.insert(path.clone(), now) {
            self.by_time.remove(&(before, path.clone()));
        }
        self.by_time.insert((now, path.clone()));
    }

    fn forget_old_changes(&mut self, now: Instant) {
        while let Some((last, path)) = self.by_time.pop_first() {
            if !self.is_over(last, now) {
                self.by_time.insert((last, path));
                break;
            }
            self.changed.remove(&path);
        }
    }

    /// True if so many paths change at once that everything waits. Paths sent a moment ago count.
    fn is_storm(&self, now: Instant) -> bool {
        let newest_first = self.by_time.iter().rev().take(self.rule.storm);
        let recent = newest_first.take_while(|(last, _)| !self.is_over(*last, now));
        recent.count() == self.rule.storm
    }

    /// True if so many paths change in a moment that it may be the start of a storm.
    fn is_crowd(&self, now: Instant) -> bool {
        let newest_first = self.by_time.iter().rev().take(CROWD);
        newest_first.take_while(|(last, _)| now.duration_since(*last) < MOMENT).count() == CROWD
    }

    /// Time when a path is sent if it does not change any more.
    fn when(&self, waiting: &RestlessPath) -> Instant {
        match self.storm {
            Some(storm) if waiting.last <= storm => {
                (storm + self.rule.quiet_for).min(waiting.last + LONGEST.max(self.rule.quiet_for))
            }
            _ if !waiting.at_once => waiting.last + self.rule.quiet_for,
            _ => match self.crowd {
                // An endless crowd delays no path for longer than a path that is not calm waits.
                Some(crowd) if waiting.last <= crowd => {
                    (crowd + MOMENT).min(waiting.last + self.rule.quiet_for)
                }
                _ => waiting.last,
            },
        }
    }

    fn is_over(&self, last: Instant, now: Instant) -> bool {
        now.duration_since(last) >= self.rule.quiet_for
    }
}

/// True if a file became empty or lost half of its bytes or more. A file of unknown size may have.
pub(crate) fn shrank(size: Option<u64>, known: Option<u64>) -> bool {
    match (size, known) {
        (None, _) => true,
        (Some(0), Some(known)) => known > 0,
        (Some(0), None) => true,
        (Some(size), Some(known)) => size <= known / 2,
        (Some(_), None) => false,
    }
}

/// True if an editor creates a file of this name for a moment while it saves: Vim's `4913`, `.swp` and `~`,
/// and names with `.tmp`, with a number after it or not.
#[must_use]
pub fn is_litter(name: &str) -> bool {
    let stem = name.trim_end_matches(|digit: char| digit.is_ascii_digit()).trim_end_matches('.');
    let is_vims_probe = name.len() >= 4
        && name.bytes().all(|digit| digit.is_ascii_digit())
        && name.parse::<u64>().is_ok_and(|number| number >= 4913 && (number - 4913) % 123 == 0);
    is_vims_probe
        || name.ends_with('~')
        || [".swp", ".swo", ".swx", ".swpx", ".tmp", ".crswap"].iter().any(|end| name.ends_with(end))
        || stem.ends_with(".tmp")
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#') && name.len() > 1)
        || is_of_sed(name)
}

/// True if `sed -i` creates a file of this name: `sed` and six random letters or digits, which are hardly
/// ever a word.
fn is_of_sed(name: &str) -> bool {
    let random = name.strip_prefix("sed").filter(|random| random.len() == 6);
    random.is_some_and(|random| {
        random.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !random.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: u64 = 2000;

    /// An event, with its time (milliseconds) and path.
    enum Deed {
        Change(&'static str),
        Save(&'static str, u64),
        Remove(&'static str),
    }
    use Deed::{Change, Remove, Save};

    /// Plays events and returns the time (milliseconds) when each path is sent. Recorded files have 100
    /// bytes.
    fn play(deeds: &[(u64, Deed)]) -> Vec<(u64, String)> {
        play_with(QuietRule::default(), deeds)
    }

    fn play_with(rule: QuietRule, deeds: &[(u64, Deed)]) -> Vec<(u64, String)> {
        let begun = Instant::now();
        let mut quiet = Quiet::new(rule);
        let mut gone = Vec::new();
        let mut take = |quiet: &mut Quiet, at: Instant| {
            let after = u64::try_from(at.duration_since(begun).as_millis()).unwrap();
            gone.extend(quiet.take(at).into_iter().map(|path| (after, path.to_string())));
        };
        for (at, deed) in deeds {
            let now = begun + Duration::from_millis(*at);
            while let Some(due) = quiet.due().filter(|due| *due < now) {
                take(&mut quiet, due);
            }
            let (path, touch) = match deed {
                Change(path) => (path, Touch::Changed),
                Save(path, size) => (path, Touch::Saved { size: Some(*size) }),
                Remove(path) => (path, Touch::Gone),
            };
            quiet.touch(&VaultPath::parse(path).unwrap(), touch, Some(100), now);
        }
        while let Some(due) = quiet.due() {
            take(&mut quiet, due);
        }
        gone
    }

    fn went(times: &[(u64, &str)]) -> Vec<(u64, String)> {
        times.iter().map(|(at, path)| (*at, (*path).to_owned())).collect()
    }

    #[test]
    fn a_calm_file_that_is_saved_goes_at_once() {
        assert_eq!(play(&[(0, Save("a.md", 120))]), went(&[(0, "a.md")]));
        // Writes before the file was closed are part of saving it.
        assert_eq!(
            play(&[(0, Change("a.md")), (3, Change("a.md")), (5, Save("a.md", 120))]),
            went(&[(5, "a.md")])
        );
        // Ten seconds later it is calm again.
        assert_eq!(
            play(&[(0, Save("a.md", 120)), (10_000, Save("a.md", 130))]),
            went(&[(0, "a.md"), (10_000, "a.md")])
        );
    }

    #[test]
    fn a_file_that_is_written_to_goes_when_it_was_quiet_for_a_while() {
        let appended: Vec<(u64, Deed)> = (0..30).map(|second| (second * 1000, Change("log.md"))).collect();
        assert_eq!(play(&appended), went(&[(29_000 + QUIET, "log.md")]));
    }

    #[test]
    fn a_file_that_is_saved_again_and_again_goes_once_and_then_when_it_is_quiet() {
        let saved: Vec<(u64, Deed)> = (0..20).map(|number| (number * 500, Save("a.md", 120))).collect();
        assert_eq!(play(&saved), went(&[(0, "a.md"), (9500 + QUIET, "a.md")]));
    }

    #[test]
    fn a_file_edited_every_3_seconds_goes_each_time() {
        let saved: Vec<(u64, Deed)> = (0..3).map(|number| (number * 3000, Save("a.md", 120))).collect();
        assert_eq!(play(&saved), went(&[(0, "a.md"), (3000, "a.md"), (6000, "a.md")]));
    }

    #[test]
    fn a_file_that_shrank_never_goes_at_once() {
        for size in [0, 1, 50] {
            assert_eq!(play(&[(0, Save("a.md", size))]), went(&[(QUIET, "a.md")]), "{size}");
        }
        assert_eq!(play(&[(0, Save("a.md", 51))]), went(&[(0, "a.md")]));
        // Truncated and written back: one change, sent at once when the file is whole.
        assert_eq!(play(&[(0, Save("a.md", 0)), (200, Save("a.md", 101))]), went(&[(200, "a.md")]));
        // Many programs create a new file empty at first.
        assert!(
            shrank(Some(0), None)
                && !shrank(Some(1), None)
                && shrank(None, Some(1))
                && !shrank(Some(0), Some(0))
        );
    }

    #[test]
    fn a_file_that_is_gone_waits_and_goes_as_saved_if_it_comes_back() {
        assert_eq!(play(&[(0, Remove("a.md"))]), went(&[(QUIET, "a.md")]));
        assert_eq!(play(&[(0, Remove("a.md")), (300, Save("a.md", 110))]), went(&[(300, "a.md")]));
    }

    #[test]
    fn hundreds_of_changes_at_once_wait_until_they_end() {
        const NAMES: [&str; 6] = ["a.md", "b.md", "c.md", "d.md", "e.md", "f.md"];
        let rule = QuietRule { storm: 4, ..QuietRule::default() };
        let checkout: Vec<(u64, Deed)> =
            NAMES.iter().enumerate().map(|(number, name)| (number as u64 * 10, Save(name, 120))).collect();
        let gone = play_with(rule, &checkout);
        // The first ones are sent before the crowd is known.
        assert_eq!(gone[..3], went(&[(0, "a.md"), (10, "b.md"), (20, "c.md")]));
        assert_eq!(gone[3..], went(&[(50 + QUIET, "d.md"), (50 + QUIET, "e.md"), (50 + QUIET, "f.md")]));
        // They come in one event of the watcher: none is sent at once.
        let together: Vec<(u64, Deed)> = NAMES.iter().map(|name| (0, Save(name, 120))).collect();
        assert!(play_with(rule, &together).iter().all(|(at, _)| *at == QUIET));
        // And back after five seconds.
        let mut back: Vec<(u64, Deed)> = NAMES.iter().map(|name| (0, Remove(name))).collect();
        back.extend(NAMES.iter().map(|name| (1900, Save(name, 120))));
        assert!(play_with(rule, &back).iter().all(|(at, _)| *at == 1900 + QUIET));
    }

    #[test]
    fn a_file_that_is_written_to_all_the_time_keeps_hundreds_of_others_no_longer_than_they_change() {
        const NAMES: [&str; 6] = ["a.md", "b.md", "c.md", "d.md", "e.md", "f.md"];
        let rule = QuietRule { storm: 4, ..QuietRule::default() };
        let mut deeds: Vec<(u64, Deed)> = NAMES.iter().map(|name| (0, Save(name, 120))).collect();
        deeds.extend((0..60).map(|second| (second * 1000 + 500, Change("log.md"))));
        deeds.push((30_000, Save("later.md", 120)));
        deeds.sort_by_key(|(at, _)| *at);
        let gone = play_with(rule, &deeds);
        // Its change after a second and a half came within two of theirs.
        let expected: Vec<(u64, &str)> = NAMES.iter().map(|name| (1500 + QUIET, *name)).collect();
        assert_eq!(gone[..6], went(&expected));
        assert_eq!(gone[6..], went(&[(30_000, "later.md"), (59_500 + QUIET, "log.md")]));
    }

    #[test]
    fn hundreds_of_changes_without_end_keep_a_file_that_is_at_rest_for_half_a_minute() {
        const NAMES: [&str; 6] = ["a.md", "b.md", "c.md", "d.md", "e.md", "f.md"];
        let rule = QuietRule { storm: 4, ..QuietRule::default() };
        let mut deeds: Vec<(u64, Deed)> = vec![(10_100, Save("calm.md", 120)), (20_100, Remove("old.md"))];
        deeds.extend((0..120).flat_map(|second| NAMES.map(|name| (second * 1000, Save(name, 120)))));
        deeds.sort_by_key(|(at, _)| *at);
        let gone = play_with(rule, &deeds);
        let longest = u64::try_from(LONGEST.as_millis()).unwrap();
        assert_eq!(gone[..2], went(&[(10_100 + longest, "calm.md"), (20_100 + longest, "old.md")]));
        // Those that go on changing wait until they end.
        assert!(gone[2..].iter().all(|(at, _)| *at == 119_000 + QUIET), "{gone:?}");
    }

    #[test]
    fn a_file_that_is_written_to_hundreds_of_times_is_no_storm() {
        let rule = QuietRule { storm: 4, ..QuietRule::default() };
        let mut deeds: Vec<(u64, Deed)> = (0..50).map(|number| (number * 10, Change("log.md"))).collect();
        deeds.push((500, Save("a.md", 120)));
        assert_eq!(play_with(rule, &deeds), went(&[(500, "a.md"), (490 + QUIET, "log.md")]));
    }

    #[test]
    fn of_hundreds_of_files_that_come_within_a_second_only_the_first_few_go_before_the_end() {
        let names: Vec<String> = (0..800).map(|number| format!("{number}.md")).collect();
        let (begun, mut quiet) = (Instant::now(), Quiet::new(QuietRule::default()));
        let mut early = 0;
        for (number, name) in (0..).zip(&names) {
            let now = begun + Duration::from_millis(number);
            quiet.touch(&VaultPath::parse(name).unwrap(), Touch::Saved { size: Some(120) }, Some(100), now);
            early += quiet.take(now).len();
        }
        assert!(early < CROWD, "{early}");
        let end = begun + Duration::from_millis(799 + QUIET);
        assert_eq!(quiet.due(), Some(end));
        assert_eq!(early + quiet.take(end).len(), names.len());
    }

    #[test]
    fn thirty_files_that_come_together_go_a_moment_after_the_last_and_a_crowd_without_end_keeps_none() {
        let names: &'static [String] =
            (0..30).map(|number| format!("{number}.md")).collect::<Vec<String>>().leak();
        let together: Vec<(u64, Deed)> = names.iter().map(|name| (0, Save(name, 120))).collect();
        let moment = u64::try_from(MOMENT.as_millis()).unwrap();
        assert!(play(&together).iter().all(|(at, _)| *at == moment), "{:?}", play(&together));
        // A program rewrites twenty files every few milliseconds.
        let mut endless: Vec<(u64, Deed)> = vec![(100, Save("calm.md", 120))];
        endless.extend(
            (0..1000).flat_map(|turn| names[..20].iter().map(move |name| (turn * 4, Save(name, 120)))),
        );
        endless.sort_by_key(|(at, _)| *at);
        let gone = play(&endless);
        assert!(gone.contains(&(100 + QUIET, "calm.md".to_owned())), "{gone:?}");
    }

    #[test]
    fn editors_that_save_by_renaming_make_one_change() {
        // Vim: a probe, a backup, the new file, the backup is removed.
        let vim = [
            (0, Change(".note.md.swp")),
            (1, Save("4913", 0)),
            (1, Remove("4913")),
            (2, Save("note.md~", 100)),
            (2, Remove("note.md")),
            (3, Change("note.md")),
            (4, Save("note.md", 120)),
            (5, Remove("note.md~")),
        ];
        assert_eq!(play(&vim), went(&[(4, "note.md")]));
        let renamed = [(0, Save("note.md.tmp.123", 120)), (1, Save("note.md", 120))];
        assert_eq!(play(&renamed), went(&[(1, "note.md")]));
        let sed = [(0, Save("sedAb3XyZ", 120)), (0, Save("note.md", 120))];
        assert_eq!(play(&sed), went(&[(0, "note.md")]));
    }

    #[test]
    fn litter_is_known_by_its_names_and_notes_are_not() {
        for litter in [
            "4913",
            "5036",
            "a.md~",
            ".a.md.swp",
            "a.tmp",
            "a.md.tmp.123",
            "a.md.tmp123",
            ".#a.md",
            "#a.md#",
            "sedAb3XyZ",
        ] {
            assert!(is_litter(litter), "{litter}");
        }
        for note in
            ["2025.md", "2025", "4914", "a.md", "tmp.md", "sediment.md", "seduction", "#", "# a.md", "~a.md"]
        {
            assert!(!is_litter(note), "{note}");
        }
    }

    #[test]
    fn what_changed_while_it_was_read_waits_once_more() {
        let (now, path) = (Instant::now(), VaultPath::parse("a.md").unwrap());
        let mut quiet = Quiet::new(QuietRule::default());
        quiet.touch(&path, Touch::Saved { size: Some(120) }, Some(100), now);
        assert_eq!(quiet.take(now), std::slice::from_ref(&path));
        quiet.put_back(&path, now);
        assert!(quiet.take(now).is_empty() && quiet.waiting() == 1);
        assert_eq!(quiet.due(), Some(now + Duration::from_millis(QUIET)));
        assert_eq!(quiet.take(now + Duration::from_millis(QUIET)), [path]);
    }
}
