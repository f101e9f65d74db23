//! Other users of the machine: their access to the program's files, and the program's trust in theirs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use obsync_conformance::not_tested;

use crate::world::{EMAIL, PASSWORD, World, ran};

const NOBODY: u32 = 65_534;
const NOON: i64 = 1_700_000_000_000;

fn furnished() -> World {
    let world = World::new();
    world.vault("Notes").write("Welcome.md", "# Welcome", NOON).unwrap();
    world
}

/// Everything below a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn whatever_the_umask_nobody_else_can_use_the_home_or_the_lock() {
    for umask in ["000", "002", "077"] {
        let world = furnished();
        let script = format!("umask {umask} && exec \"$0\" \"$@\"");
        let pulled = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_obsync"), "pull", "Notes", "notes"])
            .current_dir(world.path(""))
            .env("OBSYNC_HOME", world.home())
            .env("OBSYNC_API_URL", world.server.url())
            .env("OBSIDIAN_EMAIL", EMAIL)
            .env("OBSIDIAN_PASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(pulled.status.success(), "{pulled:?}");
        let private = below(&world.home()).into_iter().chain(below(&world.path("notes/.obsync")));
        for path in private.chain([world.path("notes/.obsync")]) {
            assert_eq!(mode(&path) & 0o077, 0, "umask {umask}: {}", path.display());
        }
    }
}

#[test]
fn a_home_that_another_user_can_change_is_refused_with_a_remedy() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    for (part, command) in
        [("config", ["vaults"].as_slice()), ("state", ["pull", "Notes", "notes"].as_slice())]
    {
        if lchown(world.home().join(part), Some(NOBODY), None).is_err() {
            not_tested("only root can give a folder to another user");
            return;
        }
        let mut refused = world.anonymous(command);
        refused.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD);
        let stderr = ran(&mut refused).expect(1).stderr;
        let told = format!("{part} belongs to the user with the number {NOBODY}");
        assert!(stderr.contains(&told) && stderr.contains("`chown`"), "{stderr}");
        lchown(world.home().join(part), Some(0), None).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
}

#[test]
fn a_run_in_whose_way_another_is_says_which_one_that_is() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    fs::write(
        world.path("notes/.obsync/lock"),
        "host elsewhere, process 123 since 2026-11-26 01:02:03 UTC\n",
    )
    .unwrap();
    let lock = fs::File::open(world.path("notes/.obsync/lock")).unwrap();
    lock.lock().unwrap();
    let told = "obsync: another obsync is working on notes (held by host elsewhere, process 123 since 2026-11-26 \
                01:02:03 UTC); wait for it to end";
    for (command, advice) in [
        (["pull", "Notes", "notes"].as_slice(), " (`--wait 10m` does), or stop it\n"),
        (&["reset", "notes", "--yes"], ", or stop it\n"),
    ] {
        assert_eq!(world.run(command).expect(7).stderr, format!("{told}{advice}"));
    }
    // It changes nothing, and neither does the other one, as far as the state shows.
    let verified = world.run(&["verify", "notes"]);
    assert_eq!(verified.expect(7).stderr, format!("{told} (`--wait 10m` does), or stop it\n"));
    drop(lock);
    world.must(&["pull", "Notes", "notes"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_that_holds_keys_leaves_no_core_dump() {
    use std::time::Duration;
    let world = furnished();
    world.server.faults().set("rest-hang".parse().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_obsync"));
    command.args(["vaults"]).env("OBSYNC_HOME", world.home()).env("OBSYNC_API_URL", world.server.url());
    command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD);
    let mut child = command.spawn().unwrap();
    world.runtime.block_on(async {
        let called = world.server.wait_for(|stats| stats.rest_requests > 0);
        tokio::time::timeout(Duration::from_secs(60), called).await.unwrap();
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "{core}");
}
