//! Faults for senders: each is reported in a sentence, with the right exit status, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use obsync_conformance::not_tested;
use obsync_testkit::{Chance, Faults, VaultSpec};
use rustix::process::{Pid, Signal, kill_process};

use crate::bad_input::{put_into_format_1, without_privileges};
use crate::json::{ended, start};
use crate::monitor::Follower;
use crate::world::{EMAIL, PASSWORD, Ran, VAULT_PASSWORD, World, put, ran};

const NOON: i64 = 1_767_268_800_000;
const SYNC: [&str; 4] = ["sync", "Notes", "notes", "--yes"];

/// A world whose vault and folder have these notes, each with its name as its text.
fn in_step(notes: &[&str]) -> World {
    let world = World::new();
    for path in notes {
        world.vault("Notes").write(path, path, NOON).unwrap();
    }
    world.must(&SYNC);
    world
}

/// The paths of a vault.
fn paths(world: &World) -> Vec<String> {
    world.vault("Notes").contents().unwrap().into_keys().collect()
}

#[track_caller]
fn in_vault(world: &World, path: &str, text: &str) {
    let contents = world.vault("Notes").contents().unwrap();
    let found = contents.get(path).map(|found| String::from_utf8_lossy(found));
    assert_eq!(found.as_deref(), Some(text), "{path}");
}

#[track_caller]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asserts that both are equal in the end.
#[track_caller]
fn assert_in_step(world: &World) {
    world.must(&SYNC);
    // Files that a sync replaced are in the trash.
    let mut differences = world.differences("Notes", "notes");
    differences.retain(|difference| !difference.contains(".obsync"));
    assert_eq!(differences, [""; 0]);
}

#[test]
fn a_subscription_that_expires_midway_ends_the_run_and_the_next_one_sends_the_rest() {
    for command in ["sync", "push"] {
        let world = in_step(&["a.md"]);
        for number in 0..3 {
            put(&world.path(&format!("notes/{number}.md")), "text");
        }
        world.server.faults().update(|faults: &mut Faults| {
            faults.refuse_push = Chance::always().after(1);
            faults.refuse_push_text = "Your subscription to Obsidian Sync has expired".to_owned();
        });
        let args = [command, "Notes", "notes", "--yes", "--json"];
        let refused = world.run(&args).expect(3);
        assert_eq!(refused.json()["error"]["code"], "subscription_expired", "{}", refused.stdout);
        assert!(refused.stdout.contains("renew it in the account's settings"), "{}", refused.stdout);
        assert_eq!(paths(&world).len(), 2, "one was sent before");
        world.server.faults().clear();
        assert_in_step(&world);
        assert_eq!(paths(&world).len(), 4);
    }
}

#[test]
fn a_follower_whose_subscription_expires_ends_and_says_so() {
    let world = in_step(&["a.md"]);
    let follower = Follower::start(&world, &SYNC, &[]);
    follower.until("/readyz", 200);
    world.server.set_subscription_expired(true).unwrap();
    world.server.disconnect_all();
    let (code, said) = follower.ended();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("renew it in the account's settings"), "{said}");
    put(&world.path("notes/mine.md"), "mine");
    world.run(&SYNC).expect(3);
    world.server.set_subscription_expired(false).unwrap();
    assert_in_step(&world);
    in_vault(&world, "mine.md", "mine");
}

#[test]
fn a_follower_whose_sign_in_ends_with_the_password_of_the_account_says_so_and_loses_nothing() {
    let world = in_step(&["a.md"]);
    let follower = Follower::start(&world, &SYNC, &[]);
    follower.until("/readyz", 200);
    // When its password changes, a service invalidates all tokens.
    world.server.expire_tokens().unwrap();
    world.server.disconnect_all();
    put(&world.path("notes/mine.md"), "mine");
    let (code, said) = follower.ended();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("the sign-in is not valid (any more); sign in again"), "{said}");
    let mut with_the_old_one = world.command(&SYNC);
    let refused = ran(with_the_old_one.env("OBSIDIAN_PASSWORD", "the old password")).expect(3);
    assert!(refused.stderr.contains("password"), "{}", refused.stderr);
    assert_in_step(&world);
    in_vault(&world, "mine.md", "mine");
}

