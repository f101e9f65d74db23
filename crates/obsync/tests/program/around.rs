//! Creating a vault, separating a folder from one, and the status of a sync.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use obsync_testkit::{Chance, Faults, VaultSpec};

use crate::world::{VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

#[test]
fn a_vault_that_was_made_is_end_to_end_encrypted_and_opened_without_its_password_again() {
    let world = World::new();
    let mut create = world.command(&["create", "Journal", "--password-stdin", "--json"]);
    let made = ran(create.write_stdin(format!("{VAULT_PASSWORD}\n"))).expect(0).json();
    let vault = world.vault("Journal");
    assert_eq!((&made["vault_id"], &made["encryption"]), (&vault.id().as_str().into(), &"end-to-end".into()));
    assert_eq!(made["region"], "loopback");
    assert!(vault.salt().len() == 32 && vault.salt().bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(vault.password().is_none(), "the service has no password");
    put(&world.path("notes/First.md"), "first");
    world.must(&["sync", "Journal", "notes", "--yes"]);
    world.must(&["pull", "Journal", "elsewhere"]);
    assert_eq!(world.files("elsewhere"), [("First.md".to_owned(), "first".to_owned())]);
}

#[test]
fn the_password_of_a_new_vault_comes_from_the_environment_without_its_last_line_break() {
    let world = World::new();
    let mut create = world.command(&["create", "Journal"]);
    ran(create.env("OBSYNC_VAULT_PASSWORD", format!("{VAULT_PASSWORD}\n"))).expect(0);
    fs::remove_dir_all(world.home()).unwrap();
    let mut pull = world.command(&["pull", "Journal", "notes"]);
    ran(pull.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)).expect(0);
}

#[test]
fn a_standard_vault_is_made_without_a_password() {
    let world = World::new();
    let told = world.must(&["create", "Shared plans", "--encryption", "standard"]).stdout;
    assert!(
        told.contains("standard encryption") && told.contains("`obsync sync 'Shared plans' ./notes`"),
        "{told}"
    );
    assert!(world.vault("Shared plans").password().is_some());
    world.must(&["pull", "Shared plans", "notes"]);
}

#[test]
fn a_vault_is_not_made_twice_nor_in_a_region_that_is_not_there_nor_without_a_password() {
    let world = World::new();
    let standard = |name, region| ["create", name, "--encryption", "standard", "--region", region];
    let told = world.run(&standard("Notes", "loopback")).expect(1).stderr;
    assert!(
        told.contains("there is a vault \"Notes\" already") && told.contains("nothing was created"),
        "{told}"
    );
    let told = world.run(&standard("Journal", "moon")).expect(2).stderr;
    assert!(told.contains("there is no region \"moon\"; the service has loopback"), "{told}");
    let told = world.run(&["create", "Journal"]).expect(3).stderr;
    assert!(told.contains("--password-stdin") && told.contains("OBSYNC_VAULT_PASSWORD"), "{told}");
    let mut empty = world.command(&["create", "Journal", "--password-command", "printf '\\n'"]);
    ran(&mut empty).expect(3);
    assert_eq!(world.server.vaults().len(), 2);
    world.must(&standard("Journal", "loopback"));
}

#[test]
fn whoever_gets_no_answer_of_the_service_is_told_how_to_see_whether_the_vault_was_made() {
    let world = World::new();
    let rest_path = Some("/vault/create".to_owned());
    for rest_status in [502, 504] {
        let rest_path = rest_path.clone();
        let faults =
            Faults { rest_path, rest_status, rest_status_error: Chance::always(), ..Faults::default() };
        world.server.faults().set(faults);
        let told = world.run(&["create", "New", "--encryption", "standard"]).stderr;
        assert!(told.contains("look with `obsync vaults` whether \"New\" was made"), "{told}");
    }
}

#[test]
fn a_folder_that_was_parted_from_its_vault_keeps_every_note_and_goes_to_another_one() {
    let world =
        World::with(|builder| builder.vault(VaultSpec::managed("Notes")).vault(VaultSpec::managed("Other")));
    world.vault("Notes").write("A.md", "a", NOON).unwrap();
    world.vault("Other").write("B.md", "b", NOON).unwrap();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    let version = world.vault("Notes").version();
    let refused = world.run(&["unlink", "notes"]).expect(2).stderr;
    assert!(refused.contains("--yes"), "{refused}");
    assert!(world.path("notes/.obsync/id").exists());

    world.must(&["unlink", "notes", "--yes"]);
    assert_eq!(world.files("notes"), [("A.md".to_owned(), "a".to_owned())]);
    assert!(!world.path("notes/.obsync/id").exists() && world.path("notes/.obsync/pin.json").exists());
    assert_eq!(world.vault("Notes").version(), version);
    world.run(&["status", "notes"]).expect(4);
    world.run(&["unlink", "notes", "--yes"]).expect(4);

    world.must(&["sync", "Other", "notes", "--yes"]);
    assert_eq!(world.files("notes").len(), 2);
    assert!(world.differences("Other", "notes").is_empty());
}

#[test]
fn a_marker_without_a_state_is_removed_which_a_reset_leaves() {
    let world = World::new();
    world.vault("Notes").write("A.md", "a", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["reset", "notes", "--yes"]);
    assert!(world.path("notes/.obsync/id").exists());
    world.must(&["unlink", "notes", "--yes"]);
    assert!(!world.path("notes/.obsync/id").exists());
    assert_eq!(world.files("notes").len(), 1);
}

#[test]
fn a_text_that_a_killed_run_had_moved_is_returned_before_a_folder_is_unlinked_or_its_state_is_forgotten() {
    for command in ["unlink", "reset"] {
        let world = World::new();
        world.vault("Notes").write("A.md", "a", NOON).unwrap();
        world.must(&["sync", "Notes", "notes", "--yes"]);
        // As a run leaves it that is killed just after it exchanged the file for the vault's.
        let staging = world.path("notes/.obsync/staging");
        fs::create_dir_all(&staging).unwrap();
        fs::set_permissions(&staging, fs::Permissions::from_mode(0o700)).unwrap();
        let hash = "0".repeat(64);
        put(&staging.join(format!("taken-{hash}-{hash}")), "mine");
        let told = world.must(&[command, "notes", "--yes"]).stderr;
        assert!(told.contains("Recovered.md"), "{told}");
        let returned = ("Recovered.md".to_owned(), "mine".to_owned());
        assert_eq!(world.files("notes"), [("A.md".to_owned(), "a".to_owned()), returned]);
    }
}

#[test]
fn the_name_of_a_destination_cannot_forge_a_line() {
    let world = World::new();
    world.vault("Notes").write("Note.md", "a note", NOON).unwrap();
    let name = "notes\n  checked    2027-01-01 12:00";
    world.must(&["pull", "Notes", name]);
    world.must(&["verify", name]);
    for args in [&["verify", name][..], &["status"], &["status", name]] {
        let told = world.must(args).stdout;
        assert!(!told.lines().any(|line| line.starts_with("  checked    2027")), "{told}");
    }
}

#[test]
fn the_status_tells_the_direction_and_the_deletions_that_the_vault_waits_for() {
    let world = World::new();
    for number in 0..20 {
        put(&world.path(&format!("notes/{number:02}.md")), &format!("note {number}"));
    }
    let direction = || {
        let row = world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
        row["direction"].as_str().unwrap().to_owned()
    };
    world.must(&["push", "Notes", "notes", "--yes"]);
    assert_eq!(direction(), "push");
    world.vault("Notes").write("20.md", "of the vault", NOON).unwrap();
    world.must(&["sync", "Notes", "notes", "--yes"]);
    assert_eq!(direction(), "both");
    for number in 0..15 {
        fs::remove_file(world.path(&format!("notes/{number:02}.md"))).unwrap();
    }
    world.run(&["sync", "Notes", "notes", "--yes"]).expect(9);
    let row = world.must(&["status", "notes", "--json"]).json()["destinations"][0].clone();
    assert_eq!(row["held_back_in_vault"].as_array().unwrap().len(), 15, "{row}");
    assert_eq!(row["held_back"].as_array().unwrap().len(), 0, "{row}");
    let shown = world.must(&["status", "notes"]).stdout;
    assert!(shown.contains("  direction  both ways\n"), "{shown}");
    assert!(shown.contains("  held back  15 deletions in the vault; `obsync confirm"), "{shown}");
    assert!(shown.contains("    00.md\n"), "{shown}");
}
