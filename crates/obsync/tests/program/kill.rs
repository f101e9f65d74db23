//! SIGKILL and SIGSTOP at random moments, from another process: nothing is lost, nothing is wrong, and only
//! contents under way are downloaded twice.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use obsync_testkit::Faults;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::monitor::Follower;
use crate::two_way::until;
use crate::world::{EMAIL, PASSWORD, World, put};

/// The vault has this many files,
const FILES: usize = 3000;
/// of this many bytes each, so that downloads can be counted in files and in bytes alike.
const SIZE: usize = 4096;
/// Bytes that encryption adds to a file.
const OVERHEAD: usize = 28;

const KILLS: usize = 50;
/// The last kill comes before the server has sent this many files.
const LAST_KILL: u64 = 2600;

const CONNECTIONS: usize = 2;
/// Requests that a session has in flight (`FetchOptions::in_flight`).
const IN_FLIGHT: usize = 32;

fn fill(world: &World) {
    let vault = world.vault("Notes");
    for number in 0..FILES {
        let path = format!("Folder {}/Note {number}.md", number % 60);
        vault.write(&path, format!("{number:>SIZE$}"), 1_700_000_000_000 + number as i64 * 1000).unwrap();
    }
}

fn start(world: &World, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_obsync"))
        .args(args)
        .current_dir(world.path(""))
        .env_clear()
        .env("OBSYNC_HOME", world.home())
        .env("OBSYNC_API_URL", world.server.url())
        .env("OBSIDIAN_EMAIL", EMAIL)
        .env("OBSIDIAN_PASSWORD", PASSWORD)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets a pull run until the server has sent `files` contents in all, and a moment longer; then kills it.
fn kill_after(world: &World, files: u64, longer: Duration) {
    let connections = CONNECTIONS.to_string();
    let mut pull = start(world, &["pull", "Notes", "notes", "--quiet", "--connections", &connections]);
    world.runtime.block_on(async {
        let sent = world.server.wait_for(|stats| stats.pulls_answered >= files);
        tokio::time::timeout(Duration::from_secs(60), sent).await.unwrap();
    });
    thread::sleep(longer);
    pull.kill().unwrap();
    let status = pull.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the pull came to its end before it was killed: {status}");
}

#[test]
fn fifty_kills_lose_nothing_and_cost_only_what_was_in_flight() {
    let world = World::new();
    fill(&world);
    // Slow enough for every kill to come in time, whatever the machine.
    world.server.faults().set(Faults { latency: Duration::from_millis(2), ..Faults::default() });
    let mut random = ChaCha8Rng::seed_from_u64(50);
    let mut moments: Vec<u64> = (0..KILLS).map(|_| random.random_range(0..LAST_KILL)).collect();
    moments.sort_unstable();
    for files in moments {
        // Kills in quick succession hit a pull that is still signing in or listing.
        kill_after(&world, files, Duration::from_micros(random.random_range(0..30_000)));
    }
    world.server.faults().clear();
    world.must(&["pull", "Notes", "notes"]);

    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
    world.must(&["verify", "notes"]);
    let stats = world.server.stats();
    let again: u64 = stats.served.values().map(|times| times - 1).sum();
    let in_flight = KILLS * CONNECTIONS * IN_FLIGHT;
    println!("{} bytes sent, {again} of {FILES} files sent again", stats.content_bytes);
    assert!(again <= in_flight as u64, "{again} files were sent again");
    assert!(
        stats.content_bytes <= ((FILES + in_flight) * (SIZE + OVERHEAD)) as u64,
        "{} bytes",
        stats.content_bytes
    );
}

const SYNC: [&str; 4] = ["sync", "Notes", "notes", "--yes"];
const NOON: i64 = 1_767_268_800_000;

/// Notes to which a program appends here, and one to which another device does in the vault.
const LOGS: usize = 7;
const LINES: usize = 2100;

/// Appends each line to one of the notes, however the followers fare. Returns the complete texts.
fn append_lines(notes: &std::path::Path, pause: Duration) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for line in 0..LINES {
        let name = format!("log {}.md", line % LOGS);
        let text = format!("line {line}\n");
        let mut file = fs::File::options().create(true).append(true).open(notes.join(&name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        texts.entry(name).or_insert_with(String::new).push_str(&text);
        thread::sleep(pause);
    }
    texts
}

#[test]
fn thirty_kills_of_a_follower_lose_none_of_2100_lines_that_are_appended_meanwhile() {
    const KILLS: usize = 30;
    let world = World::new();
    let vault = world.vault("Notes").as_device("phone");
    vault.write("there.md", "begun\n", NOON).unwrap();
    world.must(&SYNC);
    let notes = world.path("notes");
    let writer = thread::spawn(move || append_lines(&notes, Duration::from_millis(7)));
    let mut random = ChaCha8Rng::seed_from_u64(30);
    let (mut there, before) = ("begun\n".to_owned(), world.server.stats().pushes);
    for kill in 0..KILLS {
        let mut follower =
            start(&world, &[&SYNC[..], &["--follow", "--quiet", "--quiet-for", "1s"]].concat());
        there.push_str(&format!("line {kill} of the phone\n"));
        vault.write("there.md", &there, NOON + 1 + kill as i64).unwrap();
        thread::sleep(Duration::from_millis(random.random_range(20..900)));
        follower.kill().unwrap();
        assert_eq!(follower.wait().unwrap().signal(), Some(9));
    }
    let mut expected = writer.join().unwrap();
    expected.insert("there.md".to_owned(), there);
    println!("{} pushes between the kills", world.server.stats().pushes - before);
    assert!(world.server.stats().pushes > before, "the followers did something");
    for _ in 0..2 {
        world.must(&SYNC);
    }
    let files = world.files("notes").into_iter();
    let found: BTreeMap<String, String> = files.filter(|(path, _)| !path.starts_with(".obsync")).collect();
    assert_eq!(found, expected, "here");
    let contents = world.vault("Notes").contents().unwrap();
    let contents: BTreeMap<String, String> =
        contents.into_iter().map(|(path, text)| (path, String::from_utf8(text).unwrap())).collect();
    assert_eq!(contents, expected, "in the vault");
}

#[test]
fn a_follower_that_was_stopped_for_seconds_while_its_connection_ended_merges_what_both_sides_did() {
    let world = World::new();
    let vault = world.vault("Notes").as_device("phone");
    for (path, text) in [("note.md", "a\nb\nc\n"), ("gone.md", "g"), ("kept.md", "k")] {
        vault.write(path, text, NOON).unwrap();
    }
    world.must(&SYNC);
    let follower = Follower::start(&world, &SYNC, &[]);
    follower.until("/readyz", 200);
    follower.signal(Signal::STOP);
    world.server.disconnect_all();
    vault.write("note.md", "a\nb\nC\n", NOON + 1).unwrap();
    vault.write("new.md", "new", NOON + 1).unwrap();
    put(&world.path("notes/note.md"), "A\nb\nc\n");
    put(&world.path("notes/mine.md"), "mine");
    fs::remove_file(world.path("notes/gone.md")).unwrap();
    thread::sleep(Duration::from_secs(5));
    follower.signal(Signal::CONT);
    let expected: BTreeMap<String, Vec<u8>> =
        [("kept.md", "k"), ("mine.md", "mine"), ("new.md", "new"), ("note.md", "A\nb\nC\n")]
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .into();
    until("both have what both did", || world.vault("Notes").contents().unwrap() == expected);
    until("it is in step", || world.path("notes/new.md").exists());
    let (code, said) = follower.stop();
    assert_eq!(code, 0, "{said}");
    world.must(&SYNC);
    assert_eq!(fs::read_to_string(world.path("notes/note.md")).unwrap(), "A\nb\nC\n");
    assert_eq!(world.vault("Notes").contents().unwrap().len(), expected.len(), "no copy was needed");
}
