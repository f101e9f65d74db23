//! Users, their folders and the vault.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use obsync_core::{NoProgress, Outcome, Phase, Progress};
use obsync_protocol::Uid;
use obsync_testkit::{Expected, VaultHandle};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

use super::counted::Counted;
use super::replica::Replica;
use super::{Edit, Event, FAULTS, FOLDERS, PATHS, REPLICAS};

/// What users did, and what there is.
pub(super) struct World {
    bench: Bench,
    replicas: Vec<Replica>,
    other: VaultHandle,
    words: u64,
    written: BTreeSet<String>,
    /// Words that a user removed while they were there to be seen.
    removed: BTreeSet<String>,
    time: i64,
    pub(super) counted: Counted,
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn with_word(before: &str, word: &str, in_front: bool) -> String {
    if in_front { format!("{word}\n{before}") } else { format!("{before}{word}\n") }
}

impl World {
    pub(super) async fn new() -> Self {
        let bench = Bench::new().await;
        // Two folders of one computer, and another computer.
        let name = |number: usize| format!("computer {}", number / 2);
        let replicas = (0..REPLICAS).map(|number| Replica::new(&bench, &name(number))).collect();
        let other = bench.vault.as_device("other");
        World {
            bench,
            replicas,
            other,
            words: 0,
            written: BTreeSet::new(),
            removed: BTreeSet::new(),
            time: 0,
            counted: Counted::default(),
        }
    }

    /// A history begins: nothing is anywhere.
    pub(super) fn begin(&mut self) {
        self.bench.server.faults().clear();
        self.bench.vault.roll_back(Uid(0)).unwrap();
        self.replicas.iter_mut().for_each(Replica::begin);
        self.written.clear();
        self.removed.clear();
        self.time = 1_700_000_000_000;
    }

    /// The files that a device sees, by path.
    fn files(&self, on: usize) -> BTreeMap<String, String> {
        match self.replicas.get(on) {
            Some(replica) => texts(&replica.dest()),
            None => vault_texts(&self.bench.vault),
        }
    }

    /// Writes a file as a device does. `false`: something is in its way.
    fn put(&mut self, on: usize, path: &str, text: &str, clock: i64) -> bool {
        self.time += 1000;
        let Some(replica) = self.replicas.get(on) else {
            return write(&self.other, path, text, self.time + clock * 3_600_000);
        };
        let path = replica.dest().join(path);
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
            Event::Delete { on, at } => {
                if let Some(text) = self.files(*on).remove(PATHS[*at]) {
                    self.remove(*on, PATHS[*at]);
                    self.removed.extend(words(&text));
                }
            }
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
            Event::RemoveFolder { on, at } => self.remove_folder(*on, FOLDERS[*at]),
            Event::Choose { on, narrow } => self.replicas[*on].is_narrow = *narrow,
            Event::Careful { on } => self.replicas[*on].is_careful = true,
            Event::Confirm { on } => {
                let confirmed = self.replicas[*on].confirm().await;
                self.counted.add("confirmed", confirmed);
            }
        }
    }

    fn edit(&mut self, edit: Edit) {
        let Edit { on, at, in_front, clock } = edit;
        let before = self.files(on).remove(PATHS[at]).unwrap_or_default();
        let word = self.new_word();
        if self.put(on, PATHS[at], &with_word(&before, &word, in_front), clock) {
            self.written.insert(word);
        }
    }

    async fn sync(&mut self, on: usize, fault: Option<usize>, meanwhile: Option<usize>) {
        let faults = self.bench.server.faults();
        if let Some(fault) = fault {
            faults.update(|faults| faults.set(&format!("{}=next:1", FAULTS[fault])).unwrap());
        }
        self.words += 1;
        let word = format!("w{}", self.words);
        let writer = Arc::new(Meanwhile {
            vault: self.other.clone(),
            path: meanwhile.map(|at| PATHS[at]),
            word: word.clone(),
            time: self.time,
            is_sending: AtomicBool::new(false),
            has_written: Mutex::new(None),
        });
        // What it could not do the next one does.
        let outcome = self.replicas[on].sync(writer.clone()).await;
        if let Some(fault) = fault {
            let name = FAULTS[fault];
            self.counted.add(format!("fault: {name}"), self.bench.server.faults().strikes(name));
        }
        self.bench.server.faults().clear();
        let has_written = writer.has_written.lock().unwrap().unwrap_or_default();
        if has_written {
            self.written.insert(word);
            self.counted.note("race: wrote while it was sent");
        }
        match outcome {
            Ok(report) => {
                self.counted.report(&report);
                self.counted.add("race: in a run that ended well", u64::from(has_written));
            }
            Err(_) => {
                self.counted.note("recovery: run ended by an error");
                let intents = self.replicas[on].intents().await;
                self.counted.announced(&intents);
            }
        }
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
        let death = Arc::new(Death { left: AtomicU64::new(after), dies: CancellationToken::new() });
        let is_killed = tokio::select! {
            biased;
            () = death.dies.cancelled() => true,
            _ = replica.sync(death.clone()) => false,
        };
        replica.until_dead().await;
        if is_killed {
            let intents = replica.intents().await;
            self.counted.note("recovery: killed at work");
            self.counted.announced(&intents);
        }
    }

