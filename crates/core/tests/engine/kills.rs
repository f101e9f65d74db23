//! A run is killed at each of its steps, one after the other: before and after each commit, and at each step of writing to the
//! folder. The next run makes it good.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, abort};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use obsync_client::FetchOptions;
use obsync_conformance::WatchedState;
use obsync_core::{MaxDelete, NoProgress, PullOptions, pull};
use obsync_folder::{FolderDestination, FolderOptions, Step};
use obsync_sqlite::SqliteState;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, identity, source_at};

/// What the child is told: the server, the folder with destination and state, and the step at which it dies.
const SERVER: &str = "OBSYNC_TEST_SERVER";
const HOME: &str = "OBSYNC_TEST_HOME";
const DIES_AT: &str = "OBSYNC_TEST_DIES_AT";

const USERS: &str = "a user's text";
const TIME: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next() {
    if let Ok(dies_at) = std::env::var(DIES_AT) {
        return die(dies_at.parse().unwrap()).await;
    }
    let bench = Bench::new().await;
    for (path, text) in BEFORE {
        bench.vault.write(path, text.as_bytes(), TIME).unwrap();
    }
    bench.pull().await;
    let pristine = tempfile::tempdir().unwrap();
    let kept = pristine.path().join("home");
    copy(bench.home(), &kept);
    change(&bench);
    let mut steps = 0;
    loop {
        copy(&kept, bench.home());
        bench.edit("edited.md", USERS);
        bench.edit("edited and deleted.md", USERS);
        if !dies(&bench, steps) {
            break;
        }
        bench.pull().await;
        assert_users_texts(&bench, steps);
        let texts: Vec<String> = bench.files();
        for (path, text) in AFTER {
            assert_eq!(bench.read(path), *text, "step {steps}: {path}");
        }
        for path in ["deleted.md", "renamed.md", "moved/a.md"] {
            assert!(!texts.contains(&path.to_owned()), "step {steps}: {path} is there: {texts:?}");
        }
        let verification = bench.verify().await;
        assert_eq!((verification.missing, verification.changed), (vec![], vec![]), "step {steps}");
        steps += 1;
    }
    assert!(steps >= 30, "{steps} steps: commits and steps of the folder are counted");
    println!("{steps} kills");
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
];

/// Changes the vault in every way that a run knows.
fn change(bench: &Bench) {
    let vault = &bench.vault;
    for path in ["deleted.md", "edited and deleted.md", "renamed.md", "moved/a.md"] {
        vault.delete(path).unwrap();
    }
    for (path, text) in AFTER {
        vault.write(path, text.as_bytes(), TIME + 1000).unwrap();
    }
}

/// Both texts of the user are there: at their places, or as conflicted copies.
fn assert_users_texts(bench: &Bench, step: usize) {
    for name in ["edited (", "edited and deleted"] {
        let kept = bench.files().into_iter().filter(|path| path.starts_with(name));
        let texts: Vec<String> = kept.map(|path| bench.read(path)).collect();
        assert!(texts.iter().any(|text| text == USERS), "step {step}: {name}: {texts:?}");
    }
}

/// Runs a pull in a process of its own that dies at this step. `false`: it has fewer steps.
fn dies(bench: &Bench, at: usize) -> bool {
    let test = "kills::a_run_that_is_killed_at_any_of_its_steps_is_made_good_by_the_next";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]);
    child.env(SERVER, bench.server.url()).env(HOME, bench.home()).env(DIES_AT, at.to_string());
    let output = child.output().unwrap();
    let is_killed = output.status.signal().is_some();
    assert!(is_killed || output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    is_killed
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
        move |_: Step, _: Option<&obsync_protocol::VaultPath>| step()
    };
    let store = FolderDestination::open_watched(&dest, FolderOptions::default(), watch).unwrap();
    let state = SqliteState::open(&home.join("state.sqlite"), &identity(&source, &dest)).unwrap();
    let state = Arc::new(WatchedState::with(Arc::new(state), step));
    let options = PullOptions {
        fetch: FetchOptions { connections: 2, ..FetchOptions::default() },
        max_delete: MaxDelete::Unlimited,
        ..PullOptions::default()
    };
    let stop = CancellationToken::new();
    pull(&source, Arc::new(store), state, &options, Arc::new(NoProgress), stop).await.unwrap();
}

/// Makes `to` what `from` is, with the times of the files.
pub(crate) fn copy(from: &Path, to: &Path) {
    if to.exists() {
        for entry in fs::read_dir(to).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}
