//! Absent destinations: an unmounted disk, a replaced one, and a pull that never transferred anything.

use std::fs;

use serde_json::json;

use crate::json::check;
use crate::monitor::Follower;
use crate::world::{World, ran};

const NOON: i64 = 1_767_268_800_000;

fn with_notes() -> World {
    let world = World::new();
    world.vault("Notes").write("Welcome.md", "# Welcome", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world
}

#[test]
fn a_mount_point_without_its_disk_is_no_destination_that_is_fresh() {
    let world = with_notes();
    world.must(&["status", "notes", "--max-age", "1h"]);
    fs::rename(world.path("notes"), world.path("disk")).unwrap();
    fs::create_dir(world.path("notes")).unwrap();
    for args in [&["status", "notes", "--max-age", "1h"][..], &["status", "--max-age", "1h"]] {
        let status = world.run(args).expect(10);
        assert!(
            status.stderr.contains("is not there: its marker is missing; is its disk mounted?"),
            "{status:?}"
        );
    }
    let row = &world.must(&["status", "notes", "--json"]).json()["destinations"][0];
    assert_eq!(row["present"], json!(false));
    let verified = world.run(&["verify", "notes"]).expect(5);
    let first = verified.stdout.lines().next().unwrap();
    assert!(first.contains("is its disk mounted? Mount") && first.contains("Mount its disk"), "{first}");
    let verified = world.run(&["verify", "notes", "--json"]).expect(5).json();
    let hint = verified["error"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("mount its disk, if it is not mounted; else `obsync pull"), "{hint}");
}

#[test]
fn a_folder_whose_marker_is_missing_or_of_another_folder_is_never_well() {
    for (word, said) in [
        ("no_marker", "The files are right, but the marker of notes is missing."),
        ("other_marker", "The files are right, but notes has the marker of another folder."),
    ] {
        let world = with_notes();
        world.must(&["pull", "Notes", "other"]);
        let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 0);
        assert_eq!((&verified["clean"], &verified["absence"]), (&json!(true), &json!(null)));
        fs::remove_file(world.path("notes/.obsync/id")).unwrap();
        if word == "other_marker" {
            fs::copy(world.path("other/.obsync/id"), world.path("notes/.obsync/id")).unwrap();
        }
        let told = world.run(&["verify", "notes"]).expect(5).stdout;
        assert!(told.starts_with(said) && !told.contains("All is well"), "{told}");
        assert!(
            told.contains(
                &world.with_id("`obsync pull Notes notes` compares every file, and writes the marker.")
            ),
            "{told}"
        );
        let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
        assert_eq!((&verified["clean"], &verified["absence"]), (&json!(false), &json!(word)));
        assert_eq!(verified["error"]["code"], "differs");
        assert_eq!(verified["commands"], json!([world.with_id("obsync pull Notes notes")]));
        world.must(&["pull", "Notes", "notes"]);
        world.must(&["verify", "notes"]);
    }
}

#[test]
fn an_empty_vault_whose_folder_is_gone_is_not_well() {
    let world = World::new();
    world.must(&["pull", "Notes", "notes"]);
    // There was nothing to make a folder for.
    let told = world.must(&["verify", "notes"]).stdout;
    assert!(told.starts_with("All is well: 0 files"), "{told}");
    world.vault("Notes").write("Welcome.md", "# Welcome", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world.vault("Notes").delete("Welcome.md").unwrap();
    world.must(&["pull", "Notes", "notes"]);
    world.must(&["verify", "notes"]);
    fs::remove_dir_all(world.path("notes")).unwrap();
    let verified = check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    assert_eq!((&verified["clean"], &verified["absence"]), (&json!(false), &json!("no_folder")));
}

#[test]
fn a_disk_that_another_one_replaced_alarms_nobody_and_can_be_forgotten() {
    let world = with_notes();
    fs::remove_dir_all(world.path("notes")).unwrap();
    fs::create_dir(world.path("notes")).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let status = world.must(&["status", "--max-age", "1h"]).stdout;
    let gone = "  not there  another destination is at its path now; `obsync reset ";
    assert_eq!((status.matches("/notes\n").count(), status.matches(gone).count()), (2, 1), "{status}");
    let vaults = world.must(&["vaults"]).stdout;
    assert_eq!(vaults.matches("\n    from the vault to here\n").count(), 1, "{vaults}");

    fs::rename(world.path("notes"), world.path("aside")).unwrap();
    fs::create_dir(world.path("notes")).unwrap();
    let verified = world.run(&["verify", "notes", "--json"]).expect(4);
    let told = "more than one folder of this vault was at notes before, so its expected contents are unknown; mount its \
                disk, if that is missing; else `obsync reset notes` forgets all of its states\n";
    assert!(verified.stderr.ends_with(told), "{}", verified.stderr);
    assert_eq!(verified.json()["error"]["code"], "destination", "there is only one vault");
    fs::remove_dir(world.path("notes")).unwrap();
    fs::rename(world.path("aside"), world.path("notes")).unwrap();

    world.must(&["reset", "notes", "--gone", "--yes"]);
    let status = world.must(&["status", "--max-age", "1h"]).stdout;
    assert_eq!(status.matches("/notes\n").count(), 1, "{status}");
    world.must(&["verify", "notes"]);
    world.run(&["reset", "notes", "--gone", "--yes"]).expect(4);
}

#[test]
fn verify_reads_beside_a_follower_that_has_nothing_to_do() {
    let world = with_notes();
    let follower = Follower::start(&world, &["pull", "Notes", "notes"], &[]);
    follower.until("/readyz", 200);
    let verified = world.must(&["verify", "notes", "--wait", "30s"]).stdout;
    assert!(verified.starts_with("All is well"), "{verified}");
    fs::write(world.path("notes/Welcome.md"), "# changed").unwrap();
    world.run(&["verify", "notes", "--wait", "30s"]).expect(5);
    assert_eq!(follower.stop().0, 0);
}

#[test]
fn a_first_pull_that_brought_nothing_is_no_destination_to_be_kept_fresh() {
    let world = with_notes();
    let mut away = world.command(&["pull", "Notes", "elsewhere"]);
    world.server.faults().update(|faults| faults.refuse_upgrade = obsync_testkit::Chance::always());
    let failed = ran(away.args(["--timeout", "1"]));
    assert_ne!(failed.code, 0);
    world.server.faults().clear();
    world.must(&["status", "--max-age", "1h"]);
    let status = world.must(&["status"]).stdout;
    if status.contains("/elsewhere") {
        assert!(status.contains("  empty      nothing was ever pulled there"), "{status}");
        world.run(&["status", "elsewhere", "--max-age", "1h"]).expect(10);
    }
    assert!(!world.must(&["vaults"]).stdout.contains("elsewhere"));
}
