//! One JSON value on standard output at every end of every command that has `--json`, and the right exit status.
//!
//! The output is compared with the schemas ([`crate::schemas`]) wherever a test reads it.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use obsync_testkit::{Chance, Faults};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::alterations::{Alteration, altered};
use crate::schemas;
use crate::two_way::until;
use crate::world::{EMAIL, PASSWORD, Ran, World, put, ran};

const NOON: i64 = 1_767_268_800_000;

/// The schema, the command line, and the program's exit status.
type Run = (&'static str, &'static [&'static str], i32);

fn furnished() -> World {
    let world = World::new();
    for number in 0..20 {
        world.vault("Notes").write(&format!("Daily/{number:02}.md"), format!("note {number}"), NOON).unwrap();
    }
    world
}

/// Asserts one value, of the schema of its command, that says how the command ended.
#[track_caller]
pub(crate) fn check(command: &str, ran: &Ran, code: i32) -> Value {
    let document = ran.json();
    assert_eq!(schemas::faults(command, &document), [""; 0], "{document:#}");
    assert_eq!(
        (ran.code, &document["exit_code"]),
        (code, &Value::from(code)),
        "{document:#}\n{}",
        ran.stderr
    );
    assert_eq!(document["error"].is_null(), code == 0, "{document:#}");
    document
}

/// A command of the world as a separate process.
pub(crate) fn start(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_obsync"));
    command
        .args(args)
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

pub(crate) fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code().unwrap_or_else(|| panic!("{}", output.status)),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[test]
fn commands_that_are_refused_print_one_value_with_the_exit_status() {
    let world = furnished();
    put(&world.path("file"), "a file of mine");
    let refused: [Run; 11] = [
        ("pull", &["pull", "Notes", "--json"], 2),
        ("pull", &["pull", "Notes", "notes", "--connections", "0", "--json"], 2),
        ("pull", &["pull", "Nots", "notes", "--json"], 4),
        ("pull", &["pull", "Private", "private", "--json"], 3),
        ("pull", &["pull", "Notes", "file", "--json"], 1),
        ("verify", &["verify", "--json"], 2),
        ("verify", &["verify", "nowhere", "--json"], 4),
        ("status", &["status", "nowhere", "--json"], 4),
        ("status", &["status", "--max-age", "soon", "--json"], 2),
        ("status", &["status", "--max-age", "1h", "--json"], 10),
        ("aws-init", &["aws", "init", "--json"], 2),
    ];
    for (command, args, code) in refused {
        check(command, &world.run(args), code);
    }
    for (command, args) in
        [("pull", ["pull", "Notes", "notes", "--json"].as_slice()), ("vaults", &["vaults", "--json"])]
    {
        let mut stranger = world.anonymous(args);
        // A home without a token.
        stranger.env("OBSYNC_HOME", world.path("nobody"));
        let document = check(command, &ran(&mut stranger), 3);
        assert_eq!(document["error"]["code"], "not_signed_in");
        let mut away = world.command(args);
        let document = check(
            command,
            &ran(away.env("OBSYNC_API_URL", "http://127.0.0.1:1/").args(["--timeout", "1"])),
            8,
        );
        assert_eq!((&document["outcome"], &document["error"]["retryable"]), (&"failed".into(), &true.into()));
    }
    assert!(!world.path("notes").exists());
}

#[test]
fn commands_that_do_their_work_print_one_value_with_the_exit_status() {
    let world = furnished();
    let vault = world.vault("Notes");
    assert_eq!(
        check("pull", &world.run(&["pull", "Notes", "notes", "--dry-run", "--json"]), 0)["outcome"],
        "dry_run"
    );
    let pulled = check("pull", &world.run(&["pull", "Notes", "notes", "--json", "--list-changes"]), 0);
    assert_eq!((&pulled["outcome"], pulled["changes"].as_array().unwrap().len()), (&"complete".into(), 20));
    check("vaults", &world.run(&["vaults", "--json"]), 0);
    let verified = check("verify", &world.run(&["verify", "notes", "--json", "--list-files"]), 0);
    assert_eq!((&verified["clean"], &verified["files"][0]["checked_by"]), (&true.into(), &"read".into()));
    let status = check("status", &world.run(&["status", "--json"]), 0);
    let row = &status["destinations"][0];
    for time in
        [&row["last_check"], &row["last_change"], &row["last_run"]["began"], &row["last_run"]["ended"]]
    {
        let text = time.as_str().unwrap_or_else(|| panic!("{row:#}"));
        assert!(text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z'), "{text}");
    }
    assert_eq!((&row["present"], &row["last_run"]["outcome"]), (&true.into(), &"complete".into()));

    put(&world.path("notes/Daily/03.md"), "of mine");
    check("verify", &world.run(&["verify", "notes", "--json"]), 5);
    vault.write_damaged("Broken.md", "lost").unwrap();
    let failed = check("pull", &world.run(&["pull", "Notes", "notes", "--json"]), 5);
    assert_eq!(
        (&failed["error"]["code"], &failed["failures"][0]["path"]),
        (&"failures".into(), &"Broken.md".into())
    );
    vault.delete("Broken.md").unwrap();
    (0..20).for_each(|number| drop(vault.delete(&format!("Daily/{number:02}.md"))));
    let held_back = check("pull", &world.run(&["pull", "Notes", "notes", "--json"]), 9);
    assert!(held_back["error"]["hint"].as_str().unwrap().contains("obsync confirm notes"), "{held_back:#}");
    assert_eq!(check("verify", &world.run(&["verify", "notes", "--json"]), 5)["clean"], false);
    let confirmed = check("confirm", &world.run(&["confirm", "notes", "--yes", "--json"]), 0);
    assert_eq!(confirmed["confirmed"].as_array().unwrap().len(), 20, "{confirmed:#}");
    let again = check("confirm", &world.run(&["confirm", "notes", "--yes", "--json"]), 0);
    assert_eq!(again["confirmed"], serde_json::json!([]));
    let deleted = check("pull", &world.run(&["pull", "Notes", "notes", "--json"]), 0);
    assert_eq!(deleted["deleted_files"].as_array().unwrap().len(), 19, "{deleted:#}");
    vault.write("Old.md", "to be moved", NOON).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    vault.rename("Old.md", "New.md").unwrap();
    let moved = check("pull", &world.run(&["pull", "Notes", "notes", "--json"]), 0);
    let expected = serde_json::json!([{ "path": "New.md", "from": "Old.md" }]);
    assert_eq!((&moved["moved"]["files"], &moved["moved_files"]), (&1.into(), &expected), "{moved:#}");
    assert_eq!(moved["deleted_files"], serde_json::json!([]));
    let forgotten = check("reset", &world.run(&["reset", "notes", "--yes", "--json"]), 0);
    assert_eq!(forgotten["forgotten"], 1);
    let unlinked = check("unlink", &world.run(&["unlink", "notes", "--yes", "--json"]), 0);
    assert_eq!(unlinked["forgotten"], 0, "its marker alone was left");
    for command in ["confirm", "reset", "unlink"] {
        let unasked = world.run(&[command, "notes", "--json"]);
        assert_eq!(check(command, &unasked, 2)["error"]["code"], "usage", "a script cannot be asked");
    }
}

#[test]
fn a_vault_that_is_older_is_one_value_with_its_exit_status() {
    let mut world = furnished();
    let id = world.vault("Notes").id().clone();
    world.must(&["pull", "Notes", "notes"]);
    world.serve_instead(|server| server.vault(obsync_testkit::VaultSpec::managed("Notes").id(&id)));
    world.vault("Notes").write("One.md", "one", NOON).unwrap();
    let older = check("pull", &world.run(&["pull", "Notes", "notes", "--json", "-q"]), 11);
    assert_eq!((&older["outcome"], &older["error"]["code"]), (&"vault_older".into(), &"vault_older".into()));
}

#[test]
fn ten_runs_of_every_kind_follow_the_schemas() {
    let world = furnished();
    for round in 0..10 {
        let name = format!("Round {round}.md");
        world.vault("Notes").write(&name, format!("text {round}"), NOON + round).unwrap();
        let full = if round % 2 == 0 { "--full" } else { "--list-changes" };
        check("pull", &world.run(&["pull", "Notes", "notes", "--dry-run", "--json"]), 0);
        check("pull", &world.run(&["pull", "Notes", "notes", "--json", full]), 0);
        check("verify", &world.run(&["verify", "notes", "--json"]), 0);
        check("status", &world.run(&["status", "--json", "--max-age", "1h"]), 0);
        check("vaults", &world.run(&["vaults", "--json"]), 0);
        check("pull", &world.run(&["pull", &name, "notes", "--json"]), 4);
        check("verify", &world.run(&["verify", &name, "--json"]), 4);
        check("confirm", &world.run(&["confirm", "notes", "--yes", "--json"]), 0);
    }
}

#[test]
fn ten_runs_of_every_kind_that_writes_to_a_vault_follow_the_schemas() {
    let world = furnished();
    for round in 0..10 {
        let (name, place) = (format!("Made {round}"), format!("pushed {round}"));
        check("create", &world.run(&["create", &name, "--encryption", "standard", "--json"]), 0);
        put(&world.path("both").join(format!("Mine {round}.md")), "mine");
        put(&world.path(&place).join("Note.md"), &name);
        check("pull", &world.run(&["sync", "Notes", "both", "--yes", "--json", "--list-changes"]), 0);
        check("pull", &world.run(&["push", &name, &place, "--yes", "--json"]), 0);
        check("log", &world.run(&["log", "both", "--json"]), 0);
        check("reset", &world.run(&["reset", &place, "--yes", "--json"]), 0);
        check("pull", &world.run(&["sync", "Notes", "both", "--dry-run", "--json"]), 0);
        check("unlink", &world.run(&["unlink", &place, "--yes", "--json"]), 0);
    }
    for _ in 0..10 {
        check("check-service", &world.run(&["check-service", "--yes", "--json"]), 0);
    }
}

/// Optional fields, left out when empty or not requested.
const OPTIONAL: &[(&str, &str)] = &[
    ("pull", "changes"),
    ("pull", "changes.0.from"),
    ("pull", "changes.0.size"),
    ("pull", "device"),
    ("pull", "warnings"),
    ("verify", "files"),
    ("log", "entries.0.device"),
    ("log", "entries.0.from"),
    ("log", "entries.0.size"),
];

/// Asserts that a document with a field removed, renamed or added is not valid any more.
#[track_caller]
pub(crate) fn assert_closed(command: &str, document: &Value) {
    for (alteration, path, altered) in altered(document) {
        let is_optional = alteration == Alteration::Removed && OPTIONAL.contains(&(command, path.as_str()));
        let is_refused = schemas::faults(command, &altered) != [""; 0];
        // A policy has IAM's format.
        let is_open = command == "aws-init" && path.starts_with("policy.");
        assert!(is_refused || is_optional || is_open, "{command}: {path} {alteration:?}");
    }
    let mut newer = document.clone();
    newer["schema_version"] = 2.into();
    assert_ne!(schemas::faults(command, &newer), [""; 0], "{command}");
}

#[test]
fn a_schema_refuses_a_field_that_is_missing_renamed_or_unknown() {
    let world = furnished();
    world.vault("Notes").write_damaged("Broken.md", "lost").unwrap();
    for (command, args, code) in [
        ("pull", ["pull", "Notes", "notes", "--json", "--list-changes"].as_slice(), 5),
        ("verify", &["verify", "notes", "--json", "--list-files"], 5),
        ("status", &["status", "--json"], 0),
        ("vaults", &["vaults", "--json"], 0),
        ("log", &["log", "notes", "--json"], 0),
        ("confirm", &["confirm", "notes", "--yes", "--json"], 0),
        ("create", &["create", "Made", "--encryption", "standard", "--json"], 0),
        ("reset", &["reset", "notes", "--yes", "--json"], 0),
        ("unlink", &["unlink", "notes", "--yes", "--json"], 0),
        ("check-service", &["check-service", "--yes", "--json"], 0),
    ] {
        assert_closed(command, &check(command, &world.run(args), code));
    }
}

#[test]
fn a_result_that_cannot_be_written_is_one_sentence_and_an_error() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    for args in [
        ["pull", "Notes", "notes", "--json"].as_slice(),
        &["verify", "notes", "--json"],
        &["status", "--json"],
        &["vaults", "--json"],
        &["verify", "nowhere", "--json"],
        &["pull", "--json"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let failed = ended(start(&world, args).stdout(full).spawn().unwrap());
        let expected = match args {
            ["verify", "nowhere", ..] => 4,
            ["pull", "--json"] => 2,
            _ => 1,
        };
        assert_eq!(failed.code, expected, "{args:?}: {}", failed.stderr);
        let told = failed.stderr.matches("cannot write to standard output").count();
        assert_eq!(told, 1, "{args:?}: {}", failed.stderr);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = furnished();
    world.must(&["pull", "Notes", "notes"]);
    for args in [
        ["pull", "Notes", "notes", "--json"].as_slice(),
        &["verify", "notes", "--json"],
        &["status", "--json"],
        &["vaults", "--json"],
    ] {
        let mut child = start(&world, args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let quiet = ended(child);
        assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn standard_input_that_is_closed_and_a_home_that_cannot_be_made_are_one_value() {
    let world = furnished();
    let program = env!("CARGO_BIN_EXE_obsync");
    let closed = |args: &str| {
        let environment = start(&world, &[]);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec '{program}' {args} <&-")]).current_dir(world.path("")).env_clear();
        for (name, value) in environment.get_envs() {
            command.env(name, value.unwrap());
        }
        ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    check("pull", &closed("pull Notes notes --json"), 0);
    check("verify", &closed("verify notes --json"), 0);
    check("pull", &closed("pull Private private --password-stdin --json"), 2);
    // Nobody can make a folder there, not even root.
    for (command, args, code) in [
        ("status", ["status", "--json"].as_slice(), 0),
        ("verify", &["verify", "notes", "--json"], 4),
        ("pull", &["pull", "Notes", "notes", "--json"], 1),
        ("vaults", &["vaults", "--json"], 0),
    ] {
        let mut homeless = world.command(args);
        check(command, &ran(homeless.env("OBSYNC_HOME", "/proc/nowhere")), code);
    }
}

#[test]
fn two_signals_in_quick_succession_leave_one_value() {
    let world = furnished();
    world.server.faults().set(Faults { stall_in_content: Chance::always(), ..Faults::default() });
    for pause in [0, 1, 5, 20, 100] {
        let pulls = world.server.stats().pulls;
        let args = ["pull", "Notes", "notes", "--json"];
        let pull = start(&world, &args).stdout(Stdio::piped()).spawn().unwrap();
        world.runtime.block_on(async {
            let stalled = world.server.wait_for(|stats| stats.pulls > pulls);
            tokio::time::timeout(Duration::from_secs(60), stalled).await.unwrap();
        });
        kill_process(Pid::from_child(&pull), Signal::INT).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&pull), Signal::TERM);
        let document = check("pull", &ended(pull), 6);
        assert_eq!(document["outcome"], "interrupted", "{document:#}");
    }
}

#[test]
fn a_second_signal_ends_a_command_whose_output_nobody_reads() {
    let world = World::new();
    for number in 0..1500 {
        world.vault("Notes").write(&format!("A folder/{number:04}.md"), "text", NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    let verify = ["verify", "notes", "--list-files", "--json"];
    let follow = ["pull", "Notes", "other", "--follow", "--list-changes", "--json"];
    for args in [&verify[..], &follow] {
        let mut command = start(&world, args).stdout(Stdio::piped()).spawn().unwrap();
        let unread = command.stdout.take().unwrap();
        until("the pipe is full", || ioctl_fionread(&unread).unwrap() >= 60_000);
        for signal in [Signal::INT, Signal::TERM] {
            kill_process(Pid::from_child(&command), signal).unwrap();
        }
        until("the command ends", || command.try_wait().unwrap().is_some());
        assert_eq!(command.wait().unwrap().code(), Some(6), "{args:?}");
    }
}
