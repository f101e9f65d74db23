//! What the service and the network get wrong: each is told in a sentence, with the right exit status, no partial
//! file appears under its name, and once it is over the next pull makes everything right.

use std::net::TcpListener;

use obsync_testkit::{Chance, Faults};

use crate::world::{World, ran};

const NOON: i64 = 1_767_268_800_000;

/// A world whose vault `Notes` holds three files; the one in the middle is the one in trouble.
fn three_files() -> World {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("First.md", "first", NOON).unwrap();
    vault.write("Trouble.bin", vec![7; 10_000], NOON).unwrap();
    vault.write("Third.md", "third", NOON).unwrap();
    world
}

/// Runs a pull with these faults and an impatient user.
fn pull_with(world: &World, faults: &str) -> crate::world::Ran {
    world.server.faults().set(faults.parse().unwrap());
    world.run(&["pull", "Notes", "notes", "--timeout", "1", "--connections", "1"])
}

/// The trouble is over: the next pull has to bring everything.
#[track_caller]
fn heals(world: &World) {
    world.server.faults().clear();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    world.must(&["verify", "notes"]);
}

#[test]
fn a_server_that_is_down_is_told() {
    let world = three_files();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let pull = ran(&mut world.command(&["pull", "Notes", "notes", "--timeout", "1", "--api-url", &nobody])).expect(8);
    assert!(pull.stderr.starts_with("obsync: cannot reach 127.0.0.1: "), "{}", pull.stderr);
    assert!(pull.stderr.ends_with("check the network, then try again\n"), "{}", pull.stderr);
    assert!(!world.path("notes").exists());
}

#[test]
fn trouble_before_any_work_is_exit_status_8() {
    for fault in ["rest-hang", "rest-drop", "rest-garbage", "rest-overloaded", "rest-status-error", "hang-upgrade", "refuse-upgrade", "stall-init"] {
        let world = three_files();
        let pull = pull_with(&world, fault);
        assert_eq!(pull.code, 8, "{fault}: {}", pull.stderr);
        assert!(pull.stderr.starts_with("obsync: ") || pull.stderr.contains("\nobsync: "), "{fault}: {}", pull.stderr);
        assert!(!world.path("notes").exists(), "{fault}");
        heals(&world);
    }
}

#[test]
fn a_sentence_for_each_trouble_before_any_work() {
    let mut told = String::new();
    for fault in ["rest-hang", "rest-garbage", "rest-overloaded", "rest-status-error", "stall-init"] {
        let world = three_files();
        let stderr = pull_with(&world, fault).stderr;
        told.push_str(&format!("{fault}: {}", world.redacted(stderr.lines().last().unwrap())));
        told.push('\n');
    }
    insta::assert_snapshot!(told, @"");
}

#[test]
fn a_host_outside_the_allow_list_never_sees_the_token() {
    let world = three_files();
    let evil = TcpListener::bind("127.0.0.2:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let host = evil.local_addr().unwrap().to_string();
    world.server.faults().set(format!("listing-host={host}").parse().unwrap());
    let pull = world.run(&["pull", "Notes", "notes"]);
    insta::assert_snapshot!(pull.told(&world).replace(&host, "[EVIL]"), @"");
    assert!(evil.accept().is_err(), "it was connected to");
    world.server.faults().set("listing-host=evil.example".parse().unwrap());
    let pull = world.run(&["pull", "Notes", "notes"]).expect(8);
    assert!(pull.stderr.contains("evil.example"), "{}", pull.stderr);
    heals(&world);
}

#[test]
fn a_host_that_the_user_allows_is_talked_to() {
    let world = three_files();
    let (name, port) = ("127.0.0.1", world.server.address().port());
    world.server.faults().set(format!("listing-host={name}:{port}").parse().unwrap());
    world.must(&["pull", "Notes", "notes", "--allow-host", "sync.example.com", "--allow-host", "other.example:9000"]);
}

#[test]
fn a_session_that_is_refused_is_told() {
    for (text, code) in [
        ("Authentication failed", 3),
        ("Vault not found", 4),
        ("Your subscription to Obsidian Sync has expired", 3),
        ("Something new", 1),
    ] {
        let world = three_files();
        let faults = Faults { init_error: Chance::always(), init_error_text: text.to_owned(), ..Faults::default() };
        world.server.faults().set(faults);
        let pull = world.run(&["pull", "Notes", "notes"]);
        assert_eq!(pull.code, code, "{text}: {}", pull.stderr);
        assert!(!world.path("notes").exists());
        heals(&world);
    }
}

#[test]
fn a_listing_that_never_comes_to_its_end_leaves_the_pull_unfinished() {
    for fault in ["drop-in-listing", "stall-in-listing"] {
        let world = three_files();
        let pull = pull_with(&world, fault).expect(6);
        assert!(pull.stderr.contains("the next run goes on from there"), "{fault}: {}", pull.stderr);
        assert!(!world.path("notes").exists());
        heals(&world);
    }
}

#[test]
fn a_file_in_trouble_holds_no_other_back_and_leaves_nothing_under_its_name() {
    let mut told = String::new();
    for fault in [
        "corrupt-content",
        "truncate-content",
        "extra-piece",
        "lie-size",
        "huge-header",
        "wrong-hash",
        "missing-hash",
        "refuse-pull",
        "err-answer",
        "bare-answer",
        "garbage-answer",
        "huge-text",
        "drop-in-content",
    ] {
        let world = three_files();
        let pull = pull_with(&world, &format!("{fault}=uid:2"));
        assert_eq!(pull.code, 5, "{fault}: {pull:?}");
        assert!(!world.path("notes/Trouble.bin").exists(), "{fault}");
        assert_eq!(world.files("notes").len(), 2, "{fault}");
        let reason = pull.stderr.lines().find(|line| line.contains("Trouble.bin")).unwrap_or("no reason");
        told.push_str(&format!("{fault}: {}\n", world.redacted(reason.trim())));
        heals(&world);
    }
    insta::assert_snapshot!(told, @"");
}

#[test]
fn a_file_that_lies_about_itself_is_never_written() {
    let world = three_files();
    let vault = world.vault("Notes");
    vault.write_damaged("Damaged.md", "wrong tag").unwrap();
    vault.write_wrong_hash("Other.md", "not what it says").unwrap();
    vault.write_lying_size("Size.md", "a size that lies", 7_000_000).unwrap();
    let pull = world.run(&["pull", "Notes", "notes"]).expect(5);
    insta::assert_snapshot!(pull.told(&world), @"");
    assert_eq!(world.files("notes").len(), 3);
    // Repaired by a new upload, they are pulled.
    for path in ["Damaged.md", "Other.md", "Size.md"] {
        vault.write(path, "repaired", NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn hostile_paths_stay_outside_and_are_told() {
    let world = three_files();
    let hostile = world.vault("Notes").write_hostile_paths().unwrap();
    let pull = world.run(&["pull", "Notes", "inner/notes", "--json"]).expect(5);
    let report = pull.json();
    assert_eq!(report["failures"].as_array().unwrap().len(), hostile);
    assert_eq!(world.files("inner").len(), 3, "something was written outside the destination");
    assert!(!pull.stderr.contains('\u{0}') && !pull.stderr.contains('\u{1b}'));
}

#[test]
fn a_connection_that_stalls_for_good_leaves_the_pull_unfinished_or_the_file_failed() {
    let world = three_files();
    let pull = pull_with(&world, "stall-request=always");
    assert!([5, 6].contains(&pull.code), "{pull:?}");
    assert!(!world.path("notes/Trouble.bin").exists());
    heals(&world);
}
