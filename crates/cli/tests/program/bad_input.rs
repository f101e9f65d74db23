//! What people and their computers get wrong: each is told in a sentence, with the right exit status, and
//! nothing is lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use obsync_testkit::{Chance, Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{EMAIL, PASSWORD, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

/// A world whose vaults hold one note each.
fn furnished() -> World {
    let world = World::new();
    for name in ["Notes", "Private"] {
        world.vault(name).write("Welcome.md", "# Welcome", NOON).unwrap();
    }
    world
}

/// The program as a process that goes on while the test does something else.
fn start(world: &World, home: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args(args)
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", home)
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A pull that waits for a content that never comes.
fn stalled_pull(world: &World) -> Child {
    world.server.faults().set(Faults { stall_in_content: Chance::always(), ..Faults::default() });
    let pulls = world.server.stats().pulls;
    let pull = start(world, &world.home(), &["pull", "Notes", "notes", "--json"]);
    world.runtime.block_on(async {
        let stalled = world.server.wait_for(|stats| stats.pulls > pulls);
        tokio::time::timeout(Duration::from_secs(60), stalled).await.unwrap();
    });
    pull
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let world = World::new();
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes", "--fast"]).told(&world), @"
    exit status 2
    --- stderr
    error: unexpected argument '--fast' found

      tip: to pass '--fast' as a value, use '-- --fast'

    Usage: obsync pull <VAULT> <DEST>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(world.run(&["pull", "Notes"]).told(&world), @"
    exit status 2
    --- stderr
    error: the following required arguments were not provided:
      <DEST>

    Usage: obsync pull --api-url <URL> <VAULT> <DEST>

    For more information, try '--help'.
    ");
    let failed = world.run(&["pull", "Notes", "--json"]).expect(2);
    assert_eq!(failed.json()["error"]["code"], "usage");
}

#[test]
fn values_that_cannot_be_are_usage_errors() {
    let world = World::new();
    for (option, value) in [
        ("--connections", "0"),
        ("--connections", "11"),
        ("--file-types", "image,sound"),
        ("--configs", "everything"),
        ("--exclude", "../other"),
        ("--config-dir", "a/b"),
        ("--timeout", "0"),
        ("--api-url", "not a url"),
        ("--api-url", "http://example.com/"),
        ("--allow-host", "https://example.com/path"),
    ] {
        let failed = world.run(&["pull", "Notes", "notes", option, value]);
        assert_eq!(failed.code, 2, "{option} {value}: {}", failed.stderr);
        assert!(!failed.stderr.is_empty());
    }
    assert_eq!(world.server.stats().rest_requests, 0);
}

#[test]
fn a_destination_of_an_unknown_kind_is_refused() {
    let world = World::new();
    insta::assert_snapshot!(world.run(&["pull", "Notes", "ftp://host/notes"]).told(&world), @"
    exit status 2
    --- stderr
    error: invalid value 'ftp://host/notes' for '<DEST>': destinations with ftp:// are not supported; give a folder, such as ./notes, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX

    For more information, try '--help'.
    ");
}

#[test]
fn an_unknown_vault_is_answered_with_those_there_are() {
    let world = furnished();
    insta::assert_snapshot!(world.run(&["pull", "Nots", "notes"]).told(&world), @r#"
    exit status 4
    --- stderr
    obsync: there is no vault "Nots"; the account has "Notes", "Private"
    "#);
    let failed = world.run(&["pull", "Nots", "notes", "--json"]).expect(4).json();
    assert_eq!(failed["error"]["code"], "vault_not_found");
    assert!(failed["error"]["message"].as_str().unwrap().contains("\"Notes\""));
    assert!(!world.path("notes").exists());
}

#[test]
fn an_ambiguous_vault_is_answered_with_the_ids() {
    let world =
        World::with(|builder| builder.vault(VaultSpec::managed("Twin")).vault(VaultSpec::managed("Twin")));
    let failed = world.run(&["pull", "Twin", "twin"]).expect(4);
    for vault in world.server.vaults() {
        assert!(failed.stderr.contains(vault.id().as_str()), "{}", failed.stderr);
    }
    insta::assert_snapshot!(failed.told(&world), @r#"
    exit status 4
    --- stderr
    obsync: more than one vault is named "Twin"; use the id of one: [ID of Twin], [ID of Twin]
    "#);
}

#[test]
fn a_missing_vault_password_is_asked_for_by_naming_the_ways_to_give_it() {
    let world = furnished();
    insta::assert_snapshot!(world.run(&["pull", "Private", "private"]).told(&world), @r#"
    exit status 3
    --- stderr
    obsync: the password of the vault "Private" is needed (it is end-to-end encrypted); pipe it in with --password-stdin, or set OBSYNC_VAULT_PASSWORD or OBSYNC_VAULT_PASSWORD_FILE
    "#);
}

#[test]
fn a_wrong_vault_password_is_refused_before_anything_is_written() {
    let world = furnished();
    let mut pull = world.command(&["pull", "Private", "private"]);
    insta::assert_snapshot!(ran(pull.env("OBSYNC_VAULT_PASSWORD", "wr0ng")).told(&world), @"
    exit status 3
    --- stderr
    obsync: the password does not open this vault; give the vault's encryption password
    ");
    assert!(!world.path("private").exists() && !world.home().join("config/keys.json").exists());
    assert_eq!(world.server.stats().websocket_connections, 0);
}

#[test]
fn a_kept_key_that_is_not_accepted_any_more_is_told() {
    let world = furnished();
    ran(world.command(&["pull", "Private", "private"]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
        .expect(0);
    let file = world.home().join("config/keys.json");
    let mut keys: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    keys["keys"][0]["master_key"] = json!("00".repeat(32));
    fs::write(&file, keys.to_string()).unwrap();
    insta::assert_snapshot!(world.run(&["pull", "Private", "private"]).told(&world), @r#"
    exit status 3
    --- stderr
    obsync: the password of the vault "Private" is needed (the kept key does not open it any more, as its password was changed); pipe it in with --password-stdin, or set OBSYNC_VAULT_PASSWORD or OBSYNC_VAULT_PASSWORD_FILE
    "#);
    ran(world.command(&["pull", "Private", "private"]).env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
        .expect(0);
    world.must(&["pull", "Private", "private"]);
}

#[test]
fn an_expired_subscription_is_told() {
    let world = furnished();
    world.server.set_subscription_expired(true).unwrap();
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @"
    exit status 3
    --- stderr
    obsync: the subscription to Obsidian Sync has expired; renew it in the account's settings
    ");
    assert!(!world.path("notes").exists());
}

#[test]
fn a_destination_that_is_a_file_is_left_alone() {
    let world = furnished();
    put(&world.path("notes"), "a file of mine");
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes"]).told(&world), @"
    exit status 1
    --- stderr
    obsync: notes cannot be used: it is not a folder; choose another destination
    ");
    insta::assert_snapshot!(world.run(&["pull", "Notes", "notes/below"]).told(&world), @"
    exit status 1
    --- stderr
    obsync: cannot use notes/below: Not a directory (os error 20)
    ");
    assert_eq!(fs::read_to_string(world.path("notes")).unwrap(), "a file of mine");
}

#[test]
fn a_destination_that_is_a_link_is_what_it_leads_to_or_told() {
    let world = furnished();
    fs::create_dir(world.path("real")).unwrap();
    symlink("real", world.path("link")).unwrap();
    world.must(&["pull", "Notes", "link"]);
    assert!(world.path("real/Welcome.md").exists());
    symlink("nowhere", world.path("dangling")).unwrap();
    symlink("circle", world.path("circle")).unwrap();
    for link in ["dangling", "circle"] {
        let refused = world.run(&["pull", "Notes", link]).expect(1);
        assert!(refused.stderr.contains(link) && refused.stderr.lines().count() == 1, "{}", refused.stderr);
        assert!(fs::symlink_metadata(world.path(link)).unwrap().is_symlink(), "it was left alone");
    }
    assert!(!world.path("nowhere").exists());
}

#[test]
fn a_destination_that_cannot_be_made_is_told() {
    let world = furnished();
    // Nobody can make a folder there, not even root.
    insta::assert_snapshot!(world.run(&["pull", "Notes", "/proc/notes"]).told(&world), @"
    exit status 1
    --- stderr
    obsync: /proc/notes cannot be used: cannot create it: No such file or directory (os error 2)
    ");
}

#[test]
fn a_link_that_leads_out_is_not_followed() {
    let world = furnished();
    world.vault("Notes").write("Out/Secret.md", "stay inside", NOON).unwrap();
    fs::create_dir_all(world.path("notes")).unwrap();
    fs::create_dir_all(world.path("outside")).unwrap();
    symlink(world.path("outside"), world.path("notes/Out")).unwrap();
    let pull = world.run(&["pull", "Notes", "notes"]).expect(5);
    insta::assert_snapshot!(pull.told(&world), @r#"
    exit status 5
    --- stdout
    Pulled 1 file (9 bytes) from "Notes" to notes in [TIME] s (version 3).
    --- stderr
    2 changes could not be pulled; the next run tries again:
      Out (version 2): "Out" leads out of notes through a symbolic link, which obsync does not follow; remove the link
      Out/Secret.md (version 3): "Out/Secret.md" leads out of notes through a symbolic link, which obsync does not follow; remove the link
    "#);
    assert_eq!(fs::read_dir(world.path("outside")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(world.path("notes/Welcome.md")).unwrap(), "# Welcome");
    fs::remove_file(world.path("notes/Out")).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_name_too_long_for_the_file_system_does_not_hold_the_others_back() {
    let world = furnished();
    let name = format!("{}.md", "n".repeat(300));
    world.vault("Notes").write(&name, "too long", NOON).unwrap();
    world.vault("Notes").write("After.md", "after it", NOON).unwrap();
    let pull = world.run(&["pull", "Notes", "notes"]).expect(5);
    let shown = format!("{}…", "n".repeat(200));
    insta::assert_snapshot!(pull.told(&world).replace(&shown, "[LONG NAME]"), @r#"
    exit status 5
    --- stdout
    Pulled 2 files (17 bytes) from "Notes" to notes in [TIME] s (version 3).
    --- stderr
    1 change could not be pulled; the next run tries again:
      [LONG NAME] (version 2): the name is too long for notes; shorten it in Obsidian
    What can never be had here is no failure any more after one pull with `--accept-failures`; or rename it in Obsidian, or leave it out with `--exclude`.
    "#);
    assert_eq!(world.files("notes").len(), 2);
    // It stays a failure until something is done about it.
    world.run(&["pull", "Notes", "notes"]).expect(5);
    world.vault("Notes").rename(&name, "Short.md").unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn two_pulls_at_once_are_one_too_many() {
    let world = furnished();
    let mut first = stalled_pull(&world);
    let second = world.run(&["pull", "Notes", "notes"]).expect(7);
    assert_eq!(second.stdout, "");
    assert!(second.stderr.starts_with("obsync: another obsync is working on notes"), "{}", second.stderr);
    assert!(
        second.stderr.ends_with("; wait for it to end (`--wait 10m` does), or stop it\n"),
        "{}",
        second.stderr
    );
    assert_eq!(
        world.run(&["pull", "Notes", "notes", "--json"]).expect(7).json()["error"]["code"],
        "already_running"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    world.server.faults().clear();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_pull_waits_for_another_one_as_long_as_it_is_told_to() {
    let world = furnished();
    let mut first = stalled_pull(&world);
    let short = world.run(&["pull", "Notes", "notes", "--wait", "1s"]).expect(7);
    assert!(short.stderr.contains("waiting for up to 1 s\n"), "{}", short.stderr);
    assert!(short.stderr.ends_with("; it was waited for 1 s; wait longer, or stop it\n"), "{}", short.stderr);
    world.server.faults().clear();
    let mut second = start(&world, &world.home(), &["pull", "Notes", "notes", "--wait", "5m"]);
    let (mut told, mut line) = (BufReader::new(second.stderr.take().unwrap()), String::new());
    while !line.contains("another obsync is working on notes") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it does not wait");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    std::io::copy(&mut told, &mut std::io::sink()).unwrap();
    assert!(second.wait().unwrap().success());
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn the_folder_is_locked_for_pulls_with_another_home_too() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    world.vault("Notes").write("More.md", "more", NOON).unwrap();
    let mut first = stalled_pull(&world);
    let mut second = world.command(&["pull", "Notes", "notes"]);
    ran(second.env("OBSYNC_HOME", world.path("other-home"))).expect(7);
    world.run(&["reset", "notes", "--yes"]).expect(7);
    world.run(&["verify", "notes"]).expect(7);
    // What only looks is not in the way.
    world.must(&["status", "notes"]);
    world.must(&["pull", "Notes", "notes", "--dry-run"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_signal_ends_a_pull_in_good_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = furnished();
        let pull = stalled_pull(&world);
        kill_process(Pid::from_child(&pull), signal).unwrap();
        let ended = pull.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(6), "{signal:?}");
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(
            stderr.lines().skip_while(|line| line.contains("for the first time")).collect::<String>(),
            "obsync: interrupted; what was pulled is kept, and the next run goes on from here"
        );
        let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(report["outcome"], "interrupted");
        assert!(!world.path("notes/Welcome.md").exists());
        world.server.faults().clear();
        world.must(&["pull", "Notes", "notes"]);
        assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    }
}

#[test]
fn a_signal_ends_a_command_that_waits_for_the_service() {
    let world = furnished();
    world.server.faults().set("rest-hang".parse().unwrap());
    let vaults = start(&world, &world.home(), &["vaults", "--json"]);
    world.runtime.block_on(async {
        let called = world.server.wait_for(|stats| stats.rest_requests > 0);
        tokio::time::timeout(Duration::from_secs(60), called).await.unwrap();
    });
    kill_process(Pid::from_child(&vaults), Signal::INT).unwrap();
    let ended = vaults.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(6));
    let document: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(
        (&document["outcome"], &document["error"]["code"]),
        (&json!("interrupted"), &json!("interrupted"))
    );
}
