//! Random histories of two replicas and a vault that others write to, with kills, cuts and rivals: in the end all are equal,
//! and no text is lost.
//!
//! Every edit adds a word that was never used before to the text that its author sees. A word may be missing in the end only if
//! a user took it out, or deleted the file, while it was there to be seen. Nothing else excuses it: that the vault's history has
//! it is no excuse, for every push is in there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use obsync_client::{Client, ClientOptions};
use obsync_core::{MaxDelete, NoProgress, Outcome, PullSource, Report, SyncOptions, sync};
use obsync_folder::{FolderOptions, FolderStore};
use obsync_sqlite::SqliteState;
use obsync_testkit::{Expected, VaultHandle};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, identity};

const PATHS: [&str; 6] = ["a.md", "b.md", "x/c.md", "x/y/d.md", "picture.png", "x"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// Somebody adds a word to a file, at its beginning or at its end.
    Edit {
        on: usize,
        at: usize,
        in_front: bool,
    },
    Delete {
        on: usize,
        at: usize,
    },
    Rename {
        on: usize,
        from: usize,
        to: usize,
    },
    /// A run of a replica, perhaps under a fault.
    Sync {
        on: usize,
        fault: Option<usize>,
    },
    /// A run of a replica that dies after so many milliseconds.
    Killed {
        on: usize,
        after: u64,
    },
}

/// The replicas, and the vault itself as a device of its own behind them.
const REPLICAS: usize = 2;
const DEVICES: usize = 3;

const FAULTS: [&str; 7] =
    ["rival-push", "lose-echo", "lose-answer", "late-echo", "double-echo", "drop-in-upload", "keep-related"];

fn event() -> impl Strategy<Value = Event> {
    let device = 0..DEVICES;
    let replica = 0..REPLICAS;
    let path = 0..PATHS.len();
    prop_oneof![
        5 => (device.clone(), path.clone(), any::<bool>())
            .prop_map(|(on, at, in_front)| Event::Edit { on, at, in_front }),
        1 => (device.clone(), path.clone()).prop_map(|(on, at)| Event::Delete { on, at }),
        1 => (device, path.clone(), path).prop_map(|(on, from, to)| Event::Rename { on, from, to }),
        4 => (replica.clone(), prop::option::weighted(0.4, 0..FAULTS.len()))
            .prop_map(|(on, fault)| Event::Sync { on, fault }),
        2 => (replica, 1..60_u64).prop_map(|(on, after)| Event::Killed { on, after }),
    ]
}

/// A folder that is synced with the vault.
struct Replica {
    home: TempDir,
    source: PullSource,
}

