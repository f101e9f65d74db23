//! Users, their folders and the vault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use obsync_conformance::WatchedState;
use obsync_core::{Clock, NoProgress, Outcome, Report};
use obsync_protocol::Uid;
use obsync_testkit::{Expected, VaultHandle};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

use super::at_work::AtWork;
use super::counted::Counted;
use super::official::{Act, Official};
use super::replica::Replica;
use super::user::{Deed, Done, User};
use super::{Edit, Event, FOLDERS, Fault, PATHS, REPLICAS};

/// The actions of users, and the state of all sides.
pub(super) struct World {
    bench: Bench,
    replicas: Vec<Replica>,
    other: VaultHandle,
    official: Official,
    words: u64,
    written: BTreeSet<String>,
    /// Words that a user who could see them removed.
    removed: BTreeSet<String>,
    /// Words that a replica's user removed while they were filtered there, and that the vault has. They have
    /// to stay, unless that user writes something else in their place.
    left_out: BTreeMap<(usize, String), BTreeSet<String>>,
    time: i64,
    pub(super) counted: Counted,
}

/// The configuration that replicas and another device change.
const SETTINGS: &str = ".obsidian/app.json";

pub(super) fn words(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

pub(super) fn with_word(before: &str, word: &str, in_front: bool) -> String {
    if in_front { format!("{word}\n{before}") } else { format!("{before}{word}\n") }
}

/// Returns settings with a word as an additional key.
fn with_key(settings: &str, word: &str) -> String {
    let mut keys: BTreeMap<String, u64> = serde_json::from_str(settings).unwrap();
    keys.insert(word.to_owned(), 1);
    serde_json::to_string(&keys).unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        let bench = Bench::new().await;
        // Two folders on one computer, and one on another.
        let name = |number: usize| format!("computer {}", number / 2);
        let replicas = (0..REPLICAS).map(|number| Replica::new(&bench, &name(number))).collect();
        let other = bench.vault.as_device("other");
        World {
            bench,
            replicas,
            other,
            official: Official::default(),
            words: 0,
            written: BTreeSet::new(),
            removed: BTreeSet::new(),
            left_out: BTreeMap::new(),
            time: 0,
            counted: Counted::default(),
        }
    }

    /// Starts a history with all sides empty.
    pub(super) fn begin(&mut self) {
        self.bench.server.faults().clear();
        self.bench.server.forget_late_pushes();
        self.bench.vault.roll_back(Uid(0)).unwrap();
        self.replicas.iter_mut().for_each(Replica::begin);
        self.official.forget();
        self.written.clear();
        self.removed.clear();
        self.left_out.clear();
        self.time = 1_700_000_000_000;
    }

    /// Returns the files that a device sees, by path.
    fn files(&self, on: usize) -> BTreeMap<String, String> {
        match self.replicas.get(on) {
            Some(replica) => texts(&replica.dest()),
            None => vault_texts(&self.bench.vault),
        }
    }

    /// Writes a file as a device does. Returns false if something is in its way.
    fn put(&mut self, on: usize, path: &str, text: &str, clock: i64) -> bool {
        self.time += 1000;
        let Some(replica) = self.replicas.get(on) else {
            return write(&self.other, path, text, self.time + clock * 3_600_000);
        };
        let at = (on, path.to_owned());
        let path = replica.dest().join(path);
        if !path.exists() {
            self.removed.extend(self.left_out.remove(&at).unwrap_or_default());
        }
        let is_written = !path.is_dir()
            && fs::create_dir_all(path.parent().unwrap()).is_ok()
            && fs::write(&path, text).is_ok();
        if is_written && clock != 0 {
            let off = Duration::from_secs(clock.unsigned_abs() * 3600);
            let now = SystemTime::now();
            let file = fs::File::options().append(true).open(&path).unwrap();
            file.set_modified(if clock < 0 { now - off } else { now + off }).unwrap();
            self.counted.note(if clock < 0 { "clock: behind" } else { "clock: ahead" });
        }
        is_written
    }

    fn remove(&self, on: usize, path: &str) {
        match self.replicas.get(on) {
            Some(replica) => fs::remove_file(replica.dest().join(path)).unwrap(),
            None => {
                self.other.delete(path).unwrap();
            }
        }
    }

    fn new_word(&mut self) -> String {
        self.words += 1;
        format!("w{}", self.words)
    }

    pub(super) async fn happen(&mut self, event: &Event) {
        match event {
            Event::Edit(edit) => self.edit(*edit),
            Event::Delete { on, at } => self.delete(*on, PATHS[*at]),
            Event::Rename { from, to, .. } if from == to => {}
            Event::Rename { on, from, to } => {
                let mut files = self.files(*on);
                if let Some(text) = files.remove(PATHS[*from])
                    && !files.contains_key(PATHS[*to])
                    && self.put(*on, PATHS[*to], &text, 0)
                {
                    self.remove(*on, PATHS[*from]);
                }
            }
            Event::Sync { on, fault, meanwhile } => self.sync(*on, *fault, *meanwhile).await,
            Event::Pull { on } => self.pull(*on).await,
            Event::Killed { on, after, then_pulls } => {
                self.killed(*on, *after).await;
                if *then_pulls {
                    self.pull(*on).await;
                }
            }
            Event::Stopped { on, after, fault, meanwhile } => {
                self.stopped(*on, *after, *fault, *meanwhile).await;
            }
            Event::Jump { on, after, hours } => self.jump(*on, *after, *hours).await,
            Event::UserAtWork { on, deed, after } => self.user_at_work(*on, *deed, *after).await,
            Event::KilledMerge { on, at, after } => self.killed_merge(*on, *at, *after).await,
            Event::DeletedMeanwhile { on, at } => {
                self.sync(*on, None, None).await;
                self.delete(*on, PATHS[*at]);
                self.sync(*on, None, Some(*at)).await;
            }
            Event::Configure { on } => self.configure(*on).await,
            Event::Swapped { on } => self.swapped(*on).await,
            Event::LeftOut { on, at } => self.left_out(*on, PATHS[*at]).await,
            Event::BadName { on, at } => self.bad_name(*on, PATHS[*at]).await,
            Event::Unseen { on, at, in_front, after } => {
                self.unseen(*on, PATHS[*at], *in_front, *after).await;
            }
            Event::Late { on, at, late_after, after } => self.late(*on, *at, *late_after, *after).await,
            Event::Official(acts) => self.official(acts),
            Event::OfficialSends(most) => self.official_sends(*most),
            Event::RemoveFolder { on, at } => self.remove_folder(*on, FOLDERS[*at]),
            Event::Choose { on, narrow } => self.replicas[*on].is_narrow = *narrow,
            Event::Careful { on } => self.replicas[*on].is_careful = true,
            Event::Confirm { on, at } => self.confirm(*on, PATHS[*at]).await,
            Event::Carry { on, from, to } => self.carry(*on, *from, *to).await,
            Event::Touch { at } => {
                let on = self.replicas.len();
                if let Some(text) = self.files(on).remove(PATHS[*at]) {
                    self.put(on, PATHS[*at], &text, 0);
                }
            }
        }
    }

    fn delete(&mut self, on: usize, path: &str) {
        if let Some(text) = self.files(on).remove(path) {
            self.remove(on, path);
            self.removed.extend(words(&text));
        }
    }

    async fn carry(&mut self, on: usize, from: usize, to: usize) {
        self.sync(on, None, None).await;
        let is_here = self.files(on).contains_key(PATHS[from]);
        let there = vault_texts(&self.other);
        let is_in_the_way = |other: &String| {
            let is_below = |path: &str, above: &str| path.starts_with(&format!("{above}/"));
            other == PATHS[to] || is_below(other, PATHS[to]) || is_below(PATHS[to], other)
        };
        if is_here && there.contains_key(PATHS[from]) && !there.keys().any(is_in_the_way) {
            self.edit(Edit { on, at: from, in_front: false, clock: 0 });
            // A folder without files may have the name.
            let is_renamed = self.other.rename(PATHS[from], PATHS[to]).is_ok();
            self.counted.add("renamed there, edited here", u64::from(is_renamed));
        }
    }

    async fn confirm(&mut self, on: usize, path: &str) {
        let was_careful = std::mem::replace(&mut self.replicas[on].is_careful, true);
        self.sync(on, None, None).await;
        self.delete(on, path);
        self.sync(on, None, None).await;
        let confirmed = self.replicas[on].confirm().await;
        self.counted.add("confirmed", confirmed);
        self.replicas[on].is_careful = was_careful;
    }

    fn edit(&mut self, edit: Edit) {
        let Edit { on, at, in_front, clock } = edit;
        let before = self.files(on).remove(PATHS[at]).unwrap_or_default();
        let word = self.new_word();
        if self.put(on, PATHS[at], &with_word(&before, &word, in_front), clock) {
            self.written.insert(word);
        }
    }

    async fn sync(&mut self, on: usize, fault: Option<Fault>, meanwhile: Option<usize>) {
        self.run(on, AtWork::default(), fault, meanwhile, CancellationToken::new()).await;
    }

    async fn stopped(&mut self, on: usize, after: u64, fault: Option<Fault>, meanwhile: Option<usize>) {
        let stop = CancellationToken::new();
        let at_work = AtWork::default().that_ends(after, &stop);
        let outcome = self.run(on, at_work, fault, meanwhile, stop.clone()).await;
        let was_stopped = outcome.is_none_or(|outcome| outcome == Outcome::Interrupted);
        if was_stopped && stop.is_cancelled() {
            self.counted.note("recovery: stopped at work");
            // Pending calls may still have the state open.
            self.replicas[on].until_dead().await;
            let intents = self.replicas[on].intents().await;
            self.counted.announced(&intents);
        }
    }

    async fn jump(&mut self, on: usize, after: u64, hours: i64) {
        let at_work = AtWork::default().with_jump(after, &self.replicas[on].clock, hours);
        let before = self.replicas[on].clock.wall();
        self.run(on, at_work, None, None, CancellationToken::new()).await;
        let jumped = self.replicas[on].clock.wall().duration_since(before);
        let has_jumped = jumped.is_err() || jumped.is_ok_and(|by| by > Duration::from_secs(1800));
        self.counted.add("clock: jumped in a run", u64::from(has_jumped));
    }

    async fn user_at_work(&mut self, on: usize, deed: Deed, after: u64) {
        let words = PATHS.map(|_| self.new_word());
        let user = User::new(self.replicas[on].dest(), deed, words.to_vec());
        let at_work = Arc::new(AtWork::default().with_user(after, user));
        let outcome = self.run_as(on, at_work.clone(), None, CancellationToken::new()).await;
        let Done { is_done, written, removed } = at_work.done();
        if !written.is_empty() {
            // It is unknown whether the file had been restored by then.
            let of_this = self.left_out.extract_if(.., |(replica, _), _| *replica == on);
            self.removed.extend(of_this.flat_map(|(_, words)| words));
        }
        self.written.extend(written);
        self.removed.extend(removed);
        if is_done {
            self.counted.note(format!("race: its user {} while it ran", deed.name()));
            let ended_well = u64::from(outcome.is_some());
            self.counted.add("race: its user was at work in a run that ended well", ended_well);
        }
    }

    async fn late(&mut self, on: usize, at: usize, late_after: u64, after: u64) {
        self.sync(on, None, None).await;
        let edit = Edit { on, at, in_front: true, clock: 0 };
        self.edit(edit);
        self.stopped(on, after, Some(Fault { name: "late-push", late_after }), None).await;
        self.edit(edit);
    }

    async fn killed_merge(&mut self, on: usize, at: usize, after: u64) {
        self.sync(on, None, None).await;
        let other = self.replicas.len();
        self.edit(Edit { on, at, in_front: true, clock: 0 });
        self.edit(Edit { on: other, at, in_front: false, clock: 0 });
        self.killed(on, after).await;
    }

    async fn configure(&mut self, on: usize) {
        if vault_texts(&self.other).contains_key(SETTINGS) {
            return;
        }
        self.time += 1000;
        self.other.write(SETTINGS, "{}", self.time).unwrap();
        self.sync(on, None, None).await;
        let file = self.replicas[on].dest().join(SETTINGS);
        // A run that was held up did not download it.
        let Ok(settings) = fs::read_to_string(&file) else { return };
        let (here, there) = (self.new_word(), self.new_word());
        fs::write(&file, with_key(&settings, &here)).unwrap();
        self.other.write(SETTINGS, with_key("{}", &there), self.time + 1000).unwrap();
        self.written.extend([here, there]);
        let at_work = Arc::new(AtWork::default());
        let stop = CancellationToken::new();
        let report = self.replicas[on].sync_until(at_work, stop).await.unwrap();
        let is_merged = report.merged.iter().any(|path| path.as_str() == SETTINGS);
        self.counted.add("decision: configuration merged", u64::from(is_merged));
        self.counted.report(&report);
    }

    async fn swapped(&mut self, on: usize) {
        if !self.replicas[on].intents().await.is_empty() {
            return;
        }
        let was_filled = !self.files(on).is_empty();
        self.replicas[on].take_away();
        let kinds = ["doubt: a folder without its files", "doubt: a folder that came back"];
        for (kind, comes_back) in kinds.into_iter().zip([false, true]) {
            if comes_back {
                self.replicas[on].put_back();
            }
            if let Ok(report) = self.replicas[on].sync(Arc::new(NoProgress)).await {
                self.counted.report(&report);
                self.counted.add(kind, u64::from(was_filled && report.doubt.is_some()));
            }
        }
    }

    /// Runs a replica. The next run does the rest. `None` if the run ended with an error.
    async fn run(
        &mut self,
        on: usize,
        at_work: AtWork,
        fault: Option<Fault>,
        meanwhile: Option<usize>,
        stop: CancellationToken,
    ) -> Option<Outcome> {
        let word = self.new_word();
        // The server's rival would overwrite that without having seen it, which is not a replica's fault.
        let path =
            meanwhile.filter(|_| fault.is_none_or(|fault| fault.name != "rival-push")).map(|at| PATHS[at]);
        let at_work = Arc::new(at_work.with_rival(&self.other, path, &word, self.time));
        self.run_as(on, at_work, fault, stop).await
    }

    async fn run_as(
        &mut self,
        on: usize,
        at_work: Arc<AtWork>,
        fault: Option<Fault>,
        stop: CancellationToken,
    ) -> Option<Outcome> {
        let faults = self.bench.server.faults();
        if let Some(fault) = fault {
            faults.update(|faults| {
                faults.set(&format!("{}=next:1", fault.name)).unwrap();
                faults.late_after = fault.late_after;
            });
        }
        self.counted.add(
            "race: the official client was in the midst of sending",
            u64::from(self.official.is_sending()),
        );
        let outcome = self.replicas[on].sync_until(at_work.clone(), stop).await;
        let mut is_struck = false;
        if let Some(fault) = fault {
            let name = fault.name;
            let strikes = self.bench.server.faults().strikes(name);
            is_struck = strikes > 0;
            self.counted.add(format!("fault: {name}"), strikes);
        }
        self.bench.server.faults().clear();
        let is_late = fault.is_some_and(|fault| fault.name == "late-push" && is_struck);
        let is_under_way = is_late && self.bench.server.late_pushes() > 0;
        self.counted.add("late: arrives after its run", u64::from(is_under_way));
        at_work.count(&mut self.counted);
        if let Some((_, word)) = at_work.written() {
            self.written.insert(word.to_owned());
            self.counted.note("race: wrote while it was sent");
        }
        match outcome {
            Ok(report) => {
                self.counted.report(&report);
                if is_late && report.outcome == Outcome::Complete {
                    let is_settled = self.replicas[on].intents().await.is_empty();
                    self.counted.add("recovery: settled late", u64::from(is_settled));
                }
                if let Some((path, word)) = at_work.written() {
                    self.counted.note("race: in a run that ended well");
                    let found = self.has_found(on, &report, path, word);
                    self.counted.add("race: what was overwritten was found", u64::from(found));
                }
                Some(report.outcome)
            }
            Err(_) => {
                self.counted.note("recovery: run ended by an error");
                let intents = self.replicas[on].intents().await;
                self.counted.announced(&intents);
                None
            }
        }
    }

    /// True if a run merged or kept the text that another device wrote to a path while the run sent the same
    /// path.
    fn has_found(&self, on: usize, report: &Report, path: &str, word: &str) -> bool {
        let conflicts = report.conflicts.iter().map(|conflict| &conflict.path);
        report.merged.iter().chain(conflicts).any(|at| at.as_str() == path)
            && self.files(on).values().any(|text| words(text).contains(word))
    }

    /// A file that is removed while it is filtered is not a deletion: the vault's copy has to stay.
    async fn left_out(&mut self, on: usize, path: &'static str) {
        self.replicas[on].is_narrow = true;
        let outcome = self.run(on, AtWork::default(), None, None, CancellationToken::new()).await;
        if let Some(text) = self.files(on).remove(path) {
            self.remove(on, path);
            let in_vault: BTreeSet<String> =
                vault_texts(&self.bench.vault).values().flat_map(|text| words(text)).collect();
            let is_known = outcome.is_some_and(|outcome| outcome != Outcome::Interrupted);
            let (kept, lost) = words(&text)
                .into_iter()
                .partition::<BTreeSet<String>, _>(|word| is_known && in_vault.contains(word));
            self.left_out.insert((on, path.to_owned()), kept);
            self.removed.extend(lost);
            self.counted.note("filter: something went while it was left out");
        }
        self.replicas[on].is_narrow = false;
    }

    /// A file has a name that no vault can have, until its user notices.
    async fn bad_name(&mut self, on: usize, path: &'static str) {
        let dest = self.replicas[on].dest();
        let Some(text) = self.files(on).remove(path) else { return };
        let bad = dest.join("no: name.md");
        fs::rename(dest.join(path), &bad).unwrap();
        let said = |report: &Report| report.warnings.iter().any(|warning| warning.contains("no: name.md"));
        let outcome = self.replicas[on].sync(Arc::new(NoProgress)).await;
        self.counted.add("decision: name refused", u64::from(outcome.as_ref().is_ok_and(said)));
        // The run may have downloaded the vault's file meanwhile.
        let files = self.files(on);
        let Some(there) = files.get(path) else {
            let back = dest.join(path);
            let is_free = !back.exists() && fs::create_dir_all(back.parent().unwrap()).is_ok();
            let back = if is_free { back } else { dest.join(format!("{}.md", self.new_word())) };
            return fs::rename(bad, back).unwrap();
        };
        fs::remove_file(bad).unwrap();
        if !words(&text).is_subset(&words(there)) {
            assert!(self.put(on, path, &format!("{there}{text}"), 0));
        }
    }

    fn official(&mut self, acts: &[Act]) {
        // It sends its pending changes before its user continues.
        self.official_sends(usize::MAX);
        let mut words = self.words;
        let new_word = || {
            words += 1;
            format!("w{words}")
        };
        let (written, removed) = self.official.act(&self.other, acts, new_word);
        self.words = words;
        self.written.extend(written);
        self.removed.extend(removed);
    }

    async fn unseen(&mut self, on: usize, path: &'static str, in_front: (bool, bool), after: u64) {
        self.sync(on, None, None).await;
        let there = |world: &World| vault_texts(&world.other).remove(path).unwrap_or_default();
        let (seen, saved) = (there(self), jiff::Timestamp::now().as_millisecond());
        if self.files(on).remove(path).unwrap_or_default() != seen {
            return;
        }
        let (ours, theirs) = (self.new_word(), self.new_word());
        let sent = with_word(&seen, &ours, in_front.0);
        if self.put(on, path, &sent, 0) {
            self.written.insert(ours);
        }
        self.sync(on, None, None).await;
        if there(self) != sent || !write(&self.other, path, &with_word(&seen, &theirs, in_front.1), saved) {
            return;
        }
        self.written.insert(theirs);
        self.counted.note("official client: sent without a look at what came just before");
        self.killed(on, after).await;
        // Only this replica knows which text the other one replaced.
        self.sync(on, None, None).await;
    }

    fn official_sends(&mut self, most: usize) {
        self.time += 1000;
        let sent = self.official.send(&self.other, most, self.time);
        self.counted.add("official client: sent", sent);
    }

    async fn pull(&mut self, on: usize) {
        let has_announced = !self.replicas[on].intents().await.is_empty();
        if let Ok(report) = self.replicas[on].pull(Arc::new(NoProgress)).await {
            self.counted.add("recovery: settled by a pull", u64::from(has_announced));
            let has_changed = report.warnings.iter().any(|warning| warning.starts_with("earlier runs"));
            self.counted.add("direction changed", u64::from(has_changed));
            self.counted.report(&report);
        }
    }

    fn remove_folder(&mut self, on: usize, folder: &str) {
        let below = format!("{folder}/");
        let texts = self.files(on).into_iter().filter(|(path, _)| path.starts_with(&below));
        let seen: Vec<String> = texts.map(|(_, text)| text).collect();
        let is_removed = match self.replicas.get(on) {
            Some(replica) => fs::remove_dir_all(replica.dest().join(folder)).is_ok(),
            None => self.other.delete_folder(folder).is_ok(),
        };
        if is_removed {
            self.removed.extend(seen.iter().flat_map(|text| words(text)));
        }
    }

    async fn killed(&mut self, on: usize, after: u64) {
        let replica = &self.replicas[on];
        let dies = CancellationToken::new();
        let at_work = Arc::new(AtWork::default().that_ends(after, &dies));
        // Commits count as events, too.
        let watch = at_work.clone();
        let state = WatchedState::with(Arc::new(replica.state().unwrap()), move || watch.news());
        let is_killed = tokio::select! {
            biased;
            () = dies.cancelled() => true,
            _ = replica.sync_recorded_by(Arc::new(state), at_work, CancellationToken::new()) => false,
        };
        replica.until_dead().await;
        if is_killed {
            let intents = replica.intents().await;
            self.counted.note("recovery: killed at work");
            self.counted.announced(&intents);
        }
    }

    /// Runs all replicas until nothing changes any more, without filters and without holding deletions back.
    pub(super) async fn come_to_rest(&mut self) {
        self.official_sends(usize::MAX);
        for replica in &mut self.replicas {
            (replica.is_narrow, replica.is_careful) = (false, false);
        }
        for _ in 0..16 {
            let mut changed = false;
            for replica in &self.replicas {
                let at_work = Arc::new(AtWork::default());
                let report = replica.sync(at_work.clone()).await.unwrap();
                at_work.count(&mut self.counted);
                // The first sync after a pull deletes nothing here.
                let holds_back = report.outcome == Outcome::HeldBack;
                let has_ended = matches!(report.outcome, Outcome::Complete | Outcome::Failures);
                assert!(has_ended || holds_back, "{report:#?}");
                changed |= !report.is_unchanged() || holds_back;
                self.counted.report(&report);
            }
            if !changed && self.bench.server.late_pushes() == 0 {
                for replica in &self.replicas {
                    self.counted.journal(&replica.journal().await);
                }
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    pub(super) fn check(&self) {
        let expected = self.bench.vault.expected().unwrap();
        for replica in &self.replicas {
            let differences = expected.differences(&replica.dest()).unwrap();
            assert!(
                differences.is_empty(),
                "{differences:#?}\nhere: {:#?}\nthere: {:#?}",
                texts(&replica.dest()),
                vault_texts(&self.bench.vault)
            );
        }
        let here: BTreeSet<String> =
            texts(&self.replicas[0].dest()).values().flat_map(|text| words(text)).collect();
        let lost: Vec<&String> = self
            .written
            .iter()
            .filter(|word| !here.contains(*word) && !self.removed.contains(*word))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}, here: {:#?}", texts(&self.replicas[0].dest()));
    }
}

/// Writes a file as another device does. Returns false if something is in its way.
pub(super) fn write(vault: &VaultHandle, path: &str, text: &str, time: i64) -> bool {
    let is_in_the_way =
        |other: &String| other.starts_with(&format!("{path}/")) || path.starts_with(&format!("{other}/"));
    !vault_texts(vault).keys().any(is_in_the_way) && vault.write(path, text, time).is_ok()
}

pub(super) fn vault_texts(vault: &VaultHandle) -> BTreeMap<String, String> {
    let contents = vault.contents().unwrap().into_iter();
    contents.map(|(path, content)| (path, String::from_utf8(content).unwrap())).collect()
}

fn texts(folder: &Path) -> BTreeMap<String, String> {
    let tree = Expected::of_directory(folder).unwrap();
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    tree.files.iter().map(|file| (file.path.clone(), read(&file.path))).collect()
}
