//! Disks that alternate at one path, folders that are moved, and copies of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::json::{ended, start};
use crate::two_way::until;
use crate::world::World;

const NOON: i64 = 1_767_268_800_000;

fn with_notes() -> World {
    let world = World::new();
    for number in 0..5 {
        world.vault("Notes").write(&format!("{number}.md"), format!("text {number}"), NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    world
}

fn pull(world: &World, destination: &str) -> Value {
    world.must(&["pull", "Notes", destination, "--json"]).json()
}

fn states(world: &World) -> usize {
    let files = fs::read_dir(world.home().join("state")).unwrap();
    files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "sqlite")).count()
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn two_disks_that_take_turns_at_one_path_each_keep_their_state() {
    let world = with_notes();
    let (path, first, second) = (world.path("notes"), world.path("first"), world.path("second"));
    fs::rename(&path, &first).unwrap();
    // The second one is empty, like a mount point without its disk.
    let report = pull(&world, "notes");
    assert_eq!((&report["pulled"]["files"], states(&world)), (&5.into(), 2), "{report}");
    assert_eq!(report["doubt"], "no_marker");
    world.vault("Notes").write("5.md", "new", NOON).unwrap();
    pull(&world, "notes");
    for (present, aside, downloads) in [(&first, &second, 1), (&second, &first, 0), (&first, &second, 0)] {
        fs::rename(&path, aside).unwrap();
        fs::rename(present, &path).unwrap();
        let report = pull(&world, "notes");
        assert_eq!(report["pulled"]["files"], downloads, "{report}");
        assert!(report.get("doubt").is_none() && report["adopted"]["files"] == 0, "its own state: {report}");
        assert_eq!((world.differences("Notes", "notes"), states(&world)), (vec![], 2));
        world.must(&["verify", "notes"]);
        assert!(world.run(&["status", "notes"]).expect(0).stdout.contains("6 files"));
    }
}

#[test]
fn a_folder_that_was_moved_keeps_its_state_and_a_copy_gets_an_id_of_its_own() {
    let world = with_notes();
    fs::rename(world.path("notes"), world.path("moved")).unwrap();
    let report = pull(&world, "moved");
    assert!(report["adopted"]["files"] == 0 && report.get("doubt").is_none(), "{report}");
    assert_eq!(states(&world), 1);
    world.must(&["verify", "moved"]);

    copy_tree(&world.path("moved"), &world.path("copy"));
    let told = world.run(&["pull", "Notes", "copy"]).expect(0);
    assert!(told.stderr.contains("is a copy of another one that still exists"), "{}", told.stderr);
    assert_eq!(states(&world), 2);
    let id = |destination: &str| {
        let text = fs::read_to_string(world.path(destination).join(".obsync/id")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["id"].clone()
    };
    assert_ne!(id("moved"), id("copy"));
    world.vault("Notes").write("5.md", "new", NOON).unwrap();
    for destination in ["moved", "copy", "moved"] {
        let report = pull(&world, destination);
        assert!(report.get("doubt").is_none() && report["adopted"]["files"] == 0, "{report}");
        assert!(world.differences("Notes", destination).is_empty());
    }
}

#[test]
fn a_folder_that_is_emptied_before_each_pull_leaves_few_states() {
    let world = with_notes();
    for _ in 0..12 {
        fs::remove_dir_all(world.path("notes")).unwrap();
        assert_eq!(pull(&world, "notes")["pulled"]["files"], 5);
        assert!(pull(&world, "notes").get("doubt").is_none());
    }
    assert_eq!(states(&world), 8);
}

#[test]
fn a_damaged_marker_makes_no_other_disk_of_a_folder() {
    let world = with_notes();
    fs::write(world.path("notes").join(".obsync/id"), "no marker").unwrap();
    let report = pull(&world, "notes");
    assert_eq!((&report["doubt"], &report["adopted"]["files"]), (&"damaged_marker".into(), &5.into()));
    assert_eq!(states(&world), 1);
}

#[test]
fn a_destination_in_doubt_is_told_although_quiet() {
    let world = with_notes();
    copy_tree(&world.path("notes"), &world.path("backup"));
    world.vault("Notes").write("0.md", "changed", NOON).unwrap();
    pull(&world, "notes");
    fs::remove_dir_all(world.path("notes")).unwrap();
    fs::rename(world.path("backup"), world.path("notes")).unwrap();
    let told = world.run(&["pull", "Notes", "notes", "-q", "--json"]).expect(0);
    assert!(told.stderr.contains("restored backup"), "{}", told.stderr);
    assert_eq!(told.json()["doubt"], "other_generation");
    assert!(world.differences("Notes", "notes").is_empty());
}

#[test]
fn a_follower_tells_of_a_destination_in_doubt_although_quiet_and_once() {
    let world = with_notes();
    copy_tree(&world.path("notes"), &world.path("backup"));
    world.vault("Notes").write("0.md", "changed", NOON).unwrap();
    pull(&world, "notes");
    fs::remove_dir_all(world.path("notes")).unwrap();
    fs::rename(world.path("backup"), world.path("notes")).unwrap();
    let args = ["pull", "Notes", "notes", "--follow", "-q"];
    let follower = start(&world, &args).stdout(Stdio::null()).spawn().unwrap();
    for name in ["first.md", "second.md"] {
        world.vault("Notes").write(name, "new", NOON).unwrap();
        until(name, || world.path("notes").join(name).exists());
    }
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    let told = ended(follower).expect(0);
    assert_eq!(told.stderr.matches("restored backup").count(), 1, "{}", told.stderr);
}

#[test]
fn a_follower_tells_of_a_vault_that_is_older_although_quiet() {
    let world = with_notes();
    let vault = world.vault("Notes");
    let before = vault.version();
    vault.write("0.md", "changed", NOON).unwrap();
    pull(&world, "notes");
    vault.roll_back(before).unwrap();
    let args = ["pull", "Notes", "notes", "--follow", "-q"];
    let follower = start(&world, &args).stdout(Stdio::null()).spawn().unwrap();
    let last_run =
        || world.must(&["status", "notes", "--json"]).json()["destinations"][0]["last_run"].clone();
    until("it is older", || last_run()["outcome"] == "vault_older");
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    let told = ended(follower).expect(0);
    assert!(told.stderr.contains("older"), "{}", told.stderr);
}
