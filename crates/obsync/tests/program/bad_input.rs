//! Mistakes of people and their computers: each is reported in a sentence, with the right exit status, and
//! nothing is lost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use obsync_conformance::not_tested;
use obsync_testkit::{Chance, Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::world::{EMAIL, PASSWORD, Ran, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

/// A world whose vaults contain one note each.
fn furnished() -> World {
    let world = World::new();
    for name in ["Notes", "Private"] {
        world.vault(name).write("Welcome.md", "# Welcome", NOON).unwrap();
    }
    world
}

#[test]
fn a_wrong_value_of_a_variable_is_not_blamed_on_an_option_that_nobody_typed() {
    let world = furnished();
    let tip = "the value is that of the variable OBSYNC_TIMEOUT";
    let refused = |args: &[&str]| ran(world.command(args).env("OBSYNC_TIMEOUT", "soon")).expect(2);
    assert!(refused(&["vaults"]).stderr.contains(tip));
    assert_eq!(refused(&["vaults", "--json"]).json()["error"]["hint"], tip);
    assert!(!refused(&["vaults", "--timeout", "later"]).stderr.contains("variable"));
}

#[test]
fn a_destination_with_a_line_break_forges_no_line_of_an_error_or_a_result() {
    let world = furnished();
    let odd = "x\nobsync: forged";
    let is_one_line = |text: &str| text.lines().all(|line| !line.starts_with("obsync: forged"));
    for command in ["verify", "status", "reset", "confirm", "log", "unlink"] {
        let refused = world.run(&[command, odd]);
        assert!(is_one_line(&refused.stderr), "{command}: {}", refused.stderr);
        assert!(refused.stderr.contains("x\\u{a}obsync: forged"), "{command}: {}", refused.stderr);
    }
    world.must(&["pull", "Notes", odd]);
    fs::remove_file(world.path(odd).join("Welcome.md")).unwrap();
    for args in [&["pull", "Notes", odd][..], &["verify", odd], &["status", odd], &["reset", odd, "--yes"]] {
        let told = world.run(args);
        assert!(is_one_line(&told.stdout) && is_one_line(&told.stderr), "{args:?}: {told:?}");
    }
    let document = world.run(&["reset", odd, "--yes", "--json"]).json();
    assert_eq!(document["error"]["code"], "destination_unknown");
}

#[test]
fn an_option_that_no_push_can_honour_is_refused_and_not_in_its_help() {
    let world = furnished();
    put(&world.path("notes/Mine.md"), "of mine");
    for (option, instead) in [
        (&["--accept-failures"][..], "--accept-failures is for pull and sync"),
        (&["--max-delete", "5"], "--max-delete-in-vault limits its deletions"),
    ] {
        let args = [&["push", "Notes", "notes", "--yes"], option].concat();
        let refused = world.run(&args).expect(2);
        assert!(refused.stderr.contains(instead), "{}", refused.stderr);
        let help = world.must(&["push", "--help"]).stdout;
        assert!(
            !help.contains(&format!("{} ", option[0])) && !help.contains(&format!("{}\n", option[0])),
            "{help}"
        );
    }
}

#[test]
fn an_unknown_command_leaves_one_empty_line_where_no_suggestion_is() {
    let refused = furnished().run(&["delete"]).expect(2);
    assert!(!refused.stderr.contains("\n\n\n"), "{}", refused.stderr);
}

#[test]
fn a_destination_that_is_everything_or_the_home_itself_is_refused_unless_it_was_one_before() {
    let world = furnished();
    let home = world.path("me");
    fs::create_dir(&home).unwrap();
    let run = |args: &[&str]| ran(world.command(args).env("HOME", &home));
    for (args, sentence) in [
        (
            &["pull", "Notes", "/"][..],
            "obsync: / is the root of all folders of this computer; give a folder for",
        ),
        (
            &["sync", "Notes", "me", "--yes"],
            "obsync: me is your home folder itself, with everything else in it;",
        ),
        (&["push", "Notes", "./me/../me", "--yes"], "obsync: ./me/../me is your home folder itself,"),
        (&["pull", "Notes", "~/notes"], "no shell has put your home folder in the place of ~;"),
    ] {
        let refused = run(args).expect(2);
        assert!(refused.stderr.contains(sentence), "{args:?}: {}", refused.stderr);
        assert_eq!(world.server.stats().rest_requests, 0, "{args:?}: nobody was asked");
    }
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    // A folder that was pulled to before it became somebody's home keeps working.
    world.must(&["pull", "Notes", "me"]);
    run(&["pull", "Notes", "me"]).expect(0);
}

/// The program as a process that runs while the test does something else.
pub(crate) fn start(world: &World, home: &Path, args: &[&str]) -> Child {
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

/// A pull that waits for a content that never arrives.
fn stalled_pull(world: &World) -> Child {
    pull_that_stalls(world, Chance::always(), &[])
}

/// A pull whose contents stall in the middle by this chance. Returns when it waits for the first one.
fn pull_that_stalls(world: &World, chance: Chance, options: &[&str]) -> Child {
    world.server.faults().set(Faults { stall_in_content: chance, ..Faults::default() });
    let pulls = world.server.stats().pulls;
    let args = [&["pull", "Notes", "notes", "--json"], options].concat();
    let pull = start(world, &world.home(), &args);
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

    Usage: obsync pull <VAULT> <DEST>

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
    obsync: there is no vault "Nots"; did you mean "Notes"? The account has "Notes", "Private"
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
    obsync: the password of the vault "Private" is needed (the stored key no longer opens it, as its password was changed); pipe it in with --password-stdin, or set OBSYNC_VAULT_PASSWORD or OBSYNC_VAULT_PASSWORD_FILE
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
fn a_destination_that_may_not_be_read_is_told_and_left_alone() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("fresh/mine.md"), "mine");
    for destination in ["notes", "fresh"] {
        let folder = world.path(destination);
        let before = fs::metadata(&folder).unwrap().permissions();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
        let Some(refused) = without_privileges(&world, &["pull", "Notes", destination]) else { return };
        let refused = refused.expect(1);
        assert!(refused.stderr.contains(destination), "{}", refused.stderr);
        assert!(refused.stderr.to_lowercase().contains("permission"), "{}", refused.stderr);
        fs::set_permissions(&folder, before).unwrap();
    }
    assert_eq!(fs::read_dir(world.path("fresh")).unwrap().count(), 1);
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_folder_that_is_renamed_midway_keeps_what_is_in_it_and_the_next_pull_fills_the_place() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    put(&world.path("notes/Mine.md"), "mine");
    for number in 0..20 {
        world.vault("Notes").write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
    }
    let pull = pull_that_stalls(&world, Chance::next(1), &["--timeout", "2", "--connections", "1"]);
    fs::rename(world.path("notes"), world.path("renamed")).unwrap();
    let ended = pull.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("notes cannot be used: it was moved, unmounted or replaced"), "{stderr}");
    // The program wrote to the opened folder, whatever its name is now.
    let expected = world.vault("Notes").expected().unwrap();
    for (path, text) in world.files("renamed") {
        let is_users = path == "Mine.md" && text == "mine";
        assert!(is_users || expected.files.iter().any(|file| file.path == path), "{path}");
    }
    for destination in ["notes", "renamed"] {
        world.must(&["pull", "Notes", destination]);
    }
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    assert_eq!(fs::read_to_string(world.path("renamed/Mine.md")).unwrap(), "mine");
    fs::remove_file(world.path("renamed/Mine.md")).unwrap();
    assert_eq!(world.differences("Notes", "renamed"), [""; 0]);
}

#[test]
fn a_folder_that_is_removed_midway_is_filled_by_the_next_pull() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    for number in 0..20 {
        world.vault("Notes").write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
    }
    let pull = pull_that_stalls(&world, Chance::next(1), &["--timeout", "2", "--connections", "1"]);
    // Files that the pull puts there meanwhile are removed, too.
    while let Err(error) = fs::remove_dir_all(world.path("notes")) {
        assert_eq!(error.kind(), std::io::ErrorKind::DirectoryNotEmpty, "{error}");
    }
    let ended = pull.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(matches!(ended.status.code(), Some(1 | 5)), "{:?}: {stderr}", ended.status);
    assert!(!stderr.contains("panicked") && stderr.contains("notes"), "{stderr}");
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_marker_of_a_newer_release_is_told_and_left_alone() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    world.vault("Notes").write("More.md", "more", NOON).unwrap();
    let marker = world.path("notes/.obsync/id");
    let text = fs::read_to_string(&marker).unwrap();
    let newer = text.replace("\"format\":1", "\"format\":2,\"more\":{}");
    assert_ne!(newer, text);
    fs::write(&marker, &newer).unwrap();
    for options in [&[][..], &["--full"], &["--dry-run"]] {
        let refused = world.run(&[&["pull", "Notes", "notes"], options].concat()).expect(1);
        assert!(refused.stderr.contains("a newer obsync wrote it (format 2"), "{}", refused.stderr);
        assert!(refused.stderr.contains("update obsync"), "{}", refused.stderr);
    }
    assert_eq!(fs::read_to_string(&marker).unwrap(), newer);
    assert_eq!(world.files("notes").len(), 1);
    fs::write(&marker, text).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

/// As if somebody had copied the folder of one vault over that of another.
#[test]
fn the_marker_of_another_vault_is_told_and_every_file_compared() {
    for is_known_here in [true, false] {
        let world = World::with(|builder| {
            builder.vault(VaultSpec::managed("Notes")).vault(VaultSpec::managed("Other"))
        });
        let home = if is_known_here { world.home() } else { world.path("another-home") };
        let pull_other =
            || ran(world.command(&["pull", "Other", "other", "--json"]).env("OBSYNC_HOME", &home)).expect(0);
        for number in 0..5 {
            world.vault("Notes").write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
        }
        world.vault("Other").write("other.md", "of another vault", NOON).unwrap();
        world.must(&["pull", "Notes", "notes"]);
        pull_other();
        fs::copy(world.path("other/.obsync/id"), world.path("notes/.obsync/id")).unwrap();
        fs::write(world.path("notes/0.md"), "edited here").unwrap();
        fs::remove_file(world.path("notes/1.md")).unwrap();
        let pull = world.run(&["pull", "Notes", "notes", "--json"]).expect(0);
        let report = pull.json();
        assert!(report["warnings"][0].as_str().unwrap().contains("another vault was pulled"), "{report:#}");
        assert_eq!(
            (&report["doubt"], &report["error"]),
            (&json!("other_destination"), &json!(null)),
            "{report:#}"
        );
        for told in ["another vault was pulled to this destination", "has the marker of another one"] {
            assert!(pull.stderr.contains(told), "{told}: {}", pull.stderr);
        }
        let counted = ["adopted", "pulled"].map(|part| report[part]["files"].as_u64().unwrap());
        assert_eq!(counted, [3, 2], "{report:#}");
        let kept = report["conflicts"][0]["kept_as"].as_str().unwrap().to_owned();
        assert_eq!(fs::read_to_string(world.path("notes").join(&kept)).unwrap(), "edited here");
        fs::remove_file(world.path("notes").join(kept)).unwrap();
        assert_eq!(world.differences("Notes", "notes"), [""; 0]);
        // From then on each is separate again.
        for report in [world.must(&["pull", "Notes", "notes", "--json"]).json(), pull_other().json()] {
            assert!(report.get("doubt").is_none() && report["warnings"].is_null(), "{report:#}");
            assert!(report["pulled"]["files"] == 0 && report["adopted"]["files"] == 0, "{report:#}");
        }
        assert_eq!(world.differences("Other", "other"), [""; 0]);
    }
}

/// The state knows this id: only the vault shows that the folder is somebody else's.
#[test]
fn a_marker_with_the_known_id_that_names_another_vault_is_told_as_another_destination() {
    let world = furnished();
    world.vault("Notes").write("More.md", "more", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let marker = world.path("notes/.obsync/id");
    let text = fs::read_to_string(&marker).unwrap();
    let vault = world.vault("Notes").id().to_string();
    assert!(text.contains(&vault), "{text}");
    fs::write(&marker, text.replace(&vault, &"0".repeat(vault.len()))).unwrap();
    fs::write(world.path("notes/More.md"), "edited here").unwrap();
    let pull = world.run(&["pull", "Notes", "notes", "--json"]).expect(0);
    let report = pull.json();
    assert_eq!(
        (&report["doubt"], &report["exit_code"]),
        (&json!("other_destination"), &json!(0)),
        "{report:#}"
    );
    for told in ["another vault was pulled to this destination", "has the marker of another one"] {
        assert!(pull.stderr.contains(told), "{told}: {}", pull.stderr);
    }
    let kept = report["conflicts"][0]["kept_as"].as_str().unwrap();
    assert_eq!(fs::read_to_string(world.path("notes").join(kept)).unwrap(), "edited here");
    let next = world.must(&["pull", "Notes", "notes", "--json"]).json();
    assert!(next.get("doubt").is_none() && next["pulled"]["files"] == 0, "{next:#}");
    assert!(fs::read_to_string(&marker).unwrap().contains(&vault));
}

/// The database of a pull that an earlier release began: its records count, and its files already put in
/// place, too.
#[test]
fn a_pull_goes_on_with_a_state_of_format_1() {
    let world = furnished();
    let notes = world.vault("Notes");
    for number in 0..5 {
        notes.write(&format!("{number}.md"), format!("note {number}"), NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    let state = fs::read_dir(world.home().join("state")).unwrap().map(|file| file.unwrap().path());
    let state = state.into_iter().find(|path| path.extension().is_some_and(|end| end == "sqlite")).unwrap();
    put_into_format_1(&state, "4.md");
    fs::remove_file(world.path("notes/.obsync/id")).unwrap();
    notes.write("0.md", "changed", NOON + 1).unwrap();
    notes.delete("1.md").unwrap();
    fs::write(world.path("notes/2.md"), "edited here").unwrap();

    world.must(&["status", "notes"]);
    let report = world.must(&["pull", "Notes", "notes", "--json"]).json();
    assert_eq!(
        (&report["pulled"]["files"], &report["adopted"]["files"]),
        (&json!(1), &json!(1)),
        "{report:#}"
    );
    assert_eq!((&report["deleted"]["files"], report.get("doubt")), (&json!(1), None), "{report:#}");
    assert_eq!(fs::read_to_string(world.path("notes/2.md")).unwrap(), "edited here");
    notes.write("2.md", "edited here", NOON + 2).unwrap();
    world.must(&["pull", "Notes", "notes", "--full"]);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    world.must(&["verify", "notes"]);
}

/// Writes a state's content into a database of the last release with format 1, as if a run had died after it
/// put `announced` in place.
pub(crate) fn put_into_format_1(state: &Path, announced: &str) {
    let present = state.with_extension("present");
    fs::rename(state, &present).unwrap();
    fs::write(state, include_bytes!("../../../sqlite/tests/data/format-1-last.sqlite")).unwrap();
    fs::set_permissions(state, fs::Permissions::from_mode(0o600)).unwrap();
    let old = rusqlite::Connection::open(state).unwrap();
    old.execute("ATTACH ?1 AS present", [present.to_str().unwrap()]).unwrap();
    let columns = "path, uid, hash, size, mtime, ctime";
    old.execute_batch(&format!(
        "DELETE FROM vault; DELETE FROM records; DELETE FROM announced; DELETE FROM deferred;
         INSERT INTO vault SELECT id, vault_id, vault_name, destination, created, committed, version, listed, filter, 0
             FROM present.vault;
         INSERT INTO records ({columns}) SELECT {columns} FROM present.records WHERE path != '{announced}';
         INSERT INTO announced SELECT {columns} FROM present.records WHERE path = '{announced}';
         UPDATE vault SET version = (SELECT uid - 1 FROM announced);
         DETACH present"
    ))
    .unwrap();
    drop(old);
    fs::remove_file(present).unwrap();
}

/// Runs the program without the rights of a superuser. `None`: this machine does not allow that.
pub(crate) fn without_privileges(world: &World, args: &[&str]) -> Option<Ran> {
    if !rustix::process::geteuid().is_root() {
        return Some(world.run(args));
    }
    let none = ["--bounding-set=-all", "--inh-caps=-all"];
    if !Command::new("setpriv").args(none).arg("true").status().is_ok_and(|status| status.success()) {
        not_tested("this machine does not allow a process to give up its rights");
        return None;
    }
    let mut command = assert_cmd::Command::new("setpriv");
    command.args(none).arg(env!("CARGO_BIN_EXE_obsync")).args(args).current_dir(world.path("")).env_clear();
    command.env("OBSYNC_HOME", world.home()).env("OBSYNC_API_URL", world.server.url());
    Some(ran(command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD)))
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
    2 changes could not be pulled; the next run retries:
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
    1 change could not be pulled; the next run retries:
      [LONG NAME] (version 2): the name is too long for notes; shorten it in Obsidian
    To accept entries that can never be stored here, pull once with `--accept-failures`; or rename them in Obsidian, or leave them out with `--exclude`.
    "#);
    assert_eq!(world.files("notes").len(), 2);
    // It stays a failure until it is resolved.
    world.run(&["pull", "Notes", "notes"]).expect(5);
    world.must(&["pull", "Notes", "notes", "--exclude", &name]);
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
    // Read-only commands are not blocked.
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
            "obsync: interrupted; pulled files are kept, and the next run continues from here"
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
