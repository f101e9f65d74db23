//! What `verify`, `status` and a dry run say is true: after an interrupted pull, a failed one, and beside others.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use obsync_testkit::{Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{EMAIL, PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;
const FILES: usize = 2000;

fn filled() -> World {
    let world = World::new();
    for number in 0..FILES {
        world
            .vault("Notes")
            .write(&format!("{}/{number}.md", number % 20), format!("note {number}"), NOON)
            .unwrap();
    }
    world
}

/// Ends a pull by a signal when a part of the vault has come.
fn cut_off(world: &World, signal: Signal) {
    world.server.faults().set(Faults { latency: Duration::from_millis(2), ..Faults::default() });
    let answered = world.server.stats().pulls_answered;
    let mut pull = Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args(["pull", "Notes", "notes", "--quiet", "--connections", "1"])
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    world.runtime.block_on(async {
        let some = world.server.wait_for(|stats| stats.pulls_answered >= answered + 700);
        tokio::time::timeout(Duration::from_secs(60), some).await.unwrap();
    });
    kill_process(Pid::from_child(&pull), signal).unwrap();
    pull.wait().unwrap();
    world.server.faults().clear();
}

#[test]
fn after_a_first_pull_that_was_interrupted_verify_does_not_say_that_all_is_well() {
    for signal in [Signal::INT, Signal::KILL] {
        let world = filled();
        cut_off(&world, signal);
        let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
        assert_eq!(
            (&verified["clean"], &verified["unfinished"][0]),
            (&json!(false), &json!("first_pull")),
            "{verified:#}"
        );
        assert_eq!(verified["extra"], json!([]), "what a killed run left is called that: {verified:#}");
        assert_eq!(verified["commands"], json!(["obsync pull Notes notes"]));
        assert_eq!(verified["error"]["code"], "unfinished");
        let text = world.run(&["verify", "notes"]).expect(5);
        assert!(!text.stdout.contains("All is well"), "{}", text.stdout);
        assert!(
            text.stdout.contains("Not the whole vault: the first pull did not come to its end."),
            "{}",
            text.stdout
        );
        assert!(
            text.stdout.contains("`obsync pull Notes notes` goes on where the last pull stopped."),
            "{}",
            text.stdout
        );
        let status = world.must(&["status", "notes"]).stdout;
        let word = if signal == Signal::INT {
            "last run   interrupted"
        } else {
            "unfinished the first pull is not complete"
        };
        assert!(status.contains(word), "{status}");
        world.must(&["pull", "Notes", "notes"]);
        assert!(world.must(&["verify", "notes"]).stdout.starts_with("All is well: 2,000 files"));
    }
}

#[test]
fn after_a_later_pull_that_was_interrupted_verify_says_so_too() {
    let world = filled();
    world.must(&["pull", "Notes", "notes"]);
    for number in 0..FILES {
        world
            .vault("Notes")
            .write(&format!("{}/{number}.md", number % 20), format!("new {number}"), NOON)
            .unwrap();
    }
    cut_off(&world, Signal::INT);
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!(verified["unfinished"], json!(["interrupted"]), "{verified:#}");
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["verify", "notes"]);
}

#[test]
fn after_a_pull_with_failures_verify_names_them() {
    let world = World::new();
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.run(&["pull", "Notes", "notes"]).expect(5);
    let verified = world.run(&["verify", "notes"]).expect(5);
    assert!(verified.stdout.contains("Could not be pulled: 1 change\n  Broken.md: "), "{}", verified.stdout);
    assert!(!verified.stdout.contains("All is well"), "{}", verified.stdout);
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    assert_eq!((&verified["clean"], &verified["failures"][0]["path"]), (&json!(false), &json!("Broken.md")));
}