    /// Runs all until nothing changes any more. What was left out and held back is so no longer.
    pub(super) async fn come_to_rest(&mut self) {
        for replica in &mut self.replicas {
            (replica.is_narrow, replica.is_careful) = (false, false);
        }
        for _ in 0..16 {
            let mut changed = false;
            for replica in &self.replicas {
                let report = replica.sync(Arc::new(NoProgress)).await.unwrap();
                assert!(matches!(report.outcome, Outcome::Complete | Outcome::Failures), "{report:#?}");
                changed |= !report.is_unchanged();
                self.counted.report(&report);
            }
            if !changed {
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    pub(super) fn check(&self) {
        let expected = self.bench.vault.expected().unwrap();
        for replica in &self.replicas {
            let differences = expected.differences(&replica.dest()).unwrap();
            assert!(differences.is_empty(), "{differences:#?}");
        }
        let here: BTreeSet<String> =
            texts(&self.replicas[0].dest()).values().flat_map(|text| words(text)).collect();
        let lost: Vec<&String> = self
            .written
            .iter()
            .filter(|word| !here.contains(*word) && !self.removed.contains(*word))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}

/// A run dies after so many pieces of news.
struct Death {
    left: AtomicU64,
    dies: CancellationToken,
}

impl Death {
    fn come_closer(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.dies.cancel();
        }
    }
}

impl Progress for Death {
    fn phase(&self, _phase: Phase) {
        self.come_closer();
    }

    fn planned(&self, _files: u64, _bytes: u64) {
        self.come_closer();
    }

    fn placed(&self, _bytes: u64) {
        self.come_closer();
    }

    fn notice(&self, _text: &str) {
        self.come_closer();
    }
}

/// Another device writes once a session to write with is open and nothing is sent yet.
struct Meanwhile {
    vault: VaultHandle,
    path: Option<&'static str>,
    word: String,
    time: i64,
    is_sending: AtomicBool,
    has_written: Mutex<Option<bool>>,
}

impl Progress for Meanwhile {
    fn phase(&self, phase: Phase) {
        self.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
    }

    fn planned(&self, _files: u64, _bytes: u64) {
        let mut has_written = self.has_written.lock().unwrap();
        if self.is_sending.load(Ordering::Relaxed)
            && has_written.is_none()
            && let Some(path) = self.path
        {
            let before = vault_texts(&self.vault).remove(path).unwrap_or_default();
            let text = with_word(&before, &self.word, true);
            *has_written = Some(write(&self.vault, path, &text, self.time + 500));
        }
    }
}

/// Writes a file as another device does. `false`: something is in its way.
fn write(vault: &VaultHandle, path: &str, text: &str, time: i64) -> bool {
    let is_in_the_way =
        |other: &String| other.starts_with(&format!("{path}/")) || path.starts_with(&format!("{other}/"));
    !vault_texts(vault).keys().any(is_in_the_way) && vault.write(path, text, time).is_ok()
}

fn vault_texts(vault: &VaultHandle) -> BTreeMap<String, String> {
    let contents = vault.contents().unwrap().into_iter();
    contents.map(|(path, content)| (path, String::from_utf8(content).unwrap())).collect()
}

fn texts(folder: &Path) -> BTreeMap<String, String> {
    let tree = Expected::of_directory(folder).unwrap();
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    tree.files.iter().map(|file| (file.path.clone(), read(&file.path))).collect()
}
