//! Odd surroundings: a full disk behind standard output, closed streams, no home, no terminal. One sentence, the right status.

use std::process::Command;

use obsync_testkit::VaultSpec;

use crate::world::{EMAIL, PASSWORD, Ran, World};

/// Runs the program by a shell that does this with its streams.
fn redirected(world: &World, args: &str, streams: &str) -> Ran {
    let ran = Command::new("sh")
        .args(["-c", &format!("\"$0\" {args} {streams}"), env!("CARGO_BIN_EXE_obsync")])
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: ran.status.code().unwrap(), stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

fn with_a_note() -> World {
    let world = World::with(|builder| builder.vault(VaultSpec::managed("Notes").owner(EMAIL)));
    world.vault("Notes").write("Note.md", "a note", 1_700_000_000_000).unwrap();
    world
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_an_error_of_one_sentence() {
    let world = with_a_note();
    world.must(&["pull", "Notes", "notes"]);
    for args in [
        "vaults",
        "vaults --json",
        "status",
        "status --json",
        "verify notes",
        "verify notes --json",
        "pull Notes notes",
        "pull Notes notes --json",
        "help exit-codes",
        "--help",
        "--version",
        "completions bash",
    ] {
        let ran = redirected(&world, args, "> /dev/full").expect(1);
        let sentence = "obsync: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(ran.stderr, sentence, "{args}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_error_stops_nothing() {
    let world = with_a_note();
    redirected(&world, "pull Notes notes --json", "2> /dev/full").expect(0).json();
    redirected(&world, "verify notes", "2> /dev/full").expect(0);
}

#[test]
fn closed_streams_are_no_error() {
    let world = with_a_note();
    for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        redirected(&world, "pull Notes notes --full", streams).expect(0);
    }
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    let asked = redirected(&world, "login --password-stdin", "<&-").expect(2);
    assert!(asked.stderr.contains("standard input has no"), "{}", asked.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_error_of_any_command() {
    let world = with_a_note();
    for args in ["vaults", "vaults --json", "pull Notes notes --json", "help environment", "--help"] {
        let ran = redirected(&world, args, "| true; exit 0").expect(0);
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("cannot"), "{args}: {}", ran.stderr);
    }
}

#[test]
fn a_home_that_cannot_be_is_said_in_one_sentence() {
    let world = with_a_note();
    for home in ["/dev/null/home", "/proc/nowhere"] {
        let mut pull = world.command(&["pull", "Notes", "notes", "--json"]);
        let pull = crate::world::ran(pull.env("OBSYNC_HOME", home));
        assert_ne!(pull.code, 0, "{home}");
        assert!(pull.json()["error"].is_object(), "{home}");
        let errors: Vec<&str> = pull.stderr.lines().filter(|line| !line.contains("warning")).collect();
        assert!(!errors.is_empty() && errors.iter().all(|line| line.starts_with("obsync: ")), "{errors:?}");
    }
}
