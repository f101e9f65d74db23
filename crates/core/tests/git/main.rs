//! Nothing in a destination makes git run a program that the vault names. The tests run the real git.
//!
//! These tests are a program of their own and run one at a time: between its fork and its exec a child has
//! the locks of all other open files of the process.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "../engine/bench.rs"]
#[allow(dead_code, reason = "the engine's tests use more of it")]
mod bench;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use obsync_core::{Commit, FileMeta, Outcome, Record, RecordKind, StateStore};
use obsync_protocol::{ContentHash, VaultPath};
use tokio::sync::Mutex;

use bench::Bench;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const T: i64 = 1_700_000_000_000;

/// The attacker's program, which leaves a trace if it runs.
struct Trap {
    folder: tempfile::TempDir,
}

impl Trap {
    fn new() -> Self {
        let trap = Trap { folder: tempfile::tempdir().unwrap() };
        let script = format!("#!/bin/sh\n: > '{}'\n", trap.trace().display());
        std::fs::write(trap.program(), script).unwrap();
        std::fs::set_permissions(trap.program(), std::fs::Permissions::from_mode(0o755)).unwrap();
        trap
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("program")
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("it ran")
    }

    fn program_text(&self) -> String {
        self.program().to_str().unwrap().to_owned()
    }

    /// Asks git for the status in every folder below `place`, and returns whether the program ran.
    fn springs_in(&self, place: &Path) -> bool {
        let mut folders = vec![place.to_owned()];
        while let Some(folder) = folders.pop() {
            let status = Command::new("git")
                .args(["-C", folder.to_str().unwrap(), "status"])
                .env("GIT_CEILING_DIRECTORIES", place.parent().unwrap())
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("HOME", self.folder.path())
                .output();
            assert!(status.is_ok(), "these tests need git");
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        self.trace().exists()
    }
}

#[tokio::test]
async fn the_attack_works_where_nothing_refuses_it() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let trap = Trap::new();
    let place = tempfile::tempdir().unwrap();
    for folder in ["a/.git", "b"] {
        let folder = place.path().join(folder);
        std::fs::create_dir_all(folder.join("objects")).unwrap();
        std::fs::create_dir_all(folder.join("refs")).unwrap();
        std::fs::write(folder.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        let config = format!(
            "[core]\nrepositoryformatversion = 0\nbare = false\nfsmonitor = {}\n",
            trap.program_text()
        );
        let work_tree = if folder.ends_with(".git") { "" } else { "worktree = .\n" };
        std::fs::write(folder.join("config"), config + work_tree).unwrap();
        assert!(trap.springs_in(place.path()), "{}", folder.display());
        std::fs::remove_file(trap.trace()).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_git_folder_is_written_and_git_runs_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (bench, trap) = (Bench::new().await, Trap::new());
    let mut refused = 0;
    for folder in
        [".git", "Projects/.git", "Projects/.GIT", "b/GIT~1", "c/.git.", "d/.g\u{200c}it", "e/.git:x"]
    {
        refused += bench.vault.write_git_repository(folder, &trap.program_text()).unwrap().len();
    }
    bench.vault.write("Projects/good.md", "good", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, refused), "{report:#?}");
    assert!(report.failures.iter().any(|failure| failure.path == "Projects/.git/config"));
    assert_eq!(bench.files(), ["Projects/good.md"]);
    assert!(!trap.springs_in(&bench.dest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_repository_stays_without_its_head() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (mut bench, trap) = (Bench::new().await, Trap::new());
    bench.vault.write_git_repository("Archive", &trap.program_text()).unwrap();
    for pull in 0..2 {
        let report = bench.pull().await;
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
        assert_eq!(failed, ["Archive/HEAD"], "pull {pull}");
        assert!(!trap.springs_in(&bench.dest()));
    }
    assert!(!bench.pull_full().await.failures.is_empty());
    assert!(!trap.springs_in(&bench.dest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_repository_that_comes_in_several_runs_is_never_complete() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for head_first in [true, false] {
        let (mut bench, trap) = (Bench::new().await, Trap::new());
        let config = format!(
            "[core]\nrepositoryformatversion = 0\nbare = false\nfsmonitor = {}\nworktree = .\n",
            trap.program_text()
        );
        bench.vault.write("r/config", &config, T).unwrap();
        let head = |name: &str| bench.vault.write(&format!("r/{name}"), "ref: refs/heads/main\n", T).unwrap();
        let body = || {
            bench.vault.write("r/objects/a.md", "a", T).unwrap();
            bench.vault.write("r/refs/b.md", "b", T).unwrap();
        };
        if head_first {
            head("HEAD");
        } else {
            body()
        }
        assert_eq!(bench.pull().await.outcome, Outcome::Complete);
        if head_first {
            body()
        } else {
            head("HEAD");
        }
        let body = vec!["r/objects", "r/objects/a.md", "r/refs", "r/refs/b.md"];
        let refused = if head_first { body } else { vec!["r/HEAD"] };
        for full in [false, false, true] {
            let report = if full { bench.pull_full().await } else { bench.pull().await };
            let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
            assert_eq!(failed, refused, "head first: {head_first}, full: {full}");
            assert!(!trap.springs_in(&bench.dest()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_the_destination_counts_like_what_the_vault_lists() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (bench, trap) = (Bench::new().await, Trap::new());
    for folder in ["r/objects", "r/refs"] {
        std::fs::create_dir_all(bench.dest().join(folder)).unwrap();
    }
    bench.vault.write("r/HEAD", "ref: refs/heads/main\n", T).unwrap();
    bench.vault.write("good.md", "good", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.failures.len(), 1);
    assert_eq!(bench.files(), ["good.md"]);
    assert!(!trap.springs_in(&bench.dest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_folder_of_an_older_release_stays_and_is_named() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.pull().await;
    let uid = bench.vault.write("p/.git/config", "old", T).unwrap();
    bench.edit("p/.git/config", "old");
    let meta = FileMeta { hash: ContentHash::of(b"old"), size: 3, mtime: T, ctime: T, uid };
    let record = Record::new(VaultPath::parse("p/.git/config").unwrap(), RecordKind::File(meta));
    let state = bench.state();
    let known = state.load().await.unwrap();
    state.commit(Commit { records: vec![record], state: known, ..Commit::default() }).await.unwrap();
    drop(state);
    let report = bench.pull_full().await;
    let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
    assert_eq!(failed, ["p/.git", "p/.git/config"]);
    assert_eq!(bench.files(), ["a.md", "p/.git/config"]);
    // The filter excludes its paths now, so its deletion is not applied either.
    bench.vault.delete("p/.git").unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    assert_eq!(bench.files(), ["a.md", "p/.git/config"]);
}
