//! A run does exactly what the dry run before it reported, and a dry run changes nothing: pulls in histories
//! without local edits, and syncs with changes on both sides.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use obsync_client::{PushFile, SessionTarget, WritingSession};
use obsync_core::{
    Commit, Mode, PullSource, Report, StateStore, Step, StepAction, SyncDirection, SyncOptions, Tally,
    VaultState,
};
use obsync_protocol::{ContentHash, VaultPath};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::bench::Bench;
use crate::two_way::in_step;

const T: i64 = 1_700_000_000_000;

/// Nested, and with a file that becomes a folder.
const PATHS: [&str; 9] = [
    "a.md",
    "b.md",
    "folder/c.md",
    "folder/d.md",
    "folder/deep/e.md",
    "x",
    "x/y.md",
    "other/z.md",
    ".obsidian/app.json",
];

/// One event between two runs.
#[derive(Clone, Debug)]
enum Event {
    Write {
        at: usize,
        content: u8,
        time: i64,
    },
    Delete {
        at: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Folder {
        at: usize,
    },
    /// A user removes a file of the destination.
    Lose {
        at: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let at = 0..PATHS.len();
    prop_oneof![
        6 => (at.clone(), 0u8..6, 0i64..3).prop_map(|(at, content, time)| Event::Write { at, content, time }),
        2 => at.clone().prop_map(|at| Event::Delete { at }),
        2 => (at.clone(), at.clone()).prop_map(|(from, to)| Event::Rename { from, to }),
        1 => at.clone().prop_map(|at| Event::Folder { at }),
        2 => at.prop_map(|at| Event::Lose { at }),
    ]
}

/// A content; some are equal, and one is empty.
fn content(number: u8) -> String {
    if number == 0 { String::new() } else { format!("content {number}") }
}

fn happen(bench: &Bench, event: &Event) {
    // Events that are impossible at this point are skipped.
    let local = |at: usize| bench.dest().join(PATHS[at]);
    let _ = match event {
        Event::Write { at, content: number, time } => {
            bench.vault.write(PATHS[*at], content(*number), T + time * 60_000).map(drop).ok()
        }
        Event::Delete { at } => bench.vault.delete(PATHS[*at]).map(drop).ok(),
        Event::Rename { from, to } => bench.vault.rename(PATHS[*from], PATHS[*to]).map(drop).ok(),
        Event::Folder { at } => bench.vault.create_folder(PATHS[*at]).map(drop).ok(),
        Event::Lose { at } => fs::remove_file(local(*at)).ok(),
    };
}

/// Created and removed paths, with the words of their steps. The source of a copy is not promised.
fn deeds(steps: &[Step]) -> BTreeSet<(String, String)> {
    let counted = |action: StepAction| {
        matches!(action, StepAction::Download | StepAction::Copy | StepAction::Adopt | StepAction::Remove)
    };
    let deeds = steps.iter().filter(|step| counted(step.action));
    deeds.map(|step| (format!("{:?}", step.action), step.path.to_string())).collect()
}

async fn runs(bench: &mut Bench, mode: Mode) -> (Report, Report) {
    bench.options.mode = mode;
    bench.options.list_changes = Some(u64::MAX);
    bench.options.dry_run = true;
    fs::create_dir_all(bench.dest()).unwrap();
    let before = bench.tree();
    let said = bench.pull().await;
    assert_eq!(before.differences(&bench.dest()).unwrap(), [""; 0], "a dry run changed something");
    bench.options.dry_run = false;
    let did = bench.pull().await;
    (said, did)
}

/// Compares both. At the `unchanged` paths each may copy or not: a present file is copied over itself only if
/// it might be the very file that is about to be removed.
fn compare(said: &Report, did: &Report, unchanged: &BTreeSet<String>) {
    let all = [deeds(&said.steps), deeds(did.changes.as_deref().unwrap())];
    let [of_dry_run, of_run] = all.clone().map(|deeds| -> BTreeSet<_> {
        deeds.into_iter().filter(|(action, path)| action != "Copy" || !unchanged.contains(path)).collect()
    });
    assert_eq!(of_dry_run, of_run, "said: {said:#?}\ndid: {did:#?}");
    let are_alike = all[0] == all[1];
    let tallies = |report: &Report| {
        let copied = if are_alike { report.copied } else { Tally::default() };
        [report.pulled, copied, report.adopted, report.deleted, report.retained, report.skipped]
    };
    assert_eq!(tallies(said), tallies(did), "said: {said:#?}\ndid: {did:#?}");
    assert_eq!(said.kept, did.kept);
    let beside = said.steps.iter().filter(|step| step.action == StepAction::KeepBeside).count();
    // If a vault lists a file and entries below it, one of them cannot be placed; which one is not foreseen.
    assert!(beside >= did.conflicts.len(), "said: {said:#?}\ndid: {did:#?}");
    assert_eq!((said.held_back(), said.failed()), (did.held_back(), did.failed()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_full_pull_names_the_one_file_that_is_fetched() {
    let mut bench = Bench::new().await;
    for number in 0..50 {
        bench.vault.write(&format!("folder/{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.pull().await;
    fs::remove_file(bench.dest().join("folder/7.md")).unwrap();
    let (said, did) = runs(&mut bench, Mode::Full).await;
    let steps: Vec<&str> = said.steps.iter().map(|step| step.path.as_str()).collect();
    assert_eq!(steps, ["folder/7.md"], "{said:#?}");
    assert_eq!((said.pulled.files, did.pulled.files), (1, 1));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_first_pull_says_everything() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "text", T).unwrap();
    bench.vault.write("folder/b.md", "text", T).unwrap();
    bench.vault.create_folder("empty").unwrap();
    let (said, did) = runs(&mut bench, Mode::Incremental).await;
    compare(&said, &did, &BTreeSet::new());
    assert_eq!((said.pulled.files, said.copied.files, said.folders_created), (1, 1, did.folders_created));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        rng_seed: RngSeed::Fixed(15),
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_a_dry_run_says_is_what_the_run_then_does(
        first in prop::collection::vec(event(), 1..12),
        then in prop::collection::vec(event(), 0..12),
        full in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new().await;
            first.iter().for_each(|event| happen(&bench, event));
            bench.pull().await;
            then.iter().for_each(|event| happen(&bench, event));
            let mode = if full { Mode::Full } else { Mode::Incremental };
            fs::create_dir_all(bench.dest()).unwrap();
            let before = bench.contents();
            let (said, did) = runs(&mut bench, mode).await;
            let after = bench.contents();
            let is_same = |path: &&String| before.get(*path) == after.get(*path);
            compare(&said, &did, &before.keys().filter(is_same).cloned().collect());
        });
    }
}

/// Paths of a sync. One of them can be a file, or the folder of another.
const BOTH: [&str; 8] =
    ["a.md", "b.md", "folder/c.md", "folder/d.md", "folder/deep/e.md", "other/z.png", "x", "x/y.md"];

/// One event on one of two sides.
#[derive(Clone, Debug)]
enum Change {
    Write { here: bool, at: usize, content: u8 },
    Delete { here: bool, at: usize },
    Rename { here: bool, from: usize, to: usize },
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..BOTH.len();
    let here = any::<bool>();
    prop_oneof![
        6 => (here, at.clone(), 0u8..5).prop_map(|(here, at, content)| Change::Write { here, at, content }),
        2 => (here, at.clone()).prop_map(|(here, at)| Change::Delete { here, at }),
        2 => (here, at.clone(), at).prop_map(|(here, from, to)| Change::Rename { here, from, to }),
    ]
}

/// Texts, two of which can be merged if they were made from the first.
fn text(number: u8) -> String {
    (1..8)
        .map(
            |line| {
                if line == number * 2 { format!("line {line} changed\n") } else { format!("line {line}\n") }
            },
        )
        .collect()
}

/// `OBSYNC_DRY_RUNS=2000` runs more cases than usual.
fn cases() -> u32 {
    std::env::var("OBSYNC_DRY_RUNS").map_or(40, |number| number.parse().unwrap())
}

fn change_side(bench: &Bench, change: &Change) {
    let local = |at: usize| bench.dest().join(BOTH[at]);
    // Changes that are impossible at this point are skipped.
    let can_be = |at: usize| !local(at).is_dir() && !local(at).ancestors().skip(1).any(Path::is_file);
    match change {
        Change::Write { here: true, at, content } if can_be(*at) => bench.edit(BOTH[*at], &text(*content)),
        Change::Write { here: true, .. } => {}
        Change::Write { here: false, at, content } => {
            drop(bench.vault.write(BOTH[*at], text(*content), T + i64::from(*content)));
        }
        Change::Delete { here: true, at } => drop(fs::remove_file(local(*at))),
        Change::Delete { here: false, at } => drop(bench.vault.delete(BOTH[*at])),
        Change::Rename { here: true, from, to } => {
            if local(*from).is_file() && can_be(*to) {
                fs::create_dir_all(local(*to).parent().unwrap()).unwrap();
                fs::rename(local(*from), local(*to)).unwrap();
            }
        }
        Change::Rename { here: false, from, to } => drop(bench.vault.rename(BOTH[*from], BOTH[*to])),
    }
}

/// The same path for every minute in which a copy can be made.
fn timeless(path: &str) -> String {
    path.split(" (Conflicted copy ").next().map_or_else(String::new, |before| match before == path {
        true => path.to_owned(),
        false => format!("copy of {before}"),
    })
}

/// Steps of a sync with files on both sides, and with folders of the vault.
fn deeds_of_sync(steps: &[Step]) -> BTreeSet<(String, String)> {
    let deed = |step: &Step| {
        let action = match step.action {
            // The source of a copy is not promised.
            StepAction::Download | StepAction::Copy => "Arrive".to_owned(),
            StepAction::Touch
            | StepAction::CreateFolder
            | StepAction::RemoveFolder
            | StepAction::KeepBeside => return None,
            action => format!("{action:?}"),
        };
        Some((action, timeless(step.path.as_str())))
    };
    steps.iter().filter_map(deed).collect()
}

async fn syncs(bench: &mut Bench) -> (Report, Report) {
    bench.options.list_changes = Some(u64::MAX);
    bench.options.dry_run = true;
    fs::create_dir_all(bench.dest()).unwrap();
    let before = bench.tree();
    let said = bench.sync().await;
    assert_eq!(before.differences(&bench.dest()).unwrap(), [""; 0], "a dry run changed something");
    bench.options.dry_run = false;
    (said, bench.sync().await)
}

fn compare_syncs(said: &Report, did: &Report) {
    let [of_dry_run, of_run] = [&said.steps, did.changes.as_ref().unwrap()].map(|steps| deeds_of_sync(steps));
    assert_eq!(of_dry_run, of_run, "said: {said:#?}\ndid: {did:#?}");
    let beside = said.steps.iter().filter(|step| step.action == StepAction::KeepBeside);
    let beside: BTreeSet<&str> = beside.map(|step| step.path.as_str()).collect();
    let kept: BTreeSet<&str> = did.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    assert_eq!(beside, kept, "said: {said:#?}\ndid: {did:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_first_sync_sends_the_copy_of_a_clash_and_nothing_that_is_the_same() {
    let mut bench = Bench::new().await;
    bench.vault.write("Daily/same.md", "same", T).unwrap();
    bench.vault.write("Daily/today.md", "the vault's", T).unwrap();
    bench.edit("Daily/same.md", "same");
    bench.edit("Daily/today.md", "mine");
    let (said, did) = syncs(&mut bench).await;
    compare_syncs(&said, &did);
    let expected =
        [("Adopt", "Daily/same.md"), ("Arrive", "Daily/today.md"), ("Push", "copy of Daily/today")];
    let expected = expected.map(|(action, path)| (action.to_owned(), path.to_owned()));
    assert_eq!(deeds_of_sync(&said.steps), BTreeSet::from(expected), "{said:#?}");
}

/// The steps of a sync with these words, in the form of [`deeds_of_sync`].
fn said_so(expected: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    expected.iter().map(|(action, path)| ((*action).to_owned(), (*path).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_sync_sends_no_copy_that_is_there_already() {
    let mut bench = Bench::new().await;
    let copy = "note (Conflicted copy laptop 202501010000).md";
    bench.vault.write("note.md", "the vault's", T).unwrap();
    bench.vault.write(copy, "mine", T).unwrap();
    bench.edit("note.md", "mine");
    bench.edit(copy, "mine");
    let (said, did) = syncs(&mut bench).await;
    compare_syncs(&said, &did);
    let expected = said_so(&[("Adopt", "copy of note"), ("Arrive", "note.md")]);
    assert_eq!(deeds_of_sync(&said.steps), expected, "{said:#?}");
}

/// Sends a file whatever the vault has above or below it, as a device does that has not received that yet.
async fn send(bench: &Bench, path: &str, text: &str) {
    let PullSource { client, token, vault, keys } = bench.source.clone();
    let target = SessionTarget { token, vault_id: vault.id, host: vault.host, keys };
    let version = bench.vault.version().0;
    let session = WritingSession::open(&client, &target, version, false).await.unwrap();
    let (mut session, _live) = session.listing(&mut |_| {}).await.unwrap();
    let (path, hash) = (VaultPath::parse(path).unwrap(), ContentHash::of(text.as_bytes()));
    let file = PushFile { path: &path, hash, ctime: T, mtime: T, related: None };
    session.push_file(&file, text.as_bytes()).await.unwrap();
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_sync_foresees_that_a_file_gives_way_to_a_folder() {
    // True if the file was here when both sides agreed; and its present content.
    for (was_synced, here) in
        [(true, Some("a file")), (true, Some("edited")), (true, None), (false, Some("mine")), (false, None)]
    {
        let mut bench = Bench::new().await;
        send(&bench, "x", "a file").await;
        if was_synced {
            bench.sync().await;
            fs::remove_file(bench.dest().join("x")).unwrap();
        }
        send(&bench, "x/y.md", "in the folder").await;
        send(&bench, "x", "a file").await;
        if let Some(text) = here {
            bench.edit("x", text);
        }
        let (said, did) = syncs(&mut bench).await;
        compare_syncs(&said, &did);
        let expected = said_so(&[("Arrive", "x/y.md"), ("Push", "copy of x"), ("PushFolder", "x")]);
        assert_eq!(deeds_of_sync(&said.steps), expected, "{was_synced} {here:?}: {said:#?}");
        assert!(said.steps.iter().any(|step| step.action == StepAction::KeepBeside), "{said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_sync_foresees_that_what_is_here_gives_way_to_what_the_vault_has() {
    // A file in place of the vault's folder, and a folder in place of its file.
    for (here, there, expected) in [
        ("x", "x/y.md", &[("Arrive", "x/y.md"), ("Push", "copy of x")][..]),
        ("x/y.md", "x", &[("Arrive", "x"), ("Push", "copy of x"), ("PushFolder", "copy of x")]),
    ] {
        let mut bench = Bench::new().await;
        bench.vault.write(there, "the vault's", T).unwrap();
        bench.edit(here, "mine");
        let (said, did) = syncs(&mut bench).await;
        compare_syncs(&said, &did);
        assert_eq!(deeds_of_sync(&said.steps), said_so(expected), "{here}: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_full_sync_lists_everything() {
    let mut bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.vault.write("a.md", "missed", T + 5000).unwrap();
    // A state that claims more than was done.
    let (state, version) = (bench.state(), bench.vault.version().0);
    let known = state.load().await.unwrap();
    let state_now = VaultState { version, cursor: None, ..known };
    state.commit(Commit { state: state_now, ..Commit::default() }).await.unwrap();
    drop(state);
    assert!(bench.sync().await.is_unchanged(), "what is not full does not see it");
    bench.options.mode = Mode::Full;
    let (said, did) = syncs(&mut bench).await;
    compare_syncs(&said, &did);
    assert_eq!(deeds_of_sync(&said.steps), said_so(&[("Arrive", "a.md")]), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_first_sync_after_a_pull_brings_back_what_was_removed_here() {
    let mut bench = Bench::new().await;
    for path in ["a.md", "b.md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    bench.pull().await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    let (said, did) = syncs(&mut bench).await;
    compare_syncs(&said, &did);
    assert_eq!(deeds_of_sync(&said.steps), said_so(&[("Arrive", "a.md")]), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_first_push_sends_what_the_vault_has_not_and_nothing_over_what_it_changed() {
    let bench = Bench::new().await;
    for (path, there) in [("same.md", "same"), ("other.md", "the vault's")] {
        bench.vault.write(path, there, T).unwrap();
    }
    for (path, here) in [("same.md", "same"), ("other.md", "mine"), ("new.md", "new")] {
        bench.edit(path, here);
    }
    let push = async |dry_run| {
        let set = |options: &mut SyncOptions| {
            options.direction = SyncDirection::Push { mirrors: false };
            (options.pull.dry_run, options.pull.list_changes) = (dry_run, Some(u64::MAX));
        };
        bench.sync_with(set).await.unwrap()
    };
    let (said, did) = (push(true).await, push(false).await);
    compare_syncs(&said, &did);
    assert_eq!(deeds_of_sync(&said.steps), said_so(&[("Push", "new.md")]), "{said:#?}");
    assert_eq!(said.diverged, did.diverged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_sync_merges_and_lets_an_edit_of_the_vault_survive_a_deletion_here() {
    let mut bench =
        in_step(&[("merge.md", &text(0)), ("Welcome.md", "welcome"), ("old.md", "to be moved")]).await;
    bench.edit("merge.md", &text(1));
    bench.vault.write("merge.md", text(3), T + 5000).unwrap();
    fs::remove_file(bench.dest().join("Welcome.md")).unwrap();
    bench.vault.write("Welcome.md", "welcome back", T + 5000).unwrap();
    bench.edit("old.md", "to be moved, and edited");
    bench.vault.rename("old.md", "new.md").unwrap();
    let (said, did) = syncs(&mut bench).await;
    compare_syncs(&said, &did);
    let expected =
        [("Arrive", "Welcome.md"), ("Merge", "merge.md"), ("Push", "merge.md"), ("Push", "new.md")];
    let expected = expected.map(|(action, path)| (action.to_owned(), path.to_owned()));
    assert_eq!(deeds_of_sync(&said.steps), BTreeSet::from(expected), "{said:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        rng_seed: RngSeed::Fixed(16),
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_a_dry_run_of_a_sync_says_is_what_the_sync_then_does(
        first in prop::collection::vec(change(), 1..10),
        is_first in any::<bool>(),
        then in prop::collection::vec(change(), 0..10),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new().await;
            fs::create_dir_all(bench.dest()).unwrap();
            first.iter().for_each(|change| change_side(&bench, change));
            if !is_first {
                bench.sync().await;
            }
            then.iter().for_each(|change| change_side(&bench, change));
            let (said, did) = syncs(&mut bench).await;
            compare_syncs(&said, &did);
        });
    }
}
