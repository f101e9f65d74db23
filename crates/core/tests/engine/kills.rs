//! A run is killed at each of its steps, one after the other: before and after each commit, and at each step
//! of writing to the folder. The next run repairs the result.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, abort};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use obsync_client::FetchOptions;
use obsync_conformance::WatchedState;
use obsync_conformance::confined::{Confinement, confined};
use obsync_core::{
    Commit, DestinationError, Intent, KnownContent, MaxDelete, NoProgress, Outcome, PullError, PullOptions,
    StateStore, pull,
};
use obsync_folder::{FolderDestination, FolderOptions, Step};
use obsync_protocol::VaultPath;
use obsync_sqlite::SqliteState;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, identity, source_at};
use crate::meddled::MeddledFolder;

/// Environment of the child: the server, the folder with destination and state, and the step at which it
/// dies.
const SERVER: &str = "OBSYNC_TEST_SERVER";
const HOME: &str = "OBSYNC_TEST_HOME";
const DIES_AT: &str = "OBSYNC_TEST_DIES_AT";
const TRASH: &str = "OBSYNC_TEST_TRASH";
/// Prefix of the child's lines that name a step of the folder.
const REACHED: &str = "reached: ";

const USERS: &str = "a user's text";
const FORMATTED: &str = "formatted.md";
const FORMATTERS: &str = "as a formatter writes it";
const TIME: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next() {
    if let Ok(dies_at) = std::env::var(DIES_AT) {
        return die(dies_at.parse().unwrap()).await;
    }
    kill_at_each_step(Bench::new().await, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vault_deletes_or_replaces_is_in_the_trash_at_whatever_step_a_run_is_killed() {
    let mut bench = Bench::new().await;
    bench.folder.trash = true;
    kill_at_each_step(bench, "").await;
}

/// No file can be renamed or exchanged between the staging area and such a folder: files are copied beside
/// their places first, and exchanged there.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_below_a_mounted_file_system_is_made_good_by_the_next() {
    let test = "kills::a_run_that_is_killed_below_a_mounted_file_system_is_made_good_by_the_next";
    let Some(disk) = confined(test, Confinement::Disk("size=64m")) else { return };
    for trash in [false, true] {
        let mut bench = Bench::new().await.at(&disk);
        bench.folder.trash = trash;
        let mounted = bench.dest().join("disk");
        fs::create_dir_all(&mounted).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap();
        assert!(mount.success());
        kill_at_each_step(bench, "disk/").await;
    }
}

/// `below` is the folder of all notes, with a slash at its end.
async fn kill_at_each_step(bench: Bench, below: &str) {
    for (path, text) in BEFORE {
        bench.vault.write(&format!("{below}{path}"), text.as_bytes(), TIME).unwrap();
    }
    bench.pull().await;
    let formatted = format!("{below}{FORMATTED}");
    // This edit has a conflicted copy already when it comes in the way again.
    bench.edit(&formatted, FORMATTERS);
    bench.vault.write(&formatted, "changed once", TIME + 500).unwrap();
    assert_eq!(bench.pull().await.conflicts.len(), 1);
    let pristine = tempfile::tempdir().unwrap();
    let kept = pristine.path().join("home");
    copy(bench.home(), &kept);
    change(&bench, below);
    let (mut steps, mut reached) = (0, BTreeSet::new());
    loop {
        copy(&kept, bench.home());
        for (path, text) in [("edited.md", USERS), ("edited and deleted.md", USERS), (FORMATTED, FORMATTERS)]
        {
            bench.edit(format!("{below}{path}"), text);
        }
        let (is_killed, reached_by_it) = dies_after(&bench, steps);
        reached.extend(reached_by_it);
        if !is_killed {
            break;
        }
        bench.pull().await;
        assert_files(&bench, below, steps);
        let verification = bench.verify().await;
        assert_eq!((verification.missing, verification.changed), (vec![], vec![]), "step {steps}");
        assert!(!bench.dest().join(".obsync/staging").exists(), "step {steps}");
        let next = bench.pull().await;
        assert!(next.is_unchanged(), "step {steps}: {next:#?}");
        steps += 1;
    }
    let copies_to_trash = bench.folder.trash && !below.is_empty();
    let can_be_reached = |step: &&Step| **step != Step::CopiedToTrash || copies_to_trash;
    let all: BTreeSet<String> =
        Step::ALL.iter().filter(can_be_reached).map(|step| format!("{step:?}")).collect();
    assert_eq!(reached, all, "a step that is not reached is not tried");
    assert!(steps >= 30, "{steps} steps: commits and steps of the folder are counted");
    println!("{steps} kills");
}

/// A note that was removed here is wanted again: its record must not claim that it is still here.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_had_removed_comes_back_when_the_vault_has_it_again() {
    const NOTES: [(&str, &str); 3] =
        [("renamed.md", "renamed"), ("deleted.md", "deleted"), ("kept.md", "kept")];
    for syncs in [false, true] {
        let run = async |bench: &Bench| if syncs { bench.sync().await } else { bench.pull().await };
        let mut steps = 0;
        loop {
            let bench = Bench::new().await;
            for (path, text) in NOTES {
                bench.vault.write(path, text, TIME).unwrap();
            }
            bench.vault.create_folder("empty").unwrap();
            run(&bench).await;
            bench.vault.rename("renamed.md", "new name.md").unwrap();
            bench.vault.delete("deleted.md").unwrap();
            bench.vault.delete("empty").unwrap();
            if !dies(&bench, steps) {
                break;
            }
            bench.vault.create_folder("empty").unwrap();
            bench.vault.rename("new name.md", "renamed.md").unwrap();
            bench.vault.write("deleted.md", "deleted", TIME).unwrap();
            run(&bench).await;
            run(&bench).await;
            let notes = bench.files().into_iter().filter(|file| !file.starts_with(".obsync")).count();
            assert_eq!(notes, NOTES.len(), "syncs: {syncs}, step {steps}: {:?}", bench.files());
            for (path, text) in NOTES {
                let vaults = bench.vault.contents().unwrap();
                assert_eq!(bench.read(path), text, "syncs: {syncs}, step {steps}");
                assert_eq!(vaults.get(path).map(Vec::as_slice), Some(text.as_bytes()), "step {steps}");
            }
            for folders in [bench.vault.expected().unwrap().folders, bench.tree().folders] {
                assert!(folders.iter().any(|folder| folder == "empty"), "syncs: {syncs}, step {steps}");
            }
            steps += 1;
        }
        assert!(steps >= 10, "{steps} steps");
    }
}

