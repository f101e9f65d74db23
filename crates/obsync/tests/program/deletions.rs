//! Too many deletions, persistent failures, and the age of a destination.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::monitor::Follower;
use crate::world::{World, put};

const NOON: i64 = 1_767_268_800_000;

/// A vault of twenty notes, pulled, and emptied since.
fn emptied() -> World {
    let world = World::new();
    let vault = world.vault("Notes");
    for number in 0..20 {
        vault.write(&format!("{number:02}.md"), format!("note {number}"), NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    for number in 0..20 {
        vault.delete(&format!("{number:02}.md")).unwrap();
    }
    world
}

#[test]
fn a_vault_that_was_emptied_is_told_of_and_empties_nothing_until_that_is_confirmed() {
    let world = emptied();
    let pulled = world.run(&["pull", "Notes", "notes"]).expect(9);
    assert!(
        pulled.stderr.contains("Not deleted, because there are too many: 20 files:\n  00.md"),
        "{}",
        pulled.stderr
    );
    assert!(
        pulled.stderr.contains("`obsync confirm notes` lets the next run make them"),
        "{}",
        pulled.stderr
    );
    assert_eq!(world.files("notes").len(), 20);

    let report = world.run(&["pull", "Notes", "notes", "--json", "-q"]).expect(9).json();
    assert_eq!(report["outcome"], "held_back");
    assert_eq!(report["held_back"].as_array().unwrap().len(), 20);

    let status = world.must(&["status", "notes"]);
    assert!(status.stdout.contains("held back  20 deletions; `obsync confirm "), "{}", status.stdout);
    assert!(status.stdout.contains("\n    19.md"), "{}", status.stdout);

    let asked = world.run(&["confirm", "notes"]).expect(2);
    assert!(asked.stderr.contains("give --yes"), "{}", asked.stderr);
    let confirmed = world.must(&["confirm", "notes", "--yes"]);
    assert_eq!(
        confirmed.stdout,
        "Confirmed: 20 deletions. The next run makes them, each only if the file is unchanged.\n"
    );
    assert!(world.must(&["confirm", "notes", "--yes"]).stdout.contains("No deletion is held back"));
    let error = world.run(&["verify", "notes", "--json"]).expect(5).json()["error"].clone();
    assert_eq!(error["code"], "unfinished", "nobody has to confirm them again: {error:#}");
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.files("notes"), []);
}

#[test]
fn the_limit_is_an_option_and_a_variable() {
    let world = emptied();
    world.run(&["pull", "Notes", "notes", "--max-delete", "19"]).expect(9);
    let refused = world.run(&["pull", "Notes", "notes", "--max-delete", "many"]).expect(2);
    assert!(
        refused.stderr.contains("expected a number (100), a share of the files (20%), or \"none\""),
        "{}",
        refused.stderr
    );
    let mut push = world.command(&["push", "Notes", "elsewhere", "--dry-run", "-q"]);
    put(&world.path("elsewhere/Mine.md"), "of mine");
    crate::world::ran(push.env("OBSYNC_MAX_DELETE", "many")).expect(0);
    let mut command = world.command(&["pull", "Notes", "notes"]);
    crate::world::ran(command.env("OBSYNC_MAX_DELETE", "none")).expect(0);
    assert_eq!(world.files("notes"), []);
}

#[test]
fn files_that_the_vault_deletes_stay_in_a_folder_when_they_are_to_be_kept() {
    let world = World::new();
    let vault = world.vault("Notes");
    // More than half of twelve files would be too many to delete, if any had to be deleted.
    for name in ["Gone.md", "Old name.md", "Mine.md", "Stays.md"] {
        vault.write(name, format!("text of {name}"), NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("notes/Mine.md"), "an edit of mine");
    vault.delete("Gone.md").unwrap();
    vault.delete("Mine.md").unwrap();
    vault.rename("Old name.md", "New name.md").unwrap();
    let pull = ["pull", "Notes", "notes", "--keep-deleted"];
    let foreseen = world.must(&[&pull[..], &["--dry-run", "--json"]].concat()).json();
    let report = world.must(&[&pull[..], &["--json"]].concat()).json();
    for report in [&foreseen, &report] {
        assert_eq!((&report["retained"]["files"], &report["deleted"]["files"]), (&3.into(), &0.into()));
    }
    std::fs::remove_file(world.path("notes/Mine.md")).unwrap();
    let here = |world: &World| world.files("notes").into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let all = ["Gone.md", "New name.md", "Old name.md", "Stays.md"];
    assert_eq!(here(&world), all);
    let verified = world.must(&["verify", "notes", "--json"]).json();
    assert_eq!((&verified["clean"], &verified["extra"]), (&true.into(), &serde_json::json!([])));
    assert_eq!(verified["retained"], serde_json::json!(["Gone.md", "Old name.md"]));
    let status = world.must(&["status", "notes", "--json"]).json();
    assert_eq!(
        status["destinations"][0]["retained"], 3,
        "as many as were kept, whatever became of them since"
    );
    assert!(world.must(&["status", "notes"]).stdout.contains("kept       3 files that the vault deleted"));

    // A kept file is only the user's: no later run removes it.
    for later in [&["--full"][..], &["--exclude", "Stays"], &["--full", "--max-delete", "none"]] {
        world.run(&[&["pull", "Notes", "notes"], later].concat()).expect(0);
        assert_eq!(here(&world), all, "{later:?}");
        assert_eq!(world.must(&["verify", "notes", "--json"]).json()["retained"], verified["retained"]);
    }
    // The vault has the path again, and then with another content.
    vault.write("Gone.md", "a new text", NOON).unwrap();
    vault.write("Old name.md/inside.md", "below a name that is taken", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert!(world.files("notes").contains(&("Gone.md".to_owned(), "a new text".to_owned())));
    assert!(world.path("notes/Old name.md/inside.md").exists());
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!(verified["retained"], serde_json::json!([]));
    let extra = verified["extra"][0].as_str().unwrap();
    assert!(extra.starts_with("Old name (Conflicted copy "), "it is a file of the user's: {extra}");
}

#[test]
fn where_deleted_files_are_kept_none_is_held_back() {
    let world = emptied();
    let report = world.must(&["pull", "Notes", "notes", "--keep-deleted", "--json"]).json();
    assert_eq!((&report["retained"]["files"], &report["held_back"]), (&20.into(), &serde_json::json!([])));
    assert_eq!(world.files("notes").len(), 20);
}

#[test]
fn keeping_deleted_files_is_for_pulls() {
    let world = World::new();
    for command in ["sync", "push"] {
        let refused = world.run(&[command, "Notes", "notes", "--keep-deleted"]).expect(2);
        assert!(refused.stderr.contains("unexpected argument '--keep-deleted'"), "{}", refused.stderr);
    }
}

#[test]
fn failures_that_last_are_accepted_and_status_goes_on_naming_them() {
    let world = World::new();
    let never = format!("{}.md", "n".repeat(300));
    world.vault("Notes").write(&never, "text", NOON).unwrap();
    let pulled = world.run(&["pull", "Notes", "notes"]).expect(5);
    assert!(pulled.stderr.contains("--accept-failures"), "{}", pulled.stderr);
    let accepted = world.must(&["pull", "Notes", "notes", "--accept-failures"]);
    assert!(accepted.stdout.contains("Accepted failures: 1 change"), "{}", accepted.stdout);
    world.must(&["pull", "Notes", "notes"]);
    let status = world.must(&["status", "notes"]).stdout;
    assert!(status.contains("accepted   1 change that can never be stored here:\n    nnn"), "{status}");
    let row = &world.must(&["status", "notes", "--json"]).json()["destinations"][0];
    assert_eq!(
        (row["failures"].as_array().unwrap().len(), row["accepted"].as_array().unwrap().len()),
        (0, 1)
    );
}

#[test]
fn a_destination_that_is_too_old_has_an_exit_status_of_its_own() {
    let world = World::new();
    world.run(&["status", "--max-age", "1h"]).expect(10);
    world.vault("Notes").write("note.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["status", "notes", "--max-age", "1h"]);
    std::thread::sleep(Duration::from_millis(1100));
    world.run(&["status", "notes", "--max-age", "1s"]).expect(10);
    // A pull without changes is a check; one that does not reach the service is none.
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["status", "notes", "--max-age", "1s"]);
}

/// Waits until there is such an end.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Number of held-back deletions in a follower's metrics.
fn held_back(follower: &Follower) -> Option<u64> {
    let metrics = follower.get("/metrics").1;
    let line = metrics.lines().find(|line| line.starts_with("obsync_held_back_deletions{"))?;
    line.rsplit(' ').next()?.parse::<f64>().ok().map(|count| count as u64)
}

#[test]
fn a_follower_names_deletions_that_are_held_back_once_and_again_when_they_change() {
    let world = emptied();
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &[]);
    until("nothing is held back", || held_back(&follower) == Some(20));
    world.vault("Notes").write("new.md", "new", NOON).unwrap();
    until("nothing comes", || world.path("notes/new.md").exists());
    world.vault("Notes").write("07.md", "it is back", NOON).unwrap();
    until("it does not come back", || held_back(&follower) == Some(19));
    let (code, told) = follower.stop();
    assert_eq!(code, 0);
    for count in [20, 19] {
        let sentence = format!("Not deleted, because there are too many: {count} files:");
        assert_eq!(told.matches(&sentence).count(), 1, "{told}");
    }
    assert!(told.contains("`obsync confirm notes`"), "{told}");
}

#[test]
fn a_follower_names_deletions_that_the_vault_does_not_get_once() {
    let world = World::new();
    let vault = world.vault("Notes");
    for number in 0..20 {
        vault.write(&format!("{number:02}.md"), "text", NOON).unwrap();
    }
    world.must(&["sync", "Notes", "notes", "--yes"]);
    let follower = Follower::start(&world, &["sync", "Notes", "notes", "--yes"], &[]);
    follower.until("/readyz", 200);
    // The folder is watched by then. Files removed together must be seen together, however busy the machine
    // is.
    put(&world.path("notes/probe.md"), "probe");
    until("it sends nothing", || vault.contents().unwrap().contains_key("probe.md"));
    follower.signal(Signal::STOP);
    for number in 0..15 {
        fs::remove_file(world.path(&format!("notes/{number:02}.md"))).unwrap();
    }
    follower.signal(Signal::CONT);
    until("nothing is held back", || held_back(&follower) == Some(15));
    vault.write("new.md", "new", NOON).unwrap();
    until("nothing comes", || world.path("notes/new.md").exists());
    let (code, told) = follower.stop();
    assert_eq!(code, 0);
    assert_eq!(told.matches("Not deleted, because there are too many: 15 files:").count(), 1, "{told}");
    assert_eq!(told.matches("warning: 15 of the 21 files were deleted").count(), 1, "{told}");
    assert_eq!(vault.contents().unwrap().len(), 22);
}

#[test]
fn deletions_are_confirmed_while_a_follower_has_the_destination() {
    let world = emptied();
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &[]);
    let status = || world.run(&["status", "notes"]);
    until("nothing is held back", || status().stdout.contains("held back  20 deletions"));
    let confirmed = world.run(&["confirm", "notes", "--yes", "--json"]).expect(0).json();
    assert_eq!(
        (confirmed["in_use"].as_bool(), confirmed["confirmed"].as_array().unwrap().len()),
        (Some(true), 20)
    );
    let is_there = |number: u32| world.path(&format!("notes/{number:02}.md")).exists();
    until("the follower deletes nothing", || !(0..20).any(is_there));
    assert_eq!(follower.stop().0, 0);
    assert!(world.must(&["confirm", "notes", "--yes"]).stdout.contains("No deletion is held back"));
}

#[test]
fn a_confirmation_for_a_follower_that_stopped_is_the_next_runs() {
    let world = emptied();
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &[]);
    until("nothing is held back", || {
        world.run(&["status", "notes"]).stdout.contains("held back  20 deletions")
    });
    let confirmed = world.must(&["confirm", "notes", "--yes"]);
    assert_eq!(
        confirmed.stdout,
        "Confirmed: 20 deletions. The active run picks them up within a minute, or the next run makes them, each only if the file is unchanged.\n"
    );
    follower.stop();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.files("notes"), []);
}