impl Replica {
    fn new(bench: &Bench, name: &str) -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir(home.path().join("notes")).unwrap();
        let options = ClientOptions {
            api_url: bench.server.url(),
            device: name.to_owned(),
            ..ClientOptions::default()
        };
        let client = Client::new(options).unwrap();
        Replica { home, source: PullSource { client, ..bench.source.clone() } }
    }

    fn dest(&self) -> PathBuf {
        self.home.path().join("notes")
    }

    fn state(&self) -> Result<SqliteState, obsync_core::StateError> {
        SqliteState::open(&self.home.path().join("state.sqlite"), &identity(&self.source, &self.dest()))
    }

    async fn sync(&self) -> Result<Report, obsync_core::PullError> {
        let mut options = SyncOptions { second_look: Duration::ZERO, ..SyncOptions::default() };
        options.pull.max_delete = MaxDelete::Unlimited;
        options.max_delete_in_vault = MaxDelete::Unlimited;
        let store = Arc::new(FolderStore::open(&self.dest(), FolderOptions::default()).unwrap());
        let (state, stop) = (Arc::new(self.state().unwrap()), CancellationToken::new());
        sync(&self.source, store, state, &options, Arc::new(NoProgress), stop).await
    }

    async fn killed(&self, after: Duration) {
        let _ = tokio::time::timeout(after, self.sync()).await;
        while FolderStore::open(&self.dest(), FolderOptions::default()).unwrap().lock().is_err()
            || self.state().is_err()
        {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
}

/// What users did.
struct World {
    bench: Bench,
    replicas: Vec<Replica>,
    other: VaultHandle,
    words: u64,
    written: BTreeSet<String>,
    /// Words that a user removed while they were there to be seen.
    removed: BTreeSet<String>,
    time: i64,
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl World {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let replicas = vec![Replica::new(&bench, "one"), Replica::new(&bench, "two")];
        let other = bench.vault.as_device("other");
        let (written, removed) = (BTreeSet::new(), BTreeSet::new());
        World { bench, replicas, other, words: 0, written, removed, time: 1_700_000_000_000 }
    }

    /// The files that a device sees, by path.
    fn files(&self, on: usize) -> BTreeMap<String, String> {
        match self.replicas.get(on) {
            Some(replica) => texts(&replica.dest()),
            None => {
                let contents = self.bench.vault.contents().unwrap().into_iter();
                contents.map(|(path, content)| (path, String::from_utf8(content).unwrap())).collect()
            }
        }
    }

    /// Writes a file as a device does. `false`: something is in its way.
    fn put(&mut self, on: usize, path: &str, text: &str) -> bool {
        self.time += 1000;
        match self.replicas.get(on) {
            Some(replica) => {
                let path = replica.dest().join(path);
                !path.is_dir()
                    && fs::create_dir_all(path.parent().unwrap()).is_ok()
                    && fs::write(path, text).is_ok()
            }
            None => {
                let files = self.files(on);
                let is_blocked = files.keys().any(|other| {
                    other.starts_with(&format!("{path}/")) || path.starts_with(&format!("{other}/"))
                });
                !is_blocked && self.other.write(path, text, self.time).is_ok()
            }
        }
    }

    fn remove(&self, on: usize, path: &str) {
        match self.replicas.get(on) {
            Some(replica) => fs::remove_file(replica.dest().join(path)).unwrap(),
            None => drop(self.other.delete(path).unwrap()),
        }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Edit { on, at, in_front } => {
                let before = self.files(on).remove(PATHS[at]).unwrap_or_default();
                self.words += 1;
                let word = format!("w{}", self.words);
                let text = if in_front { format!("{word}\n{before}") } else { format!("{before}{word}\n") };
                if self.put(on, PATHS[at], &text) {
                    self.written.insert(word);
                }
            }
            Event::Delete { on, at } => {
                if let Some(text) = self.files(on).remove(PATHS[at]) {
                    self.remove(on, PATHS[at]);
                    self.removed.extend(words(&text));
                }
            }
            Event::Rename { from, to, .. } if from == to => {}
            Event::Rename { on, from, to } => {
                let mut files = self.files(on);
                if let Some(text) = files.remove(PATHS[from])
                    && !files.contains_key(PATHS[to])
                    && self.put(on, PATHS[to], &text)
                {
                    self.remove(on, PATHS[from]);
                }
            }
            Event::Sync { on, fault } => {
                if let Some(fault) = fault {
                    let name = FAULTS[fault];
                    self.bench
                        .server
                        .faults()
                        .update(|faults| faults.set(&format!("{name}=next:1")).unwrap());
                }
                // What it could not do the next one does.
                let _ = self.replicas[on].sync().await;
                self.bench.server.faults().clear();
            }
            Event::Killed { on, after } => self.replicas[on].killed(Duration::from_millis(after)).await,
        }
    }

    /// Runs both until nothing changes any more.
    async fn come_to_rest(&self) {
        for _ in 0..12 {
            let mut changed = false;
            for replica in &self.replicas {
                let report = replica.sync().await.unwrap();
                assert!(matches!(report.outcome, Outcome::Complete | Outcome::Failures), "{report:#?}");
                changed |= !report.is_unchanged();
            }
            if !changed {
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    fn check(&self) {
        let trees: Vec<Expected> =
            self.replicas.iter().map(|replica| Expected::of_directory(&replica.dest()).unwrap()).collect();
        for replica in &self.replicas {
            let differences = self.bench.vault.expected().unwrap().differences(&replica.dest()).unwrap();
            assert!(differences.is_empty(), "{differences:#?}");
        }
        assert_eq!(trees[0].files.len(), trees[1].files.len());
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

fn texts(folder: &std::path::Path) -> BTreeMap<String, String> {
    let tree = Expected::of_directory(folder).unwrap();
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    tree.files.iter().map(|file| (file.path.clone(), read(&file.path))).collect()
}

/// How many histories are tried where nobody says otherwise.
const USUAL: u32 = 24;

#[test]
fn whatever_happens_on_all_sides_they_end_equal_and_no_text_is_lost() {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { USUAL };
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_261_126),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..default
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    proptest!(config, |(events in prop::collection::vec(event(), 1..30))| {
        runtime.block_on(async {
            let mut world = World::new().await;
            for event in events {
                world.happen(event).await;
            }
            world.come_to_rest().await;
            world.check();
            Ok(()) as Result<(), TestCaseError>
        })?;
    });
}
