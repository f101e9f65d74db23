//! Commands about destinations: status, verify, reset.

use std::fs;

use serde_json::json;

use crate::world::{World, put, ran};

const NOON: i64 = 1_767_268_800_000;

fn pulled() -> World {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("Welcome.md", "# Welcome", NOON).unwrap();
    vault.write("Daily/2026-01-01.md", "a quiet day", NOON).unwrap();
    vault.write("Assets/tree.png", "not really a picture", NOON).unwrap();
    world.must(&["pull", "Notes", "notes", "--file-types", "none"]);
    world
}

#[test]
fn the_status_of_every_destination_is_shown_without_a_connection() {
    let world = pulled();
    world.must(&["pull", "Notes", "elsewhere"]);
    let requests = world.server.stats().rest_requests;
    let status = ran(&mut world.anonymous(&["status"])).expect(0);
    assert_eq!(world.server.stats().rest_requests, requests);
    let today =
        status.stdout.split_whitespace().find(|word| word.starts_with("20") && word.len() == 10).unwrap();
    let shown = world.redacted(&status.stdout).replace(today, "[DATE]");
    let is_time = |word: &str| word.len() == 8 && word.matches(':').count() == 2;
    let shown: Vec<String> = shown
        .lines()
        .map(|line| match line.rsplit_once(' ') {
            Some((before, word)) if is_time(word) => format!("{before} [TIME]"),
            _ => line.to_owned(),
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    [DIR]/elsewhere
      vault      "Notes" ([ID of Notes])
      encryption standard
      direction  from the vault to here
      contents   3 files (40 bytes), 2 folders
      version    5
      checked    [DATE] [TIME]
      changed    [DATE] [TIME]
      last run   complete, ended [DATE] [TIME]
    [DIR]/notes
      vault      "Notes" ([ID of Notes])
      encryption standard
      direction  from the vault to here
      contents   2 files (20 bytes), 2 folders
      version    5
      checked    [DATE] [TIME]
      changed    [DATE] [TIME]
      last run   complete, ended [DATE] [TIME]
      left out   1 change
    "#);
}

#[test]
fn the_status_of_one_destination_is_shown_for_scripts() {
    let world = pulled();
    world.must(&["pull", "Notes", "elsewhere"]);
    let status = world.must(&["status", "./notes/", "--json"]).json();
    let destinations = status["destinations"].as_array().unwrap();
    assert_eq!(destinations.len(), 1);
    let row = &destinations[0];
    assert!(row["destination"].as_str().unwrap().ends_with("/notes"));
    assert_eq!(row["vault"], "Notes");
    assert_eq!(row["vault_id"], json!(world.vault("Notes").id().as_str()));
    assert_eq!(row["version"], json!(world.vault("Notes").version().0));
    assert_eq!((&row["files"], &row["bytes"], &row["folders"]), (&json!(2), &json!(20), &json!(2)));
    assert_eq!((&row["filtered"], &row["failures"]), (&json!(1), &json!([])));
}

#[test]
fn status_names_what_failed() {
    let world = World::new();
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    let status = world.must(&["status", "notes"]);
    assert!(
        status.stdout.contains("1 change, retried by the next run:\n    Broken.md (version 1): "),
        "{status:?}"
    );
    let failures = &world.must(&["status", "notes", "--json"]).json()["destinations"][0]["failures"];
    assert_eq!((&failures[0]["path"], &failures[0]["uid"]), (&json!("Broken.md"), &json!(1)));
}

#[test]
fn a_destination_that_is_not_known_is_not_found() {
    let world = World::new();
    insta::assert_snapshot!(world.run(&["status"]).told(&world), @"
    exit status 0
    --- stdout
    Nothing was pulled yet. `obsync pull --help` explains how.
    ");
    insta::assert_snapshot!(world.run(&["status", "nowhere"]).told(&world), @"
    exit status 4
    --- stderr
    obsync: nothing was pulled to nowhere yet; `obsync status` lists the destinations that obsync knows
    ");
    insta::assert_snapshot!(world.run(&["verify", "nowhere", "--json"]).told(&world), @r#"
    exit status 4
    --- stdout
    {
      "schema_version": 1,
      "outcome": "failed",
      "exit_code": 4,
      "error": {
        "code": "destination_unknown",
        "message": "nothing was pulled to nowhere yet; `obsync status` lists the destinations that obsync knows",
        "retryable": false,
        "hint": "`obsync status` lists the destinations"
      }
    }
    --- stderr
    obsync: nothing was pulled to nowhere yet; `obsync status` lists the destinations that obsync knows
    "#);
    insta::assert_snapshot!(world.run(&["reset", "nowhere", "--yes"]).told(&world), @"
    exit status 4
    --- stderr
    obsync: nothing was pulled to nowhere yet; `obsync status` lists the destinations that obsync knows
    ");
}

#[test]
fn verify_is_content_with_what_was_pulled() {
    let world = pulled();
    insta::assert_snapshot!(world.run(&["verify", "notes"]).told(&world), @"
    exit status 0
    --- stdout
    All is well: 2 files (20 bytes) of notes as pulled (version 5).
    ");
    let verified = world.must(&["verify", "notes", "--json"]).json();
    assert_eq!((&verified["clean"], &verified["intact"]["files"]), (&json!(true), &json!(2)));
}

#[test]
fn verify_finds_what_is_missing_changed_and_extra() {
    let world = pulled();
    fs::remove_file(world.path("notes/Welcome.md")).unwrap();
    put(&world.path("notes/Daily/2026-01-01.md"), "A quiet day");
    put(&world.path("notes/New.md"), "of mine");
    insta::assert_snapshot!(world.run(&["verify", "notes"]).told(&world), @r#"
    exit status 5
    --- stdout
    Missing: 1 file
      Welcome.md
    Changed: 1 file
      Daily/2026-01-01.md
    Not part of the vault: 1 file
      New.md
    0 files (0 bytes) of notes as pulled (version 5).
    `obsync pull [ID of Notes] notes --full --file-types none` restores missing and changed files, and keeps changed files as conflicted copies.
    `obsync pull [ID of Notes] notes --mirror --file-types none` moves files that were added or changed here to .obsync/trash, for 30 days.
    Run it with the other options of your usual run, such as --keep-deleted. [ID of Notes] is the vault "Notes".
    "#);
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!(verified["clean"], false);
    assert_eq!(verified["missing"], json!(["Welcome.md"]));
    assert_eq!(verified["changed"], json!([{ "path": "Daily/2026-01-01.md", "checked_by": "read" }]));
    assert_eq!(verified["extra"], json!(["New.md"]));

    // Its advice restores everything and loses nothing.
    world.must(&["pull", "Notes", "notes", "--full", "--file-types", "none"]);
    let healed = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!((&healed["missing"], &healed["changed"]), (&json!([]), &json!([])));
    let kept = healed["extra"][0].as_str().unwrap();
    assert!(kept.starts_with("Daily/2026-01-01 (Conflicted copy"), "{kept}");
    assert_eq!(fs::read_to_string(world.path("notes").join(kept)).unwrap(), "A quiet day");
}

#[test]
fn a_reset_forgets_the_state_and_touches_no_note() {
    let world = pulled();
    let before = world.files("notes");
    let unasked = world.run(&["reset", "notes"]);
    insta::assert_snapshot!(unasked.told(&world), @"
    exit status 2
    --- stderr
    obsync: confirmation is required to forget the state of notes; give --yes
    ");
    insta::assert_snapshot!(world.run(&["reset", "notes", "--yes"]).told(&world), @"
    exit status 0
    --- stdout
    The state of notes is forgotten. The next pull compares every file, and downloads only those that differ.
    ");
    assert_eq!(world.files("notes"), before);
    world.run(&["status", "notes"]).expect(4);
    let pulls = world.server.stats().pulls;
    let report = world.must(&["pull", "Notes", "notes", "--file-types", "none", "--json"]).json();
    assert_eq!(report["adopted"]["files"], 2);
    assert_eq!(world.server.stats().pulls, pulls, "what was there was downloaded again");
}

#[test]
fn a_destination_is_of_one_vault_until_it_is_reset() {
    let world = pulled();
    let before = world.files("notes");
    let mut other = world.command(&["pull", "Private", "notes"]);
    insta::assert_snapshot!(ran(other.env("OBSYNC_VAULT_PASSWORD", crate::world::VAULT_PASSWORD)).told(&world), @r#"
    exit status 1
    --- stderr
    obsync: notes already belongs to the vault "Notes" ([ID of Notes]); pull to another folder. `obsync reset --help` says how to free this one for another vault
    "#);
    assert_eq!(world.files("notes"), before);
    world.must(&["reset", "notes", "--yes"]);
    // It was refused before its key was derived.
    let mut other = world.command(&["pull", "Private", "notes"]);
    ran(other.env("OBSYNC_VAULT_PASSWORD", crate::world::VAULT_PASSWORD)).expect(0);
    assert_eq!(world.files("notes"), before);
}

#[test]
fn a_damaged_state_is_told_and_can_be_reset() {
    let world = pulled();
    let database = fs::read_dir(world.home().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .unwrap();
    fs::write(&database, "this is no database, but long enough to look at. ".repeat(100)).unwrap();
    let told = |args: &[&str]| {
        let ran = world.run(args).expect(1);
        assert!(
            ran.stderr.contains("is damaged") && ran.stderr.contains("`obsync reset DEST`"),
            "{}",
            ran.stderr
        );
    };
    told(&["pull", "Notes", "notes"]);
    told(&["status"]);
    told(&["verify", "notes"]);
    assert_eq!(world.run(&["status", "--json"]).json()["error"]["code"], "state_damaged");
    world.must(&["reset", "notes", "--yes"]);
    let report = world.must(&["pull", "Notes", "notes", "--file-types", "none", "--json"]).json();
    assert_eq!(report["adopted"]["files"], 2);
}

#[test]
fn states_that_cannot_be_read_are_named_beside_all_others() {
    let world = pulled();
    world.must(&["pull", "Notes", "elsewhere"]);
    world.must(&["pull", "Notes", "third"]);
    let mut files: Vec<_> =
        fs::read_dir(world.home().join("state")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sqlite"));
    files.sort();
    let (damaged, cut_short) = (&files[0], &files[1]);
    fs::write(damaged, "this is no database, but long enough to look at. ".repeat(100)).unwrap();
    let whole = fs::read(cut_short).unwrap();
    fs::write(cut_short, &whole[..whole.len() / 2]).unwrap();

    let status = world.run(&["status"]).expect(1);
    assert_eq!(status.stdout.matches("  vault      \"Notes\"").count(), 1, "{}", status.stdout);
    let lines: Vec<&str> = status.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", status.stderr);
    for (line, file) in lines.iter().zip([damaged, cut_short]) {
        assert!(line.contains(file.to_str().unwrap()) && line.contains("is damaged"), "{line}");
        assert!(line.ends_with("(DEST is the destination that this list lacks)"), "{line}");
    }
    let status = world.run(&["status", "--json", "--max-age", "1h"]).expect(1).json();
    assert_eq!((&status["outcome"], &status["error"]["code"]), (&json!("failed"), &json!("state_damaged")));
    assert_eq!(status["destinations"].as_array().unwrap().len(), 1, "{status:#}");
    let unreadable = status["unreadable"].as_array().unwrap();
    let states: Vec<&str> = unreadable.iter().map(|state| state["state"].as_str().unwrap()).collect();
    assert_eq!(states, [damaged.to_str().unwrap(), cut_short.to_str().unwrap()]);
    assert!(unreadable.iter().all(|state| state["error"]["code"] == "state_damaged"), "{status:#}");

    for folder in ["notes", "elsewhere", "third"] {
        world.must(&["reset", folder, "--yes"]);
    }
    let none = world.must(&["status"]);
    assert_eq!(none.stdout, "Nothing was pulled yet. `obsync pull --help` explains how.\n");
}

#[test]
fn a_state_that_a_first_run_left_empty_is_as_good_as_none() {
    let world = pulled();
    let states = fs::read_dir(world.home().join("state")).unwrap().map(|entry| entry.unwrap().path());
    for file in states.filter(|file| file.extension().is_some_and(|extension| extension == "sqlite")) {
        fs::write(file, "").unwrap();
    }
    let none = world.must(&["status"]);
    assert_eq!(none.stdout, "Nothing was pulled yet. `obsync pull --help` explains how.\n");
}

#[test]
fn a_state_from_the_future_is_told_and_kept() {
    let world = pulled();
    let database = fs::read_dir(world.home().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .unwrap();
    // SQLite keeps `user_version`, the format, as four bytes from the 60th on.
    let mut bytes = fs::read(&database).unwrap();
    bytes[60..64].copy_from_slice(&9999u32.to_be_bytes());
    fs::write(&database, &bytes).unwrap();
    let pull = world.run(&["pull", "Notes", "notes"]).expect(1);
    assert!(pull.stderr.contains("written by a newer obsync (format 9999"), "{}", pull.stderr);
    assert_eq!(fs::read(&database).unwrap(), bytes);
}
