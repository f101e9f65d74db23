//! Faults of the service and the network: each is reported in a sentence, with the right exit status, no
//! partial file appears under its name, and afterwards the next pull repairs everything.

use std::fs;
use std::net::TcpListener;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use obsync_protocol::{EncryptionVersion, MasterKey, VaultKeys};
use obsync_testkit::{Chance, Faults};

use crate::world::{EMAIL, PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;
const SALT: &str = "0123456789abcdef0123456789abcdef";

/// A world whose vault `Notes` contains three files; the middle one is affected by the fault.
fn three_files() -> World {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("First.md", "first", NOON).unwrap();
    vault.write("Trouble.bin", vec![7; 10_000], NOON).unwrap();
    vault.write("Third.md", "third", NOON).unwrap();
    world
}

/// Runs a pull with these faults and short timeouts.
fn pull_with(world: &World, faults: &str) -> crate::world::Ran {
    world.server.faults().set(faults.parse().unwrap());
    world.run(&["pull", "Notes", "notes", "--timeout", "1", "--connections", "1"])
}

/// Does the same for each of `troubles` concurrently, as each spends its time waiting; the answers in order.
fn for_each<T: Sync, A: Send>(troubles: &[T], test: impl Fn(&T) -> A + Sync) -> Vec<A> {
    thread::scope(|scope| {
        let running: Vec<_> = troubles.iter().map(|trouble| scope.spawn(|| test(trouble))).collect();
        running.into_iter().map(|test| test.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Without the fault: the next pull has to transfer everything.
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
    let pull = ran(&mut world.command(&["pull", "Notes", "notes", "--timeout", "1", "--api-url", &nobody]))
        .expect(8);
    assert!(pull.stderr.starts_with("obsync: cannot reach 127.0.0.1:"), "{}", pull.stderr);
    assert!(pull.stderr.ends_with("check the network, then try again\n"), "{}", pull.stderr);
    assert!(!world.path("notes").exists());
}

#[test]
fn trouble_before_any_work_is_told_and_nothing_is_done() {
    let troubles = [
        "rest-hang",
        "rest-drop",
        "rest-garbage",
        "rest-overloaded",
        "rest-status-error",
        "hang-upgrade",
        "refuse-upgrade",
        "stall-init",
    ];
    let told = for_each(&troubles, |fault| {
        let world = three_files();
        let pull = pull_with(&world, fault);
        assert_eq!(pull.code, 8, "{fault}: {}", pull.stderr);
        assert!(!world.path("notes").exists(), "{fault}");
        heals(&world);
        format!("{fault}: {}", world.redacted(pull.stderr.lines().last().unwrap()))
    });
    insta::assert_snapshot!(told.join("\n"), @"
    rest-hang: obsync: the service's answer did not come within 1 s; the service may be overloaded, try again later
    rest-drop: obsync: the connection to the server was lost: client error (SendRequest): connection closed before message completed; try again
    rest-garbage: obsync: 127.0.0.1 answered with a web page (HTTP status 200) instead of the service's answer; a network that wants you to sign in, a proxy or a filter may be in the way, or the address of the service is wrong: open it in a browser to see
    rest-overloaded: obsync: the service is overloaded; try again in some minutes
    rest-status-error: obsync: the service answered with HTTP status 503; check the address of the service, or try again later
    hang-upgrade: obsync: a connection to the vault's server did not come within 1 s; the service may be overloaded, try again later
    refuse-upgrade: obsync: the service answered with HTTP status 503; check the address of the service, or try again later
    stall-init: obsync: the server's answer to opening the vault did not come within 1 s; the service may be overloaded, try again later
    ");
}

#[test]
fn a_host_outside_the_allow_list_never_sees_the_token() {
    let world = three_files();
    let evil = TcpListener::bind("127.0.0.2:0").unwrap();
    evil.set_nonblocking(true).unwrap();
    let host = evil.local_addr().unwrap().to_string();
    world.server.faults().set(format!("listing-host={host}").parse().unwrap());
    let pull = world.run(&["pull", "Notes", "notes"]);
    insta::assert_snapshot!(pull.told(&world).replace(&host, "[EVIL]"), @r#"
    exit status 8
    --- stderr
    obsync: the service says that the vault is on the host "[EVIL]", which is neither under obsidian.md nor one that you allowed, so the token was not sent there. Obsidian's own servers are all under obsidian.md. With a server of your own, ask its administrator for the name, and compare the two before you allow it
    "#);
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
    world.must(&[
        "pull",
        "Notes",
        "notes",
        "--allow-host",
        "sync.example.com",
        "--allow-host",
        "other.example:9000",
    ]);
}

#[test]
fn secrets_that_the_server_repeats_are_not_printed_nor_kept() {
    let world = three_files();
    // The last one would be cut in the middle of the token.
    let long = format!("{}{{token}}", "x ".repeat(145));
    for text in ["no, {token}", "hash {keyhash} of {token}!", "{token}{token}", "{keyhash}", &long] {
        world.server.faults().set(Faults {
            init_error: Chance::always(),
            init_error_text: text.to_owned(),
            ..Faults::default()
        });
        let pull = world.run(&["pull", "Notes", "notes", "--json", "-vv"]);
        let shown = world.redacted(&format!("{}{}", pull.stdout, pull.stderr));
        assert!(shown.contains("[secret]"), "{shown}");
        assert!(!shown.contains("{keyhash}") && !shown.contains("{token}"), "the server did not fill it in");
        let longest = shown.split(|c: char| !c.is_ascii_alphanumeric()).map(str::len).max();
        assert!(longest < Some(32), "a token or a key hash is shown: {shown}");
    }
}

#[test]
fn a_password_that_comes_back_as_a_name_is_not_printed() {
    let world = World::with(|builder| builder.vault(obsync_testkit::VaultSpec::managed("Fine")));
    world
        .server
        .faults()
        .set("listing-name=handed-0ut-w0rd,listing-password=handed-0ut-w0rd".parse().unwrap());
    for more in [&["vaults"][..], &["vaults", "--json"]] {
        let listed = world.must(more);
        assert!(
            !listed.stdout.contains("handed-0ut-w0rd") && listed.stdout.contains("[secret]"),
            "{listed:?}"
        );
    }
}

#[test]
fn a_password_that_comes_back_as_a_name_or_an_address_is_neither_printed_nor_kept() {
    let world = World::with(|builder| builder.vault(obsync_testkit::VaultSpec::managed("Fine")));
    world.vault("Fine").write("Note.md", "a note", NOON).unwrap();
    let id = world.vault("Fine").id().to_string();
    world.server.faults().set(format!("echo-password,listing-name={PASSWORD}").parse().unwrap());
    let login =
        ran(world.command(&["login"]).env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD))
            .expect(0);
    let pull = world.must(&["pull", &id, "notes"]);
    let json = world.must(&["pull", &id, "notes", "--json"]);
    let status = world.must(&["status"]);
    let unknown = world.run(&["pull", "Nowhere", "elsewhere"]).expect(4);
    for told in [login, pull, json, status, unknown] {
        assert!(!format!("{}{}", told.stdout, told.stderr).contains(PASSWORD), "{told:?}");
    }
    let kept = world.home().join("config");
    for file in fs::read_dir(kept).unwrap() {
        let text = fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(PASSWORD));
    }
}

/// A folder for a server's vault `Notes`, always with the same id.
fn vault_of_one_id(folder: &Path) -> PathBuf {
    let master = MasterKey::derive(&"handed-0ut".into(), SALT);
    let vault = serde_json::json!({
        "id": "11".repeat(16),
        "name": "Notes",
        "encryption_version": 3,
        "salt": SALT,
        "managed_password": "handed-0ut",
        "keyhash": VaultKeys::new(&master, EncryptionVersion::V3, SALT).key_hash().as_str(),
    });
    put(&folder.join("vault.json"), &vault.to_string());
    folder.to_owned()
}

#[test]
fn a_vault_that_is_older_on_the_server_has_an_exit_status_of_its_own_also_with_quiet() {
    let vaults = tempfile::tempdir().unwrap();
    let folder = |name: &str| vault_of_one_id(&vaults.path().join(name));
    let mut world = World::with(|builder| builder.vault_dir(folder("newer")));
    for name in ["First.md", "Second.md", "Third.md"] {
        world.vault("Notes").write(name, name, NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    world.serve_instead(|builder| builder.vault_dir(folder("older")));
    world.vault("Notes").write("First.md", "First.md", NOON).unwrap();
    for more in [&[][..], &["--quiet"], &["--dry-run"], &["--dry-run", "--quiet"], &["--json"], &["--full"]] {
        let pull = world.run(&[&["pull", "Notes", "notes"], more].concat()).expect(11);
        assert!(pull.stderr.contains("rolled back"), "{more:?}: {pull:?}");
        assert_eq!(world.files("notes").len(), 3, "{more:?}");
    }
    let told = world.run(&["verify", "notes"]).stdout;
    let note = "The last run found the vault on the server older than this destination.";
    assert!(told.contains(note), "{told}");
    world.must(&["pull", "Notes", "notes", "--accept-older-vault"]);
    assert!(!world.must(&["verify", "notes"]).stdout.contains(note));
    assert_eq!(world.files("notes").len(), 3, "only a full pull removes");
    world.must(&["pull", "Notes", "notes", "--full"]);
    assert_eq!(world.files("notes").len(), 1);
}

#[test]
fn names_of_the_service_cannot_draw_on_a_terminal_or_forge_a_line() {
    let evil = "Notes\u{1b}[2J\u{202e}gpj.\u{2066}\nobsync: all is well\u{85}\u{9b}31m\u{2028}";
    let world = World::with(|builder| {
        builder
            .vault(obsync_testkit::VaultSpec::managed("Fine"))
            .vault(obsync_testkit::VaultSpec::managed(evil))
    });
    let dangerous = |text: &str| {
        text.chars().any(|c| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}')
        })
    };
    let table = world.must(&["vaults"]).stdout;
    assert!(!dangerous(&table), "{table:?}");
    assert_eq!(
        table.lines().count(),
        4,
        "a heading, two rows, and a long name on a line of its own: {table}"
    );
    assert!(table.contains("Notes\\u{1b}[2J\\u{202e}gpj.\\u{2066}\\u{a}obsync"), "{table}");
    let json = world.must(&["vaults", "--json"]).stdout;
    assert!(!dangerous(&json), "{json:?}");
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(document["vaults"].as_array().unwrap().iter().any(|vault| vault["vault"] == evil));
    let pull = world.run(&["pull", evil, "notes"]);
    assert!(!dangerous(&pull.stdout) && !dangerous(&pull.stderr), "{pull:?}");
    assert!(
        !pull.stdout.lines().chain(pull.stderr.lines()).any(|line| line.starts_with("obsync: all is well"))
    );
}

#[test]
fn a_session_that_is_refused_is_told() {
    let refusals = [
        ("Authentication failed", 3),
        ("Vault not found", 4),
        ("Your subscription to Obsidian Sync has expired", 3),
        ("Something new", 1),
    ];
    let told = for_each(&refusals, |(text, code)| {
        let world = three_files();
        let init_error_text = (*text).to_owned();
        world.server.faults().set(Faults {
            init_error: Chance::always(),
            init_error_text,
            ..Faults::default()
        });
        let pull = world.run(&["pull", "Notes", "notes"]).expect(*code);
        assert!(!world.path("notes").exists());
        heals(&world);
        pull.errors()
    });
    insta::assert_snapshot!(told.concat(), @"
    obsync: the sign-in is not valid (any more); sign in again (`obsync login`)
    obsync: the service does not find this vault; it may have been deleted, or belong to another account
    obsync: the subscription to Obsidian Sync has expired; renew it in the account's settings
    obsync: the service refused: Something new
    ");
}

#[test]
fn a_listing_that_never_comes_to_its_end_leaves_the_pull_unfinished() {
    for_each(&["drop-in-listing", "stall-in-listing"], |fault| {
        let world = three_files();
        let pull = pull_with(&world, fault).expect(6);
        assert!(pull.stderr.contains("the next run continues from there"), "{fault}: {}", pull.stderr);
        assert!(!world.path("notes").exists());
        heals(&world);
    });
}

#[test]
fn a_pull_stops_in_good_order_when_its_time_is_over() {
    let world = three_files();
    world.server.faults().set("stall-init".parse().unwrap());
    let pull = world.run(&["pull", "Notes", "notes", "--max-time", "1s"]).expect(6);
    assert!(pull.stderr.contains("stopped after the 1 s of --max-time"), "{}", pull.stderr);
    heals(&world);
}

#[test]
fn a_file_in_trouble_holds_no_other_back_and_leaves_nothing_under_its_name() {
    let troubles = [
        "corrupt-content",
        "truncate-content",
        "missing-piece",
        "short-piece",
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
        "stall-in-content",
    ];
    let told = for_each(&troubles, |fault| {
        let world = three_files();
        let pull = pull_with(&world, &format!("{fault}=uid:2"));
        assert_eq!(pull.code, 5, "{fault}: {pull:?}");
        assert!(!world.path("notes/Trouble.bin").exists(), "{fault}");
        assert_eq!(world.files("notes").len(), 2, "{fault}");
        heals(&world);
        let reason = pull.stderr.lines().find(|line| line.contains("Trouble.bin")).unwrap_or("no reason");
        format!("{fault}: {}", world.redacted(reason.trim()))
    });
    insta::assert_snapshot!(told.join("\n"), @"
    corrupt-content: Trouble.bin (version 2): the content from the server is damaged: the encrypted content is damaged, incomplete or made with another key: its tag does not fit
    truncate-content: Trouble.bin (version 2): the server offered 1239 bytes for version 2, where the vault lists 10028; if this repeats, upload the file again
    missing-piece: Trouble.bin (version 2): the next piece of a file did not come within 1 s; the service may be overloaded, try again later
    short-piece: Trouble.bin (version 2): the server violated the protocol: the pieces of a file do not add up to the announced 10028 bytes; if this repeats, please report it
    lie-size: Trouble.bin (version 2): the server offered 10027 bytes for version 2, where the vault lists 10028; if this repeats, upload the file again
    huge-header: Trouble.bin (version 2): the server offered 4503599627370496 bytes for version 2, where the vault lists 10028; if this repeats, upload the file again
    wrong-hash: Trouble.bin (version 2): the server offered other content than that of version 2; if this repeats, upload the file again
    missing-hash: Trouble.bin (version 2): the server offered other content than that of version 2; if this repeats, upload the file again
    refuse-pull: Trouble.bin (version 2): the server refuses to give this content: The content cannot be read just now
    err-answer: Trouble.bin (version 2): the server refuses to give this content: Internal error
    bare-answer: Trouble.bin (version 2): the server violated the protocol: an answer announces no content, and no error either; if this repeats, please report it
    garbage-answer: Trouble.bin (version 2): the server violated the protocol: server message: not valid JSON (line 1, column 21); if this repeats, please report it
    huge-text: Trouble.bin (version 2): the server violated the protocol: a message of 4194330 bytes is too long; if this repeats, please report it
    drop-in-content: Trouble.bin (version 2): the connection to the server was lost: it broke off without a farewell; try again
    stall-in-content: Trouble.bin (version 2): a sign of life from the server did not come within 1 s; the service may be overloaded, try again later
    ");
}

#[test]
fn a_piece_too_many_is_noticed_and_does_no_harm() {
    let world = three_files();
    pull_with(&world, "extra-piece=at-most:1+uid:2").expect(0);
    assert_eq!(world.server.faults().strikes("extra-piece"), 1);
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn a_file_that_lies_about_itself_is_never_written() {
    let world = three_files();
    let vault = world.vault("Notes");
    // Its content matches its hash, but disk space and memory were planned by the listed size.
    vault.write_lying_size("Size.md", "a size that lies", 7_000_000).unwrap();
    vault.write_damaged("Damaged.md", "wrong tag").unwrap();
    vault.write_wrong_hash("Other.md", "not what it says").unwrap();
    let pull = world.run(&["pull", "Notes", "notes"]).expect(5);
    insta::assert_snapshot!(pull.told(&world), @r#"
    exit status 5
    --- stdout
    Pulled 3 files (10.0 kB) from "Notes" to notes in [TIME] s (version 6).
    --- stderr
    3 changes could not be pulled; the next run retries:
      Damaged.md (version 5): the content from the server is damaged: the encrypted content is damaged, incomplete or made with another key: its tag does not fit
      Other.md (version 6): the content from the server is not the file that the vault lists (its SHA-256 is 6b376d889fee6f0084d859551757679f73276de4767a43e1d37f8a1c992e83ca, not f73f16ede021d01efecf627b5e658be52293f167cfe06c6b8d0e591cb25b68c9)
      Size.md (version 4): the server offered 44 bytes for version 4, where the vault lists 7000000; if this repeats, upload the file again
    "#);
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
    let files = world.files("inner");
    let (own, notes): (Vec<_>, Vec<_>) =
        files.iter().partition(|(path, _)| path.starts_with("notes/.obsync/"));
    assert_eq!((own.len(), notes.len()), (4, 3), "something was written outside the destination: {files:?}");
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
