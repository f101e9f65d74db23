//! A run with changes on both sides is killed at each of its steps, one after the other, and at random
//! moments: before and after each commit, at each step of writing to the folder, before and after each sent
//! change. The next run repairs the result: both sides end up as without the kill, nothing is lost, and
//! nothing is sent twice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, abort};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use obsync_client::FetchOptions;
use obsync_conformance::WatchedState;
use obsync_core::{
    Describe, FileAction, MarkerFound, MaxDelete, NoProgress, Outcome, Phase, Progress, PullOptions,
    StateStore, SyncOptions, sync,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{Uid, VaultPath};
use obsync_sqlite::SqliteState;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, identity, source_at};
use crate::kills::copy;

/// Environment of the child: the server, the folder with destination and state, and the step at which it
/// dies.
const SERVER: &str = "OBSYNC_TEST_SYNC_SERVER";
const HOME: &str = "OBSYNC_TEST_SYNC_HOME";
const DIES_AT: &str = "OBSYNC_TEST_SYNC_DIES_AT";

const TIME: i64 = 1_700_000_000_000;
/// Number of random moments at which a run is killed.
const MOMENTS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_at_any_of_its_steps_is_exact_after_the_next() {
    if let Ok(dies_at) = std::env::var(DIES_AT) {
        return die(dies_at.parse().unwrap()).await;
    }
    let scene = Scene::new().await;
    let mut steps = 0;
    loop {
        scene.set(steps);
        let status = scene.start(steps).wait().unwrap();
        let is_killed = status.signal().is_some();
        assert!(is_killed || status.success(), "step {steps}: {status}");
        scene.assert_made_good(&format!("step {steps}"), steps).await;
        if !is_killed {
            break;
        }
        steps += 1;
    }
    assert!(
        steps >= 100,
        "{steps} steps: commits, steps of the folder and changes that are sent are counted"
    );
    println!("{steps} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_at_random_moments_is_exact_after_the_next() {
    let scene = Scene::new().await;
    scene.set(0);
    let begun = Instant::now();
    assert!(scene.start(usize::MAX).wait().unwrap().success());
    let whole = begun.elapsed();
    scene.assert_made_good("a whole run", 0).await;
    // The same moments each time, as far as a clock allows.
    let mut random: u32 = 20_261_126;
    let mut killed = 0;
    for moment in 1..=MOMENTS as usize {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let after = whole.mul_f64(f64::from(random >> 8) / f64::from(1 << 24));
        scene.set(moment);
        let mut child = scene.start(usize::MAX);
        thread::sleep(after);
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().signal().is_some());
        scene.assert_made_good(&format!("moment {moment}, after {after:?}"), moment).await;
    }
    assert!(killed > MOMENTS as usize / 2, "only {killed} runs were at work when they were killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_killed_twice_around_its_marker_is_not_doubted() {
    let bench = Bench::new().await;
    bench.vault.write("note.md", "text", TIME).unwrap();
    bench.sync().await;
    let version = bench.vault.version();
    let copies = tempfile::tempdir().unwrap();
    let (pristine, once) = (copies.path().join("pristine"), copies.path().join("killed once"));
    copy(bench.home(), &pristine);
    let mut kills = 0;
    // Checks the order in which the marker is written and recorded, by the state after the first kill.
    let (mut announced, mut written) = (0, 0);
    for first in 0.. {
        copy(&pristine, bench.home());
        bench.vault.roll_back(version).unwrap();
        bench.edit("note.md", &format!("edited before kill {first}"));
        if start(&bench, first).wait().unwrap().signal().is_none() {
            break;
        }
        let identity = bench.state().load().await.unwrap().destination.unwrap();
        let Some(next) = identity.next else { continue };
        let MarkerFound::Marker { marker, .. } = bench.store().identify(None).await.unwrap() else {
            panic!()
        };
        assert!([identity.generation, next].contains(&marker.generation), "step {first}");
        match marker.generation == next {
            true => written += 1,
            false => announced += 1,
        }
        copy(bench.home(), &once);
        for second in 0.. {
            copy(&once, bench.home());
            bench.vault.roll_back(version).unwrap();
            let text = format!("edited before kills {first} and {second}");
            bench.edit("note.md", &text);
            let is_killed = start(&bench, second).wait().unwrap().signal().is_some();
            let report = bench.sync().await;
            assert_eq!((report.doubt, report.outcome), (None, Outcome::Complete), "{first}, {second}");
            bench.assert_in_step().await;
            assert_eq!(bench.read("note.md"), text, "{first}, {second}");
            if !is_killed {
                break;
            }
            kills += 1;
        }
    }
    assert!(
        announced > 0 && written > 0 && kills > 10,
        "{announced} announced, {written} written, {kills} kills"
    );
}

/// Files of both sides at first.
const BEFORE: [(&str, &str); 13] = [
    ("changed there.md", "one"),
    ("deleted there.md", "to be deleted there"),
    ("renamed there.md", "to be renamed there"),
    ("edited here.md", "as it was"),
    ("edited here, renamed there.md", "as it was before it was renamed"),
    ("deleted here.md", "to be deleted here"),
    ("renamed here.md", "to be renamed here"),
    ("merged.md", "a\nb\nc\n"),
    ("clash.md", "a\n"),
    ("edited here, deleted there.md", "as it was, too"),
    ("deleted here, edited there.md", "as it was as well"),
    ("folder/a.md", "in a folder"),
    ("kept.md", "nobody touches it"),
];

/// A folder and a vault that were in sync and have both changed since.
struct Scene {
    bench: Bench,
    pristine: TempDir,
    changed: Uid,
}

impl Scene {
    async fn new() -> Self {
        let bench = Bench::new().await;
        for (path, text) in BEFORE {
            bench.vault.write(path, text, TIME).unwrap();
        }
        bench.sync().await;
        let pristine = tempfile::tempdir().unwrap();
        copy(bench.home(), &pristine.path().join("home"));
        let vault = bench.vault.as_device("B");
        vault.write("changed there.md", "two, and longer", TIME + 1000).unwrap();
        vault.delete("deleted there.md").unwrap();
        vault.rename("renamed there.md", "new name there.md").unwrap();
        vault.rename("edited here, renamed there.md", "edited here, and its new name.md").unwrap();
        vault.write("merged.md", "a\nb\nC\n", TIME + 1000).unwrap();
        vault.write("clash.md", "theirs\n", TIME + 1000).unwrap();
        vault.delete("edited here, deleted there.md").unwrap();
        vault.write("deleted here, edited there.md", "edited there", TIME + 1000).unwrap();
        vault.write("new there.md", "new there", TIME + 1000).unwrap();
        let changed = vault.version();
        Scene { bench, pristine, changed }
    }

    /// Resets both sides, with different texts for each time: the server has none of them yet.
    fn set(&self, time: usize) {
        let bench = &self.bench;
        bench.vault.roll_back(self.changed).unwrap();
        copy(&self.pristine.path().join("home"), bench.home());
        let at = |path: &str| bench.dest().join(path);
        for (path, text) in mine(time) {
            bench.edit(path, &text);
        }
        bench.edit("merged.md", "A\nb\nc\n");
        for path in ["deleted here.md", "deleted here, edited there.md"] {
            fs::remove_file(at(path)).unwrap();
        }
        fs::rename(at("renamed here.md"), at("new name here.md")).unwrap();
        fs::create_dir(at("moved")).unwrap();
        fs::rename(at("folder/a.md"), at("moved/a.md")).unwrap();
        fs::remove_dir(at("folder")).unwrap();
    }

    /// Begins a run in a process of its own that dies at this step.
    fn start(&self, dies_at: usize) -> Child {
        start(&self.bench, dies_at)
    }

    async fn assert_made_good(&self, when: &str, time: usize) {
        let bench = &self.bench;
        let mut report = bench.sync().await;
        for _ in 0..4 {
            if !report.is_unchanged() {
                report = bench.sync().await;
            }
        }
        assert!(report.is_unchanged() && report.outcome == Outcome::Complete, "{when}: {report:#?}");
        let differences = bench.vault.expected().unwrap().differences(&bench.dest()).unwrap();
        assert!(differences.is_empty(), "{when}: {differences:#?}");
        let mut found: BTreeMap<String, String> =
            bench.files().into_iter().map(|path| (path.clone(), bench.read(&path))).collect();
        let mut expected: BTreeMap<String, String> = BTreeMap::from_iter(mine(time));
        // It exists once, under its new name.
        let carried = expected.remove("edited here, renamed there.md").unwrap();
        expected.insert("edited here, and its new name.md".to_owned(), carried);
        // A file that both sides wrote and that cannot be merged exists in both versions, once each.
        let ours = expected.insert("clash.md".to_owned(), "theirs\n".to_owned());
        let copies: Vec<String> =
            found.keys().filter(|path| path.contains("Conflicted copy")).cloned().collect();
        let [clash] = &copies[..] else { panic!("{when}: {found:#?}") };
        assert_eq!(found.remove(clash), ours, "{when}");
        let theirs = [
            ("changed there.md", "two, and longer"),
            ("new name there.md", "to be renamed there"),
            ("new name here.md", "to be renamed here"),
            ("merged.md", "A\nb\nC\n"),
            ("deleted here, edited there.md", "edited there"),
            ("new there.md", "new there"),
            ("moved/a.md", "in a folder"),
            ("kept.md", "nobody touches it"),
        ];
        expected.extend(theirs.map(|(path, text)| (path.to_owned(), text.to_owned())));
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{when}");
        assert!(found == expected, "{when}: texts differ");
        // The deletions, folders and files that every run sends, and no more.
        let sent = bench.vault.version().0 - self.changed.0;
        assert!((13..=17).contains(&sent), "{when}: {sent} versions");
    }
}

/// Begins a run in a process of its own that dies at this step.
fn start(bench: &Bench, dies_at: usize) -> Child {
    let test = "two_way_kills::a_sync_that_is_killed_at_any_of_its_steps_is_exact_after_the_next";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact"]).stdout(Stdio::null()).stderr(Stdio::null());
    child.env(SERVER, bench.server.url()).env(HOME, bench.home());
    child.env(DIES_AT, dies_at.to_string()).spawn().unwrap()
}

/// The user's changes here.
fn mine(time: usize) -> Vec<(String, String)> {
    let own = |path: &str| (path.to_owned(), format!("mine, the {time}th time"));
    let large = ("large here.bin".to_owned(), format!("{time:08}").repeat(3 << 17));
    let small = [
        "edited here.md",
        "edited here, renamed there.md",
        "clash.md",
        "edited here, deleted there.md",
        "new here.md",
    ];
    small.into_iter().map(own).chain([large]).collect()
}

/// Reaches a step with each progress call.
struct Steps<F>(F);

impl<F: Fn() + Send + Sync> Progress for Steps<F> {
    fn phase(&self, _phase: Phase) {
        (self.0)();
    }

    fn planned(&self, _files: u64, _bytes: u64) {
        (self.0)();
    }

    fn placed(&self, _bytes: u64) {
        (self.0)();
    }

    fn file(&self, _path: &VaultPath, _action: FileAction) {
        (self.0)();
    }

    fn notice(&self, _text: &str) {
        (self.0)();
    }
}

async fn die(at: usize) {
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let source = source_at(&std::env::var(SERVER).unwrap()).await;
    let reached = Arc::new(AtomicUsize::new(0));
    let step = move || {
        if reached.fetch_add(1, Ordering::Relaxed) == at {
            abort();
        }
    };
    let dest = home.join("notes");
    let watch = {
        let step = step.clone();
        move |_: obsync_folder::Step, _: Option<&VaultPath>| step()
    };
    let destination = FolderDestination::open_watched(&dest, FolderOptions::default(), watch).unwrap();
    let state = SqliteState::open(&home.join("state.sqlite"), &identity(&source, &dest)).unwrap();
    let state = Arc::new(WatchedState::with(Arc::new(state), step.clone()));
    let options = SyncOptions {
        pull: PullOptions {
            fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
            max_delete: MaxDelete::Unlimited,
            ..PullOptions::default()
        },
        max_delete_in_vault: MaxDelete::Unlimited,
        second_look: Duration::ZERO,
        ..SyncOptions::default()
    };
    let progress: Arc<dyn Progress> = match at {
        usize::MAX => Arc::new(NoProgress),
        _ => Arc::new(Steps(step)),
    };
    sync(&source, Arc::new(destination), state, &options, progress, CancellationToken::new()).await.unwrap();
}