/// Below an unmounted file system it is unknown whether the file exists.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_may_have_removed_where_nobody_can_look_is_settled_when_somebody_can() {
    for (was_removed, is_back) in [(false, false), (true, true), (true, false), (false, true)] {
        let bench = Bench::new().await;
        bench.vault.write("disk/a.md", "text", TIME).unwrap();
        bench.vault.write("kept.md", "kept", TIME).unwrap();
        bench.pull().await;
        bench.vault.delete("disk/a.md").unwrap();
        // The state that a run leaves when it dies around the removal.
        let state = bench.state();
        let (path, content) = (VaultPath::parse("disk/a.md").unwrap(), KnownContent::of(b"text"));
        let (intents, known) = (vec![Intent::Remove { path, content }], state.load().await.unwrap());
        state.commit(Commit { intents, state: known, ..Commit::default() }).await.unwrap();
        drop(state);
        let disk = bench.dest().join("disk");
        if was_removed {
            fs::remove_file(disk.join("a.md")).unwrap();
        }
        // The folder counts as an unmounted file system.
        let (away, mounts) = (bench.home().join("away"), bench.dest().join(".obsync/mounts"));
        fs::rename(&disk, &away).unwrap();
        fs::create_dir(&disk).unwrap();
        fs::write(&mounts, "disk\n").unwrap();
        if is_back {
            bench.vault.write("disk/a.md", "text", TIME).unwrap();
        }
        assert_eq!(bench.pull().await.outcome, Outcome::Failures);
        fs::remove_file(&mounts).unwrap();
        fs::remove_dir(&disk).unwrap();
        fs::rename(&away, &disk).unwrap();
        let report = bench.pull().await;
        assert_eq!(report.outcome, Outcome::Complete, "{was_removed}, {is_back}: {report:#?}");
        assert_eq!(disk.join("a.md").exists(), is_back, "{was_removed}, {is_back}");
        assert_eq!(report.conflicts, [], "{was_removed}, {is_back}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_cannot_go_on_keeps_what_was_announced() {
    let bench = Bench::new().await;
    for path in ["a.md", "b.md"] {
        bench.vault.write(path, path.as_bytes(), TIME).unwrap();
    }
    bench.pull().await;
    // The state that a run leaves when it dies between publishing and recording.
    let state = bench.state();
    let left = state.all_records().await.unwrap();
    let forgotten = left.iter().map(|record| record.path.clone()).collect();
    let intents = left.into_iter().map(Intent::Place).collect();
    let known = state.load().await.unwrap();
    state.commit(Commit { forgotten, intents, state: known, ..Commit::default() }).await.unwrap();
    let announced = state.intents().await.unwrap();
    assert_eq!(announced.len(), 2);
    drop(state);
    let destination = Arc::new(MeddledFolder::full_at_first(bench.store()));
    let (progress, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let stopped =
        pull(&bench.source, destination, bench.state(), &bench.options, progress, stop).await.unwrap_err();
    assert!(matches!(stopped, PullError::Store(DestinationError::Full { .. })), "{stopped}");
    let state = bench.state();
    assert_eq!((state.intents().await.unwrap(), state.all_records().await.unwrap()), (announced, vec![]));
    drop(state);
    assert_eq!(bench.pull().await.adopted.files, 2);
    bench.assert_exact().await;
}

const BEFORE: &[(&str, &str)] = &[
    ("changed.md", "one"),
    ("deleted.md", "to be deleted"),
    ("edited.md", "as pulled"),
    ("edited and deleted.md", "as pulled, too"),
    ("renamed.md", "to be renamed"),
    ("moved/a.md", "in a folder"),
    ("left.md", "on the left"),
    ("right.md", "on the right"),
    ("touched.md", "only its time changes"),
    (FORMATTED, "as pulled"),
];

const AFTER: &[(&str, &str)] = &[
    ("changed.md", "two, and longer"),
    ("edited.md", "changed in the vault"),
    ("new name.md", "to be renamed"),
    ("moved there/a.md", "in a folder"),
    ("left.md", "on the right"),
    ("right.md", "on the left"),
    ("touched.md", "only its time changes"),
    ("copy 1.md", "at two places"),
    ("copy 2.md", "at two places"),
    ("new.md", "new"),
    (FORMATTED, "changed twice"),
];

/// Changes the vault in every way that a run handles.
fn change(bench: &Bench, below: &str) {
    let vault = &bench.vault;
    for path in ["deleted.md", "edited and deleted.md", "renamed.md", "moved/a.md"] {
        vault.delete(&format!("{below}{path}")).unwrap();
    }
    for (path, text) in AFTER {
        vault.write(&format!("{below}{path}"), text.as_bytes(), TIME + 1000).unwrap();
    }
}

/// Asserts that the folder has the vault's files, each of the user's two texts once, and nothing else.
fn assert_files(bench: &Bench, below: &str, step: usize) {
    let expected: BTreeMap<String, String> =
        bench.vault.expected().unwrap().files.into_iter().map(|file| (file.path, file.sha256)).collect();
    let mut others = bench.contents();
    others.retain(|path, _| !path.starts_with(".obsync/trash/"));
    for (path, content) in &expected {
        assert_eq!(others.remove(path).as_ref(), Some(content), "step {step}: {path}");
    }
    let is_formatted = format!("{below}formatted (");
    let formatted: Vec<String> =
        others.extract_if(.., |path, _| path.starts_with(&is_formatted)).map(|(path, _)| path).collect();
    let texts: Vec<String> = formatted.iter().map(|path| bench.read(path)).collect();
    assert_eq!(texts, [FORMATTERS], "step {step}");
    let texts: Vec<String> = others.keys().map(|path| bench.read(path)).collect();
    assert!(texts.iter().all(|text| text == USERS), "step {step}: {others:?}");
    for name in ["edited (", "edited and deleted"] {
        let kept = others.keys().filter(|path| path.starts_with(&format!("{below}{name}"))).count();
        assert_eq!(kept, 1, "step {step}: {name}: {others:?}");
    }
    assert_eq!(others.len(), 2, "step {step}: {others:?}");
    // Remaining files of obsync's own.
    let own = fs::read_dir(bench.dest().join(".obsync")).unwrap();
    let own: BTreeSet<String> = own.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known = [".gitignore", "id", "lock", "pin.json"].map(str::to_owned);
    let is_known = |name: &String| {
        known.contains(name)
            || (bench.folder.trash && name == "trash")
            || (!below.is_empty() && name == "mounts")
    };
    assert!(own.iter().all(is_known), "step {step}: {own:?}");
    if bench.folder.trash {
        let trash = texts_below(&bench.dest().join(".obsync/trash"));
        for text in ["one", "to be deleted"] {
            assert!(trash.contains(text), "step {step}: {text} is not in the trash: {trash:?}");
        }
    }
}

/// The contents of all files in a folder and below it.
fn texts_below(folder: &Path) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => texts.extend(texts_below(&path)),
            false => drop(texts.insert(fs::read_to_string(path).unwrap())),
        }
    }
    texts
}

