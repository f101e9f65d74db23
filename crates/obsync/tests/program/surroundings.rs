//! Odd environments: a full disk behind standard output, a closed reader, closed streams, no home, a narrow
//! or dumb terminal, a missing locale. One sentence, the right status.

use std::process::{Command, Stdio};

use obsync_testkit::VaultSpec;

use crate::json::{ended, start};
use crate::terminal::{CREDENTIALS, Terminal};
use crate::world::{EMAIL, PASSWORD, Ran, World, put};

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
fn a_follower_that_cannot_print_its_reports_says_so_once_goes_on_and_ends_with_1() {
    use std::fs::File;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::two_way::until;

    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    for json in [&["--json"][..], &[]] {
        for (stdout, code) in [(full(), 1), (closed(), 0)] {
            let world = with_a_note();
            let args = [&["pull", "Notes", "notes", "--follow"], json].concat();
            let follower = start(&world, &args).stdout(stdout).spawn().unwrap();
            for number in 0..3 {
                let name = format!("{number}.md");
                world.vault("Notes").write(&name, "new", 1_700_000_000_000).unwrap();
                until(&name, || world.path("notes").join(&name).exists());
            }
            kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
            let ran = ended(follower).expect(code);
            let said = ran.stderr.matches("obsync: cannot write to standard output: ").count();
            assert_eq!(said, usize::from(code == 1), "{}", ran.stderr);
        }
    }
}

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
        let args: Vec<&str> = args.split(' ').collect();
        let closed = Stdio::from(std::io::pipe().unwrap().1);
        let ran = ended(start(&world, &args).stdout(closed).spawn().unwrap()).expect(0);
        assert!(
            !ran.stderr.contains("panicked") && !ran.stderr.contains("cannot"),
            "{args:?}: {}",
            ran.stderr
        );
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

/// Commands that pull, inspect, send, create, and remove. Each works on the results of the ones before it;
/// `{n}` is another number in each round.
const COMMANDS: [&str; 12] = [
    "pull Notes first{n}",
    "verify first{n}",
    "status",
    "vaults",
    "sync Notes both --yes",
    "push Notes sent --yes",
    "log both",
    "confirm both --yes",
    "create Made{n} --encryption standard",
    "check-service --yes",
    "reset both --yes",
    "unlink both --yes",
];

/// A world for them.
fn with_a_note_on_both_sides() -> World {
    let world = with_a_note();
    put(&world.path("sent/Mine.md"), "mine");
    world
}