#[test]
fn status_differs_after_a_success_after_nothing_new_and_after_a_failure() {
    let world = World::new();
    world.vault("Notes").write("Good.md", "fine", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let row = || world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    let success = row();
    world.must(&["pull", "Notes", "notes"]);
    let nothing_new = row();
    assert_ne!(success["last_check"], nothing_new["last_check"]);
    assert_eq!(success["last_change"], nothing_new["last_change"]);
    for failures in 1..=2 {
        let mut away = world.command(&["pull", "Notes", "notes", "--timeout", "1"]);
        ran(away
            .env("OBSYNC_API_URL", "http://127.0.0.1:1/")
            .env("OBSIDIAN_AUTH_TOKEN", "a-token-of-nobody"))
        .expect(8);
        let failed = row();
        assert_eq!(failed["last_run"]["outcome"], "failed", "{failed:#}");
        assert_eq!(failed["last_run"]["failures_in_a_row"], failures, "{failed:#}");
        assert_eq!(failed["last_run"]["last_error"]["code"], "unreachable", "{failed:#}");
        assert_eq!(failed["last_check"], nothing_new["last_check"]);
    }
    let text = world.must(&["status", "notes"]).stdout;
    assert!(
        text.contains("  last run   failed, ended ") && text.contains("  in a row   2 runs failed"),
        "{text}"
    );
    assert!(text.contains("(unreachable): "), "{text}");
    world.must(&["pull", "Notes", "notes"]);
    let mended = row();
    assert_eq!(
        (&mended["last_run"]["outcome"], &mended["last_run"]["failures_in_a_row"]),
        (&json!("complete"), &json!(0))
    );
    assert_eq!(mended["last_run"]["last_error"]["code"], "unreachable", "it stays the last one");
    let text = world.must(&["status", "notes"]).stdout;
    assert!(text.contains(" (unreachable, mended since): "), "{text}");
    fs::remove_dir_all(world.path("notes")).unwrap();
    assert_eq!(row()["present"], false);
    assert!(world.must(&["status", "notes"]).stdout.contains("not there  the folder is missing"));
}

#[test]
fn a_dry_run_of_a_full_pull_says_what_the_pull_then_does() {
    let world = filled();
    world.must(&["pull", "Notes", "notes"]);
    fs::remove_file(world.path("notes/7/7.md")).unwrap();
    let said = world.must(&["pull", "Notes", "notes", "--full", "--dry-run"]);
    assert_eq!(
        said.stdout,
        "  download       7/7.md (6 bytes)\nA pull of \"Notes\" to notes would take 1 step: download 1 file (6 bytes).\n"
    );
    let did = world.must(&["pull", "Notes", "notes", "--full", "--json"]).json();
    assert_eq!(did["pulled"], json!({ "files": 1, "bytes": 6 }));
}

#[test]
fn a_folder_left_out_that_the_vault_does_not_have_is_a_warning_with_the_nearest_name() {
    let world = World::new();
    world.vault("Notes").write("Archive/2020.md", "old", NOON).unwrap();
    world.vault("Notes").write("Note.md", "new", NOON).unwrap();
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archiv"]);
    assert!(
        pulled.stderr.contains("the excluded folder \"Archiv\" is not in the vault, so nothing is left out for it; the nearest name is \"Archive\""),
        "{}",
        pulled.stderr
    );
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archive"]);
    assert!(!pulled.stderr.contains("excluded folder"), "{}", pulled.stderr);
    let pulled = world.must(&["pull", "Notes", "notes", "--exclude", "Archive", "--exclude", "Receipts"]);
    assert!(
        pulled.stderr.contains("\"Receipts\" is not in the vault") && !pulled.stderr.contains("nearest"),
        "{}",
        pulled.stderr
    );
}

#[test]
fn a_vault_made_anew_and_another_of_the_same_name_are_told_as_what_they_are() {
    let mut world = World::with(|server| server.vault(VaultSpec::managed("Notes")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let first = world.vault("Notes").id().clone();
    world.must(&["pull", "Notes", "notes"]);
    world.serve_instead(|server| server.vault(VaultSpec::managed("Notes")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    let anew = world.run(&["pull", "Notes", "notes"]).expect(1);
    assert!(
        anew.stderr.contains("made anew") && anew.stderr.contains("obsync reset notes"),
        "{}",
        anew.stderr
    );
    assert_eq!(
        world.run(&["pull", "Notes", "notes", "--json"]).expect(1).json()["error"]["code"],
        "other_vault"
    );

    world.serve_instead(|server| {
        server.vault(VaultSpec::managed("Notes").id(&first)).vault(VaultSpec::managed("Notes"))
    });
    let vaults = world.server.vaults();
    let other = vaults.iter().find(|vault| *vault.id() != first).unwrap().id().to_string();
    let same = world.run(&["pull", &other, "notes"]).expect(1);
    assert!(same.stderr.contains("holds another vault of the same name"), "{}", same.stderr);
}

#[test]
fn a_destination_inside_another_is_told_as_what_it_is() {
    let world =
        World::with(|server| server.vault(VaultSpec::managed("Notes")).vault(VaultSpec::managed("Work")));
    world.vault("Notes").write("Note.md", "text", NOON).unwrap();
    world.vault("Work").write("Task.md", "text", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let inner = world.must(&["pull", "Work", "notes/work"]);
    assert!(inner.stderr.contains("lies around this destination"), "{}", inner.stderr);
    let verified = world.must(&["verify", "notes"]);
    assert!(verified.stdout.contains("Another destination, not looked at: "), "{}", verified.stdout);
    assert!(verified.stdout.contains("/notes/work (1 file of the vault \"Work\")"), "{}", verified.stdout);
    let verified = world.must(&["verify", "notes", "--json"]).json();
    assert_eq!(
        (&verified["extra"], &verified["nested"][0]["files"]),
        (&json!([]), &json!(1)),
        "{verified:#}"
    );
    // What is beside it is nobody's.
    put(&world.path("notes/mine.md"), "of mine");
    assert_eq!(world.run(&["verify", "notes", "--json"]).expect(5).json()["extra"], json!(["mine.md"]));
}