#[test]
fn a_follower_of_a_vault_whose_password_was_changed_ends_and_changes_nothing() {
    let mut world = World::new();
    world.vault("Private").write("a.md", "a", NOON).unwrap();
    let sync = ["sync", "Private", "notes", "--yes"];
    let password = [("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD)];
    let run = |world: &World| {
        let mut command = world.command(&sync);
        ran(command.env("OBSYNC_VAULT_PASSWORD", VAULT_PASSWORD))
    };
    run(&world).expect(0);
    let follower = Follower::start(&world, &sync, &password);
    follower.until("/readyz", 200);
    let id = world.vault("Private").id().clone();
    world
        .serve_instead(|builder| builder.vault(VaultSpec::end_to_end("Private", "another password").id(&id)));
    let before = world.files("notes");
    let (code, said) = follower.ended();
    assert_eq!(code, 3, "{said}");
    for _ in 0..2 {
        let refused = run(&world);
        assert!(matches!(refused.code, 1 | 3), "{}: {}", refused.code, refused.stderr);
        assert!(
            refused.stderr.contains("password") || refused.stderr.contains("encrypt"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(world.files("notes"), before);
    assert!(world.vault("Private").contents().unwrap().is_empty(), "nothing is sent under another key");
}

#[test]
fn two_syncs_at_once_are_one_too_many_and_a_sync_beside_a_follower_is() {
    let world = in_step(&["a.md"]);
    world.vault("Notes").write("b.md", "b", NOON).unwrap();
    world.server.faults().update(|faults: &mut Faults| faults.stall_in_content = Chance::always());
    let pulls = world.server.stats().pulls;
    let mut first = start(&world, &SYNC).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    world.runtime.block_on(world.server.wait_for(|stats| stats.pulls > pulls));
    let refused = |command: &str| {
        let second = world.run(&[command, "Notes", "notes", "--yes"]).expect(7);
        assert!(second.stderr.starts_with("obsync: another obsync is working on notes"), "{}", second.stderr);
        assert!(second.stderr.contains("--wait 10m"), "{}", second.stderr);
    };
    ["sync", "push"].into_iter().for_each(&refused);
    kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(6));
    world.server.faults().clear();

    let follower = Follower::start(&world, &SYNC, &[]);
    follower.until("/readyz", 200);
    ["sync", "push"].into_iter().for_each(&refused);
    // It still works.
    put(&world.path("notes/mine.md"), "mine");
    until("the follower sends it", || paths(&world).iter().any(|path| path == "mine.md"));
    assert_eq!(follower.stop().0, 0);
    assert_in_step(&world);
}

#[test]
fn a_filter_that_is_narrowed_and_widened_by_options_deletes_nothing() {
    let world = in_step(&["a.md", "Archive/b.md", "Archive/c.png", "d.png"]);
    let with = |options: &[&str]| world.must(&[&SYNC[..], options].concat());
    with(&["--exclude", "Archive", "--file-types", "none"]);
    fs::remove_dir_all(world.path("notes/Archive")).unwrap();
    fs::remove_file(world.path("notes/d.png")).unwrap();
    with(&["--exclude", "Archive", "--file-types", "none"]);
    with(&["--exclude", "Archive"]);
    for _ in 0..2 {
        let report = with(&["--json"]).json();
        assert!(report.get("deleted_in_vault").is_none(), "{report:#}");
    }
    assert_eq!(paths(&world), ["Archive/b.md", "Archive/c.png", "a.md", "d.png"]);
    assert_in_step(&world);
    assert_eq!(world.files("notes").len(), 4);
}

#[test]
fn pipes_sockets_and_devices_in_the_folder_hold_no_run_up_and_are_not_sent() {
    let world = in_step(&["a.md"]);
    let place = |name: &str| world.path("notes").join(name);
    assert!(Command::new("mkfifo").arg(place("pipe.md")).status().unwrap().success());
    let _socket = UnixListener::bind(place("socket.md")).unwrap();
    // That of a terminal, which cannot be read to its end.
    let made = Command::new("mknod").arg(place("device.md")).args(["c", "5", "0"]).output().unwrap();
    if !made.status.success() {
        not_tested("this machine does not allow whoever runs the test to make a device");
    }
    put(&place("mine.md"), "mine");
    for command in ["sync", "push"] {
        world.must(&[command, "Notes", "notes", "--yes"]);
    }
    assert_eq!(paths(&world), ["a.md", "mine.md"]);
    // In place of a note they do not count as its deletion.
    fs::remove_file(place("a.md")).unwrap();
    fs::rename(place("pipe.md"), place("a.md")).unwrap();
    world.must(&SYNC);
    in_vault(&world, "a.md", "a.md");
}

#[test]
fn a_full_vault_and_a_file_over_its_limit_are_status_5_and_the_rest_goes_on() {
    for (faults, said) in [("storage-limit=50000", "full"), ("per-file-max=1000", "files of at most 1000")] {
        let world = in_step(&["a.md", "gone.md"]);
        put(&world.path("notes/large.bin"), &"x".repeat(100_000));
        put(&world.path("notes/small.md"), "small");
        fs::remove_file(world.path("notes/gone.md")).unwrap();
        world.server.faults().set(faults.parse().unwrap());
        for command in ["sync", "push"] {
            let told = world.run(&[command, "Notes", "notes", "--yes"]).expect(5);
            assert!(told.stderr.contains("large.bin") && told.stderr.contains(said), "{}", told.stderr);
            assert_eq!(paths(&world), ["a.md", "small.md"], "{command}");
        }
        world.server.faults().clear();
        assert_in_step(&world);
        assert_eq!(paths(&world), ["a.md", "large.bin", "small.md"]);
    }
}

#[test]
fn a_folder_that_is_emptied_replaced_or_half_restored_is_doubted_and_deletes_nothing() {
    let names: Vec<String> = (0..12).map(|number| format!("{number}.md")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = in_step(&names);
    let copy = |from: &str, to: &str| {
        let status = Command::new("cp").arg("-a").args([world.path(from), world.path(to)]).status();
        assert!(status.unwrap().success());
    };
    copy("notes", "backup");
    for name in &names[..5] {
        put(&world.path("notes").join(name), &format!("{name}, edited"));
    }
    world.must(&SYNC);
    let newest = world.vault("Notes").contents().unwrap();
    let doubted = |doubt: &str| {
        let report = world.must(&[&SYNC[..], &["--json"]].concat()).json();
        assert_eq!(report["doubt"], doubt, "{report:#}");
        assert!(!report["warnings"][0].as_str().unwrap().is_empty(), "{report:#}");
        assert!(report.get("deleted_in_vault").is_none(), "{report:#}");
        assert_eq!(world.vault("Notes").contents().unwrap(), newest, "{doubt}");
        assert_in_step(&world);
    };
    // An interrupted restoration: five notes are old, two are missing.
    for name in &names[..5] {
        fs::copy(world.path("backup").join(name), world.path("notes").join(name)).unwrap();
        let file = fs::File::options().append(true).open(world.path("notes").join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
    names[5..7].iter().for_each(|name| fs::remove_file(world.path("notes").join(name)).unwrap());
    doubted("older_files");
    // The whole of it, with its marker.
    fs::remove_dir_all(world.path("notes")).unwrap();
    copy("backup", "notes");
    doubted("other_generation");
    // An unmounted disk.
    fs::rename(world.path("notes"), world.path("aside")).unwrap();
    fs::create_dir(world.path("notes")).unwrap();
    doubted("no_marker");
}

/// Syncs, and asserts that nothing is deleted on either side.
#[track_caller]
fn sync_that_deletes_nothing(world: &World) {
    let report = world.must(&[&SYNC[..], &["--json"]].concat()).json();
    assert!(report.get("deleted_in_vault").is_none() && report["deleted"]["files"] == 0, "{report:#}");
}

/// The file of the only state.
fn state(world: &World) -> PathBuf {
    let states = fs::read_dir(world.home().join("state")).unwrap().map(|entry| entry.unwrap().path());
    let mut states = states.filter(|path| path.extension().is_some_and(|extension| extension == "sqlite"));
    states.next().unwrap()
}

#[test]
fn a_sync_with_a_damaged_state_ends_and_the_one_after_a_reset_deletes_nothing() {
    let names: Vec<String> = (0..12).map(|number| format!("{number}.md")).collect();
    let world = in_step(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let whole = fs::read(state(&world)).unwrap();
    let text = "this is no database, but long enough to look at. ".repeat(100);
    for (number, broken) in [&whole[..whole.len() / 2], text.as_bytes()].into_iter().enumerate() {
        let state = state(&world);
        fs::write(&state, broken).unwrap();
        fs::remove_file(world.path(&format!("notes/{number}.md"))).unwrap();
        let edited = format!("edited {number}");
        put(&world.path("notes/11.md"), &edited);
        let before = world.vault("Notes").version();
        for command in ["sync", "push"] {
            let refused = world.run(&[command, "Notes", "notes", "--yes", "--json"]).expect(1);
            assert_eq!(refused.json()["error"]["code"], "state_damaged", "{}", refused.stdout);
            assert!(refused.stdout.contains("obsync reset"), "{}", refused.stdout);
        }
        assert_eq!((world.vault("Notes").version(), fs::read(&state).unwrap()), (before, broken.to_vec()));
        world.must(&["reset", "notes", "--yes"]);
        sync_that_deletes_nothing(&world);
        assert_in_step(&world);
        let contents = world.vault("Notes").contents().unwrap();
        assert!(names.iter().all(|name| contents.contains_key(name)), "what was missing is here again");
        // Without a record, an edit is kept beside the vault's text.
        assert!(contents.values().any(|text| text == edited.as_bytes()), "{number}");
    }
}

#[test]
fn a_sync_with_an_empty_state_deletes_nothing() {
    let world = in_step(&["a.md", "b.md", "c.md"]);
    fs::write(state(&world), "").unwrap();
    fs::remove_file(world.path("notes/a.md")).unwrap();
    sync_that_deletes_nothing(&world);
    assert_in_step(&world);
    assert_eq!(paths(&world), ["a.md", "b.md", "c.md"]);
}

#[test]
fn a_sync_with_an_unreadable_state_ends_and_goes_on_when_it_can_be_read() {
    let world = in_step(&["a.md", "b.md", "c.md"]);
    let state = state(&world);
    let set_mode = |mode| fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
    fs::remove_file(world.path("notes/a.md")).unwrap();
    put(&world.path("notes/b.md"), "edited here");
    set_mode(0o000);
    for command in ["sync", "push"] {
        let Some(refused) = without_privileges(&world, &[command, "Notes", "notes", "--yes"]) else { break };
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(state.to_str().unwrap()), "{}", refused.stderr);
    }
    assert_eq!(paths(&world), ["a.md", "b.md", "c.md"]);
    in_vault(&world, "b.md", "b.md");
    set_mode(0o600);
    world.must(&SYNC);
    assert_eq!(paths(&world), ["b.md", "c.md"]);
    in_vault(&world, "b.md", "edited here");
}

#[test]
fn a_sync_with_a_state_of_format_1_sends_edits_and_deletes_nothing() {
    let names: Vec<String> = (0..12).map(|number| format!("{number}.md")).collect();
    let world = World::new();
    for name in &names {
        world.vault("Notes").write(name, name, NOON).unwrap();
    }
    world.must(&["pull", "Notes", "notes"]);
    put_into_format_1(&state(&world), "4.md");
    fs::remove_file(world.path("notes/.obsync/id")).unwrap();
    for name in &names[5..8] {
        fs::remove_file(world.path("notes").join(name)).unwrap();
    }
    put(&world.path("notes/2.md"), "edited here");
    world.vault("Notes").write("3.md", "edited there", NOON + 1).unwrap();
    for _ in 0..2 {
        sync_that_deletes_nothing(&world);
    }
    assert_in_step(&world);
    assert_eq!(paths(&world).len(), 12);
    in_vault(&world, "2.md", "edited here");
    in_vault(&world, "3.md", "edited there");
    // From now on a deletion is seen.
    fs::remove_file(world.path("notes/6.md")).unwrap();
    assert_in_step(&world);
    assert_eq!(paths(&world).len(), 11);
}

#[test]
fn a_state_of_a_newer_release_is_told_to_whoever_sends_and_kept() {
    let world = in_step(&["a.md"]);
    let state = state(&world);
    let mut bytes = fs::read(&state).unwrap();
    // SQLite keeps `user_version`, the format, as four bytes from the 60th on.
    bytes[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(&state, &bytes).unwrap();
    put(&world.path("notes/mine.md"), "mine");
    for command in ["sync", "push"] {
        let told = world.run(&[command, "Notes", "notes", "--yes"]).expect(1).stderr;
        assert!(told.contains("written by a newer obsync (format 9999"), "{told}");
    }
    assert_eq!((fs::read(&state).unwrap(), paths(&world)), (bytes, vec!["a.md".to_owned()]));
}

/// A follower on a system with a limit of 50 watched folders per user.
#[cfg(target_os = "linux")]
fn follower_with_few_watches(world: &World) -> Option<std::process::Child> {
    let limit = "/proc/sys/user/max_inotify_watches";
    let limited = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]).arg(format!("echo 50 > {limit} && {then}"));
        command
    };
    if !limited("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        not_tested("this machine does not allow a limit of watches for some processes alone");
        return None;
    }
    let follow = limited("exec \"$0\" \"$@\"")
        .arg(env!("CARGO_BIN_EXE_obsync"))
        .args(SYNC)
        .args(["--follow"])
        .current_dir(world.path(""))
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Some(follow.unwrap())
}

#[test]
#[cfg(target_os = "linux")]
fn where_the_system_lets_50_folders_be_watched_a_follower_says_so_and_misses_nothing() {
    let world = World::new();
    let name = |number: usize| format!("{number}/note.md");
    for number in 0..80 {
        world.vault("Notes").write(&name(number), "text", NOON).unwrap();
    }
    world.must(&SYNC);
    let Some(follower) = follower_with_few_watches(&world) else { return };
    let unwatched = || {
        let status = world.must(&["status", "notes", "--json"]).json();
        status["destinations"][0]["last_run"]["unwatched"].as_str().unwrap_or_default().to_owned()
    };
    until("it says that it does not see everything", || unwatched().contains("max_user_watches"));
    // Watched or not: all are checked each minute, and at once on SIGHUP.
    (0..80).for_each(|number| put(&world.path("notes").join(name(number)), "edited, and longer than before"));
    std::thread::sleep(Duration::from_millis(100));
    kill_process(Pid::from_child(&follower), Signal::HUP).unwrap();
    until("all are sent", || {
        let contents = world.vault("Notes").contents().unwrap();
        contents.values().all(|content| content == b"edited, and longer than before")
    });
    kill_process(Pid::from_child(&follower), Signal::TERM).unwrap();
    let Ran { code, stderr, .. } = ended(follower);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("raise the number, as by `sysctl fs.inotify.max_user_watches"), "{stderr}");
    assert_in_step(&world);
}