/// The commands in a world, as words, for people and for scripts.
fn rounds() -> impl Iterator<Item = Vec<String>> {
    let json: [&[&str]; 2] = [&[], &["--json"]];
    (0..).zip(json).flat_map(|(n, json)| {
        COMMANDS.iter().map(move |line| {
            let line = line.replace("{n}", &format!("{n}"));
            line.split(' ').chain(json.iter().copied()).map(str::to_owned).collect()
        })
    })
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_one_sentence_of_commands_that_change_something_too() {
    let world = with_a_note_on_both_sides();
    for args in rounds() {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let failed = ended(start(&world, &args).stdout(full).spawn().unwrap()).expect(1);
        let sentence = "obsync: cannot write to standard output: No space left on device (os error 28)\n";
        assert_eq!(failed.errors(), sentence, "{args:?}");
    }
}

/// Commands without `--json` that print their result. They need the variable beside them.
#[cfg(target_os = "linux")]
const PRINTING: [&str; 3] = ["login", "totp", "credentials export Notes"];
#[cfg(target_os = "linux")]
const TOTP_SECRET: (&str, &str) = ("OBSIDIAN_TOTP_SECRET", "JBSWY3DPEHPK3PXP");

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_reader_that_goes_away_are_told_apart_by_sign_in_codes_and_exports() {
    let world = with_a_note();
    for line in PRINTING {
        let args: Vec<&str> = line.split(' ').collect();
        let command = || {
            let mut command = start(&world, &args);
            command.env(TOTP_SECRET.0, TOTP_SECRET.1);
            command
        };
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let failed = ended(command().stdout(full).spawn().unwrap()).expect(1);
        let sentence = "obsync: cannot write to standard output: No space left on device (os error 28)";
        assert_eq!(failed.stderr.lines().last(), Some(sentence), "{line}: {failed:?}");
        let mut child = command().stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert!(!ended(child).expect(0).stderr.contains("cannot"), "{line}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_of_commands_that_change_something() {
    let world = with_a_note_on_both_sides();
    for args in rounds() {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = start(&world, &args).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let quiet = ended(child).expect(0);
        assert_eq!(quiet.errors(), "", "{args:?}");
    }
    assert_eq!(world.server.vaults().len(), 3, "what was to be made was made");
}

#[test]
fn standard_input_that_is_closed_is_no_error_of_commands_that_change_something() {
    let world = with_a_note_on_both_sides();
    for args in rounds() {
        let closed = redirected(&world, &args.join(" "), "<&-").expect(0);
        assert_eq!(closed.errors(), "", "{args:?}");
        if args.last().is_some_and(|last| last == "--json") {
            closed.json();
        }
    }
    // Nobody can be asked, so no question is printed.
    for line in ["reset both", "unlink both", "check-service"] {
        let unasked = redirected(&world, line, "<&-");
        assert!(matches!(unasked.code, 2 | 4), "{line}: {unasked:?}");
    }
}

#[test]
fn a_narrow_or_dumb_terminal_and_a_locale_that_is_not_there_change_no_status() {
    let world = with_a_note_on_both_sides();
    let rounds = [("xterm", "C.UTF-8"), ("xterm", "xx_YY.UTF-8"), ("dumb", "C"), ("", "de_DE.ISO-8859-1")];
    for (n, (name, locale)) in rounds.into_iter().enumerate() {
        let environment =
            [CREDENTIALS[0], CREDENTIALS[1], ("TERM", name), ("LANG", locale), ("LC_ALL", locale)];
        for line in COMMANDS {
            let line = line.replace("{n}", &format!("{n}"));
            let args: Vec<&str> = line.split(' ').collect();
            let mut terminal = Terminal::sized((24, 40), &world, &args, &environment);
            assert_eq!(terminal.ended(), Some(0), "{name} {line}: {}", terminal.written());
            assert!(!terminal.screen().contains("[="), "{name} {line}: a bar is left: {}", terminal.screen());
            if name != "xterm" {
                assert!(!terminal.written().contains('\u{1b}'), "{name} {line}: {:?}", terminal.written());
            }
        }
    }
}

#[test]
fn names_with_escape_sequences_are_shown_escaped_by_commands_that_send() {
    // The service allows escape sequences in the names of vaults, but not in those of notes.
    const VAULT: &str = "red \u{1b}[31m \u{202e}tluav";
    const EVIL: &str = "evil \u{202e}dm.md";
    const ESCAPED: &str = "evil \\u{202e}dm.md";
    let world = with_a_note();
    world.must(&["sync", "Notes", "both", "--yes"]);
    world.vault("Notes").write(EVIL, "of the vault", 1_700_000_000_000).unwrap();
    let mut told = vec![world.must(&["sync", "Notes", "both", "--yes"])];
    std::fs::remove_file(world.path("both").join(EVIL)).unwrap();
    told.push(world.must(&["sync", "Notes", "both", "--dry-run"]));
    told.push(world.must(&["sync", "Notes", "both", "--yes"]));
    let log = world.must(&["log", "both"]);
    assert!(told[1].stdout.contains(ESCAPED) && told[2].stdout.contains(ESCAPED), "{told:#?}");
    assert!(log.stdout.contains(ESCAPED), "{log:?}");
    told.push(log);
    let entries = world.must(&["log", "both", "--json"]);
    assert_eq!(entries.json()["entries"][0]["path"], EVIL);
    assert!(!entries.stdout.contains('\u{202e}'), "{entries:?}");
    told.push(world.must(&["create", VAULT, "--encryption", "standard"]));
    let made = world.must(&["create", &format!("{VAULT}2"), "--encryption", "standard", "--json"]);
    assert_eq!(made.json()["vault"], format!("{VAULT}2"));
    told.push(made);
    told.push(world.run(&["push", "Notes", VAULT, "--yes"]).expect(4));
    for Ran { stdout, stderr, .. } in &told {
        for text in [stdout, stderr] {
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        }
    }
}

#[test]
fn names_with_escape_sequences_are_shown_escaped_by_commands_that_bring_look_and_ask() {
    const FOLDER: &str = "red \u{1b}[31m \u{202e}redlof";
    const EVIL: &str = "evil \u{202e}dm.md";
    let world = with_a_note();
    let vault = world.vault("Notes");
    vault.write_damaged(EVIL, "lost").unwrap();
    for number in 0..12 {
        vault.write(&format!("\u{202e}{number}.md"), "text", 1_700_000_000_000).unwrap();
    }
    let mut told = vec![
        world.run(&["pull", "Notes", FOLDER]).expect(5),
        world.run(&["verify", FOLDER]).expect(5),
        world.must(&["status", FOLDER]),
    ];
    for Ran { stdout, stderr, .. } in &told {
        assert!(format!("{stdout}{stderr}").contains("evil \\u{202e}dm.md"), "{stdout}{stderr}");
    }
    for number in 0..12 {
        vault.delete(&format!("\u{202e}{number}.md")).unwrap();
    }
    told.push(world.run(&["pull", "Notes", FOLDER]).expect(9));
    told.push(world.run(&["confirm", FOLDER]).expect(2));
    assert!(told[4].stdout.contains("\\u{202e}11.md"), "{:?}", told[4]);
    for Ran { stdout, stderr, .. } in &told {
        for text in [stdout, stderr] {
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        }
    }
    let mut terminal = Terminal::sized((24, 200), &world, &["reset", FOLDER], &[]);
    terminal.until_shown("No note is touched. [y/N]");
    terminal.press("n\n");
    assert_eq!(terminal.ended(), Some(0));
    assert!(!terminal.written().contains(['\u{1b}', '\u{202e}']), "{:?}", terminal.written());
}

/// The program as a user without a home: `HOME` is not set, and no entry of the password file has one.
#[cfg(target_os = "linux")]
fn homeless(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-user=4242", "--map-group=4242", env!("CARGO_BIN_EXE_obsync")])
        .args(args)
        .current_dir(world.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("OBSYNC_API_URL", world.server.url())
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[cfg(target_os = "linux")]
#[test]
fn a_user_without_a_home_is_told_so_in_one_sentence() {
    let world = with_a_note();
    let can_be =
        Command::new("unshare").args(["--user", "--map-user=4242", "--map-group=4242", "true"]).output();
    if !can_be.is_ok_and(|output| output.status.success()) {
        obsync_conformance::not_tested(
            "this machine does not allow a user without an entry in the password file",
        );
        return;
    }
    let run = |line: &str, environment: &[(&str, &str)]| {
        let args: Vec<&str> = line.split(' ').collect();
        ended(homeless(&world, &args, environment).spawn().unwrap())
    };
    let no_home = "obsync: cannot find your home directory; set OBSYNC_HOME to a directory where obsync may keep its data\n";
    for line in [
        "pull Notes notes",
        "sync Notes notes --yes",
        "push Notes . --yes",
        "status",
        "status notes",
        "verify notes",
        "log notes",
        "confirm notes --yes",
        "reset notes --yes",
        "unlink notes --yes",
    ] {
        // An empty variable counts as unset.
        for environment in [&CREDENTIALS[..], &[CREDENTIALS[0], CREDENTIALS[1], ("HOME", "")]] {
            let refused = run(line, environment).expect(1);
            assert_eq!((refused.stdout.as_str(), refused.stderr.as_str()), ("", no_home), "{line}");
        }
        let refused = run(&format!("{line} --json"), &CREDENTIALS).expect(1);
        assert_eq!(refused.json()["error"]["code"], "error", "{line}");
    }
    // Commands that need no stored files work; a note says that the sign-in is not stored.
    for line in ["vaults --json", "create Made --encryption standard --json", "check-service --yes --json"] {
        let done = run(line, &CREDENTIALS).expect(0);
        done.json();
        assert!(done.stderr.contains("the sign-in could not be stored"), "{line}: {done:?}");
    }
    let stranger = run("vaults --json", &[]).expect(3);
    assert_eq!(stranger.json()["error"]["code"], "not_signed_in");
    assert!(stranger.stderr.contains("neither HOME nor OBSYNC_HOME is set"), "{stranger:?}");
    assert_eq!(stranger.stderr.lines().count(), 1, "{stranger:?}");
    assert_eq!(run("login", &CREDENTIALS).expect(1).stderr.lines().count(), 1);
    assert!(!world.path("notes").exists());
}