/// Runs a pull in a process of its own that dies at this step. `false` if it has fewer steps.
fn dies(bench: &Bench, at: usize) -> bool {
    dies_after(bench, at).0
}

/// The same. Also returns the steps of the folder that it reached.
fn dies_after(bench: &Bench, at: usize) -> (bool, BTreeSet<String>) {
    let test = "kills::a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]);
    child.env(SERVER, bench.server.url()).env(HOME, bench.home()).env(DIES_AT, at.to_string());
    child.env(TRASH, bench.folder.trash.to_string());
    let output = child.output().unwrap();
    let is_killed = output.status.signal().is_some();
    assert!(is_killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout);
    let steps = lines.lines().filter_map(|line| line.strip_prefix(REACHED)).map(str::to_owned).collect();
    (is_killed, steps)
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
        move |reached: Step, _: Option<&obsync_protocol::VaultPath>| {
            println!("{REACHED}{reached:?}");
            step();
        }
    };
    let trash = std::env::var(TRASH).unwrap() == "true";
    let folder = FolderOptions { trash, ..FolderOptions::default() };
    let destination = FolderDestination::open_watched(&dest, folder, watch).unwrap();
    let state = SqliteState::open(&home.join("state.sqlite"), &identity(&source, &dest)).unwrap();
    let state = Arc::new(WatchedState::with(Arc::new(state), step));
    let options = PullOptions {
        fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
        max_delete: MaxDelete::Unlimited,
        // A destination that is otherwise synced both ways keeps that.
        is_narrowed: true,
        ..PullOptions::default()
    };
    let stop = CancellationToken::new();
    pull(&source, Arc::new(destination), state, &options, Arc::new(NoProgress), stop).await.unwrap();
}

/// Makes `to` a copy of `from`, with the times of the files. File systems mounted below `to` stay.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    empty(to);
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Removes everything in a folder but mounted file systems, which are emptied.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() || path.is_symlink() {
            fs::remove_file(path).unwrap();
            continue;
        }
        empty(&path);
        match fs::remove_dir(&path) {
            Err(error) if [ErrorKind::ResourceBusy, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) => {
            }
            removed => removed.unwrap(),
        }
    }
}
