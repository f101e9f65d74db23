//! Successful pulls, and their output.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_testkit::{Chance, Faults, VaultSpec};
use serde_json::json;

use crate::world::{VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

/// A world whose vault `Notes` has a note, an attachment of each kind, and configuration.
fn furnished() -> World {
    let world = World::new();
    let vault = world.vault("Notes");
    for (path, content) in [
        ("Welcome.md", "# Welcome"),
        ("Daily/2026-01-01.md", "a quiet day"),
        ("Assets/tree.png", "not really a picture"),
        ("Assets/song.mp3", "la la la"),
        ("Assets/film.mp4", "flicker"),
        ("Assets/paper.pdf", "%PDF"),
        ("Assets/table.csv", "a,b"),
        (".obsidian/app.json", "{}"),
        (".obsidian/workspace.json", "{\"never\": true}"),
        (".obsidian/plugins/dataview/main.js", "//"),
        ("Archive/2020/Old.md", "old"),
    ] {
        vault.write(path, content, NOON).unwrap();
    }
    world
}

fn paths(world: &World) -> Vec<String> {
    world.files("notes").into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_first_pull_brings_everything_but_workspace_files() {
    let world = furnished();
    let pull = world.run(&["pull", "Notes", "notes"]);
    insta::assert_snapshot!(pull.told(&world), @r#"
    exit status 0
    --- stdout
    Pulled 10 files (69 bytes) from "Notes" to notes in [TIME] s (version 15).
    Created 4 folders.
    Code with new content, which Obsidian runs or applies when it opens the vault: 1 file.
      .obsidian/plugins/dataview/main.js
    Left out: 1 file (15 bytes): 1 never synced by Obsidian.
    "#);
    assert_eq!(world.differences("Notes", "notes"), ["missing file \".obsidian/workspace.json\""]);
}

#[test]
fn a_vault_can_be_named_by_its_id() {
    let world = furnished();
    let id = world.vault("Notes").id().to_string();
    world.must(&["pull", &id, "notes"]);
    assert_eq!(paths(&world).len(), 10);
}

#[test]
fn an_end_to_end_vault_asks_for_its_password_once() {
    let world = World::new();
    world.vault("Private").write("Diary.md", "dear diary", NOON).unwrap();
    let mut first = world.command(&["pull", "Private", "private", "--password-stdin"]);
    ran(first.write_stdin(format!("{VAULT_PASSWORD}\r\n"))).expect(0);
    let keys = world.home().join("config/keys.json");
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&keys).unwrap().contains(VAULT_PASSWORD));
    world.vault("Private").write("Diary.md", "dear diary, more", NOON).unwrap();
    world.must(&["pull", "Private", "private"]);
    assert_eq!(world.files("private"), [("Diary.md".to_owned(), "dear diary, more".to_owned())]);
}

#[test]
fn the_report_is_one_document_for_scripts() {
    let world = furnished();
    let pull = world.must(&["pull", "Notes", "notes", "--json", "--quiet"]);
    let report = pull.json();
    assert_eq!(pull.stderr.lines().count(), 1, "only the kind of encryption: {}", pull.stderr);
    assert_eq!(report["encryption"], "standard");
    assert_eq!(report["outcome"], "complete");
    assert_eq!(report["vault"], "Notes");
    assert_eq!(report["vault_id"], json!(world.vault("Notes").id().as_str()));
    assert_eq!(report["version"], json!(world.vault("Notes").version().0));
    assert_eq!(report["pulled"]["files"], 10);
    assert_eq!(report["skipped"]["files"], 1);
    assert_eq!(report["failures"], json!([]));
    for field in
        ["copied", "deleted", "adopted", "duration_ms", "connections", "bytes_received", "conflicts", "kept"]
    {
        assert!(!report[field].is_null(), "{field} is missing");
    }
}

#[test]
fn quiet_is_quiet() {
    let world = furnished();
    // The first pull prints the vault's encryption.
    world.must(&["-q", "pull", "Notes", "notes"]);
    let pull = world.must(&["-q", "pull", "Notes", "notes"]);
    assert_eq!((pull.stdout.as_str(), pull.stderr.as_str()), ("", ""));
}

#[test]
fn verbose_tells_more_but_no_secret() {
    let world = World::new();
    world.vault("Private").write("Diary.md", "dear diary", NOON).unwrap();
    let mut pull = world.command(&["-vv", "pull", "Private", "private", "--password-stdin"]);
    let pull = ran(pull.write_stdin(VAULT_PASSWORD)).expect(0);
    assert!(pull.stderr.contains("DEBUG obsync_client"), "{}", pull.stderr);
    let credentials = fs::read_to_string(world.home().join("config/credentials.json")).unwrap();
    let token = credentials.split("\"token\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let keys = fs::read_to_string(world.home().join("config/keys.json")).unwrap();
    let key = keys.split("\"master_key\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let key_hash = world.vault("Private").keys().unwrap().key_hash().as_str().to_owned();
    for secret in [token, key, key_hash] {
        assert!(!secret.is_empty() && !pull.stderr.contains(&secret));
    }
}

#[test]
fn only_the_chosen_file_types_are_pulled() {
    let world = furnished();
    world.must(&[
        "pull",
        "Notes",
        "notes",
        "--file-types",
        "image,pdf",
        "--configs",
        "none",
        "--exclude",
        "Archive/",
    ]);
    assert_eq!(paths(&world), ["Assets/paper.pdf", "Assets/tree.png", "Daily/2026-01-01.md", "Welcome.md"]);
    // A wider filter pulls the rest, a narrower one removes nothing.
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(paths(&world).len(), 10);
    world.must(&["pull", "Notes", "notes", "--file-types", "none"]);
    assert_eq!(paths(&world).len(), 10);
}

#[test]
fn only_the_chosen_configuration_is_pulled() {
    let world = furnished();
    world.must(&[
        "pull",
        "Notes",
        "notes",
        "--configs",
        "app",
        "--file-types",
        "none",
        "--exclude",
        "Archive",
    ]);
    assert_eq!(paths(&world), [".obsidian/app.json", "Daily/2026-01-01.md", "Welcome.md"]);
}

#[test]
fn another_configuration_folder_can_be_named() {
    let world = World::new();
    world.vault("Notes").write(".config/app.json", "{}", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert!(!world.path("notes/.config").exists());
    world.must(&["pull", "Notes", "notes", "--config-dir", ".config"]);
    assert_eq!(paths(&world), [".config/app.json"]);
}

#[test]
fn two_configuration_folders_can_be_pulled_and_one_that_is_left_out_is_named() {
    let world = World::new();
    let vault = world.vault("Notes");
    for file in ["app.json", "plugins/x/manifest.json"] {
        vault.write(&format!(".obsidian/{file}"), "{}", NOON).unwrap();
        vault.write(&format!(".obsidian-mobile/{file}"), "{}", NOON).unwrap();
    }
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @r#"
    exit status 0
    --- stdout
    Pulled 1 file (2 bytes) from "Notes" to notes in [TIME] s (version 4).
    Copied from other paths with the same content: 1 file (2 bytes).
    Left out: 2 files (4 bytes): 2 hidden by a dot.
    Left out, though these look like configuration folders that other devices use. To pull them, give --config-dir once for each, and once for .obsidian:
      .obsidian-mobile
    "#);
    let both = ["--config-dir", ".obsidian", "--config-dir", ".obsidian-mobile"];
    insta::assert_snapshot!(world.run(&[&["pull", "Notes", "notes"][..], &both].concat()).told(&world), @r#"
    exit status 0
    --- stdout
    Pulled 0 files (0 bytes) from "Notes" to notes in [TIME] s (version 4).
    Copied from other paths with the same content: 2 files (4 bytes).
    "#);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let world = furnished();
    let dry = world.run(&["pull", "Notes", "notes", "--dry-run", "--configs", "none", "--exclude", "Assets"]);
    insta::assert_snapshot!(dry.told(&world), @r#"
    exit status 0
    --- stdout
      make folder    Archive
      make folder    Archive/2020
      make folder    Daily
      download       Welcome.md (9 bytes)
      download       Daily/2026-01-01.md (11 bytes)
      download       Archive/2020/Old.md (3 bytes)
    Left out: 8 files (61 bytes): 2 of configuration that is not selected, 5 in excluded folders, 1 never synced by Obsidian.
    A pull of "Notes" to notes would take 6 steps: download 3 files (23 bytes), make 3 folders.
    "#);
    assert!(!world.path("notes").exists());
    assert!(!world.home().join("state").exists());
    assert_eq!(world.server.stats().pulls, 0);
}

#[test]
fn later_pulls_bring_what_is_new_and_tell_what_was_done() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    let vault = world.vault("Notes");
    vault.write("Welcome.md", "# Welcome back", NOON + 1000).unwrap();
    vault.rename("Daily/2026-01-01.md", "Daily/New year.md").unwrap();
    vault.delete("Archive").unwrap();
    vault.create_folder("Empty").unwrap();
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @r#"
    exit status 0
    --- stdout
    Pulled 1 file (14 bytes) from "Notes" to notes in [TIME] s (version 22).
    Moved, as in the vault: 1 file.
      Daily/2026-01-01.md is now Daily/New year.md
    Created 1 folder.
    Deleted, as in the vault: 1 file and 2 folders.
      Archive/2020/Old.md
    "#);
    assert_eq!(world.differences("Notes", "notes"), ["missing file \".obsidian/workspace.json\""]);
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @r#"
    exit status 0
    --- stdout
    Nothing new in "Notes" for notes since version 22 ([TIME] s).
    "#);
}

#[test]
fn what_is_there_is_adopted_and_what_differs_is_kept() {
    let world = furnished();
    put(&world.path("notes/Welcome.md"), "# Welcome");
    put(&world.path("notes/Archive/2020/Old.md"), "mine");
    put(&world.path("notes/Unrelated.txt"), "not of the vault");
    let pull = world.run(&["pull", "Notes", "notes"]);
    let kept = paths(&world).into_iter().find(|path| path.contains("Conflicted copy")).unwrap();
    insta::assert_snapshot!(pull.told(&world).replace(&kept, "[CONFLICTED COPY]"), @r#"
    exit status 0
    --- stdout
    Pulled 9 files (60 bytes) from "Notes" to notes in [TIME] s (version 15).
    Found in place, so not downloaded: 1 file (9 bytes).
    Created 2 folders.
    In the way of a file of the vault, so kept under another name: 1 file.
      Archive/2020/Old.md is now [CONFLICTED COPY]
    Code with new content, which Obsidian runs or applies when it opens the vault: 1 file.
      .obsidian/plugins/dataview/main.js
    Left out: 1 file (15 bytes): 1 never synced by Obsidian.
    --- stderr
    obsync: warning: kept what was at Archive/2020/Old.md as [CONFLICTED COPY]
    "#);
    assert_eq!(fs::read_to_string(world.path("notes").join(&kept)).unwrap(), "mine");
    assert_eq!(fs::read_to_string(world.path("notes/Archive/2020/Old.md")).unwrap(), "old");
    assert_eq!(fs::read_to_string(world.path("notes/Unrelated.txt")).unwrap(), "not of the vault");
}

#[test]
fn a_note_changed_here_survives_its_deletion_there() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("notes/Welcome.md"), "my thoughts");
    world.vault("Notes").delete("Welcome.md").unwrap();
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @r#"
    exit status 0
    --- stdout
    Pulled 0 files (0 bytes) from "Notes" to notes in [TIME] s (version 16).
    Deleted in the vault but changed here, so kept: 1 file.
      Welcome.md
    --- stderr
    obsync: warning: kept Welcome.md: it was changed here and deleted in the vault
    "#);
    assert_eq!(fs::read_to_string(world.path("notes/Welcome.md")).unwrap(), "my thoughts");
}

#[test]
fn a_full_pull_brings_back_what_is_missing() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    fs::remove_file(world.path("notes/Welcome.md")).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert!(!world.path("notes/Welcome.md").exists());
    let report = world.must(&["pull", "Notes", "notes", "--full", "--json"]).json();
    assert_eq!(report["pulled"]["files"], 1);
    assert_eq!(fs::read_to_string(world.path("notes/Welcome.md")).unwrap(), "# Welcome");
}

#[test]
fn a_shared_vault_is_pulled_like_any_other() {
    let world = World::with(|builder| {
        builder.vault(VaultSpec::managed("Team").owner("you@example.com").shared_with(crate::world::EMAIL))
    });
    world.vault("Team").write("Plan.md", "world peace", NOON).unwrap();
    world.must(&["pull", "Team", "team"]);
    assert_eq!(world.files("team"), [("Plan.md".to_owned(), "world peace".to_owned())]);
}

#[test]
fn the_number_of_connections_is_the_most_that_are_made() {
    let world = World::new();
    let vault = world.vault("Notes");
    for number in 0..200 {
        vault.write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
    }
    world.server.faults().set(Faults { latency: std::time::Duration::from_millis(1), ..Faults::default() });
    world.must(&["pull", "Notes", "notes", "--connections", "2"]);
    assert!(world.server.stats().max_open_websockets <= 2);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let world = furnished();
    world.server.faults().set(Faults { drop_in_content: Chance::next(2), ..Faults::default() });
    let report = world.must(&["pull", "Notes", "notes", "--json"]).json();
    assert_eq!(report["pulled"]["files"], 10);
    assert_eq!(world.server.faults().strikes("drop-in-content"), 2);
}
