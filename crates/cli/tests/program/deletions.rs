//! Deletions that are too many, failures that last, and how old a destination is.

use std::time::Duration;

use crate::world::World;

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
        pulled.stderr.contains("`obsync confirm notes` lets the next run delete them"),
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
        "Confirmed: 20 deletions. The next pull makes them, each if the file still is as it was pulled.\n"
    );
    assert!(world.must(&["confirm", "notes", "--yes"]).stdout.contains("No deletion is held back"));
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.files("notes"), []);
}

#[test]
fn the_limit_is_an_option_and_a_variable() {
    let world = emptied();
    world.run(&["pull", "Notes", "notes", "--max-delete", "19"]).expect(9);
    let refused = world.run(&["pull", "Notes", "notes", "--max-delete", "many"]).expect(2);
    assert!(
        refused.stderr.contains("it is a number (100), a part of the files (20%), or \"none\""),
        "{}",
        refused.stderr
    );
    let mut command = world.command(&["pull", "Notes", "notes"]);
    crate::world::ran(command.env("OBSYNC_MAX_DELETE", "none")).expect(0);
    assert_eq!(world.files("notes"), []);
}

#[test]
fn failures_that_last_are_accepted_and_status_goes_on_naming_them() {
    let world = World::new();
    let never = format!("{}.md", "n".repeat(300));
    world.vault("Notes").write(&never, "text", NOON).unwrap();
    let pulled = world.run(&["pull", "Notes", "notes"]).expect(5);
    assert!(pulled.stderr.contains("--accept-failures"), "{}", pulled.stderr);
    let accepted = world.must(&["pull", "Notes", "notes", "--accept-failures"]);
    assert!(accepted.stdout.contains("Not here, as you accepted: 1 change"), "{}", accepted.stdout);
    world.must(&["pull", "Notes", "notes"]);
    let status = world.must(&["status", "notes"]).stdout;
    assert!(status.contains("accepted   1 change that cannot be had here:\n    nnn"), "{status}");
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
    // A pull with nothing new is a check; one that does not reach the service is none.
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["status", "notes", "--max-age", "1s"]);
}
